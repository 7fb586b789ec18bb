//! The gateway that agents of all releases meet. What the file says here is what transcripts were made with: it stays.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use adit_gateway::config::Config;
use adit_gateway::gateway::Gateway;
use adit_gateway::identity_key::IdentityKey;

use crate::site::Site;

/// A gateway without sockets.
pub(crate) struct Stage {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) site: Site,
}

impl Stage {
    /// With a new identity key.
    pub(crate) fn new() -> Self {
        Self::at(Site::new())
    }

    /// With this identity key, on which the names depend that agents get.
    pub(crate) fn with_key(key: &str) -> Self {
        let site = Site::new();
        let file = site.write(KEY_FILE, key);
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        Self::at(site)
    }

    fn at(site: Site) -> Self {
        let (config, _) = Config::parse(&site.path("gateway.yml"), FILE).unwrap();
        let key = IdentityKey::load_or_create(&site.path(KEY_FILE)).unwrap();
        Self { gateway: Gateway::new(config, &key).unwrap(), site }
    }

    pub(crate) fn key(&self) -> String {
        fs::read_to_string(self.site.path(KEY_FILE)).unwrap()
    }
}

const KEY_FILE: &str = "identity.key";
/// For tests alone.
pub(crate) const TOKEN: &str = "adit_old-agent_i2d5v45qby4lchbuhtxsfbpjhqu2czmxgcunlvo7ogmbjo6thkqa";
const FILE: &str = "
listeners: {agents: '127.0.0.1:7443', http: '127.0.0.1:80', https: '127.0.0.1:443', tls: '127.0.0.1:443'}
certificates: [{certificate_file: certificate.pem, private_key_file: private-key.pem}]
public_domains: ['*.example.com']
credentials:
  - id: old-agent
    account: main
    hashes: ['sha256:bd716952ca483e1c4d3350ef35bb08766bee720c2e6b085a07069d741356dfc5']
    allow_any: true
";
/// How long anything may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
