//! Visitors of a public port, behind which the upstream of this program stands.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;
use serde_json::json;

use crate::Outcome;
use crate::upstream::{discard, head, send};

/// move bytes on some connections at once
#[derive(FromArgs)]
#[argh(subcommand, name = "bulk")]
pub(crate) struct Bulk {
    /// the public port
    #[argh(positional)]
    port: u16,
    /// down or up
    #[argh(positional)]
    direction: Direction,
    /// connections
    #[argh(positional)]
    connections: u64,
    /// bytes of all together
    #[argh(positional)]
    bytes: u64,
}

/// open connections one after another, a byte there and a byte back on each
#[derive(FromArgs)]
#[argh(subcommand, name = "churn")]
pub(crate) struct Churn {
    /// the public port
    #[argh(positional)]
    port: u16,
    /// for how long
    #[argh(positional)]
    seconds: u64,
    /// how many do so beside each other
    #[argh(positional)]
    visitors: usize,
}

/// open connections, say how many are answered, and hold them until standard input ends
#[derive(FromArgs)]
#[argh(subcommand, name = "idle")]
pub(crate) struct Idle {
    /// the public port
    #[argh(positional)]
    port: u16,
    /// connections
    #[argh(positional)]
    connections: usize,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Down,
    Up,
}

impl std::str::FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "down" => Ok(Self::Down),
            "up" => Ok(Self::Up),
            _ => Err(format!("`{text}` is neither down nor up")),
        }
    }
}

pub(crate) fn dial(port: u16) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

pub(crate) fn bulk(command: &Bulk) -> Outcome {
    let share = command.bytes / command.connections;
    let start = Instant::now();
    let threads: Vec<_> = (0..command.connections)
        .map(|_| {
            let (port, direction) = (command.port, command.direction);
            thread::spawn(move || transfer(dial(port)?, direction, share))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a visitor panicked")??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let bytes = share * command.connections;
    Ok(json!({ "bytes": bytes, "seconds": seconds, "mb_per_s": megabytes(bytes) / seconds }))
}

/// One whole transfer.
pub(crate) fn transfer(mut socket: TcpStream, direction: Direction, length: u64) -> io::Result<()> {
    match direction {
        Direction::Down => {
            socket.write_all(&head(b'D', length))?;
            discard(&socket, length)
        }
        Direction::Up => {
            socket.write_all(&head(b'U', length))?;
            send(&mut socket, length)?;
            socket.read_exact(&mut [0])
        }
    }
}

pub(crate) fn churn(command: &Churn) -> Outcome {
    let start = Instant::now();
    let end = start + Duration::from_secs(command.seconds);
    let threads: Vec<_> = (0..command.visitors)
        .map(|_| {
            let port = command.port;
            thread::spawn(move || {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let start = Instant::now();
                    let mut socket = dial(port)?;
                    exchange(&mut socket)?;
                    times.push(start.elapsed());
                }
                io::Result::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| "a visitor panicked")??);
    }
    let per_second = Count::from(times.len()).0 / start.elapsed().as_secs_f64();
    Ok(json!({
        "connections": times.len(), "per_second": per_second,
        "p50_us": percentile(&mut times, 50), "p99_us": percentile(&mut times, 99),
    }))
}

/// Asks for an echo, and gets it.
pub(crate) fn exchange(socket: &mut TcpStream) -> io::Result<()> {
    let mut first = head(b'E', 0).to_vec();
    first.push(b'x');
    socket.write_all(&first)?;
    socket.read_exact(&mut [0])
}

pub(crate) fn idle(command: &Idle) -> Outcome {
    let start = Instant::now();
    let mut sockets = Vec::new();
    for _ in 0..command.connections {
        let mut socket = dial(command.port)?;
        exchange(&mut socket)?;
        sockets.push(socket);
    }
    println!("{}", json!({ "open": sockets.len(), "seconds": start.elapsed().as_secs_f64() }));
    io::stdin().lock().read_line(&mut String::new())?;
    // Each is still of use.
    let mut alive = 0;
    for socket in &mut sockets {
        socket.write_all(b"x")?;
        socket.read_exact(&mut [0])?;
        alive += 1;
    }
    Ok(json!({ "alive": alive }))
}

/// Microseconds that so many percent of `times` are not above; null without any.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Option<f64> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some(times[last * percent / 100].as_secs_f64() * 1e6)
}

/// A number of things, for dividing.
pub(crate) struct Count(pub(crate) f64);

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

/// MB of so many bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    Duration::from_micros(bytes).as_secs_f64()
}

/// How long anything may stand still.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_there_is() {
        let mut times: Vec<_> = (1..=101).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&mut times, 50).map(f64::round), Some(51.0));
        assert_eq!(percentile(&mut times, 99).map(f64::round), Some(100.0));
        assert_eq!(percentile(&mut [], 50), None);
        assert!((megabytes(2_500_000) - 2.5).abs() < 1e-9);
    }
}
