//! Notices that the files of certificates have changed, without a signal.
//!
//! A pair is read again once its files have looked the same at two looks in a row: certificate and key are written one
//! after the other. A pair that does not fit keeps the one before in use, and is told once for each state of the files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::config::certificate::Certificate;

/// Looks after the files of a configuration's certificates.
#[derive(Debug, Default)]
pub struct CertificateWatch(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    /// What is in use.
    certificate: Certificate,
    /// The files as they were read last, whether they were fit for use or not.
    read: Stamp,
    /// The files as they looked at the last look.
    seen: Stamp,
}

/// What one look has found.
#[derive(Debug, Default)]
pub struct Found {
    /// All certificates, if one of them has changed.
    pub certificates: Option<Vec<Certificate>>,
    /// What has changed, for the log.
    pub changed: Vec<String>,
    /// What cannot be used, for the log.
    pub problems: Vec<String>,
}

/// Tells one state of the files of a certificate from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([Option<FileStamp>; 3]);

/// Device, inode, length, and when the content and when anything was changed last: seconds and nanoseconds. Whoever copies times
/// along, as `cp -p` does, sets the former, and cannot set the latter.
pub(crate) type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl CertificateWatch {
    /// Watches the files of these certificates, which have just been read.
    #[must_use]
    pub fn new(certificates: &[Certificate]) -> Self {
        let watched = certificates.iter().map(|certificate| {
            let stamp = Stamp::of(certificate);
            Watched { certificate: certificate.clone(), read: stamp.clone(), seen: stamp }
        });
        Self(watched.collect())
    }

    /// The certificates that are in use.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter().map(|watched| &watched.certificate)
    }

    /// Looks at all files once.
    pub fn look(&mut self) -> Found {
        let mut found = Found::default();
        for watched in &mut self.0 {
            watched.look(&mut found);
        }
        if !found.changed.is_empty() {
            found.certificates = Some(self.0.iter().map(|watched| watched.certificate.clone()).collect());
        }
        found
    }
}

impl Watched {
    fn look(&mut self, found: &mut Found) {
        let stamp = Stamp::of(&self.certificate);
        let is_settled = stamp == self.seen;
        self.seen = stamp.clone();
        // What an authority said goes out of date while its file stays as it is.
        if !self.certificate.has_stale_ocsp() && (stamp == self.read || !is_settled) {
            return;
        }
        self.read = stamp;
        let name = self.certificate.certificate_file.display().to_string();
        match self.certificate.read_again() {
            Ok((certificate, problem)) => {
                self.certificate = certificate;
                found.changed.push(name);
                found.problems.extend(problem);
            }
            Err(problem) => found.problems.push(format!("{problem}; the certificate of before stays in use")),
        }
    }
}

impl Stamp {
    fn of(certificate: &Certificate) -> Self {
        let files =
            [Some(&certificate.certificate_file), Some(&certificate.private_key_file), certificate.ocsp_file.as_ref()];
        Self(files.map(|file| file.and_then(|file| file_stamp(file))))
    }
}

/// The stamp of a file, or of what a symbolic link leads to. `None`: it cannot be looked at.
pub(crate) fn file_stamp(file: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(file).ok()?;
    let written = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.dev(), metadata.ino(), metadata.len(), written, changed))
}

/// How often files are looked at: a renewed certificate is in use after two looks. A look costs one system call a file.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;

    /// The files of one certificate, and the configuration that names them.
    struct Files(TempDir);

    impl Files {
        fn new() -> (Self, Config) {
            let files = Self(tempfile::tempdir().unwrap());
            files.write(&["a.example.com"], true);
            let text = "
                listeners: {agents: '127.0.0.1:0'}
                certificates: [{certificate_file: certificate.pem, private_key_file: key.pem}]
            ";
            let config = Config::parse(&files.path("gateway.yml"), text).unwrap().0;
            (files, config)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Writes a new certificate, and its key if that is wanted.
        fn write(&self, names: &[&str], with_key: bool) {
            let made = rcgen::generate_simple_self_signed(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
            let made = made.unwrap();
            fs::write(self.path("new"), made.cert.pem()).unwrap();
            fs::rename(self.path("new"), self.path("certificate.pem")).unwrap();
            if with_key {
                fs::write(self.path("new"), made.signing_key.serialize_pem()).unwrap();
                fs::rename(self.path("new"), self.path("key.pem")).unwrap();
            }
        }
    }

    #[test]
    fn renewed_pair_is_read_once_it_has_settled() {
        let (files, config) = Files::new();
        let mut watch = CertificateWatch::new(&config.certificates);
        assert!(watch.look().certificates.is_none());
        files.write(&["b.example.com"], true);
        assert!(watch.look().certificates.is_none(), "it may still be in the making");
        let found = watch.look();
        assert_eq!(found.certificates.unwrap()[0].names, ["b.example.com"]);
        assert_eq!((found.changed.len(), found.problems.len()), (1, 0));
        assert!(watch.look().certificates.is_none());
    }

    #[test]
    fn file_of_the_same_length_and_time_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let link = folder.path().join("link");
        let write = |file: &Path, text: &str, at| {
            fs::write(file, text).unwrap();
            fs::File::options().append(true).open(file).unwrap().set_modified(at).unwrap();
        };
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        write(&first, "one", at);
        write(&second, "two", at);
        std::os::unix::fs::symlink(&first, &link).unwrap();
        let stamp = file_stamp(&link);
        assert!(stamp.is_some() && stamp == file_stamp(&first));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&second, &link).unwrap();
        assert_ne!(file_stamp(&link), stamp, "the link leads elsewhere");
        // Clocks of file systems have ticks of some milliseconds.
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while file_stamp(&first) == stamp {
            assert!(std::time::Instant::now() < end, "what was written over it, with its time of before, is not seen");
            write(&first, "two", at);
        }
    }

    #[test]
    fn broken_pair_keeps_the_old_one_and_is_told_once_until_it_is_mended() {
        let (files, config) = Files::new();
        let mut watch = CertificateWatch::new(&config.certificates);
        files.write(&["b.example.com"], false);
        watch.look();
        let found = watch.look();
        assert!(found.certificates.is_none());
        assert!(found.problems[0].contains("key.pem: is not the key of"), "{:?}", found.problems);
        for _ in 0..3 {
            assert_eq!(watch.look().problems.len(), 0);
        }
        fs::remove_file(files.path("key.pem")).unwrap();
        watch.look();
        assert!(watch.look().problems[0].contains("cannot be read"));
        files.write(&["c.example.com"], true);
        watch.look();
        assert_eq!(watch.look().certificates.unwrap()[0].names, ["c.example.com"]);
    }
}
