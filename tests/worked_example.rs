//! The protocol document's worked example, byte for byte: through the codec, and through a multiplexer of each role.

#![expect(clippy::unwrap_used, reason = "a test may end here")]

use std::collections::BTreeMap;

use adit::frame::{self, DataFlag, Decoder, ErrorCode, Item};
use adit::mux::{Event, Key, Limits, Mux, Side};

const EXAMPLE: &str = include_str!("data/worked-example.txt");

struct Line {
    number: usize,
    sender: Side,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Line {
    fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.body].concat()
    }

    fn id(&self) -> u32 {
        u32::from_be_bytes(self.header[4..].try_into().unwrap())
    }
}

fn example() -> Vec<Line> {
    let lines = EXAMPLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            let number = words.next().unwrap().parse().unwrap();
            let sender = match words.next().unwrap() {
                "agent" => Side::Agent,
                "gateway" => Side::Gateway,
                other => panic!("{other}"),
            };
            Line { number, sender, header: hex(words.next().unwrap()), body: body(words.next().unwrap_or("")) }
        })
        .collect()
}

fn body(text: &str) -> Vec<u8> {
    let Some(rest) = text.strip_prefix("hex ") else {
        let text = text.strip_prefix("text ").unwrap_or(text);
        return text.replace("\\r", "\r").replace("\\n", "\n").into_bytes();
    };
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    [hex(word), body(rest)].concat()
}

fn hex(word: &str) -> Vec<u8> {
    (0..word.len()).step_by(2).map(|at| u8::from_str_radix(&word[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn example_has_37_frames_whose_lengths_agree() {
    let lines = example();
    assert_eq!(lines.len(), 37);
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line.number, number);
        assert_eq!(line.header[..3], u32::try_from(line.body.len()).unwrap().to_be_bytes()[1..], "frame {number}");
    }
}

#[test]
fn every_frame_decodes_and_encodes_to_the_same_bytes() {
    for line in example() {
        let bytes = line.bytes();
        let mut input = &bytes[..];
        let mut decoder = Decoder::default();
        let mut again = Vec::new();
        while let Some(item) = decoder.next(&mut input).unwrap() {
            match item {
                Item::Data { id, len, syn, fin } => {
                    let flag = match (syn, fin) {
                        (false, false) => DataFlag::None,
                        (true, false) => DataFlag::Syn,
                        (false, true) => DataFlag::Fin,
                        (true, true) => panic!("frame {} has both flags", line.number),
                    };
                    again.extend_from_slice(&frame::data_header(id, len as usize, flag));
                }
                Item::Payload { bytes, .. } => again.extend_from_slice(bytes),
                Item::Reset { id, code } => again.extend_from_slice(&frame::reset(id, code)),
                Item::Credit { id, increment } => again.extend_from_slice(&frame::credit(id, increment)),
                Item::GoAway { last_id, code } => {
                    let text = std::str::from_utf8(input).unwrap();
                    again.extend_from_slice(&frame::go_away(last_id, code, text));
                    input = &[];
                }
            }
        }
        assert_eq!(again, bytes, "frame {}", line.number);
    }
}

/// One side of the example, acted out by a multiplexer: the peer's frames go in, and for each of its own frames the
/// call is made that has to produce it.
struct Actor {
    mux: Mux,
    keys: BTreeMap<u32, Key>,
    /// What arrived and was not consumed, by stream.
    unread: BTreeMap<u32, Vec<u8>>,
    events: Vec<String>,
}

impl Actor {
    fn new(side: Side) -> Self {
        let limits = Limits { credit_min: 1, ..Limits::default() };
        Self { mux: Mux::new(side, limits), keys: BTreeMap::new(), unread: BTreeMap::new(), events: Vec::new() }
    }

    fn receive(&mut self, line: &Line, chunk: usize) {
        for piece in line.bytes().chunks(chunk) {
            self.mux.recv(piece, &mut ()).unwrap();
            while let Some(event) = self.mux.poll_event() {
                match &event {
                    Event::Opened(key) => drop(self.keys.insert(line.id(), *key)),
                    Event::Readable(key) | Event::Finished(key) => assert_eq!(Some(key), self.keys.get(&line.id())),
                    Event::Reset(..) => panic!("nothing is reset in the example"),
                    Event::GoAway(..) => {}
                }
                self.events.push(match event {
                    // The text is what came along in the same piece.
                    Event::GoAway(code, _) => format!("GoAway({code:?})"),
                    event => format!("{event:?}"),
                });
            }
        }
        if line.header[3] & 0xf0 == 0x10 && !line.body.is_empty() {
            self.unread.entry(line.id()).or_default().extend_from_slice(&line.body);
        }
    }

    fn produce(&mut self, line: &Line) -> Vec<u8> {
        let key = self.keys.get(&line.id()).copied();
        let mut bytes = Vec::new();
        match (line.header[3], key) {
            (0x12, None) => drop(self.keys.insert(line.id(), self.mux.open(&line.body).unwrap())),
            // The proxied stream's bytes come from a source, under a grant; all others from the session itself.
            (0x10, Some(key)) if line.id() == 2 => {
                self.mux.want_send(key);
                let grant = self.mux.poll_grant().unwrap();
                assert_eq!(grant.key, key);
                bytes.extend_from_slice(&self.mux.commit(grant, line.body.len()).unwrap());
                bytes.extend_from_slice(&line.body);
            }
            (0x10, Some(key)) => self.mux.send(key, &line.body).unwrap(),
            (0x11, Some(key)) => {
                if !line.body.is_empty() {
                    self.mux.send(key, &line.body).unwrap();
                }
                self.mux.finish(key);
            }
            (0x20, Some(key)) => {
                let unread = self.unread.remove(&line.id()).unwrap();
                assert_eq!(u32::try_from(unread.len()).unwrap().to_be_bytes(), line.body[..]);
                assert_eq!(self.mux.queue(key).unwrap().chunks().collect::<Vec<_>>().concat(), unread);
                self.mux.consume(key, unread.len());
            }
            (0x30, None) => self.mux.go_away(ErrorCode::NO_ERROR, "no error"),
            (kind, key) => panic!("frame {}: {kind:#x} with {key:?}", line.number),
        }
        self.mux.poll_transmit(&mut bytes, usize::MAX);
        self.mux.audit().unwrap();
        bytes
    }

    fn play(side: Side, chunk: usize) -> Self {
        let mut actor = Self::new(side);
        for line in example() {
            if line.sender == side {
                assert_eq!(actor.produce(&line), line.bytes(), "frame {}", line.number);
            } else {
                actor.receive(&line, chunk);
            }
        }
        actor
    }
}

#[test]
fn agent_produces_its_half_from_the_gateways() {
    let actor = Actor::play(Side::Agent, usize::MAX);
    assert!(actor.unread.is_empty());
    // All but the heartbeat are over.
    assert_eq!((actor.mux.streams(), actor.mux.memory_used()), (1, 0));
}

#[test]
fn gateway_produces_its_half_from_the_agents() {
    let actor = Actor::play(Side::Gateway, usize::MAX);
    assert!(actor.unread.is_empty());
    assert_eq!((actor.mux.streams(), actor.mux.memory_used()), (1, 0));
    assert_eq!(actor.events.last().unwrap(), "GoAway(no error (0x0))");
}

// F6.
#[test]
fn events_do_not_depend_on_how_the_bytes_arrive() {
    for (side, events) in [(Side::Agent, 12), (Side::Gateway, 17)] {
        let whole = Actor::play(side, usize::MAX);
        assert_eq!(whole.events.len(), events);
        for chunk in [1, 2, 3, 5, 8, 13, 100] {
            assert_eq!(Actor::play(side, chunk).events, whole.events, "{side:?} in pieces of {chunk}");
        }
    }
}
