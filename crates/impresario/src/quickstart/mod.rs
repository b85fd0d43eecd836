//! The whole thing at work in one process.
/// x
#[derive(Debug, clap::Args)]
pub struct Options {}
/// x
pub async fn run(_: &crate::config::Flags, _: Options) -> anyhow::Result<()> { Ok(()) }
