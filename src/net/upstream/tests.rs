//! Tests of connections to upstreams, over TLS on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::*;

type Server = StreamOwned<ServerConnection, std::net::TcpStream>;

const READY: Ready = Ready { readable: true, writable: true, read_closed: false };

/// A connection whose handshake is done, and its other end.
fn pair() -> (UpstreamIo, Server) {
    let (mut io, other) = begin(0, 0);
    while !io.handshake().unwrap() {
        // In place of the events of a loop.
        io.ready = READY;
    }
    (io, other.join().unwrap())
}

/// A connection whose handshake is still to be done, and its other end, which does its part. Its certificate is longer
/// than need be by `padding`, and it asks for one of an authority whose name has `name_len` bytes, unless that is 0.
fn begin(padding: usize, name_len: usize) -> (UpstreamIo, thread::JoinHandle<Server>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    if padding > 0 {
        // An octet string of some private extension.
        let len = u16::try_from(padding).unwrap().to_be_bytes();
        let content = [&[4, 0x82][..], &len, &vec![0; padding]].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], content)];
    }
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == TLS13_AES_128_GCM_SHA256.suite());
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let server = if name_len == 0 {
        server.with_no_client_auth()
    } else {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "x".repeat(name_len));
        let mut authorities = RootCertStore::empty();
        authorities.add(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
        server.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
    };
    let mut server =
        server.with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
    server.enable_secret_extraction = true;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let other = thread::spawn(move || {
        let mut server = StreamOwned::new(ServerConnection::new(Arc::new(server)).unwrap(), accepted);
        // It fails when the agent refuses.
        let _ = server.conn.complete_io(&mut server.sock);
        server
    });
    socket.set_nonblocking(true).unwrap();
    let name = ServerName::IpAddress(std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into());
    (UpstreamIo::tls(TcpStream::from_std(socket), READY, Arc::new(client), name).unwrap(), other)
}

/// The other end of a connection as one that writes records of any kind.
struct Forger {
    socket: std::net::TcpStream,
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
}

impl Forger {
    fn new(server: Server) -> Self {
        let StreamOwned { conn, sock } = server;
        let secrets = conn.dangerous_extract_secrets().unwrap().tx;
        let (number, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets else { panic!("another cipher") };
        let encrypter = TLS13_AES_128_GCM_SHA256.tls13().unwrap().aead_alg.encrypter(key, iv);
        Self { socket: sock, encrypter, number }
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(payload);
        let plain = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
        let bytes = self.encrypter.encrypt(plain, self.number).unwrap().encode();
        self.number += 1;
        bytes
    }
}

/// Reads once there is something.
fn read(io: &mut UpstreamIo, buffer: &mut [u8]) -> usize {
    loop {
        match io.read(buffer) {
            Ok(len) => return len,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        io.ready = READY;
    }
}

#[test]
fn plaintext_inside_tls_may_be_read_although_the_socket_is_empty() {
    let (mut io, mut server) = pair();
    server.write_all(&[7; 1000]).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(read(&mut io, &mut buffer[..10]), 10);
    io.ready.readable = false;
    assert!(io.may_read());
    assert_eq!(io.read(&mut buffer).unwrap(), 990);
    assert_eq!(io.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(!io.may_read());
}

#[test]
fn writer_that_was_full_goes_on_when_the_socket_has_room_again() {
    let (mut io, mut server) = pair();
    let chunk = [7; 10_000];
    let mut written = 0;
    let full = loop {
        match io.write(std::iter::once(&chunk[..])) {
            Ok(len) => written += len,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert!(!io.ready.writable && !io.is_flushed());
    assert!(!io.flush().unwrap(), "room without an event");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        all.len()
    });
    let mut made_room = false;
    while !io.is_flushed() {
        io.ready = READY;
        made_room |= io.flush().unwrap();
    }
    assert!(made_room);
    io.shutdown_write().unwrap();
    assert_eq!(reader.join().unwrap(), written);
}

#[test]
fn more_than_tls_takes_at_once_goes_to_a_socket_that_has_room() {
    let (mut io, mut server) = pair();
    let pieces = [[1; 16_000], [2; 16_000], [3; 16_000], [4; 16_000]];
    assert!(pieces.as_flattened().len() > WRITER_MAX);
    assert_eq!(io.write(pieces.iter().map(<[u8; 16_000]>::as_slice)).unwrap(), 64_000);
    let mut came = vec![0; 64_000];
    server.read_exact(&mut came).unwrap();
    assert_eq!(came, pieces.as_flattened());
}

#[test]
fn connection_holds_more_while_something_waits_in_it() {
    let (mut io, mut server) = pair();
    server.write_all(&[7; 1000]).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(read(&mut io, &mut buffer[..10]), 10);
    assert_eq!(io.held(), TLS_HELD + RECEIVED_MAX, "unread");
    assert_eq!(read(&mut io, &mut buffer), 990);
    assert_eq!(io.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(io.held(), TLS_HELD, "idle, the server's session tickets included");
    while io.write(std::iter::once(&[7; 10_000][..])).is_ok() {}
    assert_eq!(io.held(), TLS_HELD + WRITER_MAX, "not taken by the socket");
}

#[test]
fn end_during_the_handshake_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    socket.set_nonblocking(true).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("upstream.example").unwrap();
    let mut io = UpstreamIo::tls(TcpStream::from_std(socket), READY, Arc::new(config), name).unwrap();
    let error = loop {
        match io.handshake() {
            Ok(done) => assert!(!done),
            Err(error) => break error,
        }
        io.ready = READY;
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// A connection on which data has come, and its other end as a forger.
fn forged() -> (UpstreamIo, Forger) {
    let (mut io, mut server) = pair();
    server.write_all(&[7]).unwrap();
    // Behind the tickets that the server has sent.
    assert_eq!(read(&mut io, &mut [0; 10]), 1);
    (io, Forger::new(server))
}

#[test]
fn records_without_data_do_not_hold_the_loop() {
    let (mut io, mut forger) = forged();
    // A ticket of 3800 bytes: lifetime, age, no nonce, the ticket, no extensions. A record of them is no data.
    let ticket = [&[4, 0, 0x0e, 0xe5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0x0e, 0xd8][..], &[7; 3800], &[0, 0]].concat();
    // Sixteen times what is read in one go.
    let records: Vec<u8> = (0..16 * FILLS_MAX).flat_map(|_| forger.record(ContentType::Handshake, &ticket)).collect();
    // As much as the sockets take is there before the first read, and the rest comes faster than it is read.
    forger.socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < records.len()
        && let Ok(len) = forger.socket.write(&records[sent..])
    {
        sent += len;
    }
    let writer = thread::spawn(move || {
        forger.socket.set_nonblocking(false).unwrap();
        let _ = forger.socket.write_all(&records[sent..]);
    });
    let error = loop {
        match io.read(&mut [0; 100]) {
            Ok(len) => panic!("{len} bytes of data, or the end: all of it was read"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => io.ready = READY,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("without end"), "{error}");
    drop(io);
    writer.join().unwrap();
}

#[test]
fn message_in_several_records_is_counted_and_ends_within_its_bound() {
    let (mut io, mut forger) = forged();
    // A ticket that says it has almost 64 KiB, as many as rustls takes.
    let mut part = vec![4, 0, 0xff, 0xf0];
    part.resize(8000, 0);
    let mut sent = 0;
    let error = 'sent: loop {
        let record = forger.record(ContentType::Handshake, &part);
        forger.socket.write_all(&record).unwrap();
        sent += record.len();
        part.fill(0);
        while io.tls.as_ref().unwrap().handshake_bytes < sent {
            io.ready = READY;
            match io.read(&mut [0; 100]).unwrap_err() {
                error if error.kind() == io::ErrorKind::WouldBlock => {}
                error => break 'sent error,
            }
        }
        assert!(io.held() >= TLS_HELD + sent.min(HANDSHAKE_BYTES_MAX), "{} for {sent}", io.held());
        assert!(io.held() <= TLS_HELD + HANDSHAKE_BYTES_MAX);
        assert!(sent <= HANDSHAKE_BYTES_MAX + part.len(), "no bound");
    };
    assert!(sent > HANDSHAKE_BYTES_MAX / 2, "{error} after {sent}");
}

#[test]
fn handshake_is_counted_as_it_comes_and_certificates_as_long_as_they_are_kept() {
    let padding = 10_000;
    let (mut io, other) = begin(padding, 0);
    assert!(io.held() >= TLS_HELD, "{}", io.held());
    while !io.handshake().unwrap() {
        assert!(io.held() >= TLS_HELD, "{}", io.held());
        io.ready = READY;
    }
    let (mut server, certificates) = (other.join().unwrap(), io.tls.as_ref().unwrap().certificates);
    assert!(certificates > padding);
    server.write_all(&[7; 100]).unwrap();
    assert_eq!(read(&mut io, &mut [0; 200]), 100);
    assert_eq!(io.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(io.held(), TLS_HELD + certificates - CERTIFICATES_IN_HELD);
}

#[test]
fn handshake_beyond_its_bound_is_refused() {
    let walk = |padding, name_len| {
        let (mut io, other) = begin(padding, name_len);
        let result = loop {
            match io.handshake() {
                Ok(false) => io.ready = READY,
                result => break result,
            }
            assert!(io.held() <= TLS_HELD + HANDSHAKE_BYTES_MAX + WRITER_MAX);
        };
        drop(io);
        other.join().unwrap();
        result
    };
    assert!(walk(50_000, 5_000).unwrap());
    // Each message for itself is one that rustls takes.
    let error = walk(50_000, 20_000).unwrap_err();
    assert!(error.to_string().contains("longer than any that is in use"), "{error}");
}
