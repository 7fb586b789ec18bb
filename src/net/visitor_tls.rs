//! A visitor's TLS that ends in the agent: ciphertext of a stream on one side, plaintext of an upstream on the other.
//!
//! No sockets: the stream's queue is fed through [`VisitorTls::take`], what goes back to the visitor is fetched under a
//! grant with [`VisitorTls::fetch`]. Both sides are bounded: received plaintext stays until it is consumed and nothing
//! more is taken meanwhile, and plaintext is encrypted only as fast as its ciphertext is fetched.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::upstream::{CERTIFICATES_IN_HELD, TICKETS_MAX, TLS_HELD};

/// One visitor's TLS.
#[derive(Debug)]
pub(crate) struct VisitorTls {
    tls: ServerConnection,
    /// The visitor broke the protocol, or is not let in: the alert is the last thing that goes out.
    failed: bool,
    /// Our direction is over; nothing is encrypted any more.
    ended: bool,
    /// Decrypted bytes wait to be consumed.
    plaintext_pending: bool,
    /// What the visitor has sent in the handshake; afterwards since its last data: records and messages that are not
    /// whole yet are among it.
    handshake_bytes: usize,
    /// Bytes of the certificates that the visitor has shown, which are kept.
    certificates: usize,
}

impl VisitorTls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut tls = ServerConnection::new(config)?;
        // Bounded by who calls: a grant's worth at a time.
        tls.set_buffer_limit(None);
        Ok(Self { tls, failed: false, ended: false, plaintext_pending: false, handshake_bytes: 0, certificates: 0 })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Takes ciphertext off the front of `bytes` and decrypts it, at most some KiB, and returns how much it took.
    /// Nothing while plaintext waits to be consumed: the rest comes when there is room.
    ///
    /// # Errors
    /// What the visitor did wrong. The alert that says so is ready to be fetched; nothing more is taken.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<usize, rustls::Error> {
        if self.failed || bytes.is_empty() || !self.plaintext().is_empty() {
            return Ok(0);
        }
        let before = bytes.len();
        // All plaintext is gone: what is full is a handshake message that is never whole, and nothing would empty it.
        let Ok(taken) = self.tls.read_tls(&mut bytes) else { return Err(self.refuse_handshake()) };
        debug_assert_eq!(taken, before - bytes.len());
        self.handshake_bytes = self.handshake_bytes.saturating_add(taken);
        let was_handshaking = self.tls.is_handshaking();
        if was_handshaking && self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            return Err(self.refuse_handshake());
        }
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.plaintext_pending = state.plaintext_bytes_to_read() > 0;
                let is_done = was_handshaking && !self.tls.is_handshaking();
                if is_done {
                    let certificates = self.tls.peer_certificates().unwrap_or_default();
                    self.certificates = certificates.iter().map(|certificate| certificate.len()).sum();
                }
                if is_done || self.plaintext_pending {
                    self.handshake_bytes = 0;
                }
                Ok(taken)
            }
            Err(error) => {
                self.failed = true;
                Err(error)
            }
        }
    }

    fn refuse_handshake(&mut self) -> rustls::Error {
        self.failed = true;
        rustls::InvalidMessage::HandshakePayloadTooLarge.into()
    }

    /// Decrypted bytes that lie in one piece; empty when there are none now.
    pub(crate) fn plaintext(&mut self) -> &[u8] {
        // WouldBlock: nothing now. An end is told by `has_ended`.
        self.tls.reader().into_first_chunk().unwrap_or_default()
    }

    /// Drops `len` decrypted bytes.
    pub(crate) fn consume(&mut self, len: usize) {
        self.tls.reader().consume(len);
        self.plaintext_pending = !self.plaintext().is_empty();
    }

    /// Whether the visitor said, in TLS, that it sends no more, and everything before was consumed. A stream that ends
    /// without this word was cut.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.tls.reader().fill_buf(), Ok([]))
    }

    /// Bytes that this may hold in the process, an upper bound.
    pub(crate) fn held(&self) -> usize {
        let received = match (self.tls.is_handshaking(), self.plaintext_pending) {
            (true, _) => self.handshake_bytes,
            (false, true) => RECORD_HELD,
            (false, false) if self.handshake_bytes > TICKETS_MAX => self.handshake_bytes.min(MESSAGE_MAX),
            (false, false) => 0,
        };
        let written = if self.tls.wants_write() { RECORD_HELD } else { 0 };
        TLS_HELD + self.certificates.saturating_sub(CERTIFICATES_IN_HELD) + received + written
    }

    /// Encrypts what an upstream said, for [`Self::fetch`]. Call it when there is nothing else to fetch, with at most a
    /// frame's worth.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plaintext)
    }

    /// Says, in TLS, that nothing more comes.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tls.send_close_notify();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        (self.ended || self.failed) && !self.tls.wants_write()
    }

    /// Whether there is something to fetch.
    pub(crate) fn wants_fetch(&self) -> bool {
        self.tls.wants_write()
    }

    /// Moves bytes for the visitor into `buffer` and returns how many.
    pub(crate) fn fetch(&mut self, mut buffer: &mut [u8]) -> usize {
        let room = buffer.len();
        while self.tls.wants_write() && !buffer.is_empty() {
            // Writing into memory fails only when it is full.
            match self.tls.write_tls(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        room - buffer.len()
    }
}

/// Most bytes of a visitor's handshake: a ClientHello with room for key shares that no quantum computer breaks, and a
/// chain of certificates. Counted against the memory budget as they come.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// What rustls takes of a message that is not whole, once the handshake is done, before it gives up.
const MESSAGE_MAX: usize = 64 * 1024;

/// A record, and the 4 KiB behind it that came in the same read (RFC 8446, section 5.2).
const RECORD_HELD: usize = 24 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rcgen::{CertificateParams, CustomExtension, KeyPair};
    use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
    use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{
        ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
    };

    use super::*;

    fn pair() -> (VisitorTls, ClientConnection) {
        pair_with(0)
    }

    /// With a visitor that shows a certificate, longer than need be by this much, unless that is nothing.
    fn pair_with(padding: usize) -> (VisitorTls, ClientConnection) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["db.example".to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == TLS13_AES_128_GCM_SHA256.suite());
        let provider = Arc::new(provider);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let shown = (padding > 0).then(|| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["visitor.example".to_owned()]).unwrap();
            let len = u16::try_from(padding).unwrap().to_be_bytes();
            let content = [&[4, 0x82][..], &len, &vec![0; padding]].concat();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], content)];
            let certificate = params.self_signed(&key).unwrap().der().clone();
            (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        });
        let server =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let server = match &shown {
            None => server.with_no_client_auth(),
            Some((certificate, _)) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                server.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let server =
            server.with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut client = match shown {
            None => client.with_no_client_auth(),
            Some((certificate, key)) => client.with_client_auth_cert(vec![certificate], key).unwrap(),
        };
        client.enable_secret_extraction = true;
        let name = ServerName::try_from("db.example").unwrap();
        (VisitorTls::new(Arc::new(server)).unwrap(), ClientConnection::new(Arc::new(client), name).unwrap())
    }

    /// What the visitor has to say now.
    fn said(visitor: &mut ClientConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while visitor.wants_write() {
            visitor.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Hands everything that can be fetched to the visitor, in pieces of `room` bytes.
    fn answer(agent: &mut VisitorTls, visitor: &mut ClientConnection, room: usize) {
        let mut buffer = vec![0; room];
        loop {
            let len = agent.fetch(&mut buffer);
            if len == 0 {
                return;
            }
            let mut piece = &buffer[..len];
            while !piece.is_empty() {
                visitor.read_tls(&mut piece).unwrap();
                visitor.process_new_packets().unwrap();
            }
        }
    }

    /// Feeds all of `bytes` and returns the plaintext in them.
    fn feed(agent: &mut VisitorTls, mut bytes: &[u8]) -> Vec<u8> {
        let mut plaintext = Vec::new();
        while !bytes.is_empty() {
            let taken = agent.take(bytes).unwrap();
            bytes = &bytes[taken..];
            let len = agent.plaintext().len();
            assert!(taken > 0 || len > 0, "neither takes nor gives");
            plaintext.extend_from_slice(agent.plaintext());
            agent.consume(len);
        }
        plaintext
    }

    fn connected() -> (VisitorTls, ClientConnection) {
        connected_with(0)
    }

    fn connected_with(padding: usize) -> (VisitorTls, ClientConnection) {
        let (mut agent, mut visitor) = pair_with(padding);
        for _ in 0..3 {
            assert!(feed(&mut agent, &said(&mut visitor)).is_empty());
            answer(&mut agent, &mut visitor, 100);
        }
        assert!(!agent.is_handshaking() && !visitor.is_handshaking());
        (agent, visitor)
    }

    #[test]
    fn handshake_byte_by_byte_and_data_both_ways() {
        let (mut agent, mut visitor) = pair();
        for _ in 0..3 {
            for byte in said(&mut visitor) {
                assert_eq!(agent.take(&[byte]).unwrap(), 1);
            }
            answer(&mut agent, &mut visitor, 1);
        }
        assert!(!agent.is_handshaking());

        let question: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut heard = Vec::new();
        for piece in question.chunks(20_000) {
            visitor.writer().write_all(piece).unwrap();
            heard.extend(feed(&mut agent, &said(&mut visitor)));
        }
        assert_eq!(heard, question);
        agent.encrypt(&question[..16_000]).unwrap();
        answer(&mut agent, &mut visitor, 1000);
        let mut back = vec![0; 16_000];
        visitor.reader().read_exact(&mut back).unwrap();
        assert_eq!(back, &question[..16_000]);
    }

    #[test]
    fn nothing_is_taken_while_plaintext_waits() {
        let (mut agent, mut visitor) = connected();
        visitor.writer().write_all(b"one").unwrap();
        let first = said(&mut visitor);
        visitor.writer().write_all(b"two").unwrap();
        let second = said(&mut visitor);
        assert_eq!(agent.take(&first).unwrap(), first.len());
        assert_eq!(agent.take(&second).unwrap(), 0);
        assert_eq!(agent.plaintext(), b"one");
        agent.consume(3);
        assert_eq!(agent.take(&second).unwrap(), second.len());
        assert_eq!(agent.plaintext(), b"two");
    }

    #[test]
    fn only_the_word_of_tls_is_an_end() {
        let (mut agent, mut visitor) = connected();
        visitor.writer().write_all(b"last").unwrap();
        visitor.send_close_notify();
        let bytes = said(&mut visitor);
        assert_eq!(agent.take(&bytes).unwrap(), bytes.len());
        assert!(!agent.has_ended());
        agent.consume(4);
        assert!(agent.has_ended());
        agent.end();
        assert!(!agent.is_over());
        answer(&mut agent, &mut visitor, 100);
        assert!(agent.is_over());
        assert_eq!(visitor.reader().read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn garbage_ends_with_an_alert_and_nothing_more_is_taken() {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[0xff; 600]] {
            let (mut agent, _) = pair();
            assert!(agent.take(garbage).is_err(), "{garbage:?}");
            assert_eq!(agent.take(garbage), Ok(0));
            let mut alert = [0; 64];
            let len = agent.fetch(&mut alert);
            assert!(len > 5 && alert[0] == 21, "{:?}", &alert[..len]);
            assert!(agent.is_over());
        }
    }

    #[test]
    fn endless_handshake_is_refused_within_its_bound() {
        let (mut agent, _) = pair();
        // A ClientHello that says it has 16 MiB, in records of a hundred bytes.
        let mut record = vec![22, 3, 1, 0, 100, 1, 0xff, 0xff, 0xff];
        record.resize(105, 0);
        let mut sent = 0;
        let refused = loop {
            match agent.take(&record) {
                Ok(taken) => {
                    assert_eq!(taken, record.len());
                    sent += taken;
                    record[5..].fill(0);
                }
                Err(_) => break sent,
            }
            assert!(sent < 100_000, "no bound");
        };
        assert!(refused < 100_000);
    }

    #[test]
    fn handshake_that_rustls_would_wait_for_without_end_is_refused_at_its_bound() {
        let (mut agent, _) = pair();
        // A ClientHello of almost 64 KiB, as large as rustls takes any.
        let mut record = vec![22, 3, 1, 0, 100, 1, 0, 0xff, 0xf0];
        record.resize(105, 0);
        let mut taken = 0;
        while let Ok(len) = agent.take(&record) {
            assert!(len > 0, "neither takes nor refuses");
            taken += len;
            record[5..].fill(0);
        }
        assert!(taken <= HANDSHAKE_BYTES_MAX && agent.held() < 2 * (HANDSHAKE_BYTES_MAX + TLS_HELD), "{taken}");
        assert_eq!(agent.take(&record), Ok(0));
    }

    #[test]
    fn message_that_is_never_whole_is_refused_after_the_handshake_too() {
        let (mut agent, mut visitor) = connected();
        assert!(said(&mut visitor).is_empty());
        let (mut number, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) =
            visitor.dangerous_extract_secrets().unwrap().tx
        else {
            panic!("another cipher")
        };
        let mut encrypter = TLS13_AES_128_GCM_SHA256.tls13().unwrap().aead_alg.encrypter(key, iv);
        let mut message = vec![24, 0, 0xff, 0xf0];
        message.resize(16_000, 0);
        let mut sent = 0;
        let refused = (0..20).find_map(|_| {
            let payload = OutboundChunks::Single(&message);
            let plain =
                OutboundPlainMessage { typ: ContentType::Handshake, version: ProtocolVersion::TLSv1_2, payload };
            let record = encrypter.encrypt(plain, number).unwrap().encode();
            let mut bytes = &record[..];
            number += 1;
            message.fill(0);
            while !bytes.is_empty() {
                match agent.take(bytes) {
                    Ok(taken) => {
                        assert!(taken > 0, "neither takes nor refuses");
                        bytes = &bytes[taken..];
                        sent += taken;
                        let counted = if sent > TICKETS_MAX { sent.min(MESSAGE_MAX) } else { 0 };
                        assert_eq!(agent.held(), TLS_HELD + counted);
                    }
                    Err(error) => return Some(error),
                }
            }
            None
        });
        assert!(refused.is_some());
    }

    #[test]
    fn part_of_a_record_and_the_visitors_certificates_are_counted() {
        let (mut agent, mut visitor) = connected_with(9_000);
        let idle = agent.held();
        assert!(idle > TLS_HELD + 9_000 - CERTIFICATES_IN_HELD && idle < TLS_HELD + 9_000, "{idle}");
        visitor.writer().write_all(&[7; 16_000]).unwrap();
        let record = said(&mut visitor);
        let mut taken = 0;
        while taken < 15_000 {
            taken += agent.take(&record[taken..15_000]).unwrap();
        }
        assert_eq!(agent.held(), idle + taken);
        assert!(!feed(&mut agent, &record[taken..]).is_empty());
        assert_eq!(agent.held(), idle);
    }
}
