//! Which certificate a client is shown, and the TLS of agents and of visitors.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::certificate::Certificate;

/// Makes a certificate for a name that a client asks for. It is asked for each handshake, so it keeps what it makes, and
/// within bounds: names are what anybody may say.
pub type OnDemand = Arc<dyn Fn(&str) -> Option<Arc<CertifiedKey>> + Send + Sync>;

/// All certificates of the gateway. They can be replaced while it runs; connections that are up keep theirs.
pub struct Certificates {
    table: ArcSwap<Table>,
    obtained: ArcSwap<Obtained>,
    on_demand: Option<OnDemand>,
}

/// Certificates that an authority has issued to the gateway.
#[derive(Debug, Default)]
pub struct Obtained {
    /// By names in lower case. `None`: there is to be one and is none yet, so that no other is shown that is not valid for
    /// the name.
    pub by_name: HashMap<String, Option<Arc<CertifiedKey>>>,
    /// For those who name nothing, where the configuration has no certificate.
    pub first: Option<Arc<CertifiedKey>>,
}

/// Certificates by the names that they are for.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the `*.`, which stands for exactly one label.
    below: HashMap<String, Arc<CertifiedKey>>,
    /// For those who name nothing, or a name that no certificate is for.
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Takes the certificates of a configuration. The first one is the default.
    #[must_use]
    pub fn new(certificates: &[Certificate]) -> Arc<Self> {
        Self::from_keys(with_names(certificates), None)
    }

    /// Takes certificates with the DNS names that they are for; a leading `*.` stands for one label. The first one is the
    /// default. A name that none has for itself is offered to `on_demand` before a wildcard answers for it.
    pub fn from_keys<I>(certificates: I, on_demand: Option<OnDemand>) -> Arc<Self>
    where
        I: IntoIterator<Item = (Vec<String>, Arc<CertifiedKey>)>,
    {
        let table = ArcSwap::from_pointee(Table::new(certificates));
        Arc::new(Self { table, obtained: ArcSwap::default(), on_demand })
    }

    /// Puts others in their place, at once and for all handshakes that begin from now on.
    pub fn replace(&self, certificates: &[Certificate]) {
        self.table.store(Arc::new(Table::new(with_names(certificates))));
    }

    /// Puts what an authority has issued beside those of the configuration, in place of what it had issued before, at once
    /// and for all handshakes that begin from now on.
    pub fn set_obtained(&self, obtained: Obtained) {
        self.obtained.store(Arc::new(obtained));
    }

    /// The certificate for a name in lower case: that of the name itself, of a wildcard, or the default.
    #[must_use]
    pub fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let obtained = self.obtained.load();
        let first = || table.first.as_ref().or(obtained.first.as_ref()).cloned();
        let Some(name) = name else { return first() };
        if let Some(exact) = table.exact.get(name) {
            return Some(Arc::clone(exact));
        }
        let wanted = obtained.by_name.get(name);
        if let Some(Some(issued)) = wanted {
            return Some(Arc::clone(issued));
        }
        if let Some(made) = self.on_demand.as_ref().and_then(|make| make(name)) {
            return Some(made);
        }
        let wildcard = name.split_once('.').and_then(|(_, parent)| table.below.get(parent));
        match wildcard {
            Some(wildcard) => Some(Arc::clone(wildcard)),
            None if wanted.is_some() => None,
            None => first(),
        }
    }

    /// TLS towards agents: versions 1.2 and 1.3 and no application protocol, for agents offer none.
    ///
    /// # Errors
    ///
    /// The provider lacks a version.
    pub fn agents_tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.tls(&[])
    }

    /// TLS towards visitors of `https` endpoints: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    ///
    /// The provider lacks a version.
    pub fn https_tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.tls(&[b"h2", b"http/1.1"])
    }

    fn tls(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Tickets keep what resumption needs at the client, so that it costs no memory here.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        self.find(name.as_deref())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.load();
        let on_demand = self.on_demand.is_some();
        f.debug_struct("Certificates")
            .field("exact", &table.exact.keys())
            .field("below", &table.below.keys())
            .field("on_demand", &on_demand)
            .finish()
    }
}

impl Table {
    /// Of two certificates for one name the first one counts.
    fn new(certificates: impl IntoIterator<Item = (Vec<String>, Arc<CertifiedKey>)>) -> Self {
        let mut table = Self::default();
        for (names, key) in certificates {
            for name in names {
                match name.strip_prefix("*.") {
                    Some(parent) => table.below.entry(parent.to_owned()).or_insert_with(|| Arc::clone(&key)),
                    None => table.exact.entry(name).or_insert_with(|| Arc::clone(&key)),
                };
            }
            table.first.get_or_insert(key);
        }
        table
    }
}

fn with_names(certificates: &[Certificate]) -> impl Iterator<Item = (Vec<String>, Arc<CertifiedKey>)> {
    certificates.iter().map(|certificate| (certificate.names.clone(), Arc::clone(&certificate.certified)))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn certificate(names: &[&str]) -> (Vec<String>, Arc<CertifiedKey>) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        (names, Arc::new(CertifiedKey::from_der(chain, key, &ring::default_provider()).unwrap()))
    }

    #[test]
    fn exact_name_wins_then_the_wildcard_of_one_label_then_the_first() {
        let all =
            [certificate(&["connect.example.com"]), certificate(&["*.example.com"]), certificate(&["a.example.com"])];
        let certificates = Certificates::from_keys(all.clone(), None);
        for (name, expected) in [
            (None, 0),
            (Some("connect.example.com"), 0),
            (Some("a.example.com"), 2),
            (Some("b.example.com"), 1),
            (Some("a.b.example.com"), 0),
            (Some("example.com"), 0),
            (Some("localhost"), 0),
            (Some(""), 0),
        ] {
            let found = certificates.find(name).unwrap();
            assert!(Arc::ptr_eq(&found, &all[expected].1), "{name:?}");
        }
    }

    #[test]
    fn certificate_on_demand_comes_after_the_exact_and_before_the_wildcard() {
        let all = [certificate(&["a.localhost"]), certificate(&["*.localhost"])];
        let made = certificate(&["b.localhost"]).1;
        let on_demand: OnDemand = {
            let made = Arc::clone(&made);
            Arc::new(move |name| (name == "b.localhost").then(|| Arc::clone(&made)))
        };
        let certificates = Certificates::from_keys(all.clone(), Some(on_demand));
        for (name, expected) in [("a.localhost", &all[0].1), ("b.localhost", &made), ("c.localhost", &all[1].1)] {
            assert!(Arc::ptr_eq(&certificates.find(Some(name)).unwrap(), expected), "{name}");
        }
    }

    #[test]
    fn what_an_authority_issued_comes_after_the_exact_name_and_before_wildcard_and_first() {
        let all = [certificate(&["a.example.com"]), certificate(&["*.example.com"])];
        let issued = certificate(&["b.example.com"]).1;
        let certificates = Certificates::from_keys(all.clone(), None);
        let names = ["a.example.com", "b.example.com", "c.example.com", "d.example.org"];
        let by_name = names.map(|name| (name.to_owned(), (name < "c").then(|| Arc::clone(&issued))));
        let first = Some(Arc::clone(&issued));
        certificates.set_obtained(Obtained { by_name: by_name.into(), first: first.clone() });
        let finds = |name: &str, key: &Arc<CertifiedKey>| Arc::ptr_eq(&certificates.find(Some(name)).unwrap(), key);
        assert!(finds("a.example.com", &all[0].1) && finds("b.example.com", &issued));
        assert!(finds("c.example.com", &all[1].1), "the wildcard is valid for a name that waits");
        assert!(certificates.find(Some("d.example.org")).is_none(), "no other is shown for a name that waits");
        assert!(finds("e.example.org", &all[0].1));
        assert!(Arc::ptr_eq(&certificates.find(None).unwrap(), &all[0].1));

        let without_files = Certificates::from_keys([], None);
        without_files.set_obtained(Obtained { by_name: HashMap::new(), first });
        assert!(Arc::ptr_eq(&without_files.find(None).unwrap(), &issued));
        certificates.set_obtained(Obtained::default());
        assert!(finds("b.example.com", &all[1].1));
    }

    #[test]
    fn no_certificate_at_all_ends_the_handshake_and_not_the_program() {
        let certificates = Certificates::from_keys([], None);
        assert!(certificates.find(None).is_none() && certificates.find(Some("a.example.com")).is_none());
    }

    #[test]
    fn agents_are_offered_no_protocol_and_visitors_two() {
        let certificates = Certificates::from_keys([certificate(&["a.example.com"])], None);
        assert!(certificates.agents_tls().unwrap().alpn_protocols.is_empty());
        assert_eq!(certificates.https_tls().unwrap().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}
