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
            if !error.use_stderr() {
                // A call for help is no error.
                return ExitCode::SUCCESS;
            }
            let args: Vec<String> = std::env::args_os()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            return ExitCode::from(cli::usage_code(&args));
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
