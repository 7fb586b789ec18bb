//! Events: what an operator wants to be told of, to the log, to whoever follows along, and to a webhook.
//!
//! Telling never waits: what happens changes a small state behind a lock that nobody holds while waiting, and one task
//! publishes what comes of it. Every queue behind it is bounded, and what is lost is counted in [`Losses`].

mod certificate_ends;
mod event;
mod machine;
mod newcomers;
mod settle;
mod tail;
pub mod webhook;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use adit::session::Random;

use crate::config::events::EventsConfig;
pub use event::{About, Event, Kind, Moment, Site, rfc3339};
use machine::Machine;
pub use machine::{Hit, Refusal};
pub use tail::{Place, Tail, Tailed};
use webhook::{Answer, Next, Queue, Webhook, body, post};

/// Hears what happens, and publishes what is worth telling.
pub struct Events {
    machine: Mutex<Machine>,
    /// There may be something to publish.
    changed: Notify,
    recent: Mutex<VecDeque<Arc<Event>>>,
    tail: broadcast::Sender<Arc<Event>>,
    /// Whether those who follow along get no more. Each of them has a receiver.
    ended: watch::Sender<bool>,
    /// What those who follow were too slow for.
    missed: Arc<AtomicU64>,
    webhook: ArcSwapOption<Webhook>,
    queue: Mutex<Queue>,
    /// There may be something to deliver, or somewhere else.
    queued: Notify,
    start: u64,
}

/// Events that nobody was told of, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// More happened at once than is kept.
    pub dropped: u64,
    /// The webhook did not take them in time, or too many waited for it.
    pub webhook: u64,
    /// Those who follow along were too slow for them, all of them together.
    pub followers: u64,
}

impl Events {
    /// Tells as the configuration says. `start` makes its ids differ from those of every other process. Nothing is
    /// published before [`Events::run`] runs.
    #[must_use]
    pub fn new(config: &EventsConfig, start: u64) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(Machine::new(config.settle, start)),
            changed: Notify::new(),
            recent: Mutex::default(),
            tail: broadcast::Sender::new(TAIL_MAX),
            ended: watch::Sender::new(false),
            missed: Arc::default(),
            webhook: ArcSwapOption::new(config.webhook.clone()),
            queue: Mutex::default(),
            queued: Notify::new(),
            start,
        })
    }

    /// Takes another configuration. The settle time counts for changes from now on; what waits for the webhook goes to the
    /// new one, and nowhere if there is none.
    pub fn configure(&self, config: &EventsConfig) {
        self.machine().set_settle(config.settle);
        self.webhook.store(config.webhook.clone());
        if config.webhook.is_none() {
            self.queue().clear();
        }
        self.queued.notify_one();
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
        self.tell_now(|machine, now| machine.refused(refusal, now));
    }

    /// Somebody was turned away because of the limit with this key in the configuration; told as refusals are.
    pub fn limit_hit(&self, limit: &str, hit: &Hit) {
        self.tell_now(|machine, now| machine.limit_hit(limit, hit, now));
    }

    /// Looks at the end of a certificate: told 14, 7 and 1 days before, and when it has come.
    pub fn certificate(&self, name: &str, ends_at_unix: i64) {
        self.tell_now(|machine, now| machine.certificate(name, ends_at_unix, now));
    }

    /// Events do not reach the webhook, for this reason, or reach it again.
    fn tell_webhook(&self, trouble: Option<&str>) {
        self.tell_now(|machine, now| machine.webhook(trouble, now));
    }

    /// The gateway is about to end: that its agents go away is not told, nor what has waited for the settle time.
    pub fn end(&self) {
        self.machine().end();
    }

    /// Follows along from now on.
    #[must_use]
    pub fn follow(&self) -> Tail {
        Tail::new(self.tail.subscribe(), Arc::clone(&self.missed), self.ended.subscribe())
    }

    /// Ends what those who follow along get, and waits until they have all of it, for at most a second.
    pub async fn end_tails(&self) {
        self.ended.send_replace(true);
        // Whoever reads so slowly does without the end.
        let _ = timeout(TAIL_END_TIME, self.ended.closed()).await;
    }

    /// The last events, oldest first; at most [`RECENT_MAX`].
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// What nobody was told of.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let (dropped, webhook) = (self.machine().dropped(), self.queue().counts().1);
        Losses { dropped, webhook, followers: self.missed.load(Ordering::Relaxed) }
    }

    /// How many events wait for the webhook.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().counts().0
    }

    /// Publishes and delivers events until it is dropped. One task does it.
    pub async fn run(&self) {
        tokio::join!(self.publish(), self.deliver());
    }

    async fn publish(&self) {
        loop {
            let (events, next) = {
                let mut machine = self.machine();
                (machine.take(Moment::now()), machine.next())
            };
            for (number, event) in (1..).zip(events) {
                self.publish_one(&Arc::new(event));
                // Those who follow get their turn.
                if number % TURN == 0 {
                    tokio::task::yield_now().await;
                }
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
        keep(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner), event);
        if self.webhook.load().as_ref().is_some_and(|webhook| webhook.takes(event.kind)) {
            self.queue().push(Arc::clone(event), Moment::now().at);
            self.queued.notify_one();
        }
        // Without anybody who follows there is nobody to tell.
        let _ = self.tail.send(Arc::clone(event));
    }

    /// Brings what waits to the webhook, one after the other.
    async fn deliver(&self) {
        let mut random = Random::new(self.start);
        loop {
            let webhook = self.webhook.load_full();
            let next = self.queue().next(Moment::now().at);
            match (webhook, next) {
                (None, _) | (Some(_), Next::Idle) => self.queued.notified().await,
                (Some(_), Next::Wait(at)) => tokio::select! {
                    () = self.queued.notified() => {}
                    () = sleep_until(at.into()) => {}
                },
                (Some(webhook), Next::Send(event, lost)) => {
                    let unix = Moment::now().unix_ms.div_euclid(1000);
                    let answer = post(&webhook, &event.id, unix, body(&event, lost)).await;
                    self.note(answer, lost, random.next());
                }
            }
        }
    }

    fn note(&self, answer: Answer, lost: u64, random: u64) {
        let now = Moment::now().at;
        let (is_answered, reason, retry_after) = match answer {
            Answer::Taken => {
                if self.queue().delivered(lost) {
                    self.tell_webhook(None);
                }
                return;
            }
            Answer::Refused(reason, retry_after) => (true, reason, retry_after),
            Answer::Failed(reason) => (false, reason, None),
        };
        debug!("an event was not delivered to the webhook: {reason}");
        if self.queue().failed(is_answered, retry_after, now, random) {
            self.tell_webhook(Some(&reason));
        }
    }

    /// For what is told at once or not at all: the publisher is woken only when there is something to publish, because
    /// much of it is not, and comes from strangers.
    fn tell_now(&self, tell: impl FnOnce(&mut Machine, Moment)) {
        let mut machine = self.machine();
        tell(&mut machine, Moment::now());
        if machine.has_news() {
            self.changed.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Keeps an event for those who look later. Those of endpoints, and all others, have half of the places each when there are too
/// many: a site that goes away takes its endpoints along, which must not hide that the site has gone.
fn keep(recent: &mut VecDeque<Arc<Event>>, event: &Arc<Event>) {
    recent.push_back(Arc::clone(event));
    if recent.len() <= RECENT_MAX {
        return;
    }
    let of_endpoints = recent.iter().filter(|event| event.kind.is_of_endpoint()).count();
    let is_endpoint = of_endpoints > RECENT_MAX / 2;
    if let Some(oldest) = recent.iter().position(|event| event.kind.is_of_endpoint() == is_endpoint) {
        recent.remove(oldest);
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
/// Events that a reader who follows along may be behind, as many as can be published at once; then it loses the oldest and is told how many.
pub const TAIL_MAX: usize = machine::OUTBOX_MAX;
/// What a reader may still have to read at the end: it was as fast as it could be until then.
const TAIL_END_TIME: Duration = Duration::from_secs(1);
/// Events that are published in a turn of the task.
const TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EventsConfig {
        EventsConfig { settle: Duration::from_secs(30), webhook: None }
    }

    #[tokio::test(start_paused = true)]
    async fn event_reaches_everybody_who_follows_at_its_time() {
        let events = Events::new(&config(), 1);
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

    #[tokio::test(start_paused = true)]
    async fn end_comes_after_what_was_published_and_waits_for_those_who_read() {
        let events = Events::new(&config(), 1);
        let (mut tail, slow) = (events.follow(), events.follow().place());
        events.machine().webhook(None, Moment::now());
        let told = events.machine().take(Moment::now());
        told.into_iter().for_each(|event| events.publish_one(&Arc::new(event)));
        let begin = tokio::time::Instant::now();
        let ending = Arc::clone(&events);
        let ending = tokio::spawn(async move { ending.end_tails().await });
        tokio::time::sleep(TAIL_END_TIME / 2).await;
        assert!(!ending.is_finished(), "somebody reads");
        assert!(matches!(tail.next().await, Some(Tailed::Event(_))));
        assert_eq!(tail.next().await, None);
        drop((tail, slow));
        ending.await.unwrap();
        assert!(begin.elapsed() < TAIL_END_TIME);
        let mut late = events.follow();
        assert_eq!(late.next().await, None);
        let begin = tokio::time::Instant::now();
        events.end_tails().await;
        assert!(begin.elapsed() <= TAIL_END_TIME + Duration::from_millis(1), "nobody is waited for without end");
    }

    #[tokio::test]
    async fn slow_reader_loses_the_oldest_and_is_told_how_many() {
        let events = Events::new(&config(), 1);
        let mut tail = events.follow();
        let mut told = std::collections::VecDeque::new();
        for _ in 0..TAIL_MAX + 5 {
            events.machine().webhook(None, Moment::now());
            told.extend(events.machine().take(Moment::now()));
        }
        let count = told.len();
        told.into_iter().for_each(|event| events.publish_one(&Arc::new(event)));
        assert_eq!(tail.next().await, Some(Tailed::Missed((count - TAIL_MAX) as u64)));
        assert_eq!(events.losses().followers, (count - TAIL_MAX) as u64);
        assert!(matches!(tail.next().await, Some(Tailed::Event(_))));
        assert_eq!(events.recent().len(), RECENT_MAX);
        drop(events);
        while let Some(Tailed::Event(_)) = tail.next().await {}
        assert_eq!(tail.next().await, None);
    }
    #[tokio::test]
    async fn reader_that_goes_away_before_it_is_told_what_it_lost_has_lost_it_all_the_same() {
        let events = Events::new(&config(), 1);
        for (behind, lost) in [(TAIL_MAX, 0), (TAIL_MAX + 5, 5)] {
            let gone = events.follow();
            for _ in 0..behind {
                events.machine().webhook(None, Moment::now());
                let told = events.machine().take(Moment::now());
                told.into_iter().for_each(|event| events.publish_one(&Arc::new(event)));
            }
            drop(gone);
            assert_eq!(events.losses().followers, lost);
        }
    }
    #[tokio::test]
    async fn endpoints_of_sites_that_went_away_do_not_hide_that_the_sites_did() {
        let events = Events::new(&config(), 1);
        let account: Arc<str> = "a".into();
        let site = |number: usize| Site {
            account: Arc::clone(&account),
            credential: "c".into(),
            instance: Some(number.to_string().into()),
        };
        let publish = |seconds: u64| {
            let mut now = Moment::now();
            now.at += Duration::from_secs(seconds);
            let told = events.machine().take(now);
            told.into_iter().for_each(|event| events.publish_one(&Arc::new(event)));
        };
        for number in 0..RECENT_MAX {
            events.session_up(&site(number));
            (0..5).for_each(|each| events.endpoint(&account, &format!("https://{each}.{number}.internal"), true));
        }
        publish(30);
        let of_endpoints = || events.recent().iter().filter(|event| event.kind.is_of_endpoint()).count();
        assert_eq!((events.recent().len(), of_endpoints()), (RECENT_MAX, RECENT_MAX / 2));
        assert_eq!(
            events.recent().last().map(|event| event.kind),
            Some(Kind::EndpointOnline),
            "they stay in their order"
        );
        for _ in 0..RECENT_MAX {
            events.machine().webhook(None, Moment::now());
        }
        publish(30);
        assert_eq!((events.recent().len(), of_endpoints()), (RECENT_MAX, RECENT_MAX / 2));
    }
}
