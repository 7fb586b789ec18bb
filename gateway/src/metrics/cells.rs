//! Numbers that every thread adds to on each request.
//!
//! Adding to a number that another core has just added to means to fetch its line of the cache from there, which takes many times as
//! long as the addition. So every thread adds in a place of its own, and who reads sums them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Up to [`CELLS_MAX`] numbers that only grow.
#[derive(Debug)]
pub(super) struct Cells {
    shards: [Shard; SHARDS],
}

/// The numbers of one thread. Two lines of the cache, which processors fetch in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; CELLS_MAX]);

impl Cells {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shards: Default::default() })
    }

    pub(super) fn add(&self, index: usize, count: u64) {
        let shard = self.shards.get(OWN.with(|own| *own));
        if let Some(cell) = shard.and_then(|Shard(cells)| cells.get(index)) {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What all threads have added.
    pub(super) fn sum(&self, index: usize) -> u64 {
        let cells = self.shards.iter().filter_map(|Shard(cells)| cells.get(index));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

/// A counter that many threads count in.
#[derive(Clone, Debug)]
pub struct Tally {
    cells: Arc<Cells>,
    index: usize,
}

impl Tally {
    pub(super) fn new(cells: &Arc<Cells>, index: usize) -> Self {
        Self { cells: Arc::clone(cells), index }
    }

    /// One in the same cells as the last one that is there, while they have room.
    pub(super) fn beside(last: Option<&Self>) -> Self {
        match last {
            Some(Self { cells, index }) if index + 1 < CELLS_MAX => Self::new(cells, index + 1),
            Some(_) | None => Self::new(&Cells::new(), 0),
        }
    }

    /// Counts so many.
    pub fn add(&self, count: u64) {
        self.cells.add(self.index, count);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.sum(self.index)
    }
}

impl Default for Tally {
    /// One that no metric shows.
    fn default() -> Self {
        Self::new(&Cells::new(), 0)
    }
}

thread_local! {
    /// The shard of this thread.
    static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Threads that count at the same time without being in each other's way; more of them share.
const SHARDS: usize = 16;
/// What one shard has room for.
pub(super) const CELLS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn more_threads_than_shards_lose_nothing() {
        let tally = Tally::default();
        let threads: Vec<_> = (0..2 * SHARDS + 1)
            .map(|_| {
                let tally = tally.clone();
                thread::spawn(move || (0..1000).for_each(|_| tally.add(3)))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(tally.count(), 3000 * (2 * SHARDS as u64 + 1));
    }

    #[test]
    fn threads_count_in_places_of_their_own() {
        let tally = Tally::default();
        let add = || {
            let tally = tally.clone();
            thread::spawn(move || tally.add(1)).join().unwrap();
        };
        (0..SHARDS).for_each(|_| add());
        let used = tally.cells.shards.iter().filter(|Shard(cells)| cells[0].load(Ordering::Relaxed) > 0).count();
        // Other tests begin threads meanwhile.
        assert!(used > 1, "{used}");
    }
}
