//! What one action counts, within what all actions of the gateway may remember together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::window::{Limit, Window};
use crate::bounded::Bounded;

/// The counts of one action.
#[derive(Debug)]
pub(super) struct Counts {
    limit: Limit,
    budget: &'static Budget,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    windows: Bounded<[u8; KEY_LEN], Window>,
    /// The requests of all keys that there was no room to tell apart.
    others: Window,
}

/// How many keys all actions may remember together.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    /// Those who use it, so that what they need no more can be had by others.
    users: Mutex<VecDeque<Weak<Counts>>>,
}

impl Counts {
    pub(super) fn new(limit: Limit, budget: &'static Budget) -> Arc<Self> {
        let state = State { windows: Bounded::new(COUNTS_MAX), others: Window::default() };
        let counts = Arc::new(Self { limit, budget, state: Mutex::new(state) });
        budget.users().push_back(Arc::downgrade(&counts));
        counts
    }

    /// Counts a request, or says after what time there is room for one. When the budget is used up, the keys that nobody
    /// remembers share one count: that is too strict for some, and lets nobody get round the limit.
    pub(super) fn take(&self, key: [u8; KEY_LEN], now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        if state.windows.find(&key).is_none() {
            let retired = state.windows.retire_oldest(RETIRED_PER_KEY, |window| window.is_over(self.limit, now));
            self.budget.give(retired);
            let is_full = state.windows.len() >= COUNTS_MAX;
            if !is_full && !self.budget.take_or_reclaim(now) {
                return state.others.take(self.limit, now);
            }
        }
        state.windows.entry(key).take(self.limit, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let count = self.state().windows.len();
        self.budget.give(count);
    }
}

impl Budget {
    pub(super) const fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0), users: Mutex::new(VecDeque::new()) }
    }

    fn take_or_reclaim(&self, now: Instant) -> bool {
        if self.take() {
            return true;
        }
        self.reclaim(now);
        self.take()
    }

    fn take(&self) -> bool {
        let more = |used: usize| (used < self.max).then(|| used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }

    /// Looks at the next of those who use it, which may have had no request for long.
    fn reclaim(&self, now: Instant) {
        let mut users = self.users();
        let Some(user) = users.pop_front() else { return };
        let Some(counts) = user.upgrade() else { return };
        users.push_back(user);
        drop(users);
        // The one that asks is locked, and so may others be: their turn comes again.
        if let Ok(mut state) = counts.state.try_lock() {
            let retired = state.windows.retire(RETIRED_PER_CALL, |window| window.is_over(counts.limit, now));
            self.give(retired);
        };
    }

    fn users(&self) -> MutexGuard<'_, VecDeque<Weak<Counts>>> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone go as new ones come.
        for _ in 0..GONE_PER_CALL {
            if users.front().is_some_and(|user| user.strong_count() == 0) {
                users.pop_front();
            }
        }
        users
    }
}

/// Keys that are counted at a time by one action, some 130 bytes each; beyond that the oldest is forgotten.
const COUNTS_MAX: usize = 65_536;

/// And by all actions of all policies together, some 70 MB.
pub(super) static BUDGET: Budget = Budget::new(524_288);

/// Old windows that are looked at for each new key, so that they go faster than they come.
const RETIRED_PER_KEY: usize = 2;
/// And of another action, for a key that finds no room.
const RETIRED_PER_CALL: usize = 1024;
/// Policies that are gone, and are looked for among those that use the budget.
const GONE_PER_CALL: usize = 2;

/// Enough of a digest that nobody finds two keys that share one.
pub(super) const KEY_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { capacity: 1, rate: Duration::from_secs(60) };

    fn budget(max: usize) -> &'static Budget {
        Box::leak(Box::new(Budget::new(max)))
    }

    fn key(number: u8) -> [u8; KEY_LEN] {
        [number; KEY_LEN]
    }

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn keys_beyond_the_budget_share_one_count() {
        let (budget, now) = (budget(2), Instant::now());
        let (first, second) = (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(first.take(key(1), now).is_ok() && first.take(key(2), now).is_ok());
        assert!(first.take(key(1), now).is_err(), "those that are remembered are told apart");
        assert!(second.take(key(1), now).is_ok());
        assert!(second.take(key(2), now).is_err(), "all others are one");
        assert_eq!(used(budget), 2);
        drop(first);
        assert_eq!(used(budget), 0);
        assert!(second.take(key(3), now).is_ok());
        assert_eq!(used(budget), 1);
    }

    #[test]
    fn windows_that_are_over_make_room_for_all_actions() {
        let (budget, now) = (budget(2), Instant::now());
        let later = now + Duration::from_secs(120);
        let (idle, busy) = (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(idle.take(key(1), now).is_ok() && idle.take(key(2), now).is_ok());
        assert!(busy.take(key(1), later).is_ok());
        assert!(busy.take(key(2), later).is_ok(), "each has a count of its own");
        assert_eq!((idle.state().windows.len(), busy.state().windows.len(), used(budget)), (0, 2, 2));
        let much_later = later + Duration::from_secs(120);
        assert!(busy.take(key(3), much_later).is_ok());
        assert_eq!((busy.state().windows.len(), used(budget)), (1, 1));
    }

    #[test]
    fn one_action_forgets_its_oldest_key() {
        let (budget, now) = (budget(COUNTS_MAX * 2), Instant::now());
        let counts = Counts::new(LIMIT, budget);
        for number in 0..=COUNTS_MAX {
            let mut key = [0; KEY_LEN];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            assert!(counts.take(key, now).is_ok());
        }
        assert_eq!((counts.state().windows.len(), used(budget)), (COUNTS_MAX, COUNTS_MAX));
        assert!(counts.take([0; KEY_LEN], now).is_ok(), "forgotten");
    }

    #[test]
    fn policies_that_are_gone_are_forgotten() {
        let budget = budget(1);
        for _ in 0..100 {
            drop(Counts::new(LIMIT, budget));
        }
        assert!(budget.users.lock().unwrap().len() <= 2);
    }
}
