//! Blocks of received bytes from one bounded pool, and the queue of them that a stream holds.
//!
//! Memory is charged as bytes arrive: a stream that holds nothing costs nothing, whatever its window allows.

use std::collections::VecDeque;

/// Size of one block in bytes. Small enough that a short message on each of many streams fits an 8 MiB budget.
pub const BLOCK_LEN: usize = 4096;

type Block = Box<[u8]>;

/// The budget: how many blocks are out, what else is charged to it, and the spare blocks.
pub struct Pool {
    free: Vec<Block>,
    blocks_used: usize,
    blocks_made: usize,
    /// Bytes held elsewhere.
    charged: usize,
    bytes_max: usize,
}

impl std::fmt::Debug for Pool {
    /// Without the spare blocks, in which old bytes stand.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("used", &self.used_bytes()).field("max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that lends at most `bytes_max` bytes in blocks of [`BLOCK_LEN`], at least one block.
    pub fn new(bytes_max: usize) -> Self {
        Self { free: Vec::new(), blocks_used: 0, blocks_made: 0, charged: 0, bytes_max: bytes_max.max(BLOCK_LEN) }
    }

    /// Share of the budget in use, in percent.
    pub fn used_percent(&self) -> usize {
        self.used_bytes().saturating_mul(100) / self.bytes_max
    }

    /// Bytes lent now, counted in whole blocks, and those charged.
    pub fn used_bytes(&self) -> usize {
        self.blocks_used * BLOCK_LEN + self.charged
    }

    /// Counts bytes that are held elsewhere: blocks get what they leave. Whether there is room for them is for the
    /// caller to see, with [`Pool::has_room`].
    pub fn charge(&mut self, bytes: usize) {
        self.charged = self.charged.saturating_add(bytes);
        // Spare blocks are memory as well.
        self.keep(self.bytes_max.saturating_sub(self.used_bytes()) / BLOCK_LEN);
    }

    /// Bytes held elsewhere are gone.
    pub fn release(&mut self, bytes: usize) {
        self.charged = self.charged.saturating_sub(bytes);
    }

    /// Bytes that are held elsewhere.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// Whether so many bytes more are within the budget.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.bytes_max
    }

    /// Blocks lent now.
    pub fn blocks_used(&self) -> usize {
        self.blocks_used
    }

    /// Blocks allocated so far: does not grow in steady state.
    pub fn blocks_made(&self) -> usize {
        self.blocks_made
    }

    fn take(&mut self) -> Option<Block> {
        if !self.has_room(BLOCK_LEN) {
            return None;
        }
        self.blocks_used += 1;
        if let Some(block) = self.free.pop() {
            return Some(block);
        }
        self.blocks_made = self.blocks_made.wrapping_add(1);
        Some(vec![0; BLOCK_LEN].into_boxed_slice())
    }

    fn give(&mut self, block: Block) {
        self.blocks_used = self.blocks_used.saturating_sub(1);
        // All of them were in use since the last look at what is spare: no more than that is kept.
        self.free.push(block);
    }

    /// Bytes of spare blocks. With those in use they are within the budget.
    pub fn spare_bytes(&self) -> usize {
        self.free.len() * BLOCK_LEN
    }

    /// Whether there are more spare blocks than [`Pool::trim`] leaves.
    pub fn may_trim(&self) -> bool {
        self.free.len() > SPARE_REST
    }

    /// Gives spare blocks back that nobody may need for a while. Those of a busy link are made anew, which is cheap now and then.
    pub fn trim(&mut self) {
        self.keep(SPARE_REST);
    }

    /// Keeps so many spare blocks, those that were used last.
    fn keep(&mut self, most: usize) {
        let excess = self.free.len().saturating_sub(most);
        self.free.drain(..excess);
        if excess > 0 {
            self.free.shrink_to(SPARE_REST);
        }
    }
}

/// Bytes in the order of their arrival, held in blocks of a [`Pool`].
///
/// Invariant: `len` is the number of bytes between `head` in the first block and `tail` in the last one.
#[derive(Default)]
pub struct BlockQueue {
    blocks: VecDeque<Block>,
    head: usize,
    tail: usize,
    len: usize,
}

impl std::fmt::Debug for BlockQueue {
    /// Without the bytes: a visitor's, or a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockQueue").field("len", &self.len).field("blocks", &self.blocks.len()).finish()
    }
}

impl BlockQueue {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Blocks held.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Appends as much of `bytes` as the pool allows and returns how much that was.
    #[must_use]
    pub fn push(&mut self, pool: &mut Pool, mut bytes: &[u8]) -> usize {
        let wanted = bytes.len();
        while !bytes.is_empty() {
            if self.blocks.is_empty() || self.tail == BLOCK_LEN {
                let Some(block) = pool.take() else { break };
                self.blocks.push_back(block);
                self.tail = 0;
            }
            let Some(block) = self.blocks.back_mut() else { break };
            let n = bytes.len().min(BLOCK_LEN - self.tail);
            let (now, later) = bytes.split_at(n);
            block[self.tail..self.tail + n].copy_from_slice(now);
            self.tail += n;
            self.len += n;
            bytes = later;
        }
        wanted - bytes.len()
    }

    /// The first bytes that lie in one piece; empty only when nothing is held.
    pub fn chunk(&self) -> &[u8] {
        self.chunks().next().unwrap_or(&[])
    }

    /// All bytes held, piece by piece, for a vectored write.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let last = self.blocks.len().saturating_sub(1);
        self.blocks.iter().enumerate().map(move |(i, block)| {
            let from = if i == 0 { self.head } else { 0 };
            let to = if i == last { self.tail } else { BLOCK_LEN };
            &block[from..to]
        })
    }

    /// Drops the first `n` bytes (all, if fewer are held) and gives emptied blocks back.
    pub fn consume(&mut self, pool: &mut Pool, n: usize) {
        let mut left = n.min(self.len);
        self.len -= left;
        while left > 0 {
            let end = if self.blocks.len() == 1 { self.tail } else { BLOCK_LEN };
            let step = left.min(end - self.head);
            self.head += step;
            left -= step;
            if self.head < end {
                break;
            }
            self.head = 0;
            let Some(block) = self.blocks.pop_front() else { break };
            pool.give(block);
        }
    }

    /// Gives everything back.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.consume(pool, usize::MAX);
    }
}

/// Blocks that [`Pool::trim`] leaves, 64 KiB: an idle process keeps little. Until then all that were in use are kept: an upstream
/// that does not read for a moment fills a window, and each block that is made anew is a page of memory that the kernel has to
/// find.
const SPARE_REST: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn full_pool_takes_what_fits_and_recovers() {
        let mut pool = Pool::new(2 * BLOCK_LEN);
        let mut queue = BlockQueue::default();
        assert_eq!(queue.push(&mut pool, &vec![7; 3 * BLOCK_LEN]), 2 * BLOCK_LEN);
        assert_eq!(pool.used_percent(), 100);
        queue.consume(&mut pool, BLOCK_LEN);
        assert_eq!(queue.push(&mut pool, b"x"), 1);
        queue.clear(&mut pool);
        assert_eq!((queue.len(), pool.used_bytes()), (0, 0));
    }

    #[test]
    fn what_is_charged_is_taken_off_the_blocks() {
        let mut pool = Pool::new(4 * BLOCK_LEN);
        let mut queue = BlockQueue::default();
        pool.charge(2 * BLOCK_LEN + 1);
        assert_eq!((pool.used_percent(), pool.charged()), (50, 2 * BLOCK_LEN + 1));
        assert_eq!(queue.push(&mut pool, &[7; 3 * BLOCK_LEN]), BLOCK_LEN);
        pool.release(1);
        assert_eq!(queue.push(&mut pool, &[7; 3 * BLOCK_LEN]), BLOCK_LEN);
        assert!(pool.has_room(0) && !pool.has_room(1));
    }

    #[test]
    fn window_that_fills_and_empties_makes_no_block_twice_and_an_idle_pool_keeps_few() {
        let mut pool = Pool::new(128 * BLOCK_LEN);
        let mut queue = BlockQueue::default();
        for _ in 0..3 {
            assert_eq!(queue.push(&mut pool, &vec![7; 64 * BLOCK_LEN]), 64 * BLOCK_LEN);
            queue.clear(&mut pool);
            assert_eq!((pool.blocks_made(), pool.free.len()), (64, 64));
        }
        pool.trim();
        assert_eq!((pool.free.len(), pool.used_bytes()), (SPARE_REST, 0));
        assert!(pool.free.capacity() <= SPARE_REST);
    }

    #[test]
    fn spare_blocks_are_within_the_budget() {
        let mut pool = Pool::new(20 * BLOCK_LEN);
        let mut queue = BlockQueue::default();
        let _ = queue.push(&mut pool, &vec![7; 20 * BLOCK_LEN]);
        queue.clear(&mut pool);
        assert_eq!(pool.free.len(), 20);
        pool.charge(15 * BLOCK_LEN + 1);
        assert_eq!((pool.free.len(), pool.has_room(4 * BLOCK_LEN)), (4, true));
        assert_eq!(queue.push(&mut pool, &vec![7; 20 * BLOCK_LEN]), 4 * BLOCK_LEN);
        assert_eq!(pool.free.len(), 0);
    }

    #[test]
    fn an_empty_queue_holds_no_block() {
        let mut pool = Pool::new(8 * BLOCK_LEN);
        let mut queue = BlockQueue::default();
        assert_eq!(queue.push(&mut pool, b"abc"), 3);
        assert_eq!(pool.used_bytes(), BLOCK_LEN);
        queue.consume(&mut pool, 3);
        assert_eq!(pool.used_bytes(), 0);
    }

    proptest! {
        #[test]
        fn queue_equals_a_deque(steps in proptest::collection::vec((any::<bool>(), 0usize..10_000), 0..60)) {
            let mut pool = Pool::new(64 * BLOCK_LEN);
            let (mut queue, mut model) = (BlockQueue::default(), VecDeque::<u8>::new());
            let mut next = 0u8;
            for (push, n) in steps {
                if push {
                    let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let taken = queue.push(&mut pool, &bytes);
                    model.extend(&bytes[..taken]);
                } else {
                    queue.consume(&mut pool, n);
                    model.drain(..n.min(model.len()));
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.chunks().collect::<Vec<_>>().concat(), Vec::from(model.clone()));
                prop_assert_eq!(queue.chunk().is_empty(), model.is_empty());
                prop_assert!(pool.used_bytes() <= 64 * BLOCK_LEN);
                prop_assert!(pool.used_bytes() < model.len() + 2 * BLOCK_LEN || model.is_empty());
            }
        }
    }
}
