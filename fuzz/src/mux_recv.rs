//! A peer that sends frames of any kind, well-formed for the most part, in any order, to a multiplexer whose user reads
//! as it likes: memory and streams stay within their limits, the bookkeeping holds, and what goes out is well-formed.

use adit::frame::{Decoder, ErrorCode, Item};
use adit::mux::limits::WINDOW;
use adit::mux::{AbortStyle, Event, Key, Limits, Mux, Side, Sink};

use crate::input::Input;

/// Plays the input against one end.
pub fn mux_recv(data: &[u8]) {
    let mut input = Input(data);
    let setup = input.byte();
    let side = if setup & 1 == 0 { Side::Agent } else { Side::Gateway };
    let credit_min = [1, 1000, 32 << 10, 128 << 10][usize::from(setup >> 1 & 3)];
    let memory_max = if setup & 8 == 0 { 256 << 10 } else { 64 << 10 };
    let limits = Limits { streams_max: 12, open_max: 10, memory_max, credit_min, ..Limits::default() };
    let mut mux = Mux::new(side, limits);
    if setup & 16 != 0 {
        mux.set_abort_style(AbortStyle::WakeThenReset);
    }
    let mut keys = Vec::new();
    let mut out = Decoder::default();
    while !input.is_empty() {
        let mut wire = Vec::new();
        for _ in 0..=input.below(4) {
            frame(&mut input, &mut wire);
        }
        let chunk = input.below(64) * 16 + 1;
        let mut sink = Part(input.byte());
        for piece in wire.chunks(chunk) {
            // An error only says that the link ends; the rest of the input must do no harm.
            let _ = mux.recv(piece, &mut sink);
        }
        check(&mux, &limits);
        user(&mut mux, &mut input, &mut keys);
        check_output(&mut mux, &mut input, &mut out);
        check(&mux, &limits);
    }
}

/// Takes a part of everything, or all.
struct Part(u8);

impl Sink for Part {
    fn take(&mut self, _: Key, bytes: &[u8]) -> usize {
        if self.0 & 0x80 == 0 { bytes.len() } else { usize::from(self.0 & 0x7f).min(bytes.len()) }
    }
}

/// Writes one frame: header fields from the input, the length right more often than not.
fn frame(input: &mut Input<'_>, wire: &mut Vec<u8>) {
    let choice = input.byte();
    let kind = if choice & 0x70 == 0x70 { input.byte() >> 4 } else { choice & 3 };
    let flags = choice >> 2 & 3;
    let id = match choice >> 6 {
        3 => input.word(),
        _ => u32::from(input.byte() & 0x1f),
    };
    let body = match kind {
        0 | 2 => input.bytes(4).to_vec(),
        1 => vec![choice; input.below(3) * input.below(8192)],
        3 => input.bytes(12).to_vec(),
        _ => input.bytes(3).to_vec(),
    };
    let len = if input.byte() == 0xff { input.word() >> 8 } else { u32::try_from(body.len()).unwrap_or_default() };
    let [_, high, middle, low] = len.to_be_bytes();
    wire.extend_from_slice(&[high, middle, low, kind << 4 | flags]);
    wire.extend_from_slice(&id.to_be_bytes());
    wire.extend_from_slice(&body);
}

/// Does something that a user may do with streams, also with keys that are stale.
fn user(mux: &mut Mux, input: &mut Input<'_>, keys: &mut Vec<Key>) {
    // Now and then events wait.
    while input.byte() & 15 != 0
        && let Some(event) = mux.poll_event()
    {
        if let Event::Opened(key) = event {
            keys.push(key);
        }
    }
    if input.byte() & 7 == 0
        && let Ok(key) = mux.open(b"\0\0\0\x03first")
    {
        keys.push(key);
    }
    for _ in 0..=input.below(3) {
        let at = input.below(keys.len());
        let Some(&key) = keys.get(at) else { return };
        match input.byte() & 15 {
            0 => mux.finish(key),
            1 => mux.reset(key, ErrorCode::PROTOCOL_ERROR),
            2 => mux.finish_and_reset(key, ErrorCode::STREAM_CANCELLED),
            3 | 4 => mux.want_send(key),
            5 => {
                let _ = mux.send(key, b"reply");
            }
            6 => {
                let _ = mux.send(key, &vec![b'r'; input.below(0x10000) * 20]);
            }
            7 => mux.set_direct(key),
            8 => mux.consume(key, input.below(5000)),
            9 if input.byte() == 0 => mux.go_away(ErrorCode::NO_ERROR, "no error"),
            _ => {
                let len = mux.chunk(key).len();
                mux.consume(key, len);
            }
        }
    }
}

fn check(mux: &Mux, limits: &Limits) {
    assert!(mux.memory_used() <= limits.memory_max, "{} bytes held", mux.memory_used());
    assert!(mux.streams() <= limits.streams_max, "{} streams live", mux.streams());
    let streams = mux.audit().unwrap_or_else(|violation| panic!("{violation}"));
    for stream in streams {
        // Less while a frame is under way, or when the stream died.
        assert!(stream.allowance + stream.unread + stream.due <= WINDOW as usize, "{stream:?}");
    }
}

/// Everything that goes out must be what a strict peer accepts.
fn check_output(mux: &mut Mux, input: &mut Input<'_>, decoder: &mut Decoder) {
    let mut wire = Vec::new();
    let room = if input.byte() & 3 == 0 { input.below(200) } else { 1 << 20 };
    mux.poll_transmit(&mut wire, room);
    assert!(wire.len() <= room, "{} bytes in a room of {room}", wire.len());
    while let Some(grant) = mux.poll_grant() {
        if input.byte() & 7 == 1 {
            mux.release(grant);
            continue;
        }
        let len = grant.max.min(100 + input.below(20_000));
        let header = mux.commit(grant, len).expect("nothing happened since the grant");
        wire.extend_from_slice(&header);
        wire.resize(wire.len() + len, b'x');
        if wire.len() > 1 << 20 {
            break;
        }
    }
    assert!(wire.is_empty() || !decoder.has_ended(), "bytes went out after GOAWAY");
    let mut rest = wire.as_slice();
    loop {
        match decoder.next(&mut rest) {
            Ok(None) => break,
            Ok(Some(Item::Data { syn, fin, .. })) => assert!(!(syn && fin), "SYN together with FIN"),
            Ok(Some(_)) => {}
            Err(error) => panic!("a malformed frame went out: {error}"),
        }
    }
}
