//! One byte there and back, again and again, beside transfers that take all there is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;
use serde_json::json;

use crate::Outcome;
use crate::upstream::head;
use crate::visitors::{Direction, dial, exchange, megabytes, percentile};

/// measure how long a byte takes there and back, alone and beside transfers
#[derive(FromArgs)]
#[argh(subcommand, name = "pings")]
pub(crate) struct Pings {
    /// the public port
    #[argh(positional)]
    port: u16,
    /// down or up
    #[argh(positional)]
    direction: Direction,
    /// for how long
    #[argh(positional)]
    seconds: u64,
    /// transfers beside it
    #[argh(positional)]
    transfers: usize,
    /// how many of these nobody reads
    #[argh(positional)]
    stalled: usize,
}

pub(crate) fn pings(command: &Pings) -> Outcome {
    let mut socket = dial(command.port)?;
    exchange(&mut socket)?;
    let mut alone = measure(&mut socket, Duration::from_secs(1))?;
    let load = Load::start(command)?;
    thread::sleep(WARM_UP);
    let (before, start) = (load.moved.load(Ordering::Relaxed), Instant::now());
    let mut beside = measure(&mut socket, Duration::from_secs(command.seconds))?;
    let moved = load.moved.load(Ordering::Relaxed) - before;
    let seconds = start.elapsed().as_secs_f64();
    let opening = Instant::now();
    exchange(&mut dial(command.port)?)?;
    let opening = opening.elapsed().as_secs_f64() * 1e3;
    load.stop();
    Ok(json!({
        "alone_p50_us": percentile(&mut alone, 50), "p50_us": percentile(&mut beside, 50),
        "p99_us": percentile(&mut beside, 99), "max_us": percentile(&mut beside, 100), "pings": beside.len(),
        "live_mb_per_s": megabytes(moved) / seconds, "new_connection_ms": opening,
    }))
}

fn measure(socket: &mut TcpStream, time: Duration) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        socket.write_all(b"x")?;
        socket.read_exact(&mut [0])?;
        times.push(start.elapsed());
        thread::sleep(PAUSE);
    }
    Ok(times)
}

struct Load {
    moved: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    /// Open, and nobody reads or serves them.
    stalled: Vec<TcpStream>,
}

impl Load {
    fn start(command: &Pings) -> io::Result<Self> {
        let (moved, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut stalled = Vec::new();
        for number in 0..command.transfers {
            let mut socket = dial(command.port)?;
            let kind = if command.direction == Direction::Down { b'D' } else { b'U' };
            if number < command.stalled {
                stalled.push(stall(socket, command.direction)?);
                continue;
            }
            socket.write_all(&head(kind, ENDLESS))?;
            let (direction, moved, over) = (command.direction, Arc::clone(&moved), Arc::clone(&over));
            thread::spawn(move || carry(&mut socket, direction, &moved, &over));
        }
        Ok(Self { moved, over, stalled })
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.stalled);
    }
}

/// Downloads are not read; for uploads the upstream is asked for an echo that nobody reads, so that it stops reading.
fn stall(mut socket: TcpStream, direction: Direction) -> io::Result<TcpStream> {
    if direction == Direction::Down {
        socket.write_all(&head(b'D', ENDLESS))?;
        return Ok(socket);
    }
    socket.write_all(&head(b'E', 0))?;
    let writer = socket.try_clone()?;
    thread::spawn(move || {
        let mut writer = writer;
        while writer.write_all(&[7; 4096]).is_ok() {}
    });
    Ok(socket)
}

fn carry(socket: &mut TcpStream, direction: Direction, moved: &AtomicU64, over: &AtomicBool) {
    let mut buffer = vec![7; 256 * 1024];
    while !over.load(Ordering::Relaxed) {
        let done = match direction {
            Direction::Down => socket.read(&mut buffer),
            Direction::Up => socket.write(&buffer),
        };
        match done {
            Ok(len) if len > 0 => moved.fetch_add(len as u64, Ordering::Relaxed),
            _ => return,
        };
    }
}

/// More than any run moves.
const ENDLESS: u64 = 1 << 50;
/// Until windows have grown and buffers are full.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two bytes: a terminal, not a flood.
const PAUSE: Duration = Duration::from_millis(1);
