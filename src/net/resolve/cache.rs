//! Results of the last seconds, so that a burst of visitors costs one look-up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ResolveError;

/// A small table, oldest entry first.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    result: Result<Vec<SocketAddr>, ResolveError>,
    until: Instant,
}

impl Cache {
    /// The result for a name, while it is fresh.
    pub(super) fn find(&self, name: &str, now: Instant) -> Option<Result<&[SocketAddr], &ResolveError>> {
        let entry = self.entries.iter().find(|entry| entry.name == name && now < entry.until)?;
        Some(entry.result.as_deref())
    }

    /// Keeps a result in place of an older one of the same name; the oldest of all makes room.
    pub(super) fn keep(&mut self, name: String, result: Result<Vec<SocketAddr>, ResolveError>, now: Instant) {
        self.entries.retain(|entry| entry.name != name && now < entry.until);
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.remove(0);
        }
        let kept_for = if result.is_ok() { FOUND_KEPT } else { FAILED_KEPT };
        self.entries.push(Entry { name, result, until: now + kept_for });
    }
}

/// Short enough that a changed record is followed at once, long enough for a page with all its parts.
const FOUND_KEPT: Duration = Duration::from_secs(5);

/// A burst fails together; the next request asks anew.
const FAILED_KEPT: Duration = Duration::from_secs(1);

/// As many as may wait for a look-up.
const ENTRIES_MAX: usize = super::NAMES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_is_kept_for_its_time_and_failure_for_less() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let addresses = vec![SocketAddr::from(([192, 0, 2, 1], 0))];
        cache.keep("good".into(), Ok(addresses.clone()), start);
        cache.keep("bad".into(), Err(ResolveError::NoAddresses), start);
        assert_eq!(cache.find("good", start), Some(Ok(&addresses[..])));
        assert_eq!(cache.find("bad", start), Some(Err(&ResolveError::NoAddresses)));
        assert_eq!(cache.find("bad", start + FAILED_KEPT), None);
        assert!(cache.find("good", start + FAILED_KEPT).is_some());
        assert_eq!(cache.find("good", start + FOUND_KEPT), None);
    }

    #[test]
    fn oldest_result_makes_room_at_the_limit() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for index in 0..=ENTRIES_MAX {
            cache.keep(index.to_string(), Err(ResolveError::NoAddresses), now);
        }
        assert_eq!(cache.entries.len(), ENTRIES_MAX);
        assert_eq!(cache.find("0", now), None);
        assert!(cache.find("1", now).is_some());
    }
}
