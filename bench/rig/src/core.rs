//! The multiplexer alone: two ends of it, and bytes between them in memory. What it costs is the core's share of every
//! byte; the number of instructions is the same on each run.

use std::time::Instant;

use adit::mux::{Event, Key, Limits, Mux, Side, Sink};
use argh::FromArgs;
use serde_json::json;

use crate::Outcome;
use crate::visitors::megabytes;

/// move bytes between two multiplexers
#[derive(FromArgs)]
#[argh(subcommand, name = "core")]
pub(crate) struct Core {
    /// how much: MiB of all streams together
    #[argh(positional)]
    mib: u64,
    /// streams
    #[argh(option, default = "1")]
    streams: usize,
}

pub(crate) fn core(command: &Core) -> Outcome {
    let mut sender = Mux::new(Side::Gateway, Limits::default());
    let mut receiver = Mux::new(Side::Agent, Limits::default());
    for _ in 0..command.streams {
        let key = sender.open(b"x").map_err(|error| format!("a stream cannot be opened: {error}"))?;
        sender.want_send(key);
    }
    let (total, start) = (command.mib << 20, Instant::now());
    let mut taken = Taken::default();
    let (mut wire, mut back, mut frames) = (Vec::new(), Vec::new(), 0_u64);
    while taken.bytes < total {
        wire.clear();
        sender.poll_transmit(&mut wire, BATCH);
        while wire.len() < BATCH {
            let Some(grant) = sender.poll_grant() else { break };
            let (key, len) = (grant.key, grant.max);
            let Some(header) = sender.commit(grant, len) else { continue };
            wire.extend_from_slice(&header);
            wire.resize(wire.len() + len, 7);
            sender.want_send(key);
            frames += 1;
        }
        receiver.recv(&wire, &mut taken)?;
        while let Some(event) = receiver.poll_event() {
            if let Event::Opened(key) | Event::Readable(key) = event {
                drain(&mut receiver, key, &mut taken);
            }
        }
        back.clear();
        receiver.poll_transmit(&mut back, BATCH);
        if wire.is_empty() && back.is_empty() {
            return Err("the two ends wait for each other".into());
        }
        sender.recv(&back, &mut ())?;
        while sender.poll_event().is_some() {}
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({ "mib": command.mib, "frames": frames, "seconds": seconds, "mb_per_s": megabytes(total) / seconds }))
}

fn drain(mux: &mut Mux, key: Key, taken: &mut Taken) {
    mux.set_direct(key);
    loop {
        let len = mux.chunk(key).len();
        if len == 0 {
            return;
        }
        taken.bytes += len as u64;
        mux.consume(key, len);
    }
}

/// An upstream that takes everything at once.
#[derive(Default)]
struct Taken {
    bytes: u64,
}

impl Sink for Taken {
    fn take(&mut self, _: Key, bytes: &[u8]) -> usize {
        self.bytes += bytes.len() as u64;
        bytes.len()
    }
}

/// What is on its way at a time.
const BATCH: usize = 64 * 1024;
