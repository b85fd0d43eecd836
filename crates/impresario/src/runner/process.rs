//! The processes of a run: start the first, find all that came of it, end them.
//!
//! A workflow can leave its process group (Chromium does) and its parents (a double fork), so one way of finding is not
//! enough. A process belongs to a run if it is in the group of the first one, descends from a process that does, was
//! once seen to descend from one, or carries the run's marker in its environment. What belongs is asked to end, then
//! forced, again and again until none is found.
//!
//! What escapes: a process that leaves the group, loses its parents and clears its environment before the end of the run
//! is looked at. Nothing but a cgroup or a PID namespace of its own would hold it, and not every host allows those.
//!
//! Process ids are used again. The first process is not reaped before the end, so its id and its group stay its own; all
//! others are signalled through a descriptor of the process, after a look that it is still the one that was found.

mod helpers;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group,
    pidfd_open, pidfd_send_signal, prlimit, waitid, waitpid,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::helpers::npm_install;
pub(super) use self::helpers::{NpmError, ask, search_path};

/// The variable that marks the processes of a run; its value is `<instance>/<run>`.
pub(super) const MARKER: &str = "IMPRESARIO_RUN";

/// How long ending a tree may take before what is left is reported and given up.
const END_LIMIT: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Where programs are looked for by runs; nothing of the server's own environment is passed on.
pub(super) const PLAIN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to start.
pub(super) struct Spec<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [&'a OsStr],
    pub(super) dir: &'a Path,
    /// All of its environment, but for the marker.
    pub(super) env: &'a [(&'a str, &'a OsStr)],
    pub(super) marker: &'a str,
    /// Becomes its descriptor 3.
    pub(super) channel: OwnedFd,
}

/// A process and all that came of it. Dropping it forces all of it to end.
pub(super) struct Tree {
    child: Child,
    root: Pid,
    exit: CancellationToken,
    marker: String,
    known: Known,
    ended: bool,
}

/// Processes that were seen to belong, by id and start time.
type Known = BTreeMap<i32, u64>;

/// The pipes of a process that was just started.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl Tree {
    /// Starts a process in its own group.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one home of processes that run workflows"
    )]
    pub(super) fn start(spec: Spec<'_>) -> io::Result<(Self, Pipes)> {
        let mut command = Command::new(spec.program);
        command
            .args(spec.args)
            .current_dir(spec.dir)
            .env_clear()
            .envs(spec.env.iter().copied())
            .env(MARKER, spec.marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
            .fd_mappings(vec![FdMapping {
                parent_fd: spec.channel,
                child_fd: 3,
            }])
            .map_err(io::Error::other)?;
        let mut child = command.spawn()?;
        // Dropped now, or the server's copy of the channel would keep it open for good.
        drop(command);
        let root = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process ended before it could be watched"))?;
        let exit = watch(root)?;
        limit(root);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let known = start_time(root.as_raw_nonzero().get()).map(|t| (root.as_raw_nonzero().get(), t));
        let tree = Self {
            child,
            root,
            exit,
            marker: spec.marker.to_owned(),
            known: known.into_iter().collect(),
            ended: false,
        };
        Ok((
            tree,
            Pipes {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    /// Waits until the first process has ended, without reaping it. Dropping the future loses nothing.
    pub(super) async fn exited(&self) {
        self.exit.cancelled().await;
    }

    /// Ends everything that came of the process and reaps what can be; the status of the first process, if it could be
    /// had. Takes up to `grace` where processes end when asked, a moment more where they must be forced.
    pub(super) async fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        let mut asked = BTreeSet::new();
        let left = loop {
            let (members, known) = self.look().await;
            self.known = known;
            let waited = begin.elapsed();
            if members.is_empty() || waited > END_LIMIT {
                break members;
            }
            if waited < grace {
                for member in &members {
                    if asked.insert((member.pid, member.start)) {
                        signal(member, Signal::TERM);
                    }
                }
            } else {
                // Both: the group at once leaves a fork bomb no time to grow, the members are those that left the group.
                let _ = kill_process_group(self.root, Signal::KILL);
                for member in &members {
                    signal(member, Signal::KILL);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        if !left.is_empty() {
            let pids: Vec<i32> = left.iter().map(|p| p.pid).collect();
            tracing::error!(?pids, marker = %self.marker, "processes of a run cannot be ended");
        }
        self.ended = true;
        let status = tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await;
        reap(&self.known, self.root);
        status.ok().and_then(Result::ok)
    }

    async fn look(&self) -> (Vec<Process>, Known) {
        let (root, marker, known) = (self.root, self.marker.clone(), self.known.clone());
        let looked =
            tokio::task::spawn_blocking(move || members(Some(root), &Match::Run(&marker), known)).await;
        looked.unwrap_or_default()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The run was dropped in the middle: no time to ask.
        for _ in 0..100 {
            let (left, known) = members(
                Some(self.root),
                &Match::Run(&self.marker),
                std::mem::take(&mut self.known),
            );
            self.known = known;
            if left.is_empty() {
                break;
            }
            let _ = kill_process_group(self.root, Signal::KILL);
            left.iter().for_each(|process| signal(process, Signal::KILL));
        }
    }
}

/// Cancels the token once the process has ended, without reaping it, which no async API of ours can: a thread waits for
/// it. A thread per run is little beside a Node and a Chromium per run.
fn watch(root: Pid) -> io::Result<CancellationToken> {
    let handle = pidfd_open(root, PidfdFlags::empty())?;
    let exit = CancellationToken::new();
    let seen = exit.clone();
    std::thread::Builder::new()
        .name("run-exit".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(
                waitid(WaitId::PidFd(handle.as_fd()), ended),
                Err(rustix::io::Errno::INTR)
            ) {}
            seen.cancel();
        })?;
    Ok(exit)
}

/// Forces every process whose marker begins with `<instance>/` to end; how many there were.
pub(super) fn sweep(instance: &str) -> usize {
    let prefix = format!("{instance}/");
    let mut found = Known::new();
    for _ in 0..1_000 {
        let (left, known) = members(None, &Match::Instance(&prefix), found);
        found = known;
        if left.is_empty() {
            break;
        }
        left.iter().for_each(|process| signal(process, Signal::KILL));
        std::thread::sleep(Duration::from_millis(5));
    }
    found.len()
}

/// What a started process may use. Best effort: a limit that cannot be set is no reason not to run.
fn limit(pid: Pid) {
    let cap = |n| Rlimit {
        current: Some(n),
        maximum: Some(n),
    };
    let _ = prlimit(Some(pid), Resource::Core, cap(0));
    let _ = prlimit(Some(pid), Resource::Nofile, cap(8_192));
    // Where memory runs out, the kernel should take a run and not the server.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
}

/// A process that has not ended.
#[derive(Debug, Clone, Copy)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    start: u64,
}

enum Match<'a> {
    /// The marker is this.
    Run(&'a str),
    /// The marker begins with this.
    Instance(&'a str),
}

/// What belongs and has not ended, and `known` with it added.
fn members(root: Option<Pid>, wanted: &Match<'_>, mut known: Known) -> (Vec<Process>, Known) {
    let group = root.map(|pid| pid.as_raw_nonzero().get());
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let all = processes();
    let mut belongs: BTreeSet<i32> = BTreeSet::new();
    for process in all.iter().filter(|p| p.pid != own) {
        let seen = known.get(&process.pid) == Some(&process.start);
        if seen || Some(process.group) == group || marked(process.pid, wanted) {
            belongs.insert(process.pid);
        }
    }
    // Children of members belong too; again until nothing is added, since ids are in no order of descent.
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|p| p.pid != own && belongs.contains(&p.parent) && !belongs.contains(&p.pid))
            .map(|p| p.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        belongs.extend(more);
    }
    let found: Vec<Process> = all.into_iter().filter(|p| belongs.contains(&p.pid)).collect();
    known.extend(found.iter().map(|p| (p.pid, p.start)));
    (found, known)
}

/// All processes that have not ended.
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read_stat)
        .collect()
}

/// `None` for a process that has ended, also for one that only waits to be reaped.
fn read_stat(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may itself hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    (!matches!(state, "Z" | "X" | "x")).then_some(Process {
        pid,
        parent,
        group,
        start,
    })
}

fn start_time(pid: i32) -> Option<u64> {
    read_stat(pid).map(|p| p.start)
}

fn marked(pid: i32, wanted: &Match<'_>) -> bool {
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environ
        .split(|&b| b == 0)
        .filter_map(|entry| entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="))
        .any(|value| match wanted {
            Match::Run(whole) => value == whole.as_bytes(),
            Match::Instance(prefix) => value.starts_with(prefix.as_bytes()),
        })
}

/// Signals exactly this process: if its id has gone to another one since, nothing happens.
fn signal(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if start_time(process.pid) == Some(process.start) {
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Orphans come to us where this process is the first of a container; nobody else would reap them.
fn reap(known: &Known, root: Pid) {
    for pid in known
        .keys()
        .filter_map(|&pid| Pid::from_raw(pid))
        .filter(|&pid| pid != root)
    {
        // An id that is not a child of ours is an error without effect.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_parent_and_group() {
        let own = i32::try_from(std::process::id()).unwrap();
        let found = read_stat(own).unwrap();
        assert_eq!(
            found.parent,
            rustix::process::getppid().unwrap().as_raw_nonzero().get()
        );
        assert_eq!(found.group, rustix::process::getpgrp().as_raw_nonzero().get());
        assert!(found.start > 0);
    }
}
