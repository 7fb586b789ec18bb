//! The client's end against rustls's own server, by bytes in memory.

use std::io::{Read, Write};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;

struct Pair {
    client: LinkTls,
    server: ServerConnection,
    buffer: Vec<u8>,
}

/// What a server is like.
struct Kind {
    version: &'static SupportedProtocolVersion,
    /// Its certificate is longer than need be by this much.
    padding: u16,
    /// Its records are no longer than this.
    record_max: Option<usize>,
    /// Its tickets have this length.
    ticket: Option<usize>,
}

const USUAL: Kind = Kind { version: &TLS13, padding: 0, record_max: None, ticket: None };

/// Makes tickets of this length.
#[derive(Debug)]
struct Tickets(usize);

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        3600
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(vec![7; self.0])
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl Pair {
    fn new(kind: &Kind) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        if kind.padding > 0 {
            let content = [&[4, 0x82][..], &kind.padding.to_be_bytes(), &vec![0; usize::from(kind.padding)]].concat();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], content)];
        }
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[kind.version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        server.max_fragment_size = kind.record_max;
        if let Some(len) = kind.ticket {
            server.ticketer = Arc::new(Tickets(len));
        }
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("gateway.example").unwrap();
        Self {
            client: LinkTls::new(Arc::new(client), name).unwrap(),
            server: ServerConnection::new(Arc::new(server)).unwrap(),
            buffer: vec![0; RECEIVE_AT + (64 << 10)],
        }
    }

    /// Gives the client these bytes, no more than `step` at once; the plaintext in them.
    fn receive(&mut self, mut bytes: &[u8], step: usize) -> Result<Vec<u8>, TlsEnd> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let room = self.client.room(&mut self.buffer)?;
            let (now, later) = bytes.split_at(bytes.len().min(step).min(room.len()));
            room[..now.len()].copy_from_slice(now);
            bytes = later;
            let mut plaintext = 0;
            let received = self.client.receive(&mut self.buffer, now.len(), &mut plaintext);
            all.extend_from_slice(&self.buffer[..plaintext]);
            received?;
        }
        Ok(all)
    }

    /// What the server has for the client.
    fn answer(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Gives the server what the client has for it, in steps; the plaintext in it.
    fn deliver(&mut self, step: usize) -> Result<Vec<u8>, rustls::Error> {
        let mut all = Vec::new();
        while self.client.wants_write() {
            let len = self.client.outgoing().len().min(step);
            let mut bytes = &self.client.outgoing()[..len];
            while !bytes.is_empty() {
                self.server.read_tls(&mut bytes).unwrap();
                self.server.process_new_packets()?;
                match self.server.reader().read_to_end(&mut all) {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
            self.client.sent(len);
        }
        Ok(all)
    }

    /// Does the handshake, with everything in steps of so many bytes.
    fn shake_hands(&mut self, step: usize) {
        for _ in 0..3 {
            self.deliver(step).unwrap();
            let answer = self.answer();
            assert!(self.receive(&answer, step).unwrap().is_empty());
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
    }
}

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
}

#[test]
fn bytes_pass_whole_both_ways_however_they_are_cut() {
    for version in [&TLS12, &TLS13] {
        for step in [1, 7, 4096, 16_405, 16_406, 65_536, usize::MAX] {
            let mut pair = Pair::new(&Kind { version, ..USUAL });
            pair.shake_hands(step);
            let (up, down) = (numbered(100_000), numbered(200_000));
            pair.server.set_buffer_limit(None);
            pair.server.writer().write_all(&down).unwrap();
            let wire = pair.answer();
            assert_eq!(pair.receive(&wire, step).unwrap(), down, "{version:?} {step}");
            for piece in up.chunks(RECORD_DATA_MAX) {
                pair.client.send(piece).unwrap();
            }
            assert_eq!(pair.deliver(step).unwrap(), up, "{version:?} {step}");
            assert!(!pair.client.wants_write());
        }
    }
}

#[test]
fn certificate_of_several_records_is_taken_and_its_room_given_back() {
    let mut pair = Pair::new(&Kind { padding: 60_000, ..USUAL });
    pair.shake_hands(usize::MAX);
    let mut pair = Pair::new(&Kind { padding: 60_000, ..USUAL });
    pair.shake_hands(1000);
    assert!(pair.client.partial.capacity() <= PARTIAL_MAX);
}

#[test]
fn sending_between_the_pieces_of_a_ticket_disturbs_neither() {
    let mut pair = Pair::new(&Kind { record_max: Some(37), ..USUAL });
    pair.deliver(usize::MAX).unwrap();
    let flight = pair.answer();
    pair.receive(&flight, usize::MAX).unwrap();
    pair.deliver(usize::MAX).unwrap();
    let tickets = pair.answer();
    for (at, byte) in tickets.iter().enumerate() {
        pair.receive(&[*byte], 1).unwrap();
        pair.client.send(&at.to_be_bytes()).unwrap();
        assert_eq!(pair.deliver(usize::MAX).unwrap(), at.to_be_bytes());
    }
    pair.server.writer().write_all(b"after").unwrap();
    let wire = pair.answer();
    assert_eq!(pair.receive(&wire, 3).unwrap(), b"after");
}

#[test]
fn first_record_is_what_is_left_of_it() {
    let mut pair = Pair::new(&USUAL);
    pair.shake_hands(usize::MAX);
    let lengths = [100, 1, 16_384, 2000];
    lengths.iter().for_each(|len| pair.client.send(&vec![7; *len]).unwrap());
    let overhead = RECORD_HEADER + 1 + 16;
    for len in lengths {
        assert_eq!(pair.client.outgoing_record().len(), len + overhead);
        let record = pair.client.outgoing_record().to_vec();
        pair.client.sent(1);
        assert_eq!(pair.client.outgoing_record(), &record[1..]);
        // Room is made while a record is half sent.
        pair.client.outgoing.make_room(40_000);
        assert_eq!(pair.client.outgoing_record(), &record[1..]);
        pair.client.sent(record.len() - 1);
    }
    assert!(!pair.client.wants_write() && pair.client.outgoing_record().is_empty());
}

#[test]
fn what_is_wrong_is_answered_by_an_alert_and_what_came_before_it_counts() {
    let mut pair = Pair::new(&USUAL);
    pair.shake_hands(usize::MAX);
    pair.server.writer().write_all(b"good").unwrap();
    let mut wire = pair.answer();
    pair.server.writer().write_all(b"changed").unwrap();
    let changed = pair.answer();
    wire.extend_from_slice(&changed);
    *wire.last_mut().unwrap() ^= 1;
    let len = wire.len();
    pair.client.room(&mut pair.buffer).unwrap()[..len].copy_from_slice(&wire);
    let mut plaintext = 0;
    let end = pair.client.receive(&mut pair.buffer, len, &mut plaintext).unwrap_err();
    assert!(matches!(end, TlsEnd::Failed(rustls::Error::DecryptError)), "{end:?}");
    assert_eq!(&pair.buffer[..plaintext], b"good");
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
    assert_eq!(pair.deliver(usize::MAX).unwrap_err(), alert);
    assert!(pair.client.send(b"more").is_err());
    assert!(pair.client.receive(&mut pair.buffer, 0, &mut plaintext).is_err());
}

#[test]
fn end_of_the_other_side_comes_after_its_last_bytes() {
    let mut pair = Pair::new(&USUAL);
    pair.shake_hands(usize::MAX);
    pair.server.writer().write_all(b"last").unwrap();
    pair.server.send_close_notify();
    let wire = pair.answer();
    let len = wire.len();
    pair.client.room(&mut pair.buffer).unwrap()[..len].copy_from_slice(&wire);
    let mut plaintext = 0;
    let end = pair.client.receive(&mut pair.buffer, len, &mut plaintext).unwrap_err();
    assert!(matches!(end, TlsEnd::Closed), "{end:?}");
    assert_eq!(&pair.buffer[..plaintext], b"last");
    pair.client.send_close_notify();
    pair.deliver(usize::MAX).unwrap();
    assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn nothing_can_be_sent_during_the_handshake() {
    let mut pair = Pair::new(&USUAL);
    let hello = pair.client.outgoing().to_vec();
    assert!(pair.client.send(b"early").is_err());
    pair.client.send_close_notify();
    assert_eq!(pair.client.outgoing(), hello);
    pair.shake_hands(usize::MAX);
}

#[test]
fn ticket_that_is_longer_than_any_ends_the_connection_instead_of_being_kept() {
    for (ticket, is_taken) in [(10_000, true), (60_000, false)] {
        let mut pair = Pair::new(&Kind { ticket: Some(ticket), ..USUAL });
        pair.deliver(usize::MAX).unwrap();
        let flight = pair.answer();
        pair.receive(&flight, usize::MAX).unwrap();
        pair.deliver(usize::MAX).unwrap();
        let tickets = pair.answer();
        assert!(tickets.len() > ticket);
        let taken = pair.receive(&tickets, 1000);
        assert_eq!(taken.is_ok(), is_taken, "{ticket}: {taken:?}");
        assert!(pair.client.partial.capacity() < PARTIAL_MAX + 1000);
    }
}

/// In the smallest pieces, a message takes the most room with what is around them.
#[test]
fn message_without_end_in_the_smallest_pieces_ends_the_connection() {
    let mut pair = Pair::new(&USUAL);
    let header = [22, 3, 3, 0, 4, 2, 0, 0xff, 0xff];
    pair.receive(&header, usize::MAX).unwrap();
    let pieces = [22, 3, 3, 0, 1, 0].repeat(1000);
    let taken = (0..100).take_while(|_| pair.receive(&pieces, usize::MAX).is_ok()).count();
    assert!(taken < 70, "{taken} times 1000 bytes of a message");
    let held = pair.client.partial.capacity() + pair.client.outgoing.buffer.capacity();
    assert!(held <= pair.buffer.len() + 4096, "{held}");
}

/// Seeded: whatever is changed and however it is cut, with something to say in between.
#[test]
fn bytes_that_were_changed_on_the_way_end_the_connection_at_worst() {
    let mut random = 1_u64;
    let mut below = move |most: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % most.max(1) as u64).unwrap()
    };
    let mut ended = 0;
    for _ in 0..200 {
        let mut pair = Pair::new(&Kind { record_max: Some(64), ..USUAL });
        let change_in = below(4);
        for flight in 0..4 {
            // After a change the server may have given up.
            let _ = pair.deliver(usize::MAX);
            let _ = pair.server.writer().write_all(&[3; 100]);
            let mut wire = pair.answer();
            if flight == change_in && !wire.is_empty() {
                let at = below(wire.len());
                wire[at] ^= 1 << below(8);
            }
            while !wire.is_empty() {
                let piece: Vec<u8> = wire.drain(..=below(wire.len().min(50))).collect();
                ended += usize::from(pair.receive(&piece, usize::MAX).is_err());
                let _ = pair.client.send(b"in between");
            }
        }
    }
    assert!(ended > 0);
}
