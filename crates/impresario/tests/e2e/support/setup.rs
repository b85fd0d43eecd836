//! How a server is started: the part of a test's first line before `start`.

use std::path::{Path, PathBuf};

use super::Server;

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Whether it finds a Chromium; without one it starts runs much faster.
    pub(crate) browser: bool,
    /// The Chromium it is told to use.
    pub(crate) chromium: Option<PathBuf>,
    /// Where its clock stands; `None` is the machine's own.
    pub(crate) clock: Option<&'static str>,
    pub(crate) job_slots: u16,
    pub(crate) grace_seconds: u64,
    /// Whether callbacks may go to this machine, where the receivers are.
    pub(crate) private_callbacks: bool,
    /// Whether it keeps everything in its data directory, whatever the others do.
    pub(crate) embedded: bool,
    /// Whether it is on PostgreSQL, whatever the others do, so that there may be others beside it.
    pub(crate) shared: bool,
    /// `--roles`, where it has not all of them.
    pub(crate) roles: Option<&'static str>,
    /// Whether it hears of the other nodes' work at once.
    pub(crate) hints: bool,
    /// How many requests a second, and at once, a key may make; without it, any number: tests ask in tight loops.
    pub(crate) requests: Option<(u32, u32)>,
    /// How many attempts to deliver are made at once; without it, the default.
    pub(crate) deliveries_at_once: Option<u32>,
}

impl Setup {
    /// Without Chromium, with a clock that stands at `instant` until the test moves it.
    pub(crate) fn at(instant: &'static str) -> Self {
        Self {
            browser: false,
            chromium: None,
            clock: Some(instant),
            job_slots: 4,
            grace_seconds: 0,
            private_callbacks: true,
            embedded: false,
            shared: false,
            roles: None,
            hints: true,
            requests: None,
            deliveries_at_once: None,
        }
    }

    /// On PostgreSQL: for several nodes.
    pub(crate) fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    pub(crate) fn roles(self, roles: &'static str) -> Self {
        Self {
            roles: Some(roles),
            ..self
        }
    }

    /// With a limit for each key: so many requests a second, so many at once.
    pub(crate) fn requests(self, per_second: u32, burst: u32) -> Self {
        Self {
            requests: Some((per_second, burst)),
            ..self
        }
    }

    pub(crate) fn deliveries_at_once(self, places: u32) -> Self {
        Self {
            deliveries_at_once: Some(places),
            ..self
        }
    }

    pub(crate) fn without_hints(self) -> Self {
        Self { hints: false, ..self }
    }

    /// On SQLite: for what is said of its file.
    pub(crate) fn embedded(self) -> Self {
        Self {
            embedded: true,
            ..self
        }
    }

    pub(crate) fn real_clock() -> Self {
        Self {
            clock: None,
            ..Self::at("")
        }
    }

    pub(crate) fn with_browser(self) -> Self {
        Self {
            browser: true,
            ..self
        }
    }

    /// With this program in Chromium's place.
    pub(crate) fn chromium(self, program: &Path) -> Self {
        Self {
            browser: true,
            chromium: Some(program.to_owned()),
            ..self
        }
    }

    pub(crate) fn job_slots(self, job_slots: u16) -> Self {
        Self { job_slots, ..self }
    }

    pub(crate) fn grace(self, grace_seconds: u64) -> Self {
        Self {
            grace_seconds,
            ..self
        }
    }

    pub(crate) fn public_callbacks_only(self) -> Self {
        Self {
            private_callbacks: false,
            ..self
        }
    }

    pub(crate) fn start(self) -> Server {
        let mut server = Server::unstarted(self);
        server.start_again();
        server
    }

    /// With a folder of its own, in which a data directory may be put before it is started.
    pub(crate) fn unstarted(self) -> Server {
        Server::unstarted(self)
    }
}
