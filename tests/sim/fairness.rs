//! Judges grants. Of two streams of one kind that are both ready, none gets a second turn before the other got its first. While
//! both kinds wait, neither sends more than the other: a heavy stream has its turn once the light ones have sent as much as the last
//! heavy one, and not twice before a light one has sent anything.

use std::collections::BTreeMap;

use adit::mux::limits::BURST_MAX;
use adit::mux::{Key, StreamAudit};

#[derive(Default)]
pub(crate) struct Fairness {
    grants: u64,
    ready: BTreeMap<Key, Ready>,
    /// The last heavy stream that sent something: number of its grant, and its bytes.
    heavy: Option<(u64, usize)>,
    /// Bytes of light streams since then.
    light: usize,
    /// Whether the stream that was granted last is a heavy one.
    is_heavy: bool,
}

#[derive(Clone, Copy)]
struct Ready {
    /// Number of grants when the stream became ready.
    since: u64,
    /// Number of its last grant, if it had one since.
    last: Option<u64>,
    is_heavy: bool,
}

impl Fairness {
    /// Takes note of who is ready now. Call it after everything that may change that, but not under a grant.
    pub(crate) fn observe(&mut self, streams: &[StreamAudit]) {
        self.ready.retain(|key, ready| {
            // Of the other kind it stands at the end of the other line.
            let same = |stream: &&StreamAudit| stream.key == *key && stream.is_heavy == ready.is_heavy;
            streams.iter().find(same).is_some_and(|stream| stream.may_take_turn)
        });
        for stream in streams.iter().filter(|stream| stream.may_take_turn) {
            let ready = Ready { since: self.grants, last: None, is_heavy: stream.is_heavy };
            self.ready.entry(stream.key).or_insert(ready);
        }
    }

    pub(crate) fn on_grant(&mut self, key: Key) -> Result<(), String> {
        let Some(ready) = self.ready.get(&key).copied() else {
            return Err(format!("{key:?} got a turn and was not ready"));
        };
        self.grants += 1;
        self.is_heavy = ready.is_heavy;
        self.judge_line(key, ready)?;
        self.judge_lines(key, ready)?;
        self.ready.insert(key, Ready { last: Some(self.grants), ..ready });
        Ok(())
    }

    /// So many bytes were sent under the last grant.
    pub(crate) fn on_sent(&mut self, len: usize) {
        if self.is_heavy {
            (self.heavy, self.light) = (Some((self.grants, len)), 0);
        } else {
            self.light += len;
        }
    }

    fn judge_line(&self, key: Key, ready: Ready) -> Result<(), String> {
        let Some(before) = ready.last else { return Ok(()) };
        let waits = |other: &Ready| other.since < before && other.last.is_none_or(|last| last < before);
        match self.ready.iter().find(|(_, other)| other.is_heavy == ready.is_heavy && waits(other)) {
            Some((other, _)) => Err(format!("{key:?} got two turns while {other:?} waited for one")),
            None => Ok(()),
        }
    }

    fn judge_lines(&self, key: Key, ready: Ready) -> Result<(), String> {
        let mut others = self.ready.iter().filter(|(_, other)| other.is_heavy != ready.is_heavy);
        if !ready.is_heavy {
            let share = self.heavy.map_or(BURST_MAX, |(_, len)| len);
            let waits = others.any(|(_, other)| other.since + 1 < self.grants);
            return if waits && self.light >= share {
                Err(format!("{key:?}, a light stream, got a turn after {} bytes beside {share}", self.light))
            } else {
                Ok(())
            };
        }
        let Some((before, _)) = self.heavy.filter(|_| self.light == 0) else { return Ok(()) };
        match others.find(|(_, other)| other.since < before) {
            Some((other, _)) => {
                Err(format!("{key:?}, a heavy stream, got a turn after another while {other:?} waited"))
            }
            None => Ok(()),
        }
    }
}
