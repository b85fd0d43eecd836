//! `completions` and `openapi`: what other programs read of this one.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::{
    Cli,
    output::{print, print_json},
};

/// The shells that somebody has tried.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Known,
}

pub(super) const INSTALL: &str = "To install them:\n  \
    bash  echo 'source <(impresario completions bash)' >> ~/.bashrc\n  \
    zsh   impresario completions zsh > \"${fpath[1]}/_impresario\"\n  \
    fish  impresario completions fish > ~/.config/fish/completions/impresario.fish";

pub(super) fn completions(options: &CompletionsOptions) -> anyhow::Result<()> {
    let shell = match options.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "impresario", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}

pub(super) fn openapi() -> anyhow::Result<()> {
    Ok(print_json(&impresario_api::openapi::document())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_arguments_of_a_command_are_in_each_others_way() {
        Cli::command().debug_assert();
    }
}
