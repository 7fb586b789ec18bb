//! What is known of a visitor's TLS that has ended at the gateway.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};

use super::certificate_facts::CertificateFacts;
use super::client_check::Presented;
use super::termination::{Termination, Version};

/// A TLS session of a visitor.
#[derive(Debug)]
pub struct Session {
    name: Option<Box<str>>,
    version: Version,
    cipher_suite: &'static str,
    protocol: Option<Box<[u8]>>,
    is_resumed: bool,
    check: Option<[u8; 32]>,
    client: Option<ClientCertificate>,
    server: Option<Arc<CertifiedKey>>,
    server_facts: OnceLock<Option<CertificateFacts>>,
}

/// The certificate of a client.
#[derive(Debug)]
pub struct ClientCertificate {
    der: CertificateDer<'static>,
    /// Why it is not verified.
    doubt: Option<Box<str>>,
    facts: OnceLock<Option<CertificateFacts>>,
}

impl Session {
    /// Notes what a handshake came to. `termination` is what it was done by, if an endpoint asked for something;
    /// `server` is the certificate that the client was shown.
    #[must_use]
    pub fn of(
        connection: &ServerConnection,
        termination: Option<&Termination>,
        presented: Option<&Presented>,
        server: Option<Arc<CertifiedKey>>,
    ) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::V12,
            _ => Version::V13,
        };
        let cipher_suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let client = presented.and_then(ClientCertificate::of);
        Self {
            name: connection.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase().into()),
            version,
            cipher_suite: cipher_suite.unwrap_or_default(),
            protocol: connection.alpn_protocol().map(Into::into),
            is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            check: termination.and_then(Termination::clients).map(|check| *check.digest()),
            client,
            server,
            server_facts: OnceLock::new(),
        }
    }

    /// What a handshake would come to, for explaining: with the newest version that is possible, and the suite that the
    /// gateway likes best.
    #[must_use]
    pub fn assumed(name: &str, termination: Option<&Termination>, presented: Option<&Presented>) -> Self {
        let version = termination.map_or(Version::V13, Termination::newest);
        let cipher_suite = match version {
            Version::V13 => "TLS13_AES_256_GCM_SHA384",
            Version::V12 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        };
        Self {
            name: Some(name.into()),
            version,
            cipher_suite,
            protocol: None,
            is_resumed: false,
            check: termination.and_then(Termination::clients).map(|check| *check.digest()),
            client: presented.and_then(ClientCertificate::of),
            server: None,
            server_facts: OnceLock::new(),
        }
    }

    /// The name that the client asked for, in lower case.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The version that was agreed on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cipher suite's name as IANA has it.
    #[must_use]
    pub fn cipher_suite(&self) -> String {
        // The library tells the suites of TLS 1.3 apart in their names.
        match self.cipher_suite.strip_prefix("TLS13_") {
            Some(rest) => format!("TLS_{rest}"),
            None => self.cipher_suite.to_owned(),
        }
    }

    /// The application protocol that was agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
    }

    /// Whether the client took up an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// By what the client was judged, as [`ClientCheck::digest`](super::ClientCheck::digest) has it.
    #[must_use]
    pub fn check(&self) -> Option<&[u8; 32]> {
        self.check.as_ref()
    }

    /// The client's certificate.
    #[must_use]
    pub fn client(&self) -> Option<&ClientCertificate> {
        self.client.as_ref()
    }

    /// What the certificate says that the client was shown.
    pub fn server_facts(&self) -> Option<&CertificateFacts> {
        let read = || CertificateFacts::of(self.server.as_ref()?.cert.first()?);
        self.server_facts.get_or_init(read).as_ref()
    }
}

impl ClientCertificate {
    fn of(presented: &Presented) -> Option<Self> {
        let (der, verified) = presented.get()?;
        Some(Self { der: der.clone(), doubt: verified.err().map(Into::into), facts: OnceLock::new() })
    }

    /// Why it is not verified; nothing if it is.
    #[must_use]
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// What it says; nothing when it cannot be read.
    pub fn facts(&self) -> Option<&CertificateFacts> {
        self.facts.get_or_init(|| CertificateFacts::of(&self.der)).as_ref()
    }
}
