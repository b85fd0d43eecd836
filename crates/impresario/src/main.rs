//! The `impresario` command.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::Parser;
use impresario::cli::{self, Cli};

/// How long what still runs on threads may go on once the command is done. An operation of the store that waits for a
/// server that is away would go on for long: it is cut off, as by a crash, and nothing of it is kept.
const LAST_THREADS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Whoever closed the pipe does not want to know.
            let _closed = error.print();
            // Not clap's 2, with which `schedules plan` says that there is something to do. A call for help is no error.
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "impresario: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli));
    runtime.shutdown_timeout(LAST_THREADS);
    code
}
