//! What an endpoint asks of the TLS that ends at the gateway for it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::client_check::{ClientCheck, Presented};
use super::session::Session;
use crate::certificates::Certificates;

/// A version of TLS that the gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// The versions that an endpoint allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest one.
    pub min: Version,
    /// The newest one, not older than `min`.
    pub max: Version,
}

/// How TLS ends at the gateway for one endpoint.
pub struct Termination {
    versions: Versions,
    /// The endpoint's own certificate; without one, the gateway's for the name.
    own: Option<Arc<CertifiedKey>>,
    clients: Option<Arc<ClientCheck>>,
    /// For all connections, where clients are not asked for certificates.
    shared: OnceLock<Arc<ServerConfig>>,
}

/// What one handshake needs.
#[derive(Debug)]
pub struct Prepared {
    /// The settings for rustls.
    pub config: Arc<ServerConfig>,
    /// Where the client's certificate is noted, if it is asked for one.
    pub presented: Option<Arc<Presented>>,
}

impl Version {
    /// As policies and their variables write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { min: Version::V12, max: Version::V13 }
    }
}

impl Versions {
    fn supported(self) -> Vec<&'static rustls::SupportedProtocolVersion> {
        let all = [(Version::V13, &rustls::version::TLS13), (Version::V12, &rustls::version::TLS12)];
        let allowed = all.into_iter().filter(|(version, _)| (self.min..=self.max).contains(version));
        allowed.map(|(_, version)| version).collect()
    }
}

impl Termination {
    /// `own` is the endpoint's own certificate, `clients` how those of clients are judged; without it they are not asked
    /// for any.
    #[must_use]
    pub fn new(versions: Versions, own: Option<Arc<CertifiedKey>>, clients: Option<ClientCheck>) -> Self {
        Self { versions, own, clients: clients.map(Arc::new), shared: OnceLock::new() }
    }

    /// The settings for one handshake; `certificates` are the gateway's, `protocols` what it chooses from by ALPN.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn prepare(
        &self,
        certificates: &Arc<Certificates>,
        protocols: Vec<Vec<u8>>,
    ) -> Result<Prepared, rustls::Error> {
        let Some(clients) = &self.clients else {
            let shared = match self.shared.get() {
                Some(shared) => shared,
                None => {
                    let mut config = self.config(certificates, None)?;
                    // A key of its own: what another endpoint, or an earlier state of this one, has issued opens nothing.
                    config.ticketer = ring::Ticketer::new()?;
                    self.shared.get_or_init(|| Arc::new(config))
                }
            };
            let config = if shared.alpn_protocols == protocols {
                Arc::clone(shared)
            } else {
                let mut config = ServerConfig::clone(shared);
                config.alpn_protocols = protocols;
                Arc::new(config)
            };
            return Ok(Prepared { config, presented: None });
        };
        // No sessions are resumed: a ticket would keep a certificate good that would be refused by now.
        let presented = Arc::new(Presented::default());
        let mut config = self.config(certificates, Some((clients, &presented)))?;
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols;
        Ok(Prepared { config: Arc::new(config), presented: Some(presented) })
    }

    fn config(
        &self,
        certificates: &Arc<Certificates>,
        clients: Option<(&Arc<ClientCheck>, &Arc<Presented>)>,
    ) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions.supported())?;
        let builder = match clients {
            Some((check, presented)) => builder.with_client_cert_verifier(check.verifier(presented)),
            None => builder.with_no_client_auth(),
        };
        Ok(match &self.own {
            Some(own) => builder.with_cert_resolver(Arc::new(Own(Arc::clone(own)))),
            None => builder.with_cert_resolver(Arc::<Certificates>::clone(certificates)),
        })
    }

    /// The certificate that a client which names this server is shown.
    #[must_use]
    pub fn certificate(&self, certificates: &Certificates, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        self.own.clone().or_else(|| certificates.find(name))
    }

    /// The newest version that it takes.
    pub(super) fn newest(&self) -> Version {
        self.versions.max
    }

    /// How clients are judged by their certificates, if they are.
    #[must_use]
    pub fn clients(&self) -> Option<&Arc<ClientCheck>> {
        self.clients.as_ref()
    }

    /// Tells whether a connection whose TLS has ended already, perhaps for another endpoint, is as protected as this one
    /// asks for.
    #[must_use]
    pub fn is_met_by(&self, session: &Session) -> bool {
        let Versions { min, max } = self.versions;
        let is_version = session.version() >= min && session.version() <= max;
        let is_checked = self.clients.as_ref().is_none_or(|check| session.check() == Some(check.digest()));
        is_version && is_checked
    }
}

/// Two are the same only if they are one.
impl PartialEq for Termination {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Termination {}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { versions, own, clients, .. } = self;
        f.debug_struct("Termination")
            .field("versions", versions)
            .field("own", &own.is_some())
            .field("clients", clients)
            .finish()
    }
}

/// Shows one certificate, whatever name the client asks for.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
