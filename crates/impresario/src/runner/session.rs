//! A started `host.mjs` with its private directory, and talking to it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use rand::Rng as _;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::RunnerSettings;
use super::logs::LogSink;
use super::private_dir::PrivateDir;
use super::process::{Spec, Tree, search_path};
use super::protocol::{Frame, FrameReader};

/// How long frames may still come once the process has ended: they are in the pipe already.
const LAST_FRAMES: Duration = Duration::from_millis(200);
/// How long the process may take to end after the channel did.
const EXIT_AFTER_CHANNEL: Duration = Duration::from_secs(1);

/// A process that waits for its job.
pub(super) struct Session {
    pub(super) tree: Tree,
    pub(super) key: String,
    pub(super) private: PrivateDir,
    stdin: ChildStdin,
    frames: FrameReader<pipe::Receiver>,
}

/// What the process said last, or why it says no more.
pub(super) enum Said {
    /// Anything but a line of log.
    Frame(Frame),
    /// The first process has ended.
    Exited,
    /// The deadline came.
    TimedOut,
    /// The run was cancelled.
    Cancelled,
    /// What came is not from the host; the sentence says what it was.
    Bad(String),
}

impl Session {
    /// Makes the private directory and starts Node in it.
    pub(super) fn start(
        settings: &RunnerSettings,
        bundle_dir: &Path,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let (run, key) = (random_hex::<6>(), random_hex::<16>());
        let private = PrivateDir::new(&settings.work_dir, &run)?;
        let (home, tmp) = (private.home(), private.tmp());
        let path = search_path(&settings.node);
        let (ours, theirs) = channel()?;
        // All that a workflow sees of the environment, and the marker.
        let env: [(&str, &OsStr); 7] = [
            ("NODE_ENV", OsStr::new("production")),
            ("LIBRETTO_HOSTED_RUNTIME", OsStr::new("1")),
            ("LIBRETTO_REPO_ROOT", bundle_dir.as_os_str()),
            ("FORCE_COLOR", OsStr::new("0")),
            ("HOME", home.as_os_str()),
            ("TMPDIR", tmp.as_os_str()),
            ("PATH", OsStr::new(&path)),
        ];
        let (tree, pipes) = Tree::start(Spec {
            program: &settings.node,
            args: &[settings.host.as_os_str()],
            dir: &home,
            env: &env,
            marker: &format!("{}/{run}", settings.instance),
            channel: theirs,
        })?;
        let session = Self {
            tree,
            frames: FrameReader::new(ours, key.clone(), settings.limits.result_bytes),
            key,
            private,
            stdin: pipes.stdin,
        };
        Ok((session, pipes.stdout, pipes.stderr))
    }

    /// Writes one message as a line.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.send_line(&line).await
    }

    /// Writes a line that is one already.
    pub(super) async fn send_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.stdin.write_all(line).await?;
        self.stdin.flush().await
    }

    /// The next thing that is not a line of log; those go to `sink`.
    pub(super) async fn next(&mut self, until: Instant, cancel: &CancellationToken, sink: &LogSink) -> Said {
        loop {
            // In this order, so that a flood of frames holds up neither a cancel nor a time limit.
            let frame = tokio::select! {
                biased;
                () = cancel.cancelled() => return Said::Cancelled,
                () = tokio::time::sleep_until(until) => return Said::TimedOut,
                frame = self.frames.next() => frame,
                // A process that inherited the channel may keep it open, so its end alone is not waited for.
                () = self.tree.exited() => match tokio::time::timeout(LAST_FRAMES, self.frames.next()).await {
                    Ok(frame) => frame,
                    Err(_) => return Said::Exited,
                },
            };
            match frame {
                Ok(Some(Frame::Log { level, message })) => sink.say(level.into(), &message),
                Ok(Some(frame)) => return Said::Frame(frame),
                Ok(None) => {
                    let exited = tokio::time::timeout(EXIT_AFTER_CHANNEL, self.tree.exited()).await;
                    return match exited {
                        Ok(()) => Said::Exited,
                        Err(_) => Said::Bad(
                            "the workflow closed descriptor 3, which is the runner's own".to_owned(),
                        ),
                    };
                }
                Err(sentence) => return Said::Bad(sentence),
            }
        }
    }
}

/// A pipe whose writing end blocks: the host writes a frame whole before it goes on.
fn channel() -> io::Result<(pipe::Receiver, std::os::fd::OwnedFd)> {
    let (theirs, ours) = pipe::pipe()?;
    Ok((ours, theirs.into_blocking_fd()?))
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0u8; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
