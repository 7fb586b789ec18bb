//! One behaviour of the multiplexer each, as scripts of frames. F numbers are those of the protocol's test table.

use super::*;
use crate::frame::{self, DataFlag};

mod aborting;
mod bounds;
mod credit;
mod ending;
mod grants;
mod memory;
mod opening;
mod transmitting;
mod violations;
mod windows;

fn agent() -> Mux {
    Mux::new(Side::Agent, Limits::default())
}

fn gateway() -> Mux {
    Mux::new(Side::Gateway, Limits::default())
}

/// Everything that the multiplexer writes by itself, with its bookkeeping checked before and after.
fn out(mux: &mut Mux) -> Vec<u8> {
    let mut bytes = Vec::new();
    mux.audit().unwrap();
    let was_announced = mux.has_control();
    mux.poll_transmit(&mut bytes, usize::MAX);
    mux.audit().unwrap();
    assert!(was_announced || bytes.is_empty(), "what nobody was told of: {:?}", lines(&bytes));
    bytes
}

/// The same as one line per frame, see [`lines`].
fn written(mux: &mut Mux) -> Vec<String> {
    lines(&out(mux))
}

fn data(id: u32, flag: DataFlag, body: &[u8]) -> Vec<u8> {
    [&frame::data_header(id, body.len(), flag), body].concat()
}

fn open(id: u32) -> Vec<u8> {
    data(id, DataFlag::Syn, b"type")
}

/// Bytes of the peer; the session has to live on.
fn recv(mux: &mut Mux, bytes: &[u8]) {
    assert_eq!(mux.recv(bytes, &mut ()), Ok(()));
    mux.audit().unwrap();
}

fn events(mux: &mut Mux) -> Vec<Event> {
    let events = std::iter::from_fn(|| mux.poll_event()).collect();
    mux.audit().unwrap();
    events
}

/// Lets the peer open a stream whose four type bytes are consumed.
fn accept(mux: &mut Mux, id: u32) -> Key {
    recv(mux, &open(id));
    let Some(Event::Opened(key)) = mux.poll_event() else { panic!("stream {id} was not opened") };
    assert_eq!(mux.poll_event(), Some(Event::Readable(key)));
    mux.consume(key, 4);
    key
}

/// Opens a stream and lets its first frame go out.
fn opened(mux: &mut Mux) -> Key {
    let key = mux.open(b"type").unwrap();
    out(mux);
    key
}

/// Puts one frame of `body` into the link, under a grant that must be this stream's.
fn send_granted(mux: &mut Mux, key: Key, body: &[u8]) -> Vec<u8> {
    mux.want_send(key);
    let grant = mux.poll_grant().expect("a grant");
    assert_eq!(grant.key, key);
    let header = mux.commit(grant, body.len()).expect("a header");
    mux.audit().unwrap();
    [&header, body].concat()
}

/// Spends all credit of a stream.
fn exhaust_credit(mux: &mut Mux, key: Key) {
    mux.want_send(key);
    while let Some(grant) = mux.poll_grant() {
        assert_eq!(grant.key, key);
        let max = grant.max;
        assert!(mux.commit(grant, max).is_some());
    }
}

/// Frames as text, read by other code than the one under test: `DATA 3 SYN 4` (id, flag, length), `RST 3 6`,
/// `WNDINC 3 8`, `GOAWAY 0 1 text` (last id, code).
fn lines(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    while !bytes.is_empty() {
        let (len, id) = (word(bytes, 0) as usize >> 8, word(bytes, 4));
        let body = &bytes[8..8 + len];
        lines.push(match bytes[3] {
            0x00 => format!("RST {id} {}", word(body, 0)),
            0x10 => format!("DATA {id} - {len}"),
            0x11 => format!("DATA {id} FIN {len}"),
            0x12 => format!("DATA {id} SYN {len}"),
            0x20 => format!("WNDINC {id} {}", word(body, 0)),
            0x30 => format!("GOAWAY {} {} {}", word(body, 0), word(body, 4), String::from_utf8_lossy(&body[8..])),
            other => panic!("type and flags {other:#x}"),
        });
        bytes = &bytes[8 + len..];
    }
    lines
}
