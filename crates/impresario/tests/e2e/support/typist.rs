//! The command line against a server, with a tenant's key.

use serde_json::Value;

use super::{Client, Ran, Server};

/// A desk at which somebody types commands: none of what they say has the key in it.
#[derive(Debug)]
pub(crate) struct Typist<'a> {
    server: &'a Server,
    pub(crate) client: Client,
}

impl<'a> Typist<'a> {
    pub(crate) fn of(server: &'a Server, tenant: &str) -> Self {
        Self {
            server,
            client: server.tenant(tenant),
        }
    }

    /// Runs a command with these variables and this on stdin, however it ends.
    #[track_caller]
    pub(crate) fn with(&self, args: &[&str], more: &[(&str, &str)], stdin: &str) -> Ran {
        let url = format!("http://{}", self.client.address());
        let mut variables = vec![
            ("IMPRESARIO_URL", url.as_str()),
            ("LIBRETTO_API_KEY", self.client.key()),
            ("TZ", "Europe/Berlin"),
        ];
        variables.extend_from_slice(more);
        let ran = self.server.cli_with(args, &variables, stdin);
        assert!(
            !format!("{}{}", ran.stdout, ran.stderr).contains(self.client.key()),
            "the key is shown: {ran:?}"
        );
        ran
    }

    /// Runs a command that must end with this code.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, args: &[&str]) -> Ran {
        let ran = self.with(args, &[], "");
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        ran
    }

    /// Runs a command that must go well: what it says on stdout.
    #[track_caller]
    pub(crate) fn says(&self, args: &[&str]) -> String {
        self.ends(0, args).stdout.trim_end().to_owned()
    }

    /// Runs a command that must fail with this code, this part on stderr, and nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, args: &[&str], part: &str) {
        let ran = self.ends(code, args);
        assert!(ran.stderr.contains(part), "{args:?}: {part:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    }

    /// Runs a command with `--json`: the one document that it prints.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.says(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }
}
