//! Certificates and the time: clocks that stand in 1970 or run 56 years ahead, certificates that begin or end, keys that
//! are pinned. Every clock here is made up.

use std::cell::Cell;
use std::ops::Range;

use rcgen::{Certificate, date_time_ymd};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::reason::in_words_by;
use super::super::verifier::{Refusal, pin_of};
use super::*;
use crate::wall_time::WallTime;

type Day = (i32, u8, u8);

/// An authority and the chain of a server that it vouches for: a leaf, with an intermediate authority if asked for.
struct Chain {
    roots: RootCertStore,
    server: Arc<ServerConfig>,
    leaf: PublicKeyPin,
    issuer: PublicKeyPin,
}

impl Chain {
    fn new(leaf: Range<Day>) -> Self {
        Self::issued(leaf, None, rustls::DEFAULT_VERSIONS)
    }

    fn issued(
        leaf: Range<Day>,
        intermediate: Option<Range<Day>>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let new_key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root"), new_key()).unwrap();
        let key = new_key();
        let params = within(CertificateParams::new([NAME.to_owned()]).unwrap(), leaf);
        let (certificates, issuer) = match intermediate {
            None => (vec![params.signed_by(&key, &root).unwrap()], pinned(root.as_ref())),
            Some(validity) => {
                let middle =
                    CertifiedIssuer::signed_by(within(authority("middle"), validity), new_key(), &root).unwrap();
                (vec![params.signed_by(&key, &middle).unwrap(), middle.as_ref().clone()], pinned(middle.as_ref()))
            }
        };
        let leaf = pinned(&certificates[0]);
        let chain = certificates.iter().map(|certificate| certificate.der().clone()).collect();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        Self { roots, server: Arc::new(server), leaf, issuer }
    }

    /// A client that trusts the authority.
    fn client(&self, pins: &[PublicKeyPin], system: fn() -> WallTime) -> Arc<ClientConfig> {
        let clock = Clock { build: BUILD, system };
        client_config(self.roots.clone(), pins.to_vec(), TlsCiphers::Auto, clock).unwrap()
    }

    /// Connects with the system's clock at `system`; an error as the log has it.
    fn connect(&self, pins: &[PublicKeyPin], system: fn() -> WallTime) -> Result<(), String> {
        let Err(error) = joined(self.client(pins, system), NAME, &self.server) else { return Ok(()) };
        let text = in_words_by(&error, Clock { build: BUILD, system });
        let mark = if is_about_time(&error) { "time" } else { "other" };
        Err(format!("{mark}: {text}"))
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

fn within(mut params: CertificateParams, validity: Range<Day>) -> CertificateParams {
    let moment = |(year, month, day)| date_time_ymd(year, month, day);
    (params.not_before, params.not_after) = (moment(validity.start), moment(validity.end));
    params
}

fn pinned(certificate: &Certificate) -> PublicKeyPin {
    pin_of(certificate.der()).unwrap()
}

const NAME: &str = "connect.example.com";

/// 2026-06-01.
const BUILD: WallTime = WallTime::from_unix(1_780_272_000);

// What the system's clock may show.
const AT_1970: fn() -> WallTime = || WallTime::from_unix(77);
const AT_2026: fn() -> WallTime = || WallTime::from_unix(1_795_478_400);
const AT_2082: fn() -> WallTime = || WallTime::from_unix(3_562_790_400);

const AROUND_BUILD: Range<Day> = (2026, 1, 1)..(2027, 1, 1);
const AFTER_BUILD: Range<Day> = (2026, 9, 1)..(2027, 9, 1);
const BEFORE_BUILD: Range<Day> = (2025, 1, 1)..(2026, 1, 1);

#[test]
fn clock_before_the_build_counts_as_the_time_of_the_build() {
    let chain = Chain::new(AROUND_BUILD);
    assert_eq!(chain.connect(&[], AT_1970), Ok(()));
    assert_eq!(chain.connect(&[], AT_2026), Ok(()));
}

#[test]
fn refusal_for_time_names_both_times_and_where_the_one_came_from() {
    let refused = |validity, system| Chain::new(validity).connect(&[], system).unwrap_err();
    assert_eq!(
        refused(AFTER_BUILD, AT_1970),
        "time: the certificate is not valid before 2026-09-01T00:00:00Z; the system clock says 1970-01-01T00:01:17Z, so \
         2026-06-01T00:00:00Z was taken, when this adit was built: set this machine's clock"
    );
    assert_eq!(
        refused((2027, 1, 1)..(2028, 1, 1), AT_2026),
        "time: the certificate is not valid before 2027-01-01T00:00:00Z, and the system clock says \
         2026-11-24T00:00:00Z: set this machine's clock"
    );
    assert_eq!(
        refused(AROUND_BUILD, AT_2082),
        "time: the certificate expired at 2027-01-01T00:00:00Z, and the system clock says 2082-11-25T00:00:00Z: renew \
         the certificate, or set this machine's clock if it is ahead"
    );
    assert_eq!(
        refused(BEFORE_BUILD, AT_1970),
        "time: the certificate expired at 2026-01-01T00:00:00Z, before this adit was built (2026-06-01T00:00:00Z), so \
         no clock is to blame: renew the certificate"
    );
}

#[test]
fn wrong_certificate_is_not_taken_for_a_matter_of_time() {
    for validity in [AFTER_BUILD, BEFORE_BUILD] {
        let (chain, stranger) = (Chain::new(validity.clone()), Chain::new(validity));
        for pins in [&[][..], &[chain.leaf]] {
            let error = joined(stranger.client(pins, AT_1970), NAME, &chain.server).unwrap_err();
            assert!(!is_about_time(&error), "{error}");
            let error = joined(chain.client(pins, AT_1970), "elsewhere.example.com", &chain.server).unwrap_err();
            assert!(!is_about_time(&error) && error.to_string().contains("not valid for"), "{error}");
        }
    }
}

#[test]
fn pinned_gateway_is_reached_whatever_the_clock_says() {
    for version in rustls::ALL_VERSIONS {
        for validity in [AROUND_BUILD, AFTER_BUILD] {
            let chain = Chain::issued(validity, None, &[version]);
            for system in [AT_1970, AT_2026, AT_2082] {
                assert_eq!(chain.connect(&[chain.leaf], system), Ok(()));
            }
        }
    }
}

#[test]
fn pinned_certificate_that_expired_before_the_build_is_refused_for_its_time() {
    let chain = Chain::new(BEFORE_BUILD);
    for system in [AT_1970, AT_2026, AT_2082] {
        let error = chain.connect(&[chain.leaf], system).unwrap_err();
        assert!(
            error.starts_with("time: the certificate expired at 2026-01-01T00:00:00Z, before this adit"),
            "{error}"
        );
    }
}

#[test]
fn one_of_several_pins_is_enough_and_none_is_an_error_that_names_the_key() {
    let (chain, other) = (Chain::new(AROUND_BUILD), Chain::new(AROUND_BUILD));
    assert_eq!(chain.connect(&[other.leaf, chain.leaf], AT_2026), Ok(()));
    // That the clock is right does not make up for the key.
    let error = chain.connect(&[other.leaf], AT_2026).unwrap_err();
    let expected =
        format!("other: the gateway's certificate has the public key {}, which agent.connect_pin", chain.leaf);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn key_of_an_authority_is_no_pin_of_the_server() {
    let chain = Chain::issued(AROUND_BUILD, Some(AROUND_BUILD), rustls::DEFAULT_VERSIONS);
    assert_eq!(chain.connect(&[], AT_2026), Ok(()));
    assert_eq!(chain.connect(&[chain.leaf], AT_2026), Ok(()));
    assert!(chain.connect(&[chain.issuer], AT_2026).unwrap_err().contains("agent.connect_pin"));
}

#[test]
fn whole_chain_of_a_pinned_gateway_has_to_be_valid_at_one_time() {
    let overlapping = (2026, 7, 1)..(2027, 3, 1);
    let chain = Chain::issued(AFTER_BUILD, Some(overlapping), rustls::DEFAULT_VERSIONS);
    assert_eq!(chain.connect(&[chain.leaf], AT_1970), Ok(()));
    let too_early = (2026, 1, 1)..(2026, 8, 1);
    let chain = Chain::issued(AFTER_BUILD, Some(too_early), rustls::DEFAULT_VERSIONS);
    let error = chain.connect(&[chain.leaf], AT_2026).unwrap_err();
    assert_eq!(error, format!("other: {}", Refusal::NeverValid));
}

#[test]
fn clock_is_read_anew_by_every_handshake() {
    thread_local!(static SYSTEM: Cell<u64> = const { Cell::new(77) });
    let chain = Chain::new(AFTER_BUILD);
    let client = chain.client(&[], || WallTime::from_unix(SYSTEM.get()));
    for _ in 0..3 {
        assert!(is_about_time(&joined(Arc::clone(&client), NAME, &chain.server).unwrap_err()));
    }
    SYSTEM.set(AT_2026().since_unix().as_secs());
    assert!(joined(client, NAME, &chain.server).is_ok());
}

#[test]
fn running_connection_and_its_tickets_survive_jumps_of_the_clock() {
    thread_local!(static SYSTEM: Cell<fn() -> WallTime> = const { Cell::new(AT_2026) });
    let chain = Chain::new(AROUND_BUILD);
    let client = chain.client(&[], || (SYSTEM.get())());
    let (mut running, mut server) = joined(Arc::clone(&client), NAME, &chain.server).unwrap();
    for system in [AT_2026, AT_2082, AT_1970] {
        SYSTEM.set(system);
        running.writer().write_all(b"beat").unwrap();
        carry(|out| running.write_tls(out), |bytes| server.read_tls(bytes));
        server.process_new_packets().unwrap();
        let mut beat = [0; 4];
        server.reader().read_exact(&mut beat).unwrap();
        server.writer().write_all(&beat).unwrap();
        // Brings the tickets of TLS 1.3 too.
        carry(|out| server.write_tls(out), |bytes| running.read_tls(bytes));
        running.process_new_packets().unwrap();
        running.reader().read_exact(&mut beat).unwrap();
        assert_eq!(&beat, b"beat");
    }
    // At the time of the build a ticket of November is from the future; it does no harm.
    let (again, _) = joined(Arc::clone(&client), NAME, &chain.server).unwrap();
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
    SYSTEM.set(AT_2026);
    let (mut again, mut server) = joined(Arc::clone(&client), NAME, &chain.server).unwrap();
    carry(|out| server.write_tls(out), |bytes| again.read_tls(bytes));
    again.process_new_packets().unwrap();
    // 56 years later every ticket is too old, and the certificate is looked at again.
    SYSTEM.set(AT_2082);
    assert!(is_about_time(&joined(client, NAME, &chain.server).unwrap_err()));
}

#[test]
fn pin_is_what_openssl_makes_of_a_certificate() {
    let certificate = CertificateDer::from_pem_slice(OPENSSL_CERTIFICATE.as_bytes()).unwrap();
    assert_eq!(pin_of(&certificate).unwrap().to_string(), "sha256/ETn33uDzOJTl0sUGahVk2m3cdflWif45I9kRXDx8GTY=");
}

/// `openssl req -x509 -newkey ec …`; the pin is from `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der |
/// openssl dgst -sha256 -binary | base64`.
const OPENSSL_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUIUyCWtn72eiCUX0h0mrS4g0Sfg8wCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDcGluMB4XDTI2MTEyODAwNDAxMFoXDTM2MTEyNTAwNDAxMFow
DjEMMAoGA1UEAwwDcGluMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcmyJ4Dlb
sYgjvypfUO/pXD0LMC5aTEl1+3txCiEPniOzoz4jDPan76PCt2UV+t2JK+RMpr4O
OvOAHGm9fkA+oKNTMFEwHQYDVR0OBBYEFIH7dpMVVM9gM8gb9EvV7fV2eYayMB8G
A1UdIwQYMBaAFIH7dpMVVM9gM8gb9EvV7fV2eYayMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIgDruhtn+fV2EgReE5l7cOV5tupUQVsjSOkt7VweN5
CZ4CIQC9lMHY9YrRBlXV1YVXbD4JWZkK4uVDedMLCm7spBjVcw==
-----END CERTIFICATE-----
";
