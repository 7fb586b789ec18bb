//! One direction of the link: bytes in order, delayed and cut at will, and a monitor that judges what is written.

use std::collections::{BTreeMap, VecDeque};

use adit::mux::Side;
use adit::mux::limits::FRAME_DATA_MAX;

#[derive(Default)]
pub(crate) struct Pipe {
    bytes: Vec<u8>,
    head: usize,
    written: usize,
    read: usize,
    /// Frames that were not read to their end.
    frames: VecDeque<Frame>,
    monitor: Monitor,
    /// Steps for which nothing comes out.
    pub(crate) stalled: usize,
    /// Most bytes that come out in one step.
    pub(crate) rate: usize,
    pub(crate) lose_credit: bool,
}

#[derive(Clone, Copy)]
struct Frame {
    id: u32,
    /// Offset behind the header.
    body: usize,
    end: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Credit(u32),
    Other,
}

/// What is on its way for one stream.
#[derive(Clone, Copy, Default)]
pub(crate) struct OnItsWay {
    /// Payload bytes that were not read.
    pub(crate) data: usize,
    /// Those of them whose header was not read either, so that the receiver does not know of them.
    pub(crate) unannounced: usize,
    pub(crate) credit: usize,
}

impl Pipe {
    pub(crate) fn new(sender: Side) -> Self {
        Self { monitor: Monitor::new(sender), rate: usize::MAX, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Takes whole frames.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (header, body) = rest.split_first_chunk::<8>().ok_or("a header was written in part")?;
            let [l2, l1, l0, kind, id @ ..] = *header;
            let (len, id) = (u32::from_be_bytes([0, l2, l1, l0]) as usize, u32::from_be_bytes(id));
            let body = body.get(..len).ok_or("a body was written in part")?;
            self.monitor.judge(kind, id, body)?;
            rest = &rest[8 + len..];
            if self.lose_credit && kind == 0x20 {
                self.lose_credit = false;
                continue;
            }
            self.bytes.extend_from_slice(header);
            self.bytes.extend_from_slice(body);
            let kind = match kind {
                0x10..=0x12 => Kind::Data,
                0x20 => Kind::Credit(word(body)),
                _ => Kind::Other,
            };
            let start = self.written + 8;
            self.written = start + len;
            self.frames.push_back(Frame { id, body: start, end: self.written, kind });
        }
        Ok(())
    }

    /// The next `n` bytes, as far as there are any.
    pub(crate) fn read(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.len());
        let bytes = self.bytes[self.head..self.head + n].to_vec();
        self.head += n;
        self.read += n;
        if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        while self.frames.front().is_some_and(|frame| frame.end <= self.read) {
            self.frames.pop_front();
        }
        bytes
    }

    /// Flips a bit of the last byte written, if that is payload.
    pub(crate) fn flip(&mut self) {
        if self.frames.back().is_some_and(|frame| frame.kind == Kind::Data && frame.end > frame.body)
            && let Some(byte) = self.bytes.last_mut()
        {
            *byte ^= 1;
        }
    }

    pub(crate) fn on_its_way(&self, id: u32) -> OnItsWay {
        let mut sum = OnItsWay::default();
        for frame in self.frames.iter().filter(|frame| frame.id == id) {
            match frame.kind {
                Kind::Data => {
                    sum.data += frame.end - frame.body.max(self.read).min(frame.end);
                    sum.unannounced += if frame.body > self.read { frame.end - frame.body } else { 0 };
                }
                Kind::Credit(n) => sum.credit += n as usize,
                Kind::Other => {}
            }
        }
        sum
    }
}

/// The rules for what one side writes.
#[derive(Default)]
struct Monitor {
    odd: u32,
    last_opened: u32,
    streams: BTreeMap<u32, Sent>,
    ended: bool,
}

#[derive(Default)]
struct Sent {
    fin: bool,
    reset: bool,
    woken: bool,
}

impl Monitor {
    fn new(sender: Side) -> Self {
        Self { odd: u32::from(sender == Side::Agent), ..Self::default() }
    }

    fn judge(&mut self, kind: u8, id: u32, body: &[u8]) -> Result<(), String> {
        let own = id % 2 == self.odd;
        let sent = self.streams.entry(id).or_default();
        let rules = [
            ("after GOAWAY", !self.ended),
            ("of a kind or with flags that are never sent", matches!(kind, 0 | 0x10..=0x12 | 0x20 | 0x30)),
            ("on stream 0, or GOAWAY elsewhere", (id == 0) == (kind == 0x30)),
            ("with too much data", kind & 0xf0 != 0x10 || body.len() <= FRAME_DATA_MAX),
            ("after the end of its direction", kind & 0xf0 != 0x10 || !sent.fin),
            ("of data after a reset", kind & 0xf0 != 0x10 || !sent.reset),
            ("that ends a stream with an id out of order", kind != 0x12 || (own && id > self.last_opened)),
            ("that opens with less than a type", kind != 0x12 || body.len() >= 4),
            ("on a stream that was never opened", kind == 0x12 || !own || id <= self.last_opened),
            ("that resets again", kind != 0 || !sent.reset),
            ("that grants nothing", kind != 0x20 || word(body) > 0),
            ("that grants after a reset", kind != 0x20 || !sent.reset || (word(body) == 1 && !sent.woken)),
        ];
        if let Some((rule, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err(format!("a frame {rule}: {kind:#x} on {id}, {} bytes", body.len()));
        }
        match kind {
            0x00 => sent.reset = true,
            0x11 => sent.fin = true,
            0x12 => self.last_opened = id,
            0x20 => sent.woken = sent.reset,
            0x30 => self.ended = true,
            _ => {}
        }
        Ok(())
    }
}

fn word(body: &[u8]) -> u32 {
    body.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}
