//! Instances that a credential has not had before: agents name them themselves, so that one of them could make up new ones all
//! the time, and fill with them what people read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bounded::Bounded;

/// Counts the new instances of each credential.
#[derive(Debug)]
pub(super) struct Newcomers {
    credentials: Bounded<Credential, Count>,
}

/// An account and its credential.
type Credential = (Arc<str>, Arc<str>);

/// What becomes of a new instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomer {
    /// It is one like others.
    Welcome,
    /// It is the first one beyond [`NEWCOMERS_MAX`].
    FirstTooMany,
    /// It is one more of them.
    TooMany,
}

#[derive(Debug, Default)]
struct Count {
    since: Option<Instant>,
    instances: usize,
}

impl Newcomers {
    pub(super) fn new() -> Self {
        Self { credentials: Bounded::new(CREDENTIALS_MAX) }
    }

    /// A credential has an instance that is not known.
    pub(super) fn come(&mut self, credential: Credential, now: Instant) -> Newcomer {
        let count = self.credentials.entry(credential);
        if count.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            *count = Count { since: Some(now), instances: 0 };
        }
        count.instances = count.instances.saturating_add(1);
        match count.instances {
            ..=NEWCOMERS_MAX => Newcomer::Welcome,
            FIRST_TOO_MANY => Newcomer::FirstTooMany,
            _ => Newcomer::TooMany,
        }
    }
}

/// New instances of a credential within [`PERIOD`]: four times the fleet that this is built for, all of which may come at once
/// after a restart of the gateway.
pub(super) const NEWCOMERS_MAX: usize = 2000;
const FIRST_TOO_MANY: usize = NEWCOMERS_MAX + 1;
/// Boxes are set up and exchanged by people, who do not do a fleet in it.
const PERIOD: Duration = Duration::from_secs(3600);
/// As many as there can be in a directory. Of more, the count of the one that came first begins anew.
const CREDENTIALS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(name: &str) -> Credential {
        ("clinic".into(), name.into())
    }

    #[test]
    fn new_instances_are_counted_for_each_credential_and_hour() {
        let (mut newcomers, start) = (Newcomers::new(), Instant::now());
        let mut come = |name, at| newcomers.come(credential(name), at);
        assert!((0..NEWCOMERS_MAX).all(|_| come("loud", start) == Newcomer::Welcome));
        let late = start + PERIOD - Duration::from_nanos(1);
        assert_eq!([come("loud", start), come("loud", late)], [Newcomer::FirstTooMany, Newcomer::TooMany]);
        assert_eq!(come("quiet", late), Newcomer::Welcome);
        assert_eq!(come("loud", start + PERIOD), Newcomer::Welcome);
    }

    #[test]
    fn credentials_that_are_counted_are_bounded() {
        let (mut newcomers, now) = (Newcomers::new(), Instant::now());
        (0..=CREDENTIALS_MAX).for_each(|number| _ = newcomers.come(credential(&number.to_string()), now));
        assert_eq!(newcomers.credentials.len(), CREDENTIALS_MAX);
    }
}
