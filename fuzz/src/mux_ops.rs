//! Two multiplexers of ours, back to back, whose users do anything at all: neither ever blames the other, what arrives
//! on a stream is a prefix of what was sent on it, and all of it unless the stream was aborted.

use std::collections::{HashMap, HashSet};

use adit::frame::ErrorCode;
use adit::mux::limits::{WINDOW, WINDOW_MIN};
use adit::mux::{AbortStyle, Event, Key, Limits, Mux, Side, Sink};

use crate::input::Input;

/// Plays the operations of the input, then lets both ends come to rest.
pub fn mux_ops(data: &[u8]) {
    let mut input = Input(data);
    let setup = input.byte();
    let mut ends = [End::new(Side::Agent, setup & 3), End::new(Side::Gateway, setup >> 2 & 3)];
    if setup & 16 != 0 {
        // Each grants what the other hears; the agent as little as can be.
        ends[0].mux.agree_windows(WINDOW);
        ends[1].mux.agree_windows(WINDOW_MIN);
    }
    let mut ledger = Ledger::default();
    while !input.is_empty() {
        let [a, b] = &mut ends;
        let (one, other) = if input.byte() & 1 == 0 { (a, b) } else { (b, a) };
        match input.byte() % 12 {
            0 => one.open(&mut ledger),
            1 => one.write(&mut input, &mut ledger),
            2 => one.read(&mut input, &mut ledger),
            3 => one.with_key(&mut input, |mux, key| mux.finish(key)),
            4 => one.abort(&mut input, &mut ledger, |mux, key| mux.reset(key, ErrorCode::STREAM_CANCELLED)),
            5 => one.abort(&mut input, &mut ledger, |mux, key| mux.finish_and_reset(key, ErrorCode::STREAM_CANCELLED)),
            6 => one.with_key(&mut input, Mux::want_send),
            7 => one.with_key(&mut input, Mux::set_direct),
            8 => one.send(&mut input, &mut ledger),
            9 => one.transmit(input.below(300)),
            _ => one.pass(other, input.below(40_000), &mut ledger),
        }
        one.check();
    }
    rest(&mut ends, &mut ledger);
}

/// Both ends read everything and end every stream.
fn rest([a, b]: &mut [End; 2], ledger: &mut Ledger) {
    for _ in 0..ROUNDS_TO_REST {
        for end in [&mut *a, &mut *b] {
            end.events(ledger);
            end.transmit(usize::MAX >> 1);
            end.read_all(ledger);
            end.check();
        }
        if a.wire.is_empty() && b.wire.is_empty() && a.mux.streams() + b.mux.streams() == 0 {
            assert_eq!(a.mux.memory_used() + b.mux.memory_used(), 0, "memory is held for nothing");
            return ledger.check();
        }
        a.pass(b, usize::MAX, ledger);
        b.pass(a, usize::MAX, ledger);
    }
    panic!("the ends never come to rest");
}

/// What was sent and received, by number of the stream and whether its opener sent it.
#[derive(Default)]
struct Ledger {
    opened: u32,
    sent: HashMap<(u32, bool), usize>,
    received: HashMap<(u32, bool), usize>,
    aborted: HashSet<u32>,
    /// A stream was aborted by an end that did not know its number yet.
    unknown_aborted: bool,
}

impl Ledger {
    fn check(&self) {
        if self.unknown_aborted {
            return;
        }
        for ((number, opener), sent) in self.sent.iter().filter(|((number, _), _)| !self.aborted.contains(number)) {
            let received = self.received.get(&(*number, *opener)).copied().unwrap_or_default();
            assert_eq!(received, *sent, "stream {number} was not aborted and lost bytes");
        }
    }
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
    head: Vec<u8>,
}

impl Stream {
    /// Compares what arrived with what was sent.
    fn take(&mut self, mut bytes: &[u8], ledger: &mut Ledger) {
        if self.number.is_none() {
            let (head, rest) = bytes.split_at(bytes.len().min(4 - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            self.number = self.head.first_chunk().map(|number| u32::from_be_bytes(*number));
        }
        let Some(number) = self.number else { return };
        let received = ledger.received.entry((number, !self.opener)).or_default();
        for (at, &byte) in bytes.iter().enumerate() {
            let expected = byte_at(number, !self.opener, *received + at);
            assert_eq!(byte, expected, "stream {number} carries other bytes");
        }
        *received += bytes.len();
        let sent = ledger.sent.get(&(number, !self.opener)).copied().unwrap_or_default();
        assert!(*received <= sent, "stream {number} carries more than was sent");
    }
}

/// Takes payload past the queue, not always all of it.
struct Direct<'a> {
    streams: &'a mut HashMap<Key, Stream>,
    ledger: &'a mut Ledger,
}

impl Sink for Direct<'_> {
    fn take(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(stream) = self.streams.get_mut(&key) else { return 0 };
        let len = if bytes.len().is_multiple_of(3) { bytes.len() / 2 } else { bytes.len() };
        stream.take(&bytes[..len], self.ledger);
        len
    }
}

impl End {
    fn new(side: Side, setup: u8) -> Self {
        let credit_min = if setup & 1 == 0 { 1 } else { 32 << 10 };
        let window = if side == Side::Agent { WINDOW_MIN } else { WINDOW };
        let limits = Limits { streams_max: 20, open_max: 8, credit_min, window, ..Limits::default() };
        let mut mux = Mux::new(side, limits);
        if setup & 2 != 0 {
            mux.set_abort_style(AbortStyle::WakeThenReset);
        }
        Self { mux, wire: Vec::new(), streams: HashMap::new(), keys: Vec::new() }
    }

    fn open(&mut self, ledger: &mut Ledger) {
        let number = ledger.opened;
        if let Ok(key) = self.mux.open(&number.to_be_bytes()) {
            ledger.opened += 1;
            self.keys.push(key);
            self.streams.insert(key, Stream { opener: true, number: Some(number), head: Vec::new() });
        }
    }

    fn with_key(&mut self, input: &mut Input<'_>, act: impl Fn(&mut Mux, Key)) {
        let at = input.below(self.keys.len());
        if let Some(&key) = self.keys.get(at) {
            act(&mut self.mux, key);
        }
    }

    fn abort(&mut self, input: &mut Input<'_>, ledger: &mut Ledger, act: impl Fn(&mut Mux, Key)) {
        let at = input.below(self.keys.len());
        let Some(&key) = self.keys.get(at) else { return };
        act(&mut self.mux, key);
        if let Some(stream) = self.streams.remove(&key) {
            ledger.unknown_aborted |= stream.number.is_none();
            ledger.aborted.extend(stream.number);
        }
    }

    /// Fills grants with the data that belongs to their streams, or gives them back.
    fn write(&mut self, input: &mut Input<'_>, ledger: &mut Ledger) {
        self.transmit(usize::MAX >> 1);
        for _ in 0..=input.below(8) {
            let Some(grant) = self.mux.poll_grant() else { return };
            let stream = self.streams.entry(grant.key).or_default();
            let Some(number) = stream.number.filter(|_| input.byte() & 3 > 0) else {
                self.mux.release(grant);
                continue;
            };
            let len = input.below(grant.max) + 1;
            let sent = ledger.sent.entry((number, stream.opener)).or_default();
            let header = self.mux.commit(grant, len).expect("nothing happened since the grant");
            self.wire.extend_from_slice(&header);
            self.wire.extend((*sent..*sent + len).map(|at| byte_at(number, stream.opener, at)));
            *sent += len;
        }
    }

    /// Queues bytes inside the multiplexer.
    fn send(&mut self, input: &mut Input<'_>, ledger: &mut Ledger) {
        let at = input.below(self.keys.len());
        let Some(&key) = self.keys.get(at) else { return };
        let Some(stream) = self.streams.get(&key) else { return };
        let Some(number) = stream.number else { return };
        let len = input.below(20_000);
        let sent = ledger.sent.entry((number, stream.opener)).or_default();
        let bytes: Vec<u8> = (*sent..*sent + len).map(|at| byte_at(number, stream.opener, at)).collect();
        if self.mux.send(key, &bytes).is_ok() {
            *sent += len;
        }
    }

    fn transmit(&mut self, room: usize) {
        let before = self.wire.len();
        self.mux.poll_transmit(&mut self.wire, room);
        assert!(self.wire.len() - before <= room, "more went out than there was room for");
    }

    /// Gives up to `len` bytes of this end's output to the other.
    fn pass(&mut self, other: &mut Self, len: usize, ledger: &mut Ledger) {
        self.transmit(usize::MAX >> 1);
        let len = len.min(self.wire.len());
        let mut sink = Direct { streams: &mut other.streams, ledger };
        let result = other.mux.recv(&self.wire[..len], &mut sink);
        assert!(result.is_ok(), "one end blames the other: {result:?}");
        self.wire.drain(..len);
        other.events(ledger);
        other.check();
    }

    fn events(&mut self, ledger: &mut Ledger) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened(key) => {
                    self.keys.push(key);
                    self.streams.insert(key, Stream::default());
                }
                Event::Reset(key, _) => {
                    let stream = self.streams.remove(&key).expect("a reset of a stream that nobody knows");
                    ledger.aborted.extend(stream.number);
                }
                Event::Readable(_) | Event::Finished(_) => {}
                Event::GoAway(code, text) => panic!("GOAWAY {code:?}: {text}"),
            }
        }
    }

    fn read(&mut self, input: &mut Input<'_>, ledger: &mut Ledger) {
        let at = input.below(self.keys.len());
        if let Some(&key) = self.keys.get(at) {
            let len = input.below(70_000);
            self.consume(key, len, ledger);
        }
    }

    fn read_all(&mut self, ledger: &mut Ledger) {
        for at in 0..self.keys.len() {
            let key = self.keys[at];
            self.mux.finish(key);
            while self.consume(key, usize::MAX, ledger) {}
        }
    }

    /// Checks and drops up to `len` bytes of the first chunk; whether there were any.
    fn consume(&mut self, key: Key, len: usize, ledger: &mut Ledger) -> bool {
        let chunk = self.mux.chunk(key);
        let Some(stream) = self.streams.get_mut(&key) else { return false };
        let len = len.min(chunk.len());
        stream.take(&chunk[..len], ledger);
        self.mux.consume(key, len);
        len > 0
    }

    fn check(&self) {
        assert!(self.mux.streams() <= 20, "{} streams live", self.mux.streams());
        assert!(self.mux.memory_used() <= Limits::default().memory_max);
        if let Err(violation) = self.mux.audit() {
            panic!("{violation}");
        }
    }
}

/// The data of one direction of a stream: every byte says where it belongs.
fn byte_at(number: u32, opener: bool, at: usize) -> u8 {
    let seed = number.wrapping_mul(31).wrapping_add(u32::from(opener) * 17);
    seed.to_be_bytes()[3] ^ at.to_be_bytes()[7] ^ at.to_be_bytes()[6]
}

/// Every round empties both directions, and nothing new is begun. A call can be some seventy of the smallest windows
/// long, a round moves one.
const ROUNDS_TO_REST: usize = 150;
