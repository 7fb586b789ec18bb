//! The Unix socket at which `adit status` asks: served by the loop, few clients at a time, each within a deadline.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::net::private_socket::{self, SocketFile};
use crate::status::{REPORT_BYTES_MAX, Report};

/// The socket and who is asking.
pub(super) struct StatusSocket {
    path: Option<PathBuf>,
    listener: Option<Listener>,
    clients: Vec<Client>,
    /// When to try again to listen; the refusal was told once.
    retry_at: Option<Instant>,
    was_refused: bool,
    /// The kernel may have connections that were not taken yet.
    waiting: bool,
}

struct Listener {
    socket: UnixListener,
    _file: SocketFile,
}

/// One connection, and what it has still to get.
struct Client {
    stream: UnixStream,
    answer: Vec<u8>,
    sent: usize,
    until: Instant,
}

impl StatusSocket {
    /// At `path`, or nowhere; [`Self::drive`] begins to listen.
    pub(super) fn new(path: Option<PathBuf>, now: Instant) -> Self {
        let retry_at = path.is_some().then_some(now);
        Self { path, listener: None, clients: Vec::new(), retry_at, was_refused: false, waiting: false }
    }

    /// Goes to another path, if it is one.
    pub(super) fn change(&mut self, path: Option<&PathBuf>, now: Instant) {
        if self.path.as_ref() != path {
            *self = Self::new(path.cloned(), now);
        }
    }

    /// Something happened at the listener's token, or at the clients'.
    pub(super) fn note(&mut self) {
        self.waiting = true;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).chain(self.retry_at).min()
    }

    /// Takes who is waiting, and writes as far as there is room. `report` is made only when somebody asks.
    pub(super) fn drive(&mut self, registry: &Registry, tokens: Tokens, now: Instant, report: impl Fn() -> Report) {
        if self.retry_at.is_some_and(|at| now >= at) {
            self.listen(registry, tokens.listener, now);
        }
        self.clients.retain_mut(|client| now < client.until && !client.write());
        if !std::mem::take(&mut self.waiting) {
            return;
        }
        let Some(listener) = &self.listener else { return };
        while self.clients.len() < CLIENTS_MAX {
            let mut stream = match listener.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // When no descriptor is free, the next turn tries again.
                    self.waiting = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            };
            if registry.register(&mut stream, tokens.clients, Interest::WRITABLE).is_err() {
                continue;
            }
            let mut client = Client { stream, answer: rendered(report()), sent: 0, until: now + CLIENT_TIMEOUT };
            if !client.write() {
                self.clients.push(client);
            }
        }
        // Taken when one of those who are served has gone.
        self.waiting = true;
    }

    fn listen(&mut self, registry: &Registry, token: Token, now: Instant) {
        let Some(path) = &self.path else { return };
        match Listener::bind(path, registry, token) {
            Ok(listener) => {
                self.retry_at = None;
                self.listener = Some(listener);
                self.waiting = true;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.was_refused, true) {
                    let (path, wait) = (path.display(), RETRY.as_secs());
                    log::warn!(
                        "no status at agent.status_socket {path}: {error}; all else works, tried again every {wait} s"
                    );
                }
                self.retry_at = Some(now + RETRY);
            }
        }
    }
}

/// The tokens of the loop.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) listener: Token,
    /// All of them: each writes when any of them can.
    pub(super) clients: Token,
}

impl Listener {
    fn bind(path: &Path, registry: &Registry, token: Token) -> io::Result<Self> {
        let (socket, file) = private_socket::listen(path, BACKLOG).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                io::Error::other("another process answers there: does a second agent run with this file?")
            }
            _ => error,
        })?;
        let mut socket = UnixListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, _file: file })
    }
}

impl Client {
    /// True when there is nothing left to write, or nobody to read it.
    fn write(&mut self) -> bool {
        while let Some(rest) = self.answer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return true,
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// One line of JSON, with as many endpoints as fit.
fn rendered(mut report: Report) -> Vec<u8> {
    loop {
        // A report has only strings and numbers: it can always be written.
        let mut json = serde_json::to_vec(&report).unwrap_or_default();
        if json.len() < REPORT_BYTES_MAX || report.endpoints.is_empty() {
            json.push(b'\n');
            return json;
        }
        let kept = report.endpoints.len() / 2;
        report.endpoints_omitted += report.endpoints.len() - kept;
        report.endpoints.truncate(kept);
    }
}

/// Who asks at the same time: a watchdog, a person, and some to spare. Each may hold a report.
const CLIENTS_MAX: usize = 4;

/// Connections that wait in the kernel.
const BACKLOG: i32 = 8;

/// A client reads at once, or is none.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries to listen: a directory that is mounted late.
const RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Endpoint;

    #[test]
    fn report_keeps_to_its_limit_and_says_what_it_leaves_out() {
        let endpoint = Endpoint { name: "n".repeat(255), reason: Some("r".repeat(300)), ..Endpoint::default() };
        for count in [1, 100, 500, 2000] {
            let report = Report { endpoints: vec![endpoint.clone(); count], ..Report::default() };
            let json = rendered(report);
            assert!(json.len() <= REPORT_BYTES_MAX, "{} bytes", json.len());
            let report = Report::read(&json).unwrap();
            assert_eq!(report.endpoints.len() + report.endpoints_omitted, count);
            assert!(count > 100 || report.endpoints_omitted == 0);
        }
    }
}
