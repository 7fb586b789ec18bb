//! What waits to be sent, and when it is tried again. It has no clock and does no I/O.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::event::Event;

/// Events in the order in which they are sent, one at a time.
#[derive(Debug, Default)]
pub(in crate::events) struct Queue {
    waiting: VecDeque<Waiting>,
    /// The event that is on its way.
    sending: Option<Arc<str>>,
    /// Failures in a row, of whichever events.
    failures: u32,
    retry_at: Option<Instant>,
    /// Lost and not told yet.
    untold: u64,
    lost: u64,
    is_failing: bool,
}

#[derive(Debug)]
struct Waiting {
    event: Arc<Event>,
    since: Instant,
    /// How often the receiver has answered that it does not take it.
    refusals: u32,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) enum Next {
    /// Nothing, until there is an event.
    Idle,
    /// Nothing, until then.
    Wait(Instant),
    /// Send this, and say that so many were lost.
    Send(Arc<Event>, u64),
}

impl Queue {
    /// Takes an event. When there are too many, one that is not just being sent is lost: the oldest of the credential, or for
    /// endpoints of the account, that has most, so that a site that makes up events pushes out no other's.
    pub(in crate::events) fn push(&mut self, event: Arc<Event>, now: Instant) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.remove(self.one_too_many());
            self.lose(1);
        }
        self.waiting.push_back(Waiting { event, since: now, refusals: 0 });
    }

    /// What is to be done. After [`Next::Send`], say how it ended.
    pub(in crate::events) fn next(&mut self, now: Instant) -> Next {
        while self.waiting.front().is_some_and(|first| now.saturating_duration_since(first.since) >= AGE_MAX) {
            self.waiting.pop_front();
            self.lose(1);
        }
        let Some(first) = self.waiting.front() else { return Next::Idle };
        match self.retry_at.filter(|at| *at > now) {
            Some(at) => Next::Wait(at),
            None => {
                self.sending = Some(Arc::clone(&first.event.id));
                Next::Send(Arc::clone(&first.event), self.untold)
            }
        }
    }

    /// The event that was sent last has arrived, and with it how many were lost. Tells whether that is news, after failures.
    pub(in crate::events) fn delivered(&mut self, told: u64) -> bool {
        if self.sent().is_some() {
            self.waiting.pop_front();
        }
        self.untold = self.untold.saturating_sub(told);
        (self.failures, self.retry_at) = (0, None);
        std::mem::take(&mut self.is_failing)
    }

    /// It has not arrived. `is_answered`: the receiver is there and does not take it. Tells whether it is news that
    /// something is wrong.
    pub(in crate::events) fn failed(
        &mut self,
        is_answered: bool,
        retry_after: Option<Duration>,
        now: Instant,
        random: u64,
    ) -> bool {
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(PAUSE_MAX);
        self.retry_at = now.checked_add(pause(self.failures, random).max(asked));
        if let Some(first) = self.sent() {
            first.refusals = first.refusals.saturating_add(u32::from(is_answered));
            if first.refusals >= REFUSALS_MAX {
                self.waiting.pop_front();
                self.lose(1);
            }
        }
        let is_news = !self.is_failing && self.failures >= FAILURES_TOLD;
        self.is_failing |= is_news;
        is_news
    }

    /// Nobody is to be told any more.
    pub(in crate::events) fn clear(&mut self) {
        *self = Self { lost: self.lost, ..Self::default() };
    }

    /// How many wait, and how many were lost since the start.
    pub(in crate::events) fn counts(&self) -> (usize, u64) {
        (self.waiting.len(), self.lost)
    }

    /// Which one is lost for the next.
    fn one_too_many(&self) -> usize {
        let begin = usize::from(self.sending.is_some());
        let mut counts: HashMap<_, (usize, usize)> = HashMap::new();
        for (index, waiting) in self.waiting.iter().enumerate().skip(begin) {
            let about = &waiting.event.about;
            counts.entry((&about.account, &about.credential)).or_insert((0, index)).0 += 1;
        }
        let most = counts.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
        most.map_or(begin, |(_, oldest)| oldest)
    }

    /// The event that was on its way, if it still waits: somebody may have cleared the queue meanwhile.
    fn sent(&mut self) -> Option<&mut Waiting> {
        let id = self.sending.take()?;
        self.waiting.front_mut().filter(|first| first.event.id == id)
    }

    fn lose(&mut self, count: u64) {
        self.lost = self.lost.saturating_add(count);
        self.untold = self.untold.saturating_add(count);
    }
}

/// Twice as long with each failure; half of it is random, so that gateways do not come at once.
fn pause(failures: u32, random: u64) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let half = whole / 2;
    let part = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    half + Duration::from_millis(random % part)
}

/// Two for each site of a fleet of 500, which may all go away and come back while the receiver is down. Each has some
/// hundred bytes.
const WAITING_MAX: usize = 1000;
/// What happened yesterday is no news.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A receiver that answers and does not take an event will not take it later; the others wait behind it.
const REFUSALS_MAX: u32 = 8;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// One lost connection is nothing to tell.
const FAILURES_TOLD: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::super::event::{About, Kind};
    use super::*;

    fn event(number: usize) -> Arc<Event> {
        Arc::new(Event {
            id: number.to_string().into(),
            kind: Kind::SiteUp,
            unix_ms: 0,
            since_unix_ms: 0,
            about: About::default(),
            reason: None,
            count: None,
            text: String::new(),
        })
    }

    fn sent(queue: &mut Queue, now: Instant) -> (String, u64) {
        match queue.next(now) {
            Next::Send(event, lost) => (event.id.to_string(), lost),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_are_sent_in_order_and_again_until_they_arrive() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        assert_eq!(queue.next(start), Next::Idle);
        queue.push(event(1), start);
        queue.push(event(2), start);
        assert_eq!(sent(&mut queue, start), ("1".to_owned(), 0));
        assert!(!queue.failed(false, None, start, 0));
        let Next::Wait(at) = queue.next(start) else { panic!("it tries at once") };
        assert_eq!(at, start + PAUSE_FIRST / 2);
        assert_eq!(sent(&mut queue, at), ("1".to_owned(), 0));
        assert!(!queue.delivered(0), "one failure is no news");
        assert_eq!(sent(&mut queue, at), ("2".to_owned(), 0));
        queue.delivered(0);
        assert_eq!(queue.next(at), Next::Idle);
    }

    #[test]
    fn pauses_grow_up_to_the_bound_and_a_receiver_may_ask_for_more() {
        for (failures, least) in [(1, 500), (2, 1000), (3, 2000), (9, 128_000), (10, 150_000), (1000, 150_000)] {
            assert_eq!(pause(failures, 0), Duration::from_millis(least));
            assert!(pause(failures, u64::MAX) <= Duration::from_millis(2 * least));
        }
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push(event(1), start);
        for (asked, wait) in [(60, 60), (3600, 300)] {
            queue.next(start + PAUSE_MAX * 2);
            queue.failed(true, Some(Duration::from_secs(asked)), start, 0);
            assert_eq!(queue.next(start), Next::Wait(start + Duration::from_secs(wait)));
        }
    }

    #[test]
    fn oldest_is_lost_when_too_many_wait_and_the_loss_is_told_once() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        (0..WAITING_MAX).for_each(|number| queue.push(event(number), start));
        assert_eq!(queue.counts(), (WAITING_MAX, 0));
        assert_eq!(sent(&mut queue, start), ("0".to_owned(), 0));
        // What is on its way is not the one that is lost.
        (0..5).for_each(|number| queue.push(event(WAITING_MAX + number), start));
        assert_eq!(queue.counts(), (WAITING_MAX, 5));
        queue.delivered(0);
        assert_eq!(sent(&mut queue, start), ("6".to_owned(), 5));
        queue.delivered(5);
        assert_eq!(sent(&mut queue, start), ("7".to_owned(), 0));
    }

    #[test]
    fn whoever_has_most_events_loses_its_own() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let of = |credential: &str, number: usize| {
            let about = About { credential: Some(credential.into()), ..About::default() };
            Arc::new(Event { about, ..Event::clone(&event(number)) })
        };
        queue.push(of("quiet", 0), start);
        (1..WAITING_MAX + 3).for_each(|number| queue.push(of("loud", number), start));
        assert_eq!(queue.counts(), (WAITING_MAX, 3));
        assert_eq!(sent(&mut queue, start), ("0".to_owned(), 3));
        queue.delivered(3);
        assert_eq!(sent(&mut queue, start), ("4".to_owned(), 0));
    }

    #[test]
    fn what_is_too_old_or_refused_too_often_is_lost() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push(event(1), start);
        queue.push(event(2), start + AGE_MAX);
        assert_eq!(sent(&mut queue, start + AGE_MAX), ("2".to_owned(), 1));
        let mut now = start + AGE_MAX;
        for _ in 0..REFUSALS_MAX {
            queue.failed(true, None, now, 0);
            now += PAUSE_MAX;
            queue.next(now);
        }
        assert_eq!((queue.next(now), queue.counts()), (Next::Idle, (0, 2)));
    }

    #[test]
    fn what_comes_after_a_clearing_does_not_pay_for_what_was_on_its_way() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.push(event(1), start);
        sent(&mut queue, start);
        queue.clear();
        queue.push(event(2), start);
        queue.delivered(0);
        assert_eq!(sent(&mut queue, start).0, "2");
    }

    #[test]
    fn receiver_that_is_not_there_costs_no_event_within_a_day() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let end = now + AGE_MAX;
        queue.push(event(1), now);
        let mut news = 0;
        while let Next::Wait(at) = {
            news += usize::from(queue.failed(false, None, now, 7));
            queue.next(now)
        } {
            now = at;
            if now >= end {
                break;
            }
            assert_eq!(sent(&mut queue, now).0, "1");
        }
        assert!(now >= end);
        assert_eq!((news, queue.counts()), (1, (1, 0)));
        queue.push(event(2), now);
        assert_eq!(sent(&mut queue, now), ("2".to_owned(), 1));
        assert!(queue.delivered(1), "that it works again is news");
    }
}
