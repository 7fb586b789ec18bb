//! Where the gateway can be looked at and told what to do while it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit::config::ConfigErrors;
use adit::config::reader::{Object, Reader};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;

use super::certificate::Certificate;
use super::{Base, bounded_text, void};
use crate::{pem, yaml};

/// Where the gateway can be looked at and told what to do. Without any of it, it cannot.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// A Unix socket, for those who may open it: it is made with mode 0600.
    pub socket: Option<PathBuf>,
    /// An address as well.
    pub listen: Option<AdminListen>,
}

/// An address at which the gateway can be looked at.
#[derive(Clone, Debug)]
pub struct AdminListen {
    /// The address. Without `tls` it is one of this machine alone.
    pub address: SocketAddr,
    /// Who gets in, and what the gateway shows them.
    pub tls: Option<AdminTls>,
}

/// TLS in which both sides have a certificate.
#[derive(Clone, Debug)]
pub struct AdminTls {
    /// What the gateway shows.
    pub certificate: Certificate,
    /// The authorities of those who get in.
    pub client_ca_file: PathBuf,
    /// Both as rustls takes them.
    pub server: Arc<ServerConfig>,
    /// Judges the certificates of those who get in.
    pub clients: Arc<dyn ClientCertVerifier>,
}

impl AdminConfig {
    /// The socket that a file names, whatever else is in it: whoever asks the gateway that runs need not be able to read
    /// all that it has read, nor be right about it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is neither YAML nor JSON.
    pub fn socket_in(file: &Path) -> Result<Option<PathBuf>, ConfigErrors> {
        let text = bounded_text(file, yaml::TEXT_LEN_MAX).map_err(|expected| void(file, expected))?;
        let document = yaml::parse(&text).map_err(|error| void(file, format!("is neither YAML nor JSON: {error}")))?;
        let tree = Reader::new(file.display().to_string()).accept(document);
        let socket = tree.get("admin").and_then(|admin| admin.get("socket")).and_then(Value::as_str);
        Ok(socket.map(|path| Base::of(file).resolve(path)))
    }

    pub(super) fn read(section: Option<Object<'_>>, base: &Base) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let socket = section.string("socket").map(|text| base.resolve(&text));
        if let Some(path) = &socket
            && path.as_os_str().len() > SOCKET_PATH_LEN_MAX
        {
            section.problem("socket", format_args!("must not be longer than {SOCKET_PATH_LEN_MAX} bytes"));
        }
        let has_listen = section.has("listen");
        let address = section.parsed("listen", |text| {
            text.parse::<SocketAddr>().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:4041")
        });
        let tls_path = section.path_of("tls");
        let tls_section = section.object("tls");
        let has_tls = tls_section.is_some();
        if has_tls && !has_listen {
            section.reader().problem(&tls_path, None, "is for admin.listen, which is missing");
        }
        let tls = tls_section.and_then(|entry| AdminTls::read(entry, base));
        let listen = address.and_then(|address| {
            if !has_tls && !address.ip().is_loopback() {
                let expected = "needs admin.tls, because it is no address of this machine alone, such as 127.0.0.1";
                section.problem("listen", expected);
                return None;
            }
            Some(AdminListen { address, tls })
        });
        section.finish();
        Self { socket, listen }
    }

    /// Whether both are opened in the same way. What is opened stays as it is until a restart.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.socket == other.socket
            && match (&self.listen, &other.listen) {
                (None, None) => true,
                (Some(one), Some(two)) => one.is_like(two),
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl AdminListen {
    fn is_like(&self, other: &Self) -> bool {
        let files = |listen: &Self| {
            let tls = listen.tls.as_ref()?;
            let Certificate { certificate_file, private_key_file, .. } = &tls.certificate;
            Some((certificate_file.clone(), private_key_file.clone(), tls.client_ca_file.clone()))
        };
        self.address == other.address && files(self) == files(other)
    }
}

impl AdminTls {
    /// Reads its files once more; what is wrong with the authority's word on the certificate comes along.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn read_again(&self) -> Result<(Self, Option<String>), String> {
        let (certificate, problem) = self.certificate.read_again()?;
        let tls = Self::new(certificate, self.client_ca_file.clone());
        let tls = tls.map_err(|error| format!("{}: {error}", self.client_ca_file.display()))?;
        Ok((tls, problem))
    }

    fn read(mut entry: Object<'_>, base: &Base) -> Option<Self> {
        let client_ca_file = entry.required_string("client_ca_file").map(|text| base.resolve(&text));
        let path = entry.path_of("client_ca_file");
        let reader = entry.reader();
        let certificate = Certificate::read(entry, base);
        let (client_ca_file, certificate) = (client_ca_file?, certificate?);
        let shown = client_ca_file.display().to_string();
        match Self::new(certificate, client_ca_file) {
            Ok(tls) => Some(tls),
            Err(expected) => {
                reader.problem(&path, Some(shown), expected);
                None
            }
        }
    }

    fn new(certificate: Certificate, client_ca_file: PathBuf) -> Result<Self, String> {
        let clients = clients(&client_ca_file)?;
        let server = Arc::new(server(&certificate, Arc::clone(&clients))?);
        Ok(Self { certificate, client_ca_file, server, clients })
    }
}

fn clients(authorities: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in pem::certificates(&pem::read(authorities)?)? {
        roots.add(authority).map_err(|error| format!("has a certificate that cannot be an authority: {error}"))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| format!("cannot be used: {error}"))
}

fn server(certificate: &Certificate, clients: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&certificate.certified)));
    let mut config = builder.with_client_cert_verifier(clients).with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No sessions are resumed: one would keep a certificate good that would be refused by now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What every system takes as the path of a Unix socket; Linux takes 107 bytes.
const SOCKET_PATH_LEN_MAX: usize = 103;
