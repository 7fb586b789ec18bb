//! How many lines a minute are written while there is no session. Pure: `now` is a parameter.

use std::time::{Duration, Instant};

use log::Level;

/// The lines of the present minute.
#[derive(Debug, Default)]
pub(super) struct Cap {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
    /// The last line that was left out: the newest reason is the one that counts.
    last: Option<(Level, String)>,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// The first one too many: in its place a line says so.
    Announce,
    LeaveOut,
}

/// What a minute left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    pub(super) level: Level,
    /// The last of them.
    pub(super) last: String,
}

impl Cap {
    /// Judges one line.
    pub(super) fn admit(&mut self, level: Level, text: &str, now: Instant) -> Verdict {
        self.began.get_or_insert(now);
        if self.written < OFFLINE_LINES_MAX {
            self.written += 1;
            return Verdict::Write;
        }
        self.left_out = self.left_out.saturating_add(1);
        self.last = Some((level, text.to_owned()));
        if self.left_out == 1 { Verdict::Announce } else { Verdict::LeaveOut }
    }

    /// What was left out in a minute that is over; the next line begins another.
    pub(super) fn expire(&mut self, now: Instant) -> Option<LeftOut> {
        let began = self.began?;
        if now.saturating_duration_since(began) < PERIOD {
            return None;
        }
        self.drain()
    }

    /// What was left out so far; the next line begins another minute.
    pub(super) fn drain(&mut self) -> Option<LeftOut> {
        let Self { left_out, last, .. } = std::mem::take(self);
        let (level, last) = last?;
        Some(LeftOut { count: left_out, level, last })
    }
}

/// Lines a minute while there is no session: a whole attempt at `debug`, with every address of a name, takes fewer, and
/// half a line a second is what a ring of 64 KiB in memory stands for a quarter of an hour.
pub const OFFLINE_LINES_MAX: u32 = 30;

const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_cap_are_counted_and_the_last_one_is_kept() {
        let (mut cap, start) = (Cap::default(), Instant::now());
        for _ in 0..OFFLINE_LINES_MAX {
            assert_eq!(cap.admit(Level::Warn, "early", start), Verdict::Write);
        }
        assert_eq!(cap.admit(Level::Warn, "first", start), Verdict::Announce);
        assert_eq!(cap.admit(Level::Info, "last", start), Verdict::LeaveOut);
        assert_eq!(cap.expire(start + PERIOD / 2), None);
        let left_out = LeftOut { count: 2, level: Level::Info, last: "last".into() };
        assert_eq!(cap.expire(start + PERIOD), Some(left_out));
        assert_eq!(cap.admit(Level::Warn, "next minute", start + PERIOD), Verdict::Write);
        assert_eq!(cap.drain(), None);
    }

    #[test]
    fn minute_without_too_many_lines_leaves_nothing_to_say() {
        let (mut cap, start) = (Cap::default(), Instant::now());
        cap.admit(Level::Warn, "a", start);
        assert_eq!(cap.expire(start + PERIOD), None);
        for _ in 0..OFFLINE_LINES_MAX {
            assert_eq!(cap.admit(Level::Warn, "b", start + PERIOD), Verdict::Write);
        }
    }
}
