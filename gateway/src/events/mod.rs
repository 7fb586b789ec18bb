//! Events: what an operator wants to be told of, to the log, to whoever follows along, and to a webhook.
//!
//! Telling never waits: what happens changes a small state behind a lock that nobody holds while waiting, and one task
//! publishes what comes of it. Every queue behind it is bounded, and what is lost is counted in [`Losses`].

mod certificate_ends;
mod event;
mod machine;
mod quiet;
mod settle;
mod tail;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::time::sleep_until;
use tracing::{info, warn};

pub use event::{About, Event, Kind, Moment, Site, rfc3339};
use machine::Machine;
pub use machine::Refusal;
pub use tail::{Tail, Tailed};

/// Hears what happens, and publishes what is worth telling.
pub struct Events {
    machine: Mutex<Machine>,
    /// There may be something to publish.
    changed: Notify,
    recent: Mutex<VecDeque<Arc<Event>>>,
    tail: broadcast::Sender<Arc<Event>>,
}

/// Events that nobody was told of, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// More happened at once than is kept.
    pub dropped: u64,
}

impl Events {
    /// Tells of sites and endpoints once a change has lasted for `settle`. `start` makes its ids differ from those of
    /// every other process. Nothing is published before [`Events::publish`] runs.
    #[must_use]
    pub fn new(settle: Duration, start: u64) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(settle, start)),
            changed: Notify::new(),
            recent: Mutex::default(),
            tail: broadcast::Sender::new(TAIL_MAX),
        })
    }

    /// Takes another settle time, for changes from now on.
    pub fn set_settle(&self, settle: Duration) {
        self.machine().set_settle(settle);
    }

    /// A session of a site has logged in. Call it in the order in which sessions come and go.
    pub fn session_up(&self, site: &Site) {
        self.machine().session_up(site, Moment::now());
        self.changed.notify_one();
    }

    /// A session that was told with [`Events::session_up`] has ended, for this reason.
    pub fn session_down(&self, site: &Site, reason: &str) {
        self.machine().session_down(site, reason, Moment::now());
        self.changed.notify_one();
    }

    /// An endpoint of agents is served by somebody now, or by nobody any more. Saying the same again is nothing new.
    pub fn endpoint(&self, account: &Arc<str>, url: &str, is_online: bool) {
        self.machine().endpoint(account, url, is_online, Moment::now());
        self.changed.notify_one();
    }

    /// A log-in was refused. The same address is told once in ten minutes, with the number of those not told.
    pub fn refused(&self, refusal: &Refusal) {
        self.machine().refused(refusal, Moment::now());
        self.changed.notify_one();
    }

    /// Somebody was turned away because of the limit with this key in the configuration; told as refusals are.
    pub fn limit_hit(&self, limit: &str, account: Option<&Arc<str>>) {
        self.machine().limit_hit(limit, account, Moment::now());
        self.changed.notify_one();
    }

    /// Looks at the end of a certificate: told 14, 7 and 1 days before, and when it has come.
    pub fn certificate(&self, name: &str, ends_at_unix: i64) {
        self.machine().certificate(name, ends_at_unix, Moment::now());
        self.changed.notify_one();
    }

    /// Events do not reach where they are sent, for this reason, or reach it again.
    pub fn webhook(&self, trouble: Option<&str>) {
        self.machine().webhook(trouble, Moment::now());
        self.changed.notify_one();
    }

    /// Follows along from now on.
    #[must_use]
    pub fn follow(&self) -> Tail {
        Tail::new(self.tail.subscribe())
    }

    /// The last events, oldest first; at most [`RECENT_MAX`].
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What nobody was told of.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses { dropped: self.machine().dropped() }
    }

    /// Publishes events until it is dropped. One task does it.
    pub async fn publish(&self) {
        loop {
            let (events, next) = {
                let mut machine = self.machine();
                (machine.take(Moment::now()), machine.next())
            };
            for event in events {
                self.publish_one(&Arc::new(event));
            }
            let changed = self.changed.notified();
            match next {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at.into()) => {}
                },
                None => changed.await,
            }
        }
    }

    fn publish_one(&self, event: &Arc<Event>) {
        log(event);
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() >= RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(event));
        }
        // Without anybody who follows there is nobody to tell.
        let _ = self.tail.send(Arc::clone(event));
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // Nothing that holds the lock leaves half-done work behind when it panics.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("losses", &self.losses()).finish_non_exhaustive()
    }
}

fn log(event: &Event) {
    let About { account, credential, instance, .. } = &event.about;
    let (account, credential, instance) = (account.as_deref(), credential.as_deref(), instance.as_deref());
    let (id, kind) = (&*event.id, event.kind.word());
    if event.kind.is_trouble() {
        warn!(event = kind, id, account, credential, instance, "{}", event.text);
    } else {
        info!(event = kind, id, account, credential, instance, "{}", event.text);
    }
}

/// Events that are kept for the status page: what somebody reads who was not there.
pub const RECENT_MAX: usize = 200;
/// Events that a reader who follows along may be behind; then it loses the oldest and is told how many.
pub const TAIL_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn event_reaches_everybody_who_follows_at_its_time() {
        let events = Events::new(Duration::from_secs(30), 1);
        let site = Site { account: "a".into(), credential: "c".into(), instance: None };
        let mut tail = events.follow();
        let publisher = Arc::clone(&events);
        let task = tokio::spawn(async move { publisher.publish().await });
        let start = tokio::time::Instant::now();
        events.session_up(&site);
        let Tailed::Event(event) = tail.next().await.unwrap() else { panic!("nothing was missed") };
        assert_eq!((event.kind, start.elapsed().as_secs()), (Kind::SiteUp, 30));
        assert_eq!(events.recent(), [event]);
        task.abort();
    }

    #[tokio::test]
    async fn slow_reader_loses_the_oldest_and_is_told_how_many() {
        let events = Events::new(Duration::from_secs(30), 1);
        let mut tail = events.follow();
        for number in 0..TAIL_MAX + 5 {
            events.machine().limit_hit(&number.to_string(), None, Moment::now());
            events.machine().webhook(None, Moment::now());
        }
        let told = events.machine().take(Moment::now());
        let count = told.len();
        told.into_iter().for_each(|event| events.publish_one(&Arc::new(event)));
        assert_eq!(tail.next().await, Some(Tailed::Missed((count - TAIL_MAX) as u64)));
        assert!(matches!(tail.next().await, Some(Tailed::Event(_))));
        assert_eq!(events.recent().len(), RECENT_MAX);
        drop(events);
        while let Some(Tailed::Event(_)) = tail.next().await {}
        assert_eq!(tail.next().await, None);
    }
}
