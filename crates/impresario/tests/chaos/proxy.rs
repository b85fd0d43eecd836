//! What stands between one node and PostgreSQL, and breaks as it is told.
//!
//! One proxy a node, so that a fault can be aimed. Two threads a connection: one reads what the node says, message by
//! message, the other passes back what the server answers.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{rng::Rng, wire::Frontend};

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The COMMIT never arrives.
    Before,
    /// The COMMIT arrives and its answer does not.
    After,
    /// The connection is gone first, and the COMMIT arrives a while later: whoever asks at once what became of the
    /// transaction finds it in progress.
    Late,
}

/// What a line does with everything that comes over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Line {
    #[default]
    Good,
    /// Connections are made, and nothing comes through, in either direction.
    BlackHole,
    /// Each message of the node's takes this long.
    Slow(Duration),
    /// No connection is made, and those there are end.
    Refuses,
}

/// What happened to the COMMITs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) commits: usize,
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) late: usize,
    pub(crate) connections: usize,
}

#[derive(Debug)]
struct State {
    line: Line,
    rng: Rng,
    /// One COMMIT in so many is cut; 0 for none.
    one_in: usize,
    /// What the next COMMITs meet, whatever the rate says.
    aimed: Vec<Cut>,
    counts: Counts,
    open: Vec<Open>,
    over: bool,
}

/// A connection that is there.
#[derive(Debug)]
struct Open {
    client: TcpStream,
    server: TcpStream,
    link: Arc<Link>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    upstream: SocketAddr,
    name: String,
}

#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// How late a COMMIT is that comes after its connection has gone, in milliseconds.
const LATE: (u64, u64) = (100, 1_500);
/// How long the server may take for a COMMIT whose answer nobody will read.
const LAST_ANSWER: Duration = Duration::from_secs(10);

impl Proxy {
    /// A way to `upstream` for a node, whose sessions are called `name` there.
    pub(crate) fn start(upstream: SocketAddr, name: &str, rng: Rng) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            line: Line::Good,
            rng,
            one_in: 0,
            aimed: Vec::new(),
            counts: Counts::default(),
            open: Vec::new(),
            over: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            upstream,
            name: name.to_owned(),
        });
        let for_loop = shared.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = for_loop.clone();
                thread::spawn(move || {
                    // A connection that ends is what this is for.
                    let _ended = connect(&client, &shared);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_all();
    }

    pub(crate) fn set_line(&self, line: Line) {
        self.change(|state| {
            state.line = line;
            if line == Line::Refuses {
                end_all(state);
            }
        });
    }

    /// Cuts one COMMIT in so many, at a place that is drawn; none for 0.
    pub(crate) fn cut_one_in(&self, one_in: usize) {
        self.change(|state| state.one_in = one_in);
    }

    /// Cuts the next COMMITs like this, the last of these first.
    pub(crate) fn cut_next(&self, cuts: impl IntoIterator<Item = Cut>) {
        self.change(|state| state.aimed.extend(cuts));
    }

    /// Ends every connection, as a network that was reset does.
    pub(crate) fn reset(&self) {
        self.change(end_all);
    }

    /// Ends the server's side of every connection and tells no node: what a node asks there is never answered, as behind a
    /// balancer that has lost the server. New connections are good.
    pub(crate) fn forget(&self) {
        self.change(|state| {
            for open in state.open.drain(..) {
                open.link.forgotten.store(true, Ordering::SeqCst);
                let _gone = open.server.shutdown(Shutdown::Both);
            }
        });
    }

    /// From here on it does nothing but pass on.
    pub(crate) fn heal(&self) {
        self.change(|state| {
            state.line = Line::Good;
            state.one_in = 0;
            state.aimed.clear();
        });
    }

    pub(crate) fn counts(&self) -> Counts {
        self.shared.state.lock().unwrap().counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| {
            state.over = true;
            end_all(state);
        });
    }
}

fn end_all(state: &mut State) {
    for open in state.open.drain(..) {
        let _gone = open.client.shutdown(Shutdown::Both);
        let _gone = open.server.shutdown(Shutdown::Both);
    }
}

impl Shared {
    /// Waits while nothing comes through, and as long as a slow line takes; `false` where the line is dead.
    fn pass(&self, slows: bool) -> bool {
        let mut state = self.state.lock().unwrap();
        while state.line == Line::BlackHole && !state.over {
            state = self.changed.wait(state).unwrap();
        }
        let (line, over) = (state.line, state.over);
        drop(state);
        if let (Line::Slow(time), true) = (line, slows) {
            thread::sleep(time);
        }
        line != Line::Refuses && !over
    }

    /// What is to become of a COMMIT that is here now.
    fn cut(&self) -> Option<(Cut, u64)> {
        let mut state = self.state.lock().unwrap();
        state.counts.commits += 1;
        let cut = state.aimed.pop().or_else(|| {
            let hit = state.one_in > 0 && state.rng.clone().one_in(state.one_in);
            state.rng.next();
            hit.then(|| state.rng.pick(&[Cut::Before, Cut::After, Cut::Late]))
        })?;
        match cut {
            Cut::Before => state.counts.before += 1,
            Cut::After => state.counts.after += 1,
            Cut::Late => state.counts.late += 1,
        }
        let late = state.rng.between(LATE.0, LATE.1);
        Some((cut, late))
    }
}

fn connect(client: &TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    if shared.state.lock().unwrap().line == Line::Refuses {
        return Ok(());
    }
    // Whoever connects to a black hole waits: the accept is the operating system's.
    if !shared.pass(false) {
        return Ok(());
    }
    let server = TcpStream::connect(shared.upstream)?;
    // While nobody listens there, a connection may meet itself: its own port may be the one it asks for.
    if server.local_addr()? == server.peer_addr()? {
        return Ok(());
    }
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let link = Arc::new(Link::default());
    {
        let mut state = shared.state.lock().unwrap();
        state.counts.connections += 1;
        state.open.retain(|open| open.client.peer_addr().is_ok());
        state.open.push(Open {
            client: client.try_clone()?,
            server: server.try_clone()?,
            link: link.clone(),
        });
    }
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let (back, of_answers) = (shared.clone(), link.clone());
    thread::spawn(move || {
        // A server that was killed ends a connection with an error, and the node must hear of it as well.
        let _ended = answers(&from, &to, &back, &of_answers);
        of_answers.answered.store(true, Ordering::SeqCst);
        if !of_answers.forgotten.load(Ordering::SeqCst) {
            let _gone = to.shutdown(Shutdown::Both);
        }
    });
    let ended = asks(client, &server, shared, &link);
    let _gone = client.shutdown(Shutdown::Both);
    let _gone = server.shutdown(Shutdown::Both);
    ended
}

/// What the two threads of a connection tell each other.
#[derive(Debug, Default)]
struct Link {
    /// Nothing goes back to the node any more.
    muted: AtomicBool,
    /// The server has said something since.
    answered: AtomicBool,
    /// The server's side is gone, and the node is not told.
    forgotten: AtomicBool,
}

/// Passes on what the node says, until a COMMIT is to be cut.
fn asks(mut client: &TcpStream, mut server: &TcpStream, shared: &Shared, link: &Link) -> std::io::Result<()> {
    let mut frontend = Frontend::new(&shared.name);
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = client.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        frontend.push(&bytes[..count]);
        if !shared.pass(true) {
            return Ok(());
        }
        while let Some(message) = frontend.next() {
            let cut = if message.commits { shared.cut() } else { None };
            let wait = match cut {
                None => {
                    let written = server.write_all(&message.bytes);
                    if !link.forgotten.load(Ordering::SeqCst) {
                        written?;
                    }
                    continue;
                }
                Some((Cut::Before, _)) => return Ok(()),
                Some((Cut::After, _)) => 0,
                Some((Cut::Late, wait)) => wait,
            };
            // First the node's side, so that nothing of the answer can slip through.
            link.muted.store(true, Ordering::SeqCst);
            let _gone = client.shutdown(Shutdown::Both);
            thread::sleep(Duration::from_millis(wait));
            server.write_all(&message.bytes)?;
            // The connection stays until the server has carried out what nobody hears of.
            let end = Instant::now() + LAST_ANSWER;
            while !link.answered.load(Ordering::SeqCst) && Instant::now() < end {
                thread::sleep(Duration::from_millis(2));
            }
            return Ok(());
        }
    }
}

/// Passes back what the server says, until it says nothing more.
fn answers(
    mut server: &TcpStream,
    mut client: &TcpStream,
    shared: &Shared,
    link: &Link,
) -> std::io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = server.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        if link.muted.load(Ordering::SeqCst) {
            link.answered.store(true, Ordering::SeqCst);
            continue;
        }
        if !shared.pass(false) {
            return Ok(());
        }
        // Looked at again: the line may have been a black hole until now.
        if !link.muted.load(Ordering::SeqCst) {
            client.write_all(&bytes[..count])?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{db::Db, postgres::Postgres, support::wait_until};

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_commit_is_cut_before_it_arrives_or_its_answer_is_or_it_comes_late() {
        let server = Postgres::start();
        let mut direct = Db::postgres(server.address());
        direct.run("CREATE TABLE t (cut TEXT, by TEXT DEFAULT current_setting('application_name'))");
        let proxy = Proxy::start(server.address(), "chaos-7", Rng::of(1, "proxy"));
        let mut kept = |cut| {
            let mut through = Db::postgres(proxy.address());
            through.run(&format!("BEGIN; INSERT INTO t (cut) VALUES ('{cut:?}')"));
            proxy.cut_next([cut]);
            through.try_run("COMMIT").unwrap_err();
            direct.rows(&format!("SELECT by FROM t WHERE cut = '{cut:?}'"))
        };
        assert_eq!(kept(Cut::Before).len(), 0);
        // The node hears nothing before the server has it: a look may come too early.
        wait_until("the commit whose answer was cut", SOON, || {
            !kept(Cut::After).is_empty()
        });
        assert_eq!(kept(Cut::Late).len(), 0, "it is on its way");
        wait_until("the late commit", SOON, || {
            !direct.rows("SELECT by FROM t WHERE cut = 'Late'").is_empty()
        });
        assert_eq!(direct.rows("SELECT DISTINCT by FROM t")[0]["by"], "chaos-7");
        let mut through = Db::postgres(proxy.address());
        through.run("BEGIN; INSERT INTO t VALUES ('None')");
        through.run("COMMIT");
        let counts = proxy.counts();
        assert_eq!((counts.before, counts.late), (1, 1), "{counts:?}");
    }

    #[test]
    fn a_line_is_a_black_hole_or_slow_or_refuses_until_it_is_healed() {
        let server = Postgres::start();
        let proxy = Arc::new(Proxy::start(server.address(), "n", Rng::of(2, "proxy")));
        let mut through = Db::postgres(proxy.address());
        proxy.set_line(Line::Slow(Duration::from_millis(300)));
        let begun = Instant::now();
        through.run("SELECT 1");
        assert!(begun.elapsed() >= Duration::from_millis(300));
        proxy.set_line(Line::BlackHole);
        let (healer, begun) = (proxy.clone(), Instant::now());
        let healed = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            healer.heal();
        });
        through.run("SELECT 1");
        assert!(
            begun.elapsed() >= Duration::from_millis(500),
            "it waited for the line"
        );
        healed.join().unwrap();
        proxy.set_line(Line::Refuses);
        through.try_run("SELECT 1").unwrap_err();
        assert!(Db::try_postgres(proxy.address()).is_err());
        proxy.heal();
        Db::postgres(proxy.address()).run("SELECT 1");
    }

    #[test]
    fn a_node_hears_of_a_server_that_is_gone_unless_it_is_not_to() {
        let mut server = Postgres::start();
        let proxy = Proxy::start(server.address(), "n", Rng::of(3, "proxy"));
        let mut through = Db::postgres(proxy.address());
        server.restart(crate::postgres::Stop::Kill);
        through.try_run("SELECT 1").unwrap_err();
        let mut through = Db::postgres(proxy.address());
        proxy.forget();
        let waits = thread::spawn(move || through.try_run("SELECT 1"));
        Db::postgres(proxy.address()).run("SELECT 1");
        thread::sleep(Duration::from_millis(300));
        assert!(!waits.is_finished(), "nobody answers it");
    }
}
