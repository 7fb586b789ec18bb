//! What one action counts, within what all actions of the gateway may remember together.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::window::{Limit, Window};
use crate::bounded::Bounded;
use crate::shares::{Share, Shares};

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
    /// A unit for each window; there from the first request on. A policy belongs to one account.
    share: Option<Share>,
}

/// How many keys all actions may remember together, and those of one account.
#[derive(Debug)]
pub(super) struct Budget {
    shares: Shares,
    /// Those who use it, so that what they need no more can be had by others.
    users: Mutex<VecDeque<Weak<Counts>>>,
}

impl Counts {
    pub(super) fn new(limit: Limit, budget: &'static Budget) -> Arc<Self> {
        let state = State { windows: Bounded::new(COUNTS_MAX), others: Window::default(), share: None };
        let counts = Arc::new(Self { limit, budget, state: Mutex::new(state) });
        budget.users().push_back(Arc::downgrade(&counts));
        counts
    }

    /// Counts a request to an endpoint of an account, or says after what time there is room for one. When the budget is
    /// used up, by the account or by all of them, the keys that nobody remembers share one count: that is too strict for
    /// some, and lets nobody get round the limit.
    pub(super) fn take(&self, account: &Arc<str>, key: [u8; KEY_LEN], now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        let state = &mut *state;
        if state.windows.find(&key).is_none() {
            let share = state.share.get_or_insert_with(|| self.budget.shares.begin(account));
            share.shrink(state.windows.retire_oldest(RETIRED_PER_KEY, |window| window.is_over(self.limit, now)));
            let is_full = state.windows.len() >= COUNTS_MAX;
            if !is_full && !self.budget.grow_or_reclaim(share, now) {
                return state.others.take(self.limit, now);
            }
        }
        state.windows.entry(key).take(self.limit, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets windows that are over, if that is of use to whoever has this share.
    fn retire_for(&self, share: &Share, now: Instant) {
        // The one that asks is locked, and so may others be: their turn comes again.
        let Ok(mut state) = self.state.try_lock() else { return };
        let state = &mut *state;
        let Some(own) = state.share.as_mut() else { return };
        if share.is_own_part_full() && !own.is_beside(share) {
            return;
        }
        own.shrink(state.windows.retire(RETIRED_PER_CALL, |window| window.is_over(self.limit, now)));
    }
}

impl Budget {
    pub(super) fn new(max: usize, account_max: usize) -> Self {
        Self { shares: Shares::new(max, account_max), users: Mutex::default() }
    }

    fn grow_or_reclaim(&self, share: &mut Share, now: Instant) -> bool {
        if share.grow(1) {
            return true;
        }
        // Some may have had no request for long.
        for _ in 0..USERS_PER_CALL {
            let Some(user) = self.next_user() else { break };
            user.retire_for(share, now);
            if share.grow(1) {
                return true;
            }
        }
        false
    }

    /// The next of those who use it.
    fn next_user(&self) -> Option<Arc<Counts>> {
        let mut users = self.users();
        let user = users.pop_front()?;
        let counts = user.upgrade()?;
        users.push_back(user);
        Some(counts)
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
const BUDGET_MAX: usize = 524_288;
/// And by all actions of one account: whoever has more visitors than that to tell apart hurts nobody else.
const ACCOUNT_MAX: usize = BUDGET_MAX / 4;

pub(super) static BUDGET: LazyLock<Budget> = LazyLock::new(|| Budget::new(BUDGET_MAX, ACCOUNT_MAX));

/// Old windows that are looked at for each new key, so that they go faster than they come.
const RETIRED_PER_KEY: usize = 2;
/// And of each of some other actions, for a key that finds no room.
const RETIRED_PER_CALL: usize = 256;
/// So many of them.
const USERS_PER_CALL: usize = 4;
/// Policies that are gone, and are looked for among those that use the budget.
const GONE_PER_CALL: usize = 2;

/// Enough of a digest that nobody finds two keys that share one.
pub(super) const KEY_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { capacity: 1, rate: Duration::from_secs(60) };

    fn budget(max: usize) -> &'static Budget {
        Box::leak(Box::new(Budget::new(max, max)))
    }

    fn main() -> Arc<str> {
        "main".into()
    }

    fn key(number: u8) -> [u8; KEY_LEN] {
        [number; KEY_LEN]
    }

    /// The units that it holds, and the windows that it has.
    fn held(counts: &Counts) -> (usize, usize) {
        let state = counts.state();
        (state.share.as_ref().map_or(0, Share::held), state.windows.len())
    }

    #[test]
    fn keys_beyond_the_budget_share_one_count() {
        let (budget, now) = (budget(2), Instant::now());
        let (first, second) = (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(first.take(&main(), key(1), now).is_ok() && first.take(&main(), key(2), now).is_ok());
        assert!(first.take(&main(), key(1), now).is_err(), "those that are remembered are told apart");
        assert!(second.take(&main(), key(1), now).is_ok());
        assert!(second.take(&main(), key(2), now).is_err(), "all others are one");
        drop(first);
        assert!(second.take(&main(), key(3), now).is_ok(), "what it held is free");
        assert_eq!(held(&second), (1, 1));
    }

    #[test]
    fn account_with_too_many_keys_takes_no_room_from_others() {
        let budget: &Budget = Box::leak(Box::new(Budget::new(4, 2)));
        let (now, rest): (_, Arc<str>) = (Instant::now(), "rest".into());
        let (greedy, other) = (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(greedy.take(&main(), key(1), now).is_ok() && greedy.take(&main(), key(2), now).is_ok());
        assert!(greedy.take(&main(), key(3), now).is_ok());
        assert!(greedy.take(&main(), key(4), now).is_err(), "3 and 4 share a count");
        assert_eq!(held(&greedy), (2, 2));
        assert!(other.take(&rest, key(1), now).is_ok() && other.take(&rest, key(2), now).is_ok());
        assert!(other.take(&rest, key(1), now).is_err() && other.take(&rest, key(2), now).is_err());
        assert_eq!(held(&other), (2, 2));
    }

    #[test]
    fn account_at_its_part_gets_room_by_what_is_over_of_its_own() {
        let budget: &Budget = Box::leak(Box::new(Budget::new(4, 1)));
        let (now, rest): (_, Arc<str>) = (Instant::now(), "rest".into());
        let later = now + Duration::from_secs(120);
        let (first, foreign, second) =
            (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(first.take(&main(), key(1), now).is_ok() && foreign.take(&rest, key(1), now).is_ok());
        assert!(second.take(&main(), key(1), later).is_ok() && second.take(&main(), key(1), later).is_err());
        assert_eq!((held(&first), held(&foreign), held(&second)), ((0, 0), (1, 1), (1, 1)));
    }

    #[test]
    fn windows_that_are_over_make_room_for_all_actions() {
        let (budget, now) = (budget(2), Instant::now());
        let later = now + Duration::from_secs(120);
        let (idle, busy) = (Counts::new(LIMIT, budget), Counts::new(LIMIT, budget));
        assert!(idle.take(&main(), key(1), now).is_ok() && idle.take(&main(), key(2), now).is_ok());
        assert!(busy.take(&main(), key(1), later).is_ok());
        assert!(busy.take(&main(), key(2), later).is_ok(), "each has a count of its own");
        assert_eq!((held(&idle), held(&busy)), ((0, 0), (2, 2)));
        let much_later = later + Duration::from_secs(120);
        assert!(busy.take(&main(), key(3), much_later).is_ok());
        assert_eq!(held(&busy), (1, 1));
    }

    #[test]
    fn one_action_forgets_its_oldest_key() {
        let (budget, now) = (budget(COUNTS_MAX * 2), Instant::now());
        let counts = Counts::new(LIMIT, budget);
        for number in 0..=COUNTS_MAX {
            let mut key = [0; KEY_LEN];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            assert!(counts.take(&main(), key, now).is_ok());
        }
        assert_eq!(held(&counts), (COUNTS_MAX, COUNTS_MAX));
        assert!(counts.take(&main(), [0; KEY_LEN], now).is_ok(), "forgotten");
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
