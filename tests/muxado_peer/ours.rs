//! Our multiplexer on a tokio pipe, with a user that follows a plan per stream.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use adit::frame::ErrorCode;
use adit::mux::{Event, Key, Limits, Mux, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What we do with one stream, and what came of it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Says which bytes the stream carries; travels as its first four.
    pub(crate) tag: u32,
    /// Bytes that we send, then an end.
    pub(crate) send: usize,
    /// Send nothing before the peer ended its direction.
    pub(crate) after_peer: bool,
    /// Read nothing for now.
    pub(crate) stalled: bool,
    /// Do not end our direction.
    pub(crate) open_end: bool,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// The peer's end was announced.
    pub(crate) announced_end: bool,
    /// The peer's end, after everything was read.
    pub(crate) ended: bool,
    pub(crate) reset: Option<ErrorCode>,
    pub(crate) opener: bool,
}

impl Plan {
    pub(crate) fn new(tag: u32, send: usize) -> Self {
        Self {
            tag,
            send,
            after_peer: false,
            stalled: false,
            open_end: false,
            sent: 0,
            received: 0,
            announced_end: false,
            ended: false,
            reset: None,
            opener: true,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.sent == self.send
    }
}

pub(crate) struct Ours {
    pub(crate) mux: Mux,
    pub(crate) streams: BTreeMap<Key, Plan>,
    pub(crate) go_away: Option<ErrorCode>,
    /// Echo what comes on streams of the peer, four bytes at a time: its heartbeats.
    pub(crate) echo: bool,
    io: DuplexStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
    answer: fn(u32) -> Plan,
}

impl Ours {
    /// `answer` says what to do with a stream of the peer that begins with this tag.
    pub(crate) fn new(side: Side, io: DuplexStream, answer: fn(u32) -> Plan) -> Self {
        Self {
            mux: Mux::new(side, Limits::default()),
            streams: BTreeMap::new(),
            go_away: None,
            echo: false,
            io,
            out: Vec::new(),
            buffer: vec![0; 16 * 1024],
            answer,
        }
    }

    pub(crate) fn open(&mut self, mut plan: Plan) -> Key {
        let key = self.mux.open(&plan.tag.to_be_bytes()).unwrap();
        plan.send += TAG_LEN;
        plan.sent = TAG_LEN;
        self.streams.insert(key, plan);
        key
    }

    /// Runs our end until `future` is done.
    pub(crate) async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            result = future => result,
            () = self.run(|_| false) => unreachable!(),
        }
    }

    /// Runs our end until `done`, and all that it wrote is in the link.
    pub(crate) async fn run(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.turn();
            if self.out.is_empty() && done(self) {
                return;
            }
            let (mut reader, mut writer) = tokio::io::split(&mut self.io);
            tokio::select! {
                n = reader.read(&mut self.buffer) => {
                    let n = n.unwrap();
                    assert!(n > 0, "the peer closed the link");
                    self.mux.recv(&self.buffer[..n], &mut ()).unwrap();
                }
                n = writer.write(&self.out), if !self.out.is_empty() => {
                    self.out.drain(..n.unwrap());
                }
            }
        }
    }

    fn turn(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened(key) => drop(self.streams.insert(key, Plan { opener: false, ..Plan::new(0, 0) })),
                Event::Readable(_) => {}
                Event::Finished(key) => self.streams.get_mut(&key).unwrap().announced_end = true,
                Event::Reset(key, code) => self.streams.get_mut(&key).unwrap().reset = Some(code),
                Event::GoAway(code, _) => self.go_away = Some(code),
            }
        }
        let keys: Vec<_> = self.streams.keys().copied().collect();
        for key in keys {
            self.read(key);
            self.write(key);
        }
        self.mux.audit().unwrap();
        self.transmit();
    }

    fn read(&mut self, key: Key) {
        let Some(plan) = self.streams.get_mut(&key).filter(|plan| !plan.stalled && plan.reset.is_none()) else {
            return;
        };
        if self.echo && !plan.opener {
            while let Some(beat) = self.mux.chunk(key).first_chunk::<4>().copied() {
                self.mux.consume(key, 4);
                // The first four bytes are the type.
                if plan.received > 0 {
                    self.mux.send(key, &beat).unwrap();
                }
                plan.received += 4;
            }
            return;
        }
        if !plan.opener && plan.received == 0 {
            let Some(tag) = self.mux.chunk(key).first_chunk() else { return };
            *plan = Plan { opener: false, received: TAG_LEN, ..(self.answer)(u32::from_be_bytes(*tag)) };
            self.mux.consume(key, TAG_LEN);
        }
        if plan.stalled {
            return;
        }
        loop {
            let chunk = self.mux.chunk(key);
            if chunk.is_empty() {
                break;
            }
            assert!(chunk == pattern(plan.tag, !plan.opener, plan.received, chunk.len()), "other bytes than were sent");
            plan.received += chunk.len();
            let len = chunk.len();
            self.mux.consume(key, len);
        }
        plan.ended |= self.mux.is_finished(key);
    }

    fn write(&mut self, key: Key) {
        let Some(plan) = self.streams.get(&key) else { return };
        if (!plan.opener && plan.received == 0) || (plan.after_peer && !plan.ended) || self.echo {
            return;
        }
        if plan.sent < plan.send {
            self.mux.want_send(key);
        } else if !plan.open_end {
            self.mux.finish(key);
        }
    }

    fn transmit(&mut self) {
        if self.out.len() >= OUT_MAX {
            return;
        }
        self.mux.poll_transmit(&mut self.out, OUT_MAX);
        while self.out.len() < OUT_MAX {
            let Some(grant) = self.mux.poll_grant() else { return };
            let plan = self.streams.get_mut(&grant.key).unwrap();
            let len = grant.max.min(plan.send - plan.sent);
            if len == 0 {
                self.mux.release(grant);
                continue;
            }
            let header = self.mux.commit(grant, len).unwrap();
            self.out.extend_from_slice(&header);
            self.out.extend_from_slice(pattern(plan.tag, plan.opener, plan.sent, len));
            plan.sent += len;
        }
    }
}

/// At most `len` bytes, up to [`PIECE_MAX`], that belong at `offset` of one direction of a stream.
pub(crate) fn pattern(tag: u32, opener: bool, offset: usize, len: usize) -> &'static [u8] {
    static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 1u32;
        let mut table: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(PERIOD)
        .collect();
        table.extend_from_within(..PIECE_MAX);
        table
    });
    let from = (tag as usize * 7919 + usize::from(opener) * 20_011 + offset) % PERIOD;
    &TABLE[from..from + len.min(PIECE_MAX)]
}

/// A prime, so that no frame or block length divides it.
const PERIOD: usize = 65_521;
/// Longest piece of a pattern.
pub(crate) const PIECE_MAX: usize = 32 * 1024;
/// Every stream begins with its tag.
pub(crate) const TAG_LEN: usize = 4;
/// Bytes that wait for the pipe.
const OUT_MAX: usize = 64 * 1024;
