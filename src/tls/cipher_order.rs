//! Which ciphers the agent offers first. Servers follow the client's order, so the agent, whose CPU is usually the
//! weaker one, decides what costs it least.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{CipherSuite, CommonState, Error};

use crate::config::TlsCiphers;

/// The ring provider with its cipher suites in the order that was asked for. None is taken away.
pub(super) fn provider(ciphers: TlsCiphers) -> CryptoProvider {
    let mut provider = ring::default_provider();
    let (order, _) = choose(ciphers, has_aes_instructions());
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite(), order));
    if !cfg!(feature = "own-certificates") {
        provider.key_provider = &NoKeys;
    }
    provider
}

/// Stands, in a build without private keys, where the code for them would be.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("this adit is built without private keys".to_owned()))
    }
}

/// Which cipher comes first, and why.
pub fn describe_order(ciphers: TlsCiphers) -> &'static str {
    choose(ciphers, has_aes_instructions()).1
}

fn choose(ciphers: TlsCiphers, has_aes_instructions: bool) -> ([Cipher; 3], &'static str) {
    match (ciphers, has_aes_instructions) {
        (TlsCiphers::Auto, true) => (AES_FIRST, "AES-GCM first, for which this CPU has instructions"),
        (TlsCiphers::Auto, false) => {
            (CHACHA20_FIRST, "ChaCha20-Poly1305 first, because this CPU has no instructions for AES-GCM")
        }
        (TlsCiphers::Aes, _) => (AES_FIRST, "AES-GCM first, because agent.tls_ciphers says so"),
        (TlsCiphers::ChaCha20, _) => (CHACHA20_FIRST, "ChaCha20-Poly1305 first, because agent.tls_ciphers says so"),
    }
}

/// TLS 1.3 before 1.2, then by cipher, then ECDSA before RSA.
fn rank(suite: CipherSuite, order: [Cipher; 3]) -> (bool, usize, bool) {
    let (is_old, cipher, is_rsa) = describe(suite);
    let place = order.iter().position(|candidate| Some(*candidate) == cipher).unwrap_or(order.len());
    (is_old, place, is_rsa)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    Aes128,
    Aes256,
    ChaCha20,
}

/// Whether a suite is of TLS 1.2, its cipher, whether it needs an RSA certificate.
fn describe(suite: CipherSuite) -> (bool, Option<Cipher>, bool) {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => (false, Some(Cipher::Aes128), false),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => (false, Some(Cipher::Aes256), false),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (false, Some(Cipher::ChaCha20), false),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => (true, Some(Cipher::Aes128), false),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => (true, Some(Cipher::Aes256), false),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => (true, Some(Cipher::ChaCha20), false),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => (true, Some(Cipher::Aes128), true),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => (true, Some(Cipher::Aes256), true),
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => (true, Some(Cipher::ChaCha20), true),
        _ => (true, None, true),
    }
}

/// The TLS version and cipher suite in words, once negotiated. The names that rustls has for every suite that there ever
/// was would be 1 % of the agent.
pub(crate) fn facts(connection: &CommonState) -> String {
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("?");
    format!("{version} {}", connection.negotiated_cipher_suite().map_or("?", |suite| name(suite.suite())))
}

fn name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS13_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS13_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS13_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        _ => "?",
    }
}

/// GCM needs AES and carry-less multiplication.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// GCM needs AES and carry-less multiplication. Raspberry Pi 3 and 4 lack both.
#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

/// MIPS and 32-bit ARM routers have none that ring uses; of other CPUs std cannot tell.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

/// AES-128 costs a fifth less than AES-256 and is not what an attacker breaks.
const AES_FIRST: [Cipher; 3] = [Cipher::Aes128, Cipher::Aes256, Cipher::ChaCha20];

/// Software AES is several times slower than ChaCha20, and the kind with timing worries.
const CHACHA20_FIRST: [Cipher; 3] = [Cipher::ChaCha20, Cipher::Aes128, Cipher::Aes256];

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(order: [Cipher; 3]) -> Vec<CipherSuite> {
        let mut suites: Vec<CipherSuite> =
            ring::default_provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        suites.sort_by_key(|suite| rank(*suite, order));
        suites
    }

    #[test]
    fn cipher_suites_are_ordered_by_cpu_within_each_version() {
        let aes = ordered(AES_FIRST);
        assert_eq!(aes[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(aes[2], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(aes[3], CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(aes[8], CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256);
        let chacha = ordered(CHACHA20_FIRST);
        assert_eq!(chacha[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(chacha[1], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(chacha[3], CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    }

    #[test]
    fn every_suite_of_the_provider_is_known_here_and_kept() {
        for (_, ciphers) in TlsCiphers::WORDS {
            let provider = provider(ciphers);
            assert_eq!(provider.cipher_suites.len(), ring::default_provider().cipher_suites.len());
            for suite in &provider.cipher_suites {
                assert!(describe(suite.suite()).1.is_some(), "{suite:?}");
                assert_eq!(Some(name(suite.suite())), suite.suite().as_str());
            }
        }
    }

    #[test]
    fn setting_wins_over_the_cpu_and_the_reason_says_which() {
        for has_aes in [false, true] {
            let (order, why) = choose(TlsCiphers::Aes, has_aes);
            assert!(order == AES_FIRST && why.contains("agent.tls_ciphers"));
            let (order, why) = choose(TlsCiphers::ChaCha20, has_aes);
            assert!(order == CHACHA20_FIRST && why.contains("agent.tls_ciphers"));
            let (order, why) = choose(TlsCiphers::Auto, has_aes);
            assert_eq!(order == AES_FIRST, has_aes);
            assert!(why.contains("this CPU"));
        }
    }
}
