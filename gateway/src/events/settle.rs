//! When a change is told: once it has lasted for the settle time. What comes and goes is told once as flapping, and once
//! more when that is over.
//!
//! It has no clock: every call says what time it is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::Moment;
use crate::departed::{Departed, Grouped};

/// Follows which of many things are there.
#[derive(Debug)]
pub(super) struct Settle<K: Grouped> {
    time: Duration,
    away_max: usize,
    records: HashMap<K, Record>,
    /// When something is to be told of whom. Invariant: agrees with `Record::due`.
    due: BTreeSet<(Instant, K)>,
    /// Who is not there. Invariant: agrees with `Record::departure`.
    away: Departed<K>,
    forgotten: u64,
}

/// What is known of one of them.
#[derive(Debug)]
struct Record {
    is_up: bool,
    since: Moment,
    reason: Option<Arc<str>>,
    /// When it went away last.
    left: Option<Instant>,
    told: Option<bool>,
    /// The last times that it went away; at most [`DEPARTURES`].
    departures: VecDeque<Instant>,
    /// How often it has gone away, while it flaps.
    flapping: Option<u64>,
    due: Option<Instant>,
    /// The number of its departure, while it is not there.
    departure: Option<u64>,
}

/// Something that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled<K> {
    pub(super) key: K,
    pub(super) change: Change,
    /// When it happened.
    pub(super) since: Moment,
    pub(super) reason: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there, after an absence of so long, or for the first time.
    Up(Option<Duration>),
    Down,
    /// It has gone away so many times in a short while.
    Flapping(u64),
    /// That is over, after so many times since it began, and it is there or not.
    Steady(u64, bool),
}

impl<K: Grouped + Ord + Hash> Settle<K> {
    /// Remembers at most `away_max` that are not there; how many are there is the caller's to bound.
    pub(super) fn new(time: Duration, away_max: usize) -> Self {
        Self { time, away_max, records: HashMap::new(), due: BTreeSet::new(), away: Departed::default(), forgotten: 0 }
    }

    /// Takes another settle time; what is waiting keeps the one that it began with.
    pub(super) fn set_time(&mut self, time: Duration) {
        self.time = time;
    }

    /// Whether it is there, or has been and is remembered.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.records.contains_key(key)
    }

    /// Hears that one is there or not. Gives what is to be told at once, which is only that it has begun to flap.
    pub(super) fn hear(&mut self, key: &K, is_up: bool, reason: Option<Arc<str>>, now: Moment) -> Option<Settled<K>> {
        let (window, calm) = (self.time.saturating_mul(WINDOW), self.time.saturating_mul(CALM));
        if !self.records.contains_key(key) {
            if !is_up {
                return None;
            }
            self.records.insert(key.clone(), Record::new(now));
        } else if self.records.get(key).is_some_and(|record| record.is_up == is_up) {
            return None;
        }
        let record = self.records.get_mut(key)?;
        if let Some(departure) = record.departure.take() {
            self.away.remove(departure, key);
        }
        record.change(is_up, reason, now);
        let flaps = !is_up && record.begins_to_flap(window);
        let wait = if record.flapping.is_some() { calm } else { self.time };
        let due = (record.flapping.is_some() || record.told != Some(is_up)).then(|| now.at.checked_add(wait)).flatten();
        let before = std::mem::replace(&mut record.due, due);
        let told = flaps.then(|| record.settled(key, Change::Flapping(DEPARTURES as u64)));
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        if let Some(due) = due {
            self.due.insert((due, key.clone()));
        }
        if !is_up {
            record.departure = Some(self.away.insert(key.clone()));
            self.forget();
        }
        told
    }

    /// Nothing more is told of what has happened until now.
    pub(super) fn hush(&mut self) {
        self.due.clear();
        self.records.values_mut().for_each(|record| record.due = None);
    }

    /// Forgets one of which nothing was told and that is not there any more.
    pub(super) fn drop_untold(&mut self, key: &K) {
        let is_untold = |record: &Record| record.told.is_none() && !record.is_up && record.flapping.is_none();
        let Some(record) = self.records.get(key).filter(|record| is_untold(record)) else { return };
        if let Some(departure) = record.departure {
            self.away.remove(departure, key);
        }
        if let Some(due) = record.due {
            self.due.remove(&(due, key.clone()));
        }
        self.records.remove(key);
    }

    /// What is to be told by now; at most two at a time, so call it until there is nothing.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Settled<K>, Option<Settled<K>>)> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        let record = self.records.get_mut(&key)?;
        record.due = None;
        let is_up = record.is_up;
        let steady = record.flapping.take().map(|departures| {
            record.departures.clear();
            record.settled(&key, Change::Steady(departures, is_up))
        });
        let changed = (record.told != Some(is_up)).then(|| {
            let away = record.left.map(|left| record.since.at.saturating_duration_since(left));
            record.settled(&key, if is_up { Change::Up(away) } else { Change::Down })
        });
        record.told = Some(is_up);
        match steady {
            Some(steady) => Some((steady, changed)),
            None => changed.map(|changed| (changed, None)),
        }
    }

    /// When [`Settle::poll`] has something next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many were forgotten before it was told that they are gone.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn forget(&mut self) {
        while self.away.len() > self.away_max {
            let Some(key) = self.away.pop() else { return };
            let Some(record) = self.records.remove(&key) else { continue };
            if let Some(due) = record.due {
                self.due.remove(&(due, key));
                self.forgotten = self.forgotten.saturating_add(1);
            }
        }
    }
}

impl Record {
    /// One that is there for the first time.
    fn new(now: Moment) -> Self {
        Self {
            is_up: true,
            since: now,
            reason: None,
            left: None,
            told: None,
            departures: VecDeque::new(),
            flapping: None,
            due: None,
            departure: None,
        }
    }

    fn change(&mut self, is_up: bool, reason: Option<Arc<str>>, now: Moment) {
        (self.is_up, self.since, self.reason) = (is_up, now, reason);
        if is_up {
            return;
        }
        // An outage that was told goes on.
        if self.told != Some(false) {
            self.left = Some(now.at);
        }
        if let Some(departures) = &mut self.flapping {
            *departures = departures.saturating_add(1);
            return;
        }
        if self.departures.len() == DEPARTURES {
            self.departures.pop_front();
        }
        self.departures.push_back(now.at);
    }

    /// Whether it has gone away so often within `window` that single times are not worth telling any more.
    fn begins_to_flap(&mut self, window: Duration) -> bool {
        let is_often = self.departures.len() == DEPARTURES
            && self.departures.front().is_some_and(|first| self.since.at.saturating_duration_since(*first) <= window);
        if self.flapping.is_some() || !is_often {
            return false;
        }
        self.flapping = Some(DEPARTURES as u64);
        true
    }

    fn settled<K: Clone>(&self, key: &K, change: Change) -> Settled<K> {
        Settled { key: key.clone(), change, since: self.since, reason: self.reason.clone() }
    }
}

/// Going away so many times within [`WINDOW`] is flapping.
const DEPARTURES: usize = 3;
/// In settle times: five minutes by default.
const WINDOW: u32 = 10;
/// In settle times: flapping is over when nothing has changed for so long. Half of [`WINDOW`], so that what goes away just
/// often enough to begin flapping does not end it in between.
const CALM: u32 = 5;

#[cfg(test)]
mod tests;
