//! The files of the admin listener change while it is served.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::config::Config;
use crate::identity_key::IdentityKey;

/// The files of an admin listener.
pub(in crate::admin) struct Files(TempDir);

/// An authority of clients.
pub(in crate::admin) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(in crate::admin) fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Files {
    pub(in crate::admin) fn new(clients: &Authority) -> (Self, Config) {
        let files = Self(tempfile::tempdir().unwrap());
        files.put_certificate();
        files.put("clients.pem", &clients.pem());
        let text = "
            listeners: {agents: '127.0.0.1:0'}
            certificates: [{certificate_file: certificate.pem, private_key_file: key.pem}]
            admin:
              listen: '127.0.0.1:0'
              tls: {certificate_file: certificate.pem, private_key_file: key.pem, client_ca_file: clients.pem}
        ";
        let config = Config::parse(&files.path("gateway.yml"), text).unwrap().0;
        (files, config)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(in crate::admin) fn put(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn put_certificate(&self) {
        let made = rcgen::generate_simple_self_signed(["admin.example.com".to_owned()]).unwrap();
        self.put("certificate.pem", &made.cert.pem());
        self.put("key.pem", &made.signing_key.serialize_pem());
    }

    /// A client with a certificate of this authority that trusts what the files have.
    pub(in crate::admin) fn client(&self, clients: &Authority) -> TlsConnector {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([]).unwrap().signed_by(&key, clients).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("certificate.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let client = client.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        TlsConnector::from(Arc::new(client))
    }

    pub(in crate::admin) fn name() -> ServerName<'static> {
        ServerName::try_from("admin.example.com").unwrap()
    }

    /// Whether such a client gets in.
    async fn lets_in(&self, server: &Arc<ServerConfig>, clients: &Authority) -> bool {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (theirs, ours) = tokio::join!(
            self.client(clients).connect(Self::name(), near),
            TlsAcceptor::from(Arc::clone(server)).accept(far)
        );
        theirs.is_ok() && ours.is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn renewed_certificate_and_other_authorities_hold_for_those_who_come_then() {
    let (before, after) = (authority(), authority());
    let (files, config) = Files::new(&before);
    let tls = config.admin.listen.clone().unwrap().tls.unwrap();
    let (renewed, current) = watch::channel(Arc::new(tls.clone()));
    let gateway = Gateway::new(config, &IdentityKey::generate().unwrap()).unwrap();
    let keeping = tokio::spawn(keep(tls, renewed, gateway));
    let first = Arc::clone(&current.borrow().server);
    assert!(files.lets_in(&first, &before).await && !files.lets_in(&first, &after).await);
    files.put_certificate();
    files.put("clients.pem", &after.pem());
    // Two looks, and whatever the disk takes.
    for _ in 0..4 {
        sleep(LOOK_INTERVAL).await;
    }
    let second = Arc::clone(&current.borrow().server);
    assert!(files.lets_in(&second, &after).await && !files.lets_in(&second, &before).await);
    keeping.abort();
}

#[test]
fn files_that_do_not_fit_are_told_once_and_change_nothing() {
    let (files, config) = Files::new(&authority());
    let mut watched = Watched::new(config.admin.listen.unwrap().tls.unwrap());
    let server = Arc::clone(&watched.tls.server);
    assert_eq!(watched.look(), Look::Same);
    files.put("clients.pem", "nothing");
    assert_eq!(watched.look(), Look::Same, "it may still be in the making");
    let Look::Unusable(problem) = watched.look() else { panic!("it cannot be used") };
    assert!(problem.contains("clients.pem: has no certificate"), "{problem}");
    assert_eq!(watched.look(), Look::Same);
    assert!(Arc::ptr_eq(&watched.tls.server, &server));
    files.put("clients.pem", &authority().pem());
    assert_eq!((watched.look(), watched.look()), (Look::Same, Look::Renewed(None)));
    assert!(!Arc::ptr_eq(&watched.tls.server, &server));
}

#[test]
fn no_session_is_resumed_whose_certificate_may_be_refused_by_now() {
    let (_files, config) = Files::new(&authority());
    let server = config.admin.listen.unwrap().tls.unwrap().server;
    assert_eq!((server.send_tls13_tickets, server.session_storage.can_cache()), (0, false));
}
