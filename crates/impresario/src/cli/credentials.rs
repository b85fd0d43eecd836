//! `credentials`: what workflows are given by name. A value is never in a command line, which every user of a machine can
//! read.

use std::{
    io::{IsTerminal as _, Read, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use impresario_api::{
    CredentialList, CredentialValue, DeleteCredential, Done, GetCredential, ListCredentials, Secret,
    UpsertCredential, UpsertedCredential,
};

use super::{
    deployments::reader,
    output::{Cell, OutputFlags, Table, confirm, printable},
    remote::{self, ServerFlags, Stop},
    say,
};
use crate::config;

/// No value has more bytes: 65,536 characters, of at most four bytes each, and the end of a line.
const LARGEST: u64 = 4 * 65_536 + 2;

#[derive(Debug, Subcommand)]
pub(super) enum CredentialsCommand {
    /// List the credentials, by name and without their values
    #[command(after_help = "Example:\n  impresario credentials list")]
    List {
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Store a credential, or replace its value: from a variable, a file or stdin; on a terminal it asks, without an echo
    #[command(after_help = "Examples:\n  impresario credentials set portal_password\n  \
                      impresario credentials set portal_password --from-env PORTAL_PASSWORD\n  \
                      pass show portal | impresario credentials set portal_password\n\n\
                      One end of a line at the end of a file or of stdin does not belong to the value.")]
    Set(SetOptions),
    /// Print the value of a credential
    #[command(after_help = "Example:\n  impresario credentials get portal_password")]
    Get {
        /// Its name
        name: String,
        #[command(flatten)]
        server: ServerFlags,
        #[command(flatten)]
        output: OutputFlags,
    },
    /// Delete a credential; refused while queued or running jobs need it
    #[command(after_help = "Example:\n  impresario credentials delete portal_password --yes")]
    Delete {
        /// Its name or id
        name: String,
        #[command(flatten)]
        server: ServerFlags,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: OutputFlags,
    },
}

#[derive(Debug, Args)]
pub(super) struct SetOptions {
    /// Its name: letters, digits, `_`, `-` and `.`, in any case
    name: String,
    #[command(flatten)]
    server: ServerFlags,
    /// Take the value from this variable of the environment
    #[arg(long, value_name = "VARIABLE", conflicts_with = "from_file")]
    from_env: Option<String>,
    /// Take the value from this file
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
}

pub(super) async fn run(command: CredentialsCommand) -> anyhow::Result<()> {
    match command {
        CredentialsCommand::List { server, output } => {
            let client = remote::client(&server)?;
            remote::show(&client, &ListCredentials {}, output, |list| table(&list)).await
        }
        CredentialsCommand::Set(options) => set(options).await,
        CredentialsCommand::Get { name, server, output } => {
            let client = remote::client(&server)?;
            let answer = remote::ask_raw(&client, &GetCredential { name }).await?;
            if output.json {
                return remote::show_value(answer, output, |_: CredentialValue| String::new());
            }
            // As it is: whoever asks for a value wants no other one.
            let found: CredentialValue = remote::typed(answer)?;
            Ok(say(found.value.expose())?)
        }
        CredentialsCommand::Delete {
            name,
            server,
            yes,
            output,
        } => {
            let client = remote::client(&server)?;
            let list = remote::ask(&client, &ListCredentials {}).await?;
            let (id, name) = chosen(&list, &name)?;
            confirm(&format!("Delete the credential {}?", printable(&name)), yes)?;
            remote::show(&client, &DeleteCredential { id }, output, |done: Done| {
                printable(&done.message)
            })
            .await
        }
    }
}

async fn set(options: SetOptions) -> anyhow::Result<()> {
    let client = remote::client(&options.server)?;
    let value = match (&options.from_env, &options.from_file) {
        (Some(variable), _) => from_env(variable)?,
        (None, Some(path)) => from_file(path)?,
        (None, None) if stdin().is_terminal() => asked_for(&options.name)?,
        (None, None) => text(stdin().lock(), "stdin")?,
    };
    let question = UpsertCredential {
        name: options.name,
        value,
    };
    remote::show(&client, &question, options.output, |set: UpsertedCredential| {
        printable(&set.message)
    })
    .await
}

fn from_env(variable: &str) -> Result<Secret, Stop> {
    let value = config::variable(variable).ok_or_else(|| {
        Stop::Usage(format!(
            "--from-env: the variable {variable:?} is not set, or is empty"
        ))
    })?;
    Ok(value.into())
}

fn from_file(path: &Path) -> anyhow::Result<Secret> {
    let file = std::fs::File::open(path).with_context(|| format!("{path:?} cannot be read"))?;
    text(file, &format!("{path:?}"))
}

fn asked_for(name: &str) -> anyhow::Result<Secret> {
    let value = rpassword::prompt_password(format!("Value of {}: ", printable(name)))
        .context("the value cannot be read from the terminal; pass --from-env, --from-file or stdin")?;
    if value.is_empty() {
        bail!("nothing was typed, and nothing was changed");
    }
    Ok(value.into())
}

/// A value from where it may be longer than any is.
fn text(from: impl Read, place: &str) -> anyhow::Result<Secret> {
    let mut bytes = Vec::new();
    from.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{place} cannot be read"))?;
    if bytes.len() as u64 > LARGEST {
        bail!("{place} has more than the 65,536 characters that a value may have");
    }
    let text = String::from_utf8(bytes).ok().with_context(|| {
        format!("{place} is not UTF-8; a value that is not text has to be encoded, as base64 for example")
    })?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value
        .strip_suffix('\r')
        .filter(|_| text.ends_with('\n'))
        .unwrap_or(value);
    if value.is_empty() {
        bail!("{place} is empty; a value has at least 1 character");
    }
    Ok(value.into())
}

/// The id and the name of the one that is meant: by name, in any case, or else by id.
fn chosen(list: &CredentialList, meant: &str) -> Result<(String, String), Stop> {
    let lower = meant.to_ascii_lowercase();
    let all = || list.credentials.iter();
    let found = all()
        .find(|one| one.name == lower)
        .or_else(|| all().find(|one| one.credential_id == lower));
    let found = found.ok_or_else(|| {
        Stop::NoSuch(format!(
            "there is no credential {meant:?}; `impresario credentials list` lists them"
        ))
    })?;
    Ok((found.credential_id.clone(), found.name.clone()))
}

fn table(list: &CredentialList) -> String {
    let reader = reader();
    let mut table = Table::new(&["NAME", "ID", "CREATED", "CHANGED"]);
    for one in &list.credentials {
        table.row([
            Cell::new(&one.name),
            Cell::new(&one.credential_id),
            Cell::new(reader.away(Some(&one.created_at))),
            Cell::new(reader.away(Some(&one.updated_at))),
        ]);
    }
    table.for_stdout()
}

#[cfg(test)]
mod tests {
    use impresario_api::Credential;

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        text(bytes, "stdin")
            .map(|value| value.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_end_of_a_line_is_not_the_values() {
        for (bytes, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            (" a \n", " a "),
            ("\n\n", "\n"),
            ("ä\nb", "ä\nb"),
        ] {
            assert_eq!(read(bytes.as_bytes()).as_deref(), Ok(expected), "{bytes:?}");
        }
        for empty in ["", "\n", "\r\n"] {
            assert!(read(empty.as_bytes()).unwrap_err().contains("stdin is empty"));
        }
        let error = read(b"hunter2\xff").unwrap_err();
        assert!(
            error.contains("not UTF-8") && !error.contains("hunter2"),
            "{error}"
        );
        let most = "😀".repeat(65_536) + "\r\n";
        assert_eq!(read(most.as_bytes()).unwrap(), "😀".repeat(65_536));
        assert!(
            read(format!("a{most}").as_bytes())
                .unwrap_err()
                .contains("more than")
        );
    }

    #[test]
    fn a_name_comes_before_an_id() {
        let one = |id: &str, name: &str| Credential {
            credential_id: id.to_owned(),
            name: name.to_owned(),
            created_at: String::new(),
            updated_at: String::new(),
        };
        let list = CredentialList {
            credentials: vec![one("1-a", "x"), one("2-b", "1-a")],
        };
        let id = |meant: &str| {
            chosen(&list, meant)
                .map(|(id, _)| id)
                .map_err(|error| error.to_string())
        };
        assert_eq!(id("X").as_deref(), Ok("1-a"));
        assert_eq!(id("1-a").as_deref(), Ok("2-b"));
        assert_eq!(id("2-B").as_deref(), Ok("2-b"));
        assert!(id("y").unwrap_err().contains("there is no credential \"y\""));
    }
}
