//! Judges grants: of two streams that are both ready, none gets a second turn before the other got its first.

use std::collections::BTreeMap;

use adit::mux::{Key, StreamAudit};

#[derive(Default)]
pub(crate) struct Fairness {
    grants: u64,
    ready: BTreeMap<Key, Ready>,
}

#[derive(Clone, Copy)]
struct Ready {
    /// Number of grants when the stream became ready.
    since: u64,
    /// Number of its last grant, if it had one since.
    last: Option<u64>,
}

impl Fairness {
    /// Takes note of who is ready now. Call it after everything that may change that, but not under a grant.
    pub(crate) fn observe(&mut self, streams: &[StreamAudit]) {
        self.ready.retain(|key, _| streams.iter().any(|stream| stream.key == *key && stream.may_take_turn));
        for stream in streams.iter().filter(|stream| stream.may_take_turn) {
            self.ready.entry(stream.key).or_insert(Ready { since: self.grants, last: None });
        }
    }

    pub(crate) fn on_grant(&mut self, key: Key) -> Result<(), String> {
        self.grants += 1;
        let Some(before) = self.ready.get(&key).and_then(|ready| ready.last) else {
            return self.note(key);
        };
        for (other, ready) in &self.ready {
            if *other != key && ready.since < before && ready.last.is_none_or(|last| last < before) {
                return Err(format!("{key:?} got two turns while {other:?} waited for one"));
            }
        }
        self.note(key)
    }

    fn note(&mut self, key: Key) -> Result<(), String> {
        let ready = self.ready.get_mut(&key).ok_or_else(|| format!("{key:?} got a turn and was not ready"))?;
        ready.last = Some(self.grants);
        Ok(())
    }
}
