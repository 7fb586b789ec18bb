//! TLS on a connected socket, and what the certificate says when it is not accepted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

use super::certificate::{self, Facts};
use super::{Class, Failure, now};
use crate::config::AgentConfig;
use crate::tls::{self, Presented};

/// A connection whose handshake is done.
pub(super) struct Secure {
    socket: TcpStream,
    tls: ClientConnection,
    deadline: Instant,
}

/// TLS with the gateway.
pub(super) fn shake_hands(socket: TcpStream, agent: &AgentConfig, deadline: Instant) -> Result<Secure, Failure> {
    let unusable = |error: tls::TlsError| Failure::new(Class::Certificate, error, FILE);
    let presented = Presented::default();
    let config = tls::connect_config_noting(agent, &presented).map_err(unusable)?;
    let name = tls::server_name(agent.connect.host()).map_err(unusable)?;
    Secure::open(socket, config, name, deadline).map_err(|error| explain(&error, presented.take().as_ref()))
}

impl Secure {
    /// Does the handshake.
    pub(super) fn open(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut secure = Self { socket, tls, deadline };
        while secure.tls.is_handshaking() {
            secure.flush()?;
            if secure.tls.is_handshaking() && secure.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        secure.flush()?;
        Ok(secure)
    }

    /// Version and cipher suite.
    pub(super) fn facts(&self) -> String {
        tls::facts(&self.tls)
    }

    /// The certificate of the other side in words.
    pub(super) fn peer(&self) -> String {
        let first = self.tls.peer_certificates().and_then(<[_]>::first);
        shown(first.and_then(|der| certificate::read(der)).as_ref())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)?;
        self.flush()
    }

    /// Reads what comes next, at the latest at the deadline.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.fill()? == 0 {
                return Ok(0);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).map_err(timely)?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        let len = self.tls.read_tls(&mut self.socket).map_err(timely)?;
        if let Err(error) = self.tls.process_new_packets() {
            // The alert that says why.
            let _ = self.tls.write_tls(&mut self.socket);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(len)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// A blocking socket says `WouldBlock` when its time is over.
fn timely(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// What is wrong, by what was presented.
pub(super) fn explain(error: &io::Error, presented: Option<&CertificateDer<'static>>) -> Failure {
    let facts = presented.and_then(|der| certificate::read(der));
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return cut(error);
    };
    match error {
        Error::InvalidCertificate(reason) => refused(error, reason, facts.as_ref()),
        Error::InvalidMessage(_) => Failure::new(
            Class::Protocol,
            format_args!("what answers there does not speak TLS: {error}"),
            "whoever wrote agent.connect_url, if port or host are wrong; else whoever runs a proxy or portal on the way",
        ),
        _ => Failure::new(Class::Protocol, format_args!("TLS failed: {error}"), "whoever runs the gateway"),
    }
}

fn refused(error: &Error, reason: &CertificateError, facts: Option<&Facts>) -> Failure {
    use CertificateError as C;
    let what = format!("{}; presented was {}", tls::in_words(error), shown(facts));
    match reason {
        C::NotValidYet | C::NotValidYetContext { .. } => Failure::new(
            Class::Time,
            what,
            "whoever sets this machine's clock; if it is right, whoever runs the gateway",
        ),
        C::Expired | C::ExpiredContext { .. } => Failure::new(
            Class::Time,
            what,
            "whoever renews the gateway's certificate; or whoever sets this machine's clock",
        ),
        // A bad signature is what an authority looks like that was made anew under its old name.
        C::UnknownIssuer | C::BadSignature => Failure::new(
            Class::Certificate,
            what,
            "whoever runs the network here, if that issuer is theirs: something inspects TLS, and the gateway's name has to \
             be exempted (or agent.connect_cas has to name that authority); else whoever wrote agent.connect_cas",
        ),
        C::NotValidForName | C::NotValidForNameContext { .. } => Failure::new(
            Class::Certificate,
            what,
            "whoever runs the network here, if a portal wants a log-in first; whoever wrote agent.connect_url; or whoever \
             made the gateway's certificate",
        ),
        _ => Failure::new(Class::Certificate, what, "whoever made the gateway's certificate"),
    }
}

/// The connection failed below TLS.
fn cut(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::new(
            Class::Protocol,
            "the connection was taken, and then nothing came in time",
            "whoever runs the gateway, if it hangs; or a firewall that lets connections begin and then drops packets (try a \
             smaller MTU)",
        ),
        _ => Failure::new(
            Class::Protocol,
            format_args!("the connection was cut during the TLS handshake: {error}"),
            "whoever runs the firewall here, if it cuts TLS by name; or whoever wrote agent.connect_url: is this the \
             gateway's port for agents?",
        ),
    }
}

fn shown(facts: Option<&Facts>) -> String {
    match facts {
        Some(Facts { subject, issuer, not_before, not_after }) => {
            format!("a certificate of {subject}, issued by {issuer}, valid from {not_before} to {not_after}")
        }
        None => "no certificate that could be read".to_owned(),
    }
}

const FILE: &str = "whoever wrote the agent's file";
