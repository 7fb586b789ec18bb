//! A place for a gateway's files: a private directory with certificates, as an operator would have.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

/// The directory; it goes away with the value.
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    /// Makes `certificate.pem` and `private-key.pem` for the names of the example: `connect.example.com`,
    /// `*.example.com` and `*.apps.example.com`.
    pub(crate) fn new() -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        site.write_certificate("", &["connect.example.com", "*.example.com", "*.apps.example.com"], |_| ());
        site
    }

    /// Makes `<prefix>certificate.pem` and `<prefix>private-key.pem`.
    pub(crate) fn write_certificate(
        &self,
        prefix: &str,
        names: &[&str],
        adjust: impl FnOnce(&mut rcgen::CertificateParams),
    ) {
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2200, 1, 1);
        adjust(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        self.write(&format!("{prefix}certificate.pem"), &params.self_signed(&key).unwrap().pem());
        let key_file = self.write(&format!("{prefix}private-key.pem"), &key.serialize_pem());
        fs::set_permissions(key_file, Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes a file, and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The least that works: one socket for agents.
pub(crate) const SMALLEST: &str = "
listeners: {agents: '127.0.0.1:0'}
certificates: [{certificate_file: certificate.pem, private_key_file: private-key.pem}]
credentials: [{id: site1, hashes: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'], allow_any: true}]
";
