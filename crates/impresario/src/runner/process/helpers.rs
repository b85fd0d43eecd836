//! Programs that are run to their end: `node --version`, `npm`.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::PLAIN_PATH;

/// What a helper program said.
pub(in crate::runner) struct Said {
    pub(in crate::runner) status: ExitStatus,
    pub(in crate::runner) stdout: String,
    pub(in crate::runner) stderr: String,
}

/// Runs a program to its end and takes what it prints.
#[expect(clippy::disallowed_methods, reason = "the one home of helper processes")]
pub(in crate::runner) fn ask(program: &Path, arg: &str) -> io::Result<Said> {
    let output = std::process::Command::new(program)
        .arg(arg)
        .stdin(Stdio::null())
        .output()?;
    Ok(Said {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Why `npm` did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NpmError {
    /// There is no npm.
    #[error(
        "npm was not found beside {node} or on PATH: install it (Debian: `apt install npm`; it comes with Node from nodejs.org)"
    )]
    Missing {
        /// The Node beside which it was looked for.
        node: String,
    },
    /// It took too long.
    #[error("npm did not end within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It could not be started.
    #[error("npm could not be started")]
    Start(#[source] io::Error),
    /// It said no.
    #[error("npm failed: {0}")]
    Failed(String),
}

/// What npm may see of the server's environment: how it reaches its registry, and nothing else. A bundle's scripts never
/// run, but its dependencies' names and versions are the tenant's.
const NPM_ENV: [&str; 15] = [
    "HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "NPM_CONFIG_USERCONFIG",
    "npm_config_userconfig",
    "npm_config_cafile",
];

/// Runs `npm <args>` in `dir` with scripts off, and ends it after `limit`.
#[expect(clippy::disallowed_methods, reason = "the one home of helper processes")]
pub(crate) async fn npm_install(
    node: &Path,
    dir: &Path,
    args: &[&str],
    limit: Duration,
) -> Result<(), NpmError> {
    let missing = || NpmError::Missing {
        node: node.display().to_string(),
    };
    let beside = node
        .parent()
        .map(|dir| dir.join("npm"))
        .filter(|npm| npm.exists());
    let npm = beside
        .or_else(|| crate::runner::locate::on_path("npm"))
        .ok_or_else(missing)?;
    let path = search_path(node);
    let mut command = Command::new(npm);
    command
        .args(args)
        .args([
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-progress",
            "--loglevel=error",
        ])
        .current_dir(dir)
        .env_clear()
        .envs(
            NPM_ENV
                .iter()
                .filter_map(|name| Some((name, crate::config::raw_variable(name)?))),
        )
        .env("PATH", path)
        .env("NO_UPDATE_NOTIFIER", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn().map_err(NpmError::Start)?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    match tokio::time::timeout(limit, child.wait_with_output()).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(NpmError::Failed(npm_reason(&String::from_utf8_lossy(
            &output.stderr,
        )))),
        Ok(Err(error)) => Err(NpmError::Start(error)),
        Err(_) => {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            Err(NpmError::TimedOut(limit))
        }
    }
}

/// The lines of npm's errors that say something, without the pointer to a log file that nobody can see.
fn npm_reason(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(|line| {
            line.trim_start_matches("npm error")
                .trim_start_matches("npm ERR!")
                .trim()
        })
        .filter(|line| {
            !line.is_empty() && !line.contains("complete log of this run") && !line.contains("_logs")
        })
        .take(12)
        .collect();
    if lines.is_empty() {
        "it said nothing".to_owned()
    } else {
        lines.join("; ")
    }
}

/// `PATH` for what this Node starts: its own directory first, so that `npm` and scripts find the same one.
pub(in crate::runner) fn search_path(node: &Path) -> String {
    match node.parent().and_then(Path::to_str).filter(|dir| !dir.is_empty()) {
        Some(dir) => format!("{dir}:{PLAIN_PATH}"),
        None => PLAIN_PATH.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npm_errors_are_cut_to_what_they_say() {
        let said = "npm error code E404\nnpm error 404 Not Found\nnpm error A complete log of this run can be found in: x\n";
        assert_eq!(npm_reason(said), "code E404; 404 Not Found");
    }
}
