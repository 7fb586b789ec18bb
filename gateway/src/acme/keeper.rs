//! Keeps a certificate for each name: takes what is kept on disk, orders what is missing, renews in time, and says in the
//! log what goes wrong, when it tries again and how long the present certificate lasts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit::session::Random;
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::authority::{Authority, IssueError};
use super::issued::Issued;
use super::renewal::{Life, Retries};
use super::state::State;
use crate::certificates::{Certificates, Obtained};

/// The time of day.
pub(crate) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a keeper works with.
pub(crate) struct Means<A> {
    pub(crate) authority: Arc<A>,
    pub(crate) state: State,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) renew_before: Option<Duration>,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
}

/// Keeps the certificates of some names.
pub(crate) struct Keeper<A> {
    means: Means<A>,
    /// In the order of the configuration: the first one is for clients that name nothing.
    order: Vec<String>,
    records: BTreeMap<String, Record>,
    orders: JoinSet<Result<Issued, IssueError>>,
    ordered: HashMap<task::Id, String>,
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Record {
    held: Option<Held>,
    retries: Retries,
    /// When to try again after a failure; until then nothing is ordered.
    retry_at: Option<Instant>,
    /// When the last order ended.
    ended_at: Option<Instant>,
    /// The authority said when to come back, and nothing else counts.
    is_told: bool,
    is_ordered: bool,
    said: Said,
}

/// A certificate in use.
#[derive(Debug)]
struct Held {
    issued: Issued,
    /// In seconds since 1970.
    renew_at: u64,
}

/// What of a certificate's end is in the log already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    #[default]
    Nothing,
    Near,
    Over,
}

impl<A: Authority> Keeper<A> {
    /// Takes the certificates that are kept for `names`, and puts them in force. Orders come with [`Keeper::run`].
    pub(crate) fn new(means: Means<A>, names: &[String]) -> Self {
        let mut keeper = Self {
            means,
            order: Vec::new(),
            records: BTreeMap::new(),
            orders: JoinSet::new(),
            ordered: HashMap::new(),
        };
        keeper.follow(names);
        keeper
    }

    /// Works until the sender of `names` is gone. Each list that comes is the names from then on, and an occasion to try
    /// again what has failed.
    pub(crate) async fn run(mut self, mut names: mpsc::Receiver<Vec<String>>) {
        loop {
            let wait = self.step();
            tokio::select! {
                Some(done) = self.orders.join_next_with_id() => {
                    let (id, result) = match done {
                        Ok((id, result)) => (id, result),
                        Err(error) => (error.id(), Err(IssueError::refusal(format!("the order broke: {error}")))),
                    };
                    if let Some(name) = self.ordered.remove(&id) {
                        self.take(name, result).await;
                    }
                }
                list = names.recv() => match list {
                    Some(list) => {
                        self.follow(&list);
                        self.hasten();
                    }
                    None => return,
                },
                () = sleep(wait) => {}
            }
        }
    }

    /// Orders what is due, says what is near its end, and gives how long nothing else is to be done.
    fn step(&mut self) -> Duration {
        let (now, unix) = (Instant::now(), self.unix());
        let mut due: Vec<_> = self.records.iter().filter(|(_, record)| record.is_due(now, unix)).collect();
        // Those without first, then those that end soonest.
        due.sort_by_key(|(_, record)| record.held.as_ref().map_or(0, |held| held.issued.life.ends));
        let room = ORDERS_MAX.saturating_sub(self.orders.len());
        let names: Vec<_> = due.into_iter().take(room).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.order(name);
        }
        let is_full = self.orders.len() >= ORDERS_MAX;
        let mut wait = CHECK_MAX;
        for (name, record) in &mut self.records {
            record.say_end(name, unix);
            wait = wait.min(record.silent_for(unix));
            // With no room left, the end of an order is the next event.
            if !is_full {
                wait = wait.min(record.idle_for(now, unix));
            }
        }
        wait.max(CHECK_MIN)
    }

    fn order(&mut self, name: String) {
        if let Some(record) = self.records.get_mut(&name) {
            record.is_ordered = true;
        }
        let authority = Arc::clone(&self.means.authority);
        let order = self.orders.spawn({
            let name = name.clone();
            async move { authority.issue(&name).await }
        });
        self.ordered.insert(order.id(), name);
    }

    /// Takes what came of an order.
    async fn take(&mut self, name: String, result: Result<Issued, IssueError>) {
        let (now, unix) = (Instant::now(), self.unix());
        // Of certificates that are over when they come, nobody has anything.
        let result = result.and_then(|issued| match issued.life.ends > unix {
            true => Ok(issued),
            false => Err(IssueError::refusal("what was issued has ended already; is this machine's clock right?")),
        });
        let random = self.means.random.next();
        let Some(record) = self.records.get_mut(&name) else { return };
        record.is_ordered = false;
        record.ended_at = Some(now);
        match result {
            Ok(issued) => {
                record.retries.reset();
                record.retry_at = None;
                record.is_told = false;
                record.said = Said::Nothing;
                self.keep(&name, &issued).await;
                self.hold(&name, issued);
                let lasts = self.lasts(&name, unix);
                info!(%name, lasts, "a certificate was obtained");
                self.publish();
            }
            Err(error) => {
                let left = record.held.as_ref().map(|held| held.issued.life.left(unix));
                let left = left.filter(|left| !left.is_zero());
                let wait = record.retries.next(error.cause, error.retry_after, left, random);
                record.retry_at = now.checked_add(wait);
                record.is_told = error.retry_after.is_some_and(|asked| asked >= wait);
                let next_try = span(wait);
                match left {
                    Some(left) => {
                        let lasts = span(left);
                        warn!(%name, next_try, lasts, "no new certificate, the present one stays: {error}");
                    }
                    None => error!(%name, next_try, "no certificate: {error}"),
                }
            }
        }
    }

    /// Writes a certificate to disk.
    async fn keep(&self, name: &str, issued: &Issued) {
        let (state, name, issued) = (self.means.state.clone(), name.to_owned(), issued.clone());
        let file = state.certificate_file(&name).display().to_string();
        let kept = task::spawn_blocking(move || state.keep_certificate(&name, &issued)).await;
        if let Err(error) = kept.map_err(std::io::Error::other).and_then(|kept| kept) {
            error!("{file} cannot be written, so the next start orders the certificate again: {error}");
        }
    }

    fn hold(&mut self, name: &str, issued: Issued) {
        let renew_at = issued.life.renew_at(self.means.renew_before, self.means.random.next());
        if let Some(record) = self.records.get_mut(name) {
            record.held = Some(Held { issued, renew_at });
        }
    }

    /// Takes other names: of those that are gone everything is forgotten but their files.
    fn follow(&mut self, names: &[String]) {
        self.order = names.to_vec();
        self.records.retain(|name, _| names.contains(name));
        let unix = self.unix();
        for name in names {
            if self.records.contains_key(name) {
                continue;
            }
            self.records.insert(name.clone(), Record::default());
            match self.means.state.certificate(name) {
                Ok(Some(issued)) => {
                    self.hold(name, issued);
                    let lasts = self.lasts(name, unix);
                    info!(%name, lasts, "a kept certificate is used");
                }
                Ok(None) => info!(%name, "no certificate yet: TLS for this name is refused until there is one"),
                Err(error) => {
                    let file = self.means.state.certificate_file(name);
                    warn!("{}: the kept certificate is not usable, a new one is ordered: {error}", file.display());
                }
            }
        }
        self.publish();
    }

    /// Brings the next try of what has failed forward, where the authority has not said when to come back.
    fn hasten(&mut self) {
        for record in self.records.values_mut().filter(|record| !record.is_told) {
            let soonest = record.ended_at.and_then(|ended| ended.checked_add(RELOAD_GAP));
            if let (Some(retry_at), Some(soonest)) = (&mut record.retry_at, soonest) {
                *retry_at = soonest.min(*retry_at);
            }
        }
    }

    fn publish(&self) {
        let certified = |name: &String| {
            let held = self.records.get(name).and_then(|record| record.held.as_ref());
            held.map(|held| Arc::clone(&held.issued.certified))
        };
        let first = self.order.iter().find_map(certified);
        let by_name: HashMap<_, _> = self.order.iter().map(|name| (name.clone(), certified(name))).collect();
        self.means.certificates.set_obtained(Obtained { by_name, first });
    }

    fn lasts(&self, name: &str, unix: u64) -> String {
        let held = self.records.get(name).and_then(|record| record.held.as_ref());
        held.map(|held| span(held.issued.life.left(unix))).unwrap_or_default()
    }

    fn unix(&self) -> u64 {
        (self.means.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

impl Record {
    fn is_due(&self, now: Instant, unix: u64) -> bool {
        !self.is_ordered && self.idle_for(now, unix).is_zero()
    }

    /// How long until an order is due.
    fn idle_for(&self, now: Instant, unix: u64) -> Duration {
        if self.is_ordered {
            return CHECK_MAX;
        }
        if let Some(retry_at) = self.retry_at {
            return retry_at.saturating_duration_since(now);
        }
        let Some(held) = &self.held else { return Duration::ZERO };
        // However short the lives are that an authority gives.
        let soonest = self.ended_at.and_then(|ended| ended.checked_add(RENEWAL_GAP));
        let gap = soonest.map(|soonest| soonest.saturating_duration_since(now)).unwrap_or_default();
        Duration::from_secs(held.renew_at.saturating_sub(unix)).max(gap)
    }

    /// How long until something is to be said about the end.
    fn silent_for(&self, unix: u64) -> Duration {
        let Some(held) = &self.held else { return CHECK_MAX };
        let at = match self.said {
            Said::Nothing => held.issued.life.near_end_at(),
            Said::Near => held.issued.life.ends,
            Said::Over => return CHECK_MAX,
        };
        Duration::from_secs(at.saturating_sub(unix))
    }

    /// Says once that the end is near, and once that it has come.
    fn say_end(&mut self, name: &str, unix: u64) {
        let Some(held) = &self.held else { return };
        let life: Life = held.issued.life;
        let says = match () {
            () if life.ends <= unix => Said::Over,
            () if life.is_near_end(unix) => Said::Near,
            () => Said::Nothing,
        };
        if says <= self.said {
            return;
        }
        self.said = says;
        match says {
            Said::Over => error!(%name, "the certificate has ended and was not renewed: clients will not accept it"),
            Said::Near => {
                let lasts = span(life.left(unix));
                warn!(%name, lasts, "the certificate ends soon and was not renewed yet");
            }
            Said::Nothing => {}
        }
    }
}

/// A time for a person: its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// Orders at one time: a gateway with many names must look like one client, and answers few questions at once.
const ORDERS_MAX: usize = 4;
/// The time of day may jump, and a machine may sleep: nothing is planned for longer than this without another look.
const CHECK_MAX: Duration = Duration::from_secs(3600);
/// Whatever happens, nothing is looked at more often.
const CHECK_MIN: Duration = Duration::from_millis(100);
/// Between two certificates of one name.
const RENEWAL_GAP: Duration = Duration::from_secs(10);
/// Between a failure and the try that a reload asks for.
const RELOAD_GAP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
