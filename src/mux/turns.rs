//! Whose turn it is: streams stand in two lines, so that a keystroke does not wait for every transfer.
//!
//! A stream whose last turn carried a full frame is heavy, every other one is light. The lines are served in turn, so
//! a light stream waits for one heavy one, however many there are, and light ones cannot hold a heavy one up for more
//! than half of the link.

use std::collections::VecDeque;

use super::Key;

/// The streams that wait for their turn, each at most once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    light: VecDeque<Key>,
    heavy: VecDeque<Key>,
    /// The last one served was a light one.
    was_light: bool,
}

/// A turn of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) key: Key,
    /// It stood in the line of light streams, and somebody else waits.
    pub(super) is_short: bool,
}

impl Turns {
    /// The stream stands at the end of its line. It must not stand in one already.
    pub(super) fn push(&mut self, key: Key, is_heavy: bool) {
        if is_heavy { self.heavy.push_back(key) } else { self.light.push_back(key) }
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Turn> {
        let is_light = self.heavy.is_empty() || (!self.was_light && !self.light.is_empty());
        let line = if is_light { &mut self.light } else { &mut self.heavy };
        let key = line.pop_front()?;
        self.was_light = is_light;
        Some(Turn { key, is_short: is_light && !(self.light.is_empty() && self.heavy.is_empty()) })
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
