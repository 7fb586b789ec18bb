//! Two multiplexers of ours, back to back, whose users do anything at all: neither ever blames the other, and what
//! arrives on a stream is a prefix of what was sent on it.

use std::collections::HashMap;

use adit::frame::ErrorCode;
use adit::mux::{Event, Key, Limits, Mux, Side};

use crate::input::Input;

/// Plays the operations of the input, then lets both ends come to rest.
pub fn mux_ops(data: &[u8]) {
    let mut input = Input(data);
    let mut ends = [End::new(Side::Agent), End::new(Side::Gateway)];
    let mut opened = 0_u32;
    while !input.is_empty() {
        let [a, b] = &mut ends;
        let (one, other) = if input.byte() & 1 == 0 { (a, b) } else { (b, a) };
        match input.byte() % 9 {
            0 => one.open(&mut opened),
            1 => one.write(&mut input),
            2 => one.read(&mut input),
            3 => one.with_key(&mut input, |mux, key| mux.finish(key)),
            4 => one.with_key(&mut input, |mux, key| mux.reset(key, ErrorCode::STREAM_CANCELLED)),
            5 => one.with_key(&mut input, |mux, key| mux.finish_and_reset(key, ErrorCode::STREAM_CANCELLED)),
            6 => one.with_key(&mut input, Mux::want_send),
            _ => one.pass(other, input.below(40_000)),
        }
        one.check();
    }
    let [a, b] = &mut ends;
    for _ in 0..ROUNDS_TO_REST {
        for end in [&mut *a, &mut *b] {
            end.transmit();
            end.read_all();
        }
        if a.wire.is_empty() && b.wire.is_empty() {
            return;
        }
        a.pass(b, usize::MAX);
        b.pass(a, usize::MAX);
    }
    panic!("the ends never come to rest");
}

struct End {
    mux: Mux,
    /// Bytes for the other end.
    wire: Vec<u8>,
    streams: HashMap<Key, Stream>,
    /// Also those that are gone: calls with stale keys must be harmless.
    keys: Vec<Key>,
}

/// One end's view of a stream. The opener says its number in the first bytes, so both ends can compute its data.
#[derive(Default)]
struct Stream {
    opener: bool,
    number: Option<u32>,
    sent: usize,
    received: usize,
}

impl End {
    fn new(side: Side) -> Self {
        let limits = Limits { streams_max: 20, open_max: 8, ..Limits::default() };
        Self { mux: Mux::new(side, limits), wire: Vec::new(), streams: HashMap::new(), keys: Vec::new() }
    }

    fn open(&mut self, opened: &mut u32) {
        *opened += 1;
        if let Ok(key) = self.mux.open(&opened.to_be_bytes()) {
            self.keys.push(key);
            self.streams.insert(key, Stream { opener: true, number: Some(*opened), ..Stream::default() });
        }
    }

    fn with_key(&mut self, input: &mut Input<'_>, act: impl Fn(&mut Mux, Key)) {
        let at = input.below(self.keys.len());
        if let Some(&key) = self.keys.get(at) {
            act(&mut self.mux, key);
        }
    }

    /// Fills grants with the data that belongs to their streams, or gives them back.
    fn write(&mut self, input: &mut Input<'_>) {
        self.transmit();
        for _ in 0..=input.below(8) {
            let Some(grant) = self.mux.poll_grant() else { return };
            let stream = self.streams.entry(grant.key).or_default();
            let Some(number) = stream.number.filter(|_| input.byte() & 3 > 0) else {
                self.mux.release(grant);
                continue;
            };
            let len = input.below(grant.max) + 1;
            let (opener, sent) = (stream.opener, stream.sent);
            if let Some(header) = self.mux.commit(grant, len) {
                stream.sent += len;
                self.wire.extend_from_slice(&header);
                self.wire.extend((sent..sent + len).map(|at| byte_at(number, opener, at)));
            }
        }
    }

    fn transmit(&mut self) {
        self.mux.poll_transmit(&mut self.wire, usize::MAX >> 1);
    }

    /// Gives up to `len` bytes of this end's output to the other.
    fn pass(&mut self, other: &mut Self, len: usize) {
        self.transmit();
        let len = len.min(self.wire.len());
        let result = other.mux.recv(&self.wire[..len], &mut ());
        assert!(result.is_ok(), "one end blames the other: {result:?}");
        self.wire.drain(..len);
        other.events();
    }

    fn events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened(key) => {
                    self.keys.push(key);
                    self.streams.insert(key, Stream::default());
                }
                Event::Reset(key, _) => {
                    self.streams.remove(&key);
                }
                Event::Readable(_) | Event::Finished(_) => {}
                Event::GoAway(code, text) => panic!("GOAWAY {code:?}: {text}"),
            }
        }
    }

    fn read(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.keys.len());
        if let Some(&key) = self.keys.get(at) {
            let len = input.below(70_000);
            self.consume(key, len);
        }
    }

    fn read_all(&mut self) {
        for at in 0..self.keys.len() {
            let key = self.keys[at];
            self.mux.finish(key);
            while self.consume(key, usize::MAX) {}
        }
    }

    /// Checks and drops up to `len` bytes of the first chunk; whether there were any.
    fn consume(&mut self, key: Key, len: usize) -> bool {
        let chunk = self.mux.chunk(key);
        let Some(stream) = self.streams.get_mut(&key).filter(|_| !chunk.is_empty()) else { return false };
        let Some(number) = stream.number else {
            // The number comes in one frame, but the window of the test may cut it.
            let Some(first) = chunk.first_chunk::<4>() else { return false };
            stream.number = Some(u32::from_be_bytes(*first));
            self.mux.consume(key, 4);
            return true;
        };
        let len = len.min(chunk.len());
        for (at, &byte) in chunk.iter().take(len).enumerate() {
            assert_eq!(
                byte,
                byte_at(number, !stream.opener, stream.received + at),
                "stream {number} carries other bytes"
            );
        }
        stream.received += len;
        self.mux.consume(key, len);
        len > 0
    }

    fn check(&self) {
        assert!(self.mux.streams() <= 20, "{} streams live", self.mux.streams());
        assert!(self.mux.memory_used() <= Limits::default().memory_max);
    }
}

/// The data of one direction of a stream: every byte says where it belongs.
fn byte_at(number: u32, opener: bool, at: usize) -> u8 {
    let seed = number.wrapping_mul(31).wrapping_add(u32::from(opener) * 17);
    seed.to_be_bytes()[3] ^ at.to_be_bytes()[7] ^ at.to_be_bytes()[6]
}

/// Every round empties both directions, and nothing new is begun: a handful is enough for ever so many streams.
const ROUNDS_TO_REST: usize = 50;
