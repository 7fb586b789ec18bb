//! A peer that sends frames of any kind, well-formed for the most part, in any order, to a multiplexer whose user reads
//! as it likes: memory and streams stay within their limits, and what goes out is well-formed.

use adit::frame::{Decoder, Item};
use adit::mux::{Event, Key, Limits, Mux, Side};

use crate::input::Input;

/// Plays the input against one end.
pub fn mux_recv(data: &[u8]) {
    let mut input = Input(data);
    let side = if input.byte() & 1 == 0 { Side::Agent } else { Side::Gateway };
    let limits = Limits { streams_max: 12, open_max: 10, memory_max: 256 << 10, ..Limits::default() };
    let mut mux = Mux::new(side, limits);
    let mut keys = Vec::new();
    let mut out = Decoder::default();
    while !input.is_empty() {
        let mut wire = Vec::new();
        for _ in 0..=input.below(4) {
            frame(&mut input, &mut wire);
        }
        let chunk = input.below(64) * 16 + 1;
        for piece in wire.chunks(chunk) {
            // An error only says that the link ends; the rest of the input must do no harm.
            let _ = mux.recv(piece, &mut ());
        }
        user(&mut mux, &mut input, &mut keys);
        check_output(&mut mux, &mut out);
        assert!(mux.memory_used() <= limits.memory_max, "{} bytes held", mux.memory_used());
        assert!(mux.streams() <= limits.streams_max, "{} streams live", mux.streams());
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
    while let Some(event) = mux.poll_event() {
        if let Event::Opened(key) = event {
            keys.push(key);
        }
    }
    if input.byte() & 7 == 0
        && let Ok(key) = mux.open(b"\0\0\0\x03first")
    {
        keys.push(key);
    }
    let at = input.below(keys.len());
    let Some(&key) = keys.get(at) else { return };
    match input.byte() & 7 {
        0 => mux.finish(key),
        1 => mux.reset(key, adit::frame::ErrorCode::PROTOCOL_ERROR),
        2 => mux.want_send(key),
        3 => {
            let _ = mux.send(key, b"reply");
        }
        4 => mux.set_direct(key),
        _ => {
            let len = mux.chunk(key).len();
            mux.consume(key, len);
        }
    }
}

/// Everything that goes out must be what a strict peer accepts.
fn check_output(mux: &mut Mux, decoder: &mut Decoder) {
    let mut wire = Vec::new();
    mux.poll_transmit(&mut wire, 1 << 20);
    while let Some(grant) = mux.poll_grant() {
        let len = grant.max.min(100);
        if let Some(header) = mux.commit(grant, len) {
            wire.extend_from_slice(&header);
            wire.resize(wire.len() + len, b'x');
        }
        if wire.len() > 1 << 20 {
            break;
        }
    }
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
