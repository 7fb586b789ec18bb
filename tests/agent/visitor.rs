//! A visitor that speaks TLS through a stream of the gateway, to whoever ends it behind the agent.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::peer::{End, Stream};

/// The name that visitors ask for.
pub(crate) const NAME: &str = "db.example";

/// A server's certificate, authorities for visitors, and what visitors may show.
pub(crate) struct Papers {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) client_ca: String,
    ca: CertificateDer<'static>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A visitor's certificate and key.
pub(crate) struct Shown {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let issuer = authority("ours");
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let ca = issuer.der().clone();
        let client_ca = issuer.pem();
        Self { certificate: certificate.pem(), key: key.serialize_pem(), client_ca, ca, issuer }
    }

    /// What a visitor in good standing shows.
    pub(crate) fn shown(&self) -> Shown {
        self.shown_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A visitor's certificate that is changed before it is signed.
    pub(crate) fn shown_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        shown_by(&self.issuer, change)
    }

    /// A certificate of nobody whom the agent knows.
    pub(crate) fn shown_by_a_stranger() -> Shown {
        shown_by(&authority("a stranger's"), |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
        })
    }

    /// What the agent's file says.
    pub(crate) fn termination(&self) -> serde_json::Value {
        serde_json::json!({ "server_certificate": self.certificate, "server_private_key": self.key })
    }

    /// The same, with certificates of visitors asked for.
    pub(crate) fn mutual(&self) -> serde_json::Value {
        let mut termination = self.termination();
        termination["mutual_tls_certificate_authorities"] = serde_json::json!([self.client_ca]);
        termination
    }

    fn client(&self, shown: Option<&Shown>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn shown_by(issuer: &CertifiedIssuer<'static, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).unwrap();
    Shown { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// An end of validity that is over.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 2, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

/// One visitor.
pub(crate) struct Visitor {
    stream: Stream,
    tls: ClientConnection,
    seen: usize,
}

impl Visitor {
    pub(crate) fn new(stream: Stream, papers: &Papers, shown: Option<&Shown>) -> Self {
        Self::offering(stream, papers, shown, &[])
    }

    pub(crate) fn offering(stream: Stream, papers: &Papers, shown: Option<&Shown>, alpn: &[&str]) -> Self {
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = ClientConnection::new(papers.client(shown, alpn), name).unwrap();
        tls.set_buffer_limit(None);
        Self { stream, tls, seen: 0 }
    }

    /// Goes on until the handshake is done.
    pub(crate) fn shake_hands(&mut self) {
        while self.tls.is_handshaking() {
            self.say();
            if self.tls.is_handshaking() {
                self.hear().unwrap();
            }
        }
        self.say();
    }

    /// Says only the first thing.
    pub(crate) fn hello(&mut self) {
        self.say();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
        self.say();
    }

    /// Reads this many bytes of plaintext.
    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match self.tls.reader().read(&mut bytes[read..]) {
                Ok(0) => panic!("the end after {read} bytes"),
                Ok(len) => read += len,
                Err(_) => self.hear().unwrap(),
            }
        }
        bytes
    }

    /// Says in TLS that nothing more comes.
    pub(crate) fn end(&mut self) {
        self.tls.send_close_notify();
        self.say();
        self.stream.finish();
    }

    /// Ends the stream without a word of TLS, as somebody on the way would.
    pub(crate) fn cut(&self) {
        self.stream.finish();
    }

    /// Waits for the end that TLS says, then for that of the stream.
    pub(crate) fn wait_end(&mut self) {
        loop {
            match self.tls.reader().read(&mut [0; 1]) {
                Ok(0) => break,
                Ok(_) => panic!("more bytes"),
                Err(_) => self.hear().unwrap(),
            }
        }
        assert_eq!(self.stream.wait_end().1, End::Fin);
    }

    /// The alert with which the agent refuses this visitor.
    pub(crate) fn refusal(&mut self) -> rustls::Error {
        loop {
            self.say();
            if let Err(error) = self.hear() {
                return error;
            }
        }
    }

    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Everything that passed the gateway towards the visitor.
    pub(crate) fn ciphertext(&self) -> Vec<u8> {
        self.stream.wait_received(0)
    }

    fn say(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        self.stream.send(&bytes);
    }

    fn hear(&mut self) -> Result<(), rustls::Error> {
        let received = self.stream.wait_received(self.seen + 1);
        let mut fresh = &received[self.seen..];
        // Until its plaintext has to be read first.
        while let Ok(len @ 1..) = self.tls.read_tls(&mut fresh) {
            self.seen += len;
            self.tls.process_new_packets()?;
        }
        Ok(())
    }
}
