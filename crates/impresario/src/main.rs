//! The `impresario` command.

use std::process::ExitCode;

use clap::Parser;
use impresario::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
