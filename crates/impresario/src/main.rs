//! The `impresario` command.

use std::process::ExitCode;

use clap::Parser;
use impresario::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli::run(cli).await,
        Err(error) => {
            // Whoever closed the pipe does not want to know.
            let _closed = error.print();
            // Not clap's 2, with which `schedules plan` says that there is something to do. A call for help is no error.
            ExitCode::from(u8::from(error.use_stderr()))
        }
    }
}
