//! Whose turn it is: streams stand in two lines, so that a keystroke does not wait for every transfer.
//!
//! A stream whose last turn carried a full frame is heavy, every other one is light. Light streams go first until they have
//! sent as many bytes as the last heavy one did, then it is a heavy one's turn. So a light stream waits for one burst however many
//! transfers there are, and light ones take no more than half of the link from them.

use std::collections::VecDeque;

use super::Key;
use super::limits::{BURST_MAX, FRAME_DATA_MAX};

/// The streams that wait for their turn, each at most once.
#[derive(Debug)]
pub(super) struct Turns {
    light: VecDeque<Key>,
    heavy: VecDeque<Key>,
    /// Bytes that light streams may send before the next heavy one.
    light_left: usize,
}

/// A turn of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) key: Key,
    /// Most bytes of it, credit allowing.
    pub(super) burst: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { light: VecDeque::new(), heavy: VecDeque::new(), light_left: BURST_MAX }
    }
}

impl Turns {
    /// The stream stands at the end of its line. It must not stand in one already.
    pub(super) fn push(&mut self, key: Key, is_heavy: bool) {
        if is_heavy { self.heavy.push_back(key) } else { self.light.push_back(key) }
    }

    /// The next one. A light one beside others gets one frame.
    pub(super) fn pop(&mut self) -> Option<Turn> {
        if self.light.is_empty() || (self.light_left == 0 && !self.heavy.is_empty()) {
            let key = self.heavy.pop_front()?;
            return Some(Turn { key, burst: BURST_MAX });
        }
        let key = self.light.pop_front()?;
        let is_alone = self.light.is_empty() && self.heavy.is_empty();
        Some(Turn { key, burst: if is_alone { BURST_MAX } else { FRAME_DATA_MAX } })
    }

    /// A stream of this kind has sent so much in its turn. One that had nothing has taken nothing from the others.
    pub(super) fn sent(&mut self, was_heavy: bool, len: usize) {
        self.light_left = if was_heavy { len } else { self.light_left.saturating_sub(len.max(LIGHT_LEAST)) };
    }

    /// The stream is gone.
    pub(super) fn remove(&mut self, key: Key) {
        for line in [&mut self.light, &mut self.heavy] {
            line.retain(|&other| other != key);
        }
    }

    /// The lines, of light streams and of heavy ones.
    pub(super) fn lines(&self) -> [&VecDeque<Key>; 2] {
        [&self.light, &self.heavy]
    }
}

/// What a light turn counts at least: its headers and its record cost more than a few bytes do.
const LIGHT_LEAST: usize = 1024;
