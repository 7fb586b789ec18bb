//! What all accounts use together, in parts of which none can take more than its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

/// So many units of something, of which one account may hold only a part. An account that holds its whole part is refused
/// more, and nobody else is.
#[derive(Debug)]
pub(crate) struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    /// Those of the accounts that hold something.
    own: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// What one holder has of it. It goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
    held: usize,
}

impl Shares {
    /// `all` units, of which one account may hold `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, own: Mutex::default() }
    }

    /// A share of an account that holds nothing yet.
    pub(crate) fn begin(&self, account: &Arc<str>) -> Share {
        Share { all: Arc::clone(&self.all), own: self.own(account), held: 0 }
    }

    /// Waits for one unit.
    pub(crate) async fn one(&self, account: &Arc<str>) -> Share {
        let mut share = self.begin(account);
        // Neither is ever closed. Whoever waits for the others' part already has its own.
        if let Ok(own) = share.own.acquire().await
            && let Ok(all) = share.all.acquire().await
        {
            own.forget();
            all.forget();
            share.held = 1;
        }
        share
    }

    fn own(&self, account: &Arc<str>) -> Arc<Semaphore> {
        let mut known = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = known.get(account).and_then(Weak::upgrade) {
            return own;
        }
        known.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.each));
        known.insert(Arc::clone(account), Arc::downgrade(&own));
        own
    }
}

impl Share {
    /// How many units it holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes more units, all of them or none; says whether it has them now.
    #[must_use]
    pub(crate) fn grow(&mut self, count: usize) -> bool {
        let Ok(units) = u32::try_from(count) else { return false };
        let Ok(own) = self.own.try_acquire_many(units) else { return false };
        let Ok(all) = self.all.try_acquire_many(units) else { return false };
        own.forget();
        all.forget();
        self.held = self.held.saturating_add(count);
        true
    }

    /// Gives units back.
    pub(crate) fn shrink(&mut self, count: usize) {
        let count = count.min(self.held);
        self.held = self.held.saturating_sub(count);
        self.own.add_permits(count);
        self.all.add_permits(count);
    }

    /// True when only others of the same account can make room for it.
    pub(crate) fn is_own_part_full(&self) -> bool {
        self.own.available_permits() == 0
    }

    /// True when both are of the same account.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own, &other.own)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn account_at_its_part_leaves_the_rest_to_others() {
        let shares = Shares::new(5, 3);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let (mut first, mut second) = (shares.begin(&one), shares.begin(&one));
        assert!(first.grow(2) && second.grow(1));
        assert!(!first.grow(1) && first.is_own_part_full() && first.is_beside(&second));
        let mut other = shares.begin(&two);
        assert!(other.grow(2));
        assert!(!other.grow(1), "nothing is left of the whole");
        assert!(!other.is_own_part_full() && !other.is_beside(&first));
        second.shrink(9);
        assert_eq!((first.held(), second.held()), (2, 0));
        assert!(other.grow(1));
        drop((first, second, other));
        assert_eq!(shares.all.available_permits(), 5);
    }

    #[test]
    fn refused_growth_takes_nothing_of_either() {
        let shares = Shares::new(2, 4);
        let mut share = shares.begin(&"one".into());
        assert!(!share.grow(3));
        assert_eq!((share.own.available_permits(), share.all.available_permits()), (4, 2));
        assert!(share.grow(2));
    }

    #[test]
    fn accounts_that_hold_nothing_are_forgotten() {
        let shares = Shares::new(1, 1);
        for number in 0..100 {
            drop(shares.begin(&number.to_string().into()));
        }
        assert_eq!(shares.own.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_a_unit_of_the_same_account_is_free() {
        let shares = Shares::new(2, 1);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let first = shares.one(&one).await;
        assert!(timeout(Duration::from_secs(9), shares.one(&one)).await.is_err());
        assert_eq!(shares.one(&two).await.held(), 1);
        drop(first);
        assert_eq!(shares.one(&one).await.held(), 1);
        assert_eq!(shares.all.available_permits(), 2, "those that gave up waiting hold nothing");
    }
}
