//! Which messages were written lately, and how often they came again. Pure: `now` is a parameter.

use std::time::{Duration, Instant};

use log::Level;

/// The last messages, at most [`ENTRIES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Oldest first.
    entries: Vec<Entry>,
    /// Counts whose entries had to go; handed out with the next `expire`.
    evicted: Vec<Folded>,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It was written lately.
    Count,
    /// Write it, with the number of times it was not written before.
    Write { repeated: u64 },
}

/// A message that came again and was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) count: u64,
}

#[derive(Debug)]
struct Entry {
    level: Level,
    text: String,
    written: Instant,
    count: u64,
}

impl Repeats {
    /// Decides about a message and remembers it.
    pub(super) fn admit(&mut self, level: Level, text: &str, now: Instant) -> Decision {
        let found = self.entries.iter().position(|entry| entry.level == level && entry.text == text);
        let Some(index) = found else {
            self.remember(Entry { level, text: text.to_owned(), written: now, count: 0 });
            return Decision::Write { repeated: 0 };
        };
        let Some(entry) = self.entries.get_mut(index).filter(|entry| !entry.is_over(now)) else {
            let mut entry = self.entries.remove(index);
            let repeated = std::mem::take(&mut entry.count);
            entry.written = now;
            self.entries.push(entry);
            return Decision::Write { repeated };
        };
        entry.count = entry.count.saturating_add(1);
        Decision::Count
    }

    /// Forgets the messages whose window has passed and returns those that came again meanwhile.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Folded> {
        let mut folded = std::mem::take(&mut self.evicted);
        let (over, fresh) = std::mem::take(&mut self.entries).into_iter().partition(|entry| entry.is_over(now));
        self.entries = fresh;
        folded.extend(Vec::into_iter(over).filter_map(Entry::into_folded));
        folded
    }

    /// Forgets everything and returns what came again.
    pub(super) fn drain(&mut self) -> Vec<Folded> {
        let mut folded = std::mem::take(&mut self.evicted);
        folded.extend(std::mem::take(&mut self.entries).into_iter().filter_map(Entry::into_folded));
        folded
    }

    fn remember(&mut self, entry: Entry) {
        if self.entries.len() >= ENTRIES_MAX {
            let oldest = self.entries.remove(0);
            self.evicted.extend(oldest.into_folded());
        }
        self.entries.push(entry);
    }
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.written) >= REPEAT_WINDOW
    }

    fn into_folded(self) -> Option<Folded> {
        (self.count > 0).then_some(Folded { level: self.level, text: self.text, count: self.count })
    }
}

/// How long a message counts as already said: reconnect attempts against an absent gateway are up to 20 s apart, and
/// one line a minute is what flash and people stand.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(60);

/// As many different messages as a fault makes at once; each is at most a line's text.
const ENTRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Decision = Decision::Write { repeated: 0 };

    #[test]
    fn same_message_within_the_window_is_counted_and_reported_after_it() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.admit(Level::Info, "a", start), WRITE);
        for _ in 0..17 {
            assert_eq!(repeats.admit(Level::Info, "a", start), Decision::Count);
        }
        assert_eq!(repeats.admit(Level::Warn, "a", start), WRITE);
        assert!(repeats.expire(start + REPEAT_WINDOW / 2).is_empty());
        assert_eq!(repeats.admit(Level::Info, "a", start + REPEAT_WINDOW), Decision::Write { repeated: 17 });
        assert!(repeats.expire(start + REPEAT_WINDOW).is_empty());
    }

    #[test]
    fn count_is_handed_out_when_another_message_comes_after_the_window() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        repeats.admit(Level::Info, "a", start);
        repeats.admit(Level::Info, "a", start);
        assert_eq!(repeats.admit(Level::Info, "b", start + REPEAT_WINDOW), WRITE);
        let folded = repeats.expire(start + REPEAT_WINDOW);
        assert_eq!(folded, [Folded { level: Level::Info, text: "a".into(), count: 1 }]);
        assert_eq!(repeats.admit(Level::Info, "a", start + REPEAT_WINDOW), WRITE);
    }

    #[test]
    fn table_keeps_to_its_limit_and_loses_no_count() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        repeats.admit(Level::Info, "first", now);
        repeats.admit(Level::Info, "first", now);
        for index in 0..ENTRIES_MAX {
            repeats.admit(Level::Info, &index.to_string(), now);
        }
        assert_eq!(repeats.entries.len(), ENTRIES_MAX);
        assert_eq!(repeats.expire(now).len(), 1);
        assert_eq!(repeats.admit(Level::Info, "first", now), WRITE);
        assert!(repeats.drain().is_empty());
    }
}
