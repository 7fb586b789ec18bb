//! Name look-ups away from the event loop: the system's resolver blocks, for minutes if it likes.
//!
//! At most two threads look names up, each started when there is something to do. One lane is kept for the connect
//! URL, so that it never waits behind an upstream's name; when its look-up hangs, the next one of the connect URL goes
//! first on the other lane. Look-ups of one name are merged, those of the connect URL apart from those of upstreams:
//! the operator may have named other servers for it. Results are kept for a few seconds for upstreams (every attempt of
//! the connect URL asks anew), and literals and `localhost` need no look-up. A look-up that hangs is given up at its
//! deadline; its thread counts as lost until it returns, because nothing can stop it.

mod cache;
mod stub;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use self::cache::Cache;
pub use self::stub::NameServers;
use super::dial::families_in_turn;
use crate::background::{self, Mailbox};

/// Looks names up. The loop calls [`Resolver::lookup`], and [`Resolver::poll`] until it gives `None` after the waker's
/// event and at [`Resolver::next_deadline`].
pub struct Resolver {
    look_up: Arc<LookUp>,
    waker: Arc<Waker>,
    /// Each lane has at most one report under way.
    reports: Mailbox<Report>,
    lanes: [Option<Running>; LANES],
    /// Names without a thread yet; those of the connect URL first.
    queue: VecDeque<Queued>,
    done: VecDeque<(LookupId, Result<Vec<SocketAddr>, ResolveError>)>,
    cache: Cache,
    ids_used: u64,
    /// The latest time that a caller gave.
    now: Option<Instant>,
}

/// The blocking look-up of one name.
type LookUp = dyn Fn(&str, Purpose) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Whom the addresses are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The link to the gateway: looked up anew each time, never queued behind upstreams.
    Connect,
    /// An upstream: a result of the last seconds will do.
    Upstream,
}

/// The answer to [`Resolver::lookup`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lookup {
    /// At least one address and at most [`ADDRESSES_MAX`], in the order in which to try them.
    Ready(Vec<SocketAddr>),
    /// [`Resolver::poll`] gives the result, at the latest after [`LOOKUP_TIMEOUT`].
    Pending(LookupId),
    /// It failed moments ago, or there is no room for it.
    Refused(ResolveError),
}

/// A look-up under way. Ids are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LookupId(u64);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The system's resolver says so; the text is its own.
    Failed(String),
    /// The name exists and has no address.
    NoAddresses,
    /// No answer within [`LOOKUP_TIMEOUT`].
    TimedOut,
    /// Too many names or requests wait already.
    QueueFull,
    /// The system refused to start a thread.
    NoThread(io::ErrorKind),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) => f.write_str(text),
            Self::NoAddresses => f.write_str("the name has no address"),
            Self::TimedOut => {
                write!(
                    f,
                    "the name look-up gave no answer within {} s: is the DNS server up?",
                    LOOKUP_TIMEOUT.as_secs()
                )
            }
            Self::QueueFull => f.write_str("too many name look-ups wait already"),
            Self::NoThread(kind) => write!(f, "no thread for the name look-up: {kind}"),
        }
    }
}

impl std::error::Error for ResolveError {}

struct Queued {
    name: String,
    purpose: Purpose,
    waiters: Vec<Waiter>,
}

struct Running {
    name: String,
    purpose: Purpose,
    waiters: Vec<Waiter>,
    thread: JoinHandle<()>,
    deadline: Instant,
    /// Past its deadline: nobody waits any more, and nobody joins.
    is_lost: bool,
}

struct Waiter {
    id: LookupId,
    port: u16,
    purpose: Purpose,
    deadline: Instant,
}

struct Report {
    lane: usize,
    result: io::Result<Vec<SocketAddr>>,
}

impl Resolver {
    /// A resolver that asks the system, or `servers` for the connect URL, and wakes the loop through `waker`.
    #[must_use]
    pub fn new(waker: Arc<Waker>, servers: Option<NameServers>) -> Self {
        Self::with_look_up(waker, asking(servers))
    }

    /// From the next look-up on, asks `servers` for the connect URL, or the system.
    pub fn change(&mut self, servers: Option<NameServers>) {
        self.look_up = Arc::new(asking(servers));
    }

    /// A resolver with another way to look names up; it runs on threads of its own and may block.
    #[must_use]
    pub fn with_look_up(
        waker: Arc<Waker>,
        look_up: impl Fn(&str, Purpose) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            look_up: Arc::new(look_up),
            waker,
            reports: Mailbox::new(),
            lanes: [const { None }; LANES],
            queue: VecDeque::new(),
            done: VecDeque::new(),
            cache: Cache::default(),
            ids_used: 0,
            now: None,
        }
    }

    /// Asks for the addresses of `host`: a name in lower case or an IP literal without brackets.
    pub fn lookup(&mut self, host: &str, port: u16, purpose: Purpose, now: Instant) -> Lookup {
        self.now = Some(now);
        if let Some(addresses) = without_look_up(host) {
            return Lookup::Ready(with_port(&addresses, port));
        }
        let kept = self.cache.find(host, now).filter(|_| purpose == Purpose::Upstream);
        match kept {
            Some(Ok(addresses)) => return Lookup::Ready(with_port(addresses, port)),
            Some(Err(error)) => return Lookup::Refused(error.clone()),
            None => {}
        }
        if self.waiting(purpose) >= waiters_max(purpose) {
            return Lookup::Refused(ResolveError::QueueFull);
        }
        let id = LookupId(self.ids_used);
        let waiter = Waiter { id, port, purpose, deadline: now + LOOKUP_TIMEOUT };
        if let Err(error) = self.join_or_queue(host, waiter) {
            return Lookup::Refused(error);
        }
        self.ids_used = self.ids_used.wrapping_add(1);
        self.start_queued(now);
        Lookup::Pending(id)
    }

    /// Forgets a look-up whose result nobody needs any more. The name is looked up to the end all the same.
    pub fn cancel(&mut self, id: LookupId) {
        self.done.retain(|(done, _)| *done != id);
        for running in self.lanes.iter_mut().flatten() {
            running.waiters.retain(|waiter| waiter.id != id);
        }
        for queued in &mut self.queue {
            queued.waiters.retain(|waiter| waiter.id != id);
        }
        self.queue.retain(|queued| !queued.waiters.is_empty());
    }

    /// Forgets a look-up of the connect URL as [`Resolver::cancel`] does, and what it would find: the network has changed,
    /// and the next look-up of the name is a new one.
    pub fn abandon(&mut self, id: LookupId) {
        self.cancel(id);
        let of_connect = |running: &&mut Running| running.purpose == Purpose::Connect;
        for running in self.lanes.iter_mut().flatten().filter(of_connect) {
            running.is_lost |= running.waiters.is_empty();
        }
    }

    /// The next result. Call it until it gives `None`.
    pub fn poll(&mut self, now: Instant) -> Option<(LookupId, Result<Vec<SocketAddr>, ResolveError>)> {
        self.now = Some(now);
        while let Some(report) = self.reports.take() {
            self.on_report(report, now);
        }
        self.give_up_overdue(now);
        self.start_queued(now);
        self.done.pop_front()
    }

    /// When [`Resolver::poll`] has something to do even if no look-up ends.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.done.is_empty() {
            return self.now;
        }
        let running = self.lanes.iter().flatten().filter(|running| !running.is_lost).map(|running| running.deadline);
        let queued = self.queue.iter().flat_map(|queued| &queued.waiters).map(|waiter| waiter.deadline);
        running.chain(queued).min()
    }

    fn join_or_queue(&mut self, host: &str, waiter: Waiter) -> Result<(), ResolveError> {
        let purpose = waiter.purpose;
        let mut lanes = self.lanes.iter_mut().flatten();
        if let Some(running) = lanes.find(|it| it.name == host && it.purpose == purpose && !it.is_lost) {
            running.waiters.push(waiter);
            return Ok(());
        }
        if let Some(queued) = self.queue.iter_mut().find(|it| it.name == host && it.purpose == purpose) {
            queued.waiters.push(waiter);
            return Ok(());
        }
        if purpose == Purpose::Upstream && self.queue.len() >= NAMES_MAX {
            return Err(ResolveError::QueueFull);
        }
        let queued = Queued { name: host.to_owned(), purpose, waiters: vec![waiter] };
        match purpose {
            Purpose::Connect => self.queue.push_front(queued),
            Purpose::Upstream => self.queue.push_back(queued),
        }
        Ok(())
    }

    /// Fills the free lanes. A name that still hangs in a lost thread is looked up again on the other lane.
    fn start_queued(&mut self, now: Instant) {
        for lane in 0..LANES {
            if self.lanes.get(lane).is_none_or(Option::is_some) {
                continue;
            }
            let suits = |queued: &Queued| lane != LANE_OF_CONNECT || queued.purpose == Purpose::Connect;
            let Some(queued) = self.queue.iter().position(suits).and_then(|index| self.queue.remove(index)) else {
                continue;
            };
            self.start(lane, queued, now);
        }
    }

    fn start(&mut self, lane: usize, queued: Queued, now: Instant) {
        let (look_up, reports, waker) = (Arc::clone(&self.look_up), self.reports.clone(), Arc::clone(&self.waker));
        let (name, purpose) = (queued.name.clone(), queued.purpose);
        let run = move || {
            let result = look_up(&name, purpose);
            reports.put(Report { lane, result });
            // Fails only when the loop has ended, and then nobody needs the result.
            let _ = waker.wake();
        };
        match background::spawn("resolve", STACK_BYTES, Box::new(run)) {
            Ok(thread) => {
                let deadline = now + LOOKUP_TIMEOUT;
                let Queued { name, purpose, waiters } = queued;
                let running = Running { name, purpose, waiters, thread, deadline, is_lost: false };
                if let Some(slot) = self.lanes.get_mut(lane) {
                    *slot = Some(running);
                }
            }
            Err(error) => self.fail(queued.waiters, &ResolveError::NoThread(error.kind())),
        }
    }

    fn on_report(&mut self, report: Report, now: Instant) {
        let Some(running) = self.lanes.get_mut(report.lane).and_then(Option::take) else {
            return;
        };
        // It has sent its report and is about to end.
        let _ = running.thread.join();
        let result = match report.result {
            Ok(addresses) if addresses.is_empty() => Err(ResolveError::NoAddresses),
            Ok(addresses) => Ok(distinct(addresses)),
            Err(error) => Err(ResolveError::Failed(error.to_string())),
        };
        if running.purpose == Purpose::Upstream {
            self.cache.keep(running.name, result.clone(), now);
        }
        for waiter in running.waiters {
            let result = result.as_deref().map(|found| with_port(found, waiter.port)).map_err(Clone::clone);
            self.done.push_back((waiter.id, result));
        }
    }

    fn give_up_overdue(&mut self, now: Instant) {
        let mut overdue = Vec::new();
        for running in self.lanes.iter_mut().flatten() {
            if running.deadline <= now {
                running.is_lost = true;
                overdue.append(&mut running.waiters);
            }
            overdue.extend(running.waiters.extract_if(.., |waiter| waiter.deadline <= now));
        }
        for queued in &mut self.queue {
            overdue.extend(queued.waiters.extract_if(.., |waiter| waiter.deadline <= now));
        }
        self.queue.retain(|queued| !queued.waiters.is_empty());
        self.fail(overdue, &ResolveError::TimedOut);
    }

    fn fail(&mut self, waiters: Vec<Waiter>, error: &ResolveError) {
        self.done.extend(waiters.into_iter().map(|waiter| (waiter.id, Err(error.clone()))));
    }

    fn waiting(&self, purpose: Purpose) -> usize {
        let running = self.lanes.iter().flatten().flat_map(|running| &running.waiters);
        let queued = self.queue.iter().flat_map(|queued| &queued.waiters);
        running.chain(queued).filter(|waiter| waiter.purpose == purpose).count()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running: Vec<&str> = self.lanes.iter().flatten().map(|running| running.name.as_str()).collect();
        f.debug_struct("Resolver").field("running", &running).field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

/// The look-up that asks these servers for the connect URL, and the system for all the rest.
fn asking(
    servers: Option<NameServers>,
) -> impl Fn(&str, Purpose) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static {
    move |name, purpose| match &servers {
        // An address with a zone is the system's affair.
        Some(servers) if purpose == Purpose::Connect && !name.contains(':') => servers.look_up(name),
        _ => Ok((name, 0).to_socket_addrs()?.collect()),
    }
}

/// Addresses of hosts that no name server has to be asked about. `localhost` is loopback by RFC 6761; IPv4 comes
/// first because that is where most services listen.
fn without_look_up(host: &str) -> Option<Vec<SocketAddr>> {
    if host == "localhost" {
        return Some(vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()]);
    }
    let address = host.parse::<IpAddr>().ok()?;
    Some(vec![SocketAddr::new(address, 0)])
}

fn with_port(addresses: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    let set = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    addresses.iter().copied().map(set).collect()
}

/// Each address once, families in turn and otherwise in the resolver's order, at most [`ADDRESSES_MAX`].
fn distinct(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept = Vec::new();
    for address in families_in_turn(addresses) {
        if kept.len() < ADDRESSES_MAX && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

const fn waiters_max(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Connect => CONNECT_WAITERS_MAX,
        Purpose::Upstream => UPSTREAM_WAITERS_MAX,
    }
}

/// How long a look-up may take, queueing included. Resolvers ask two servers twice with 5 s patience; who waits longer
/// has given up.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// More addresses than anyone tries within a connect timeout.
pub const ADDRESSES_MAX: usize = 8;

/// Names of upstreams that may wait for a thread: more than a hand-written file has while its DNS is down.
pub const NAMES_MAX: usize = 64;

/// One per stream that the link can carry: visitors that come in one burst wait for the same look-up.
pub const UPSTREAM_WAITERS_MAX: usize = 2048;

/// The agent has one attempt under way; cancelled ones make room at once.
const CONNECT_WAITERS_MAX: usize = 4;

/// Threads at a time.
const LANES: usize = 2;

/// The lane that upstreams never use.
const LANE_OF_CONNECT: usize = 0;

/// getaddrinfo of glibc keeps answers of up to 64 KiB on its stack and loads modules; musl needs a tenth of this.
const STACK_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
