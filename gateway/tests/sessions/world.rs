//! A gateway with two accounts, and its visitors.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::config::Config;
use adit_gateway::gateway::{Gateway, TcpPorts};
use adit_gateway::http::reach::{OpenError, PublicEndpoint, Reach, Target, Unreachable, Visitor};
use adit_gateway::identity_key::IdentityKey;
use adit_gateway::session::serve_agent;
use adit_gateway::stream::ProxyStream;
use adit_gateway::token::{CredentialId, Token};
use tokio::task::JoinHandle;

use crate::peer::Peer;
use crate::site::Site;

/// One gateway, the keys to it, and what its operator would write.
pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) ports: FakePorts,
    key: IdentityKey,
    site: Site,
    /// A token of the credential `site1` of the account `main`.
    pub(crate) site1: Token,
    /// A token of the credential `site2` of the account `main`.
    pub(crate) site2: Token,
    /// A token of the credential `other1` of the account `other`.
    pub(crate) other1: Token,
}

/// Ports that are said to be open.
#[derive(Clone, Default)]
pub(crate) struct FakePorts {
    /// Those that were opened and not closed.
    pub(crate) open: Arc<Mutex<BTreeSet<u16>>>,
    /// Those that other programs have.
    pub(crate) busy: Arc<Mutex<BTreeSet<u16>>>,
}

impl FakePorts {
    pub(crate) fn open_now(&self) -> Vec<u16> {
        self.open.lock().unwrap().iter().copied().collect()
    }
}

impl TcpPorts for FakePorts {
    fn open(&self, port: Option<u16>) -> io::Result<u16> {
        let port = port.unwrap_or(40_000);
        if self.busy.lock().unwrap().contains(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        assert!(self.open.lock().unwrap().insert(port), "opened twice");
        Ok(port)
    }

    fn close(&self, port: u16) {
        assert!(self.open.lock().unwrap().remove(&port), "closed without having been opened");
    }
}

/// What is different from the usual configuration.
#[derive(Clone, Default)]
pub(crate) struct Change {
    /// What follows `limits`, in YAML's flow style.
    pub(crate) limits: &'static str,
    /// Goes into the entry of `site1` in place of `allow_any: true`; `remove` leaves the entry out.
    pub(crate) site1: &'static str,
    /// Goes into the entry of the account `main`.
    pub(crate) main: &'static str,
    /// Replaces the listeners' section.
    pub(crate) listeners: &'static str,
    /// More sections.
    pub(crate) more: &'static str,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&Change::default())
    }

    pub(crate) fn with(change: &Change) -> Self {
        let token = |id: &str| Token::generate(&id.parse::<CredentialId>().unwrap()).unwrap();
        let (site1, site2, other1) = (token("site1"), token("site2"), token("other1"));
        let (site, key) = (Site::new(), IdentityKey::generate().unwrap());
        let text = Self::text(&[&site1, &site2, &other1], change);
        let (config, _) = Config::parse(&site.path("gateway.yml"), &text).unwrap();
        let (gateway, ports) = (Gateway::new(config, &key).unwrap(), FakePorts::default());
        gateway.set_tcp_ports(Box::new(ports.clone()));
        Self { gateway, ports, key, site, site1, site2, other1 }
    }

    /// The gateway's process is replaced: same key and configuration, nothing else survives.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&Change::default());
    }

    pub(crate) fn restart_with(&mut self, change: &Change) {
        self.gateway = Gateway::new(self.config(change), &self.key).unwrap();
        self.ports = FakePorts::default();
        self.gateway.set_tcp_ports(Box::new(self.ports.clone()));
    }

    pub(crate) fn reload(&self, change: &Change) {
        self.gateway.reload(self.config(change));
    }

    /// As the process does it, which keeps what a reload cannot change.
    pub(crate) fn reload_keeping(&self, change: &Change) {
        let mut config = self.config(change);
        config.keep_from(&self.gateway.config());
        self.gateway.reload(config);
    }

    /// Writes a file beside the configuration.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.site.write(name, text)
    }

    fn config(&self, change: &Change) -> Config {
        let text = Self::text(&[&self.site1, &self.site2, &self.other1], change);
        Config::parse(&self.site.path("gateway.yml"), &text).unwrap().0
    }

    fn text(tokens: &[&Token; 3], change: &Change) -> String {
        let Change { limits, site1, main, listeners, more } = change;
        let site1 = if site1.is_empty() { "allow_any: true" } else { site1 };
        let entry = |token: &Token, account: &str, rules: &str| {
            let (id, hash) = (token.credential_id(), token.hash());
            format!("  - {{id: {id}, account: {account}, hashes: ['{hash}'], {rules}}}\n")
        };
        let first = if *site1 == *"remove" { String::new() } else { entry(tokens[0], "main", site1) };
        let listeners = if listeners.is_empty() {
            "{agents: '127.0.0.1:7443', http: '127.0.0.1:7080', https: '127.0.0.1:8443', tls: '127.0.0.1:9443', \
             tcp: {addresses: '127.0.0.1', agent_ports: 20000-20003}}"
        } else {
            listeners
        };
        format!(
            "listeners: {listeners}\n\
             certificates: [{{certificate_file: certificate.pem, private_key_file: private-key.pem}}]\n\
             base_domain: apps.example.com\n\
             public_domains: ['*.example.com']\n\
             limits: {{{limits}}}\n\
             accounts:\n  - {{name: main, {main}}}\n  - {{name: other}}\n\
             credentials:\n{first}{}{}\
             {more}\n",
            entry(tokens[1], "main", "allow_any: true"),
            entry(tokens[2], "other", "allow_any: true"),
        )
    }

    /// Connects an agent.
    pub(crate) fn connect(&self) -> Peer {
        self.connect_from("192.0.2.1:40000").0
    }

    /// Connects an agent from somewhere; the task ends when the gateway has let go of the connection.
    pub(crate) fn connect_from(&self, address: &str) -> (Peer, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(LINK_LEN);
        let address: SocketAddr = address.parse().unwrap();
        let task = tokio::spawn(serve_agent(Arc::clone(&self.gateway), theirs, address));
        (Peer::new(ours), task)
    }

    /// Connects an agent and logs it in.
    pub(crate) async fn agent(&self, token: &Token) -> Peer {
        let mut peer = self.connect();
        peer.log_in(token.expose()).await;
        peer
    }

    pub(crate) fn internal(&self, account: &str, url: &str) -> Result<Target, Unreachable> {
        self.gateway.internal(account, &EndpointUrl::parse(url).unwrap())
    }

    pub(crate) fn public(&self, url: &str) -> Result<Target, Unreachable> {
        let url = EndpointUrl::parse(url).unwrap();
        match self.gateway.public(url.scheme(), url.host(), url.port())? {
            PublicEndpoint::Agent(target) => Ok(target),
            PublicEndpoint::Cloud(cloud) => panic!("{} is in the cloud", cloud.url),
        }
    }

    /// Opens a stream as a visitor of an internal endpoint.
    pub(crate) async fn visit(&self, account: &str, url: &str) -> ProxyStream {
        let target = self.internal(account, url).unwrap();
        self.open(&target).await.unwrap()
    }

    pub(crate) async fn open(&self, target: &Target) -> Result<ProxyStream, OpenError> {
        self.gateway.open(target, &visitor(), false).await
    }

    /// Waits until the gateway has so many sessions.
    pub(crate) async fn until_sessions(&self, count: usize) {
        for _ in 0..10_000 {
            if self.gateway.sessions() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{} sessions instead of {count}", self.gateway.sessions());
    }
}

/// The number of every visitor's connection.
pub(crate) const NUMBER: u64 = 9_007_199_254_740_991;

pub(crate) fn visitor() -> Visitor {
    let (peer, local) = ("198.51.100.7:50000".parse().unwrap(), "192.0.2.80:443".parse().unwrap());
    Visitor { peer, local, number: NUMBER }
}

/// Bytes that the pretended network holds in each direction.
const LINK_LEN: usize = 64 * 1024;
