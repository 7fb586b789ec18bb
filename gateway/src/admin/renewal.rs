//! TLS of the admin listener as its files have it: what it shows and whom it lets in, without a restart.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::certificate_watch::{FileStamp, LOOK_INTERVAL, file_stamp};
use crate::config::admin::AdminTls;
use crate::gateway::Gateway;

/// TLS for connections that come from now on, and by which those that are there are judged once more.
pub(super) type Current = watch::Receiver<Arc<AdminTls>>;

/// The files of the listener.
#[derive(Debug)]
struct Watched {
    /// What is in use.
    tls: AdminTls,
    /// The files as they were read last, whether they were fit for use or not.
    read: Stamp,
    /// The files as they looked at the last look.
    seen: Stamp,
}

/// Certificate, key, the authority's word on it, and the authorities of clients.
type Stamp = [Option<FileStamp>; 4];

/// What one look has found.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Same,
    /// Others are in use now; what is wrong with the authority's word comes along.
    Renewed(Option<String>),
    /// What there is cannot be used.
    Unusable(String),
}

/// Waits until a client would not get in any more with its certificates, its own first: nobody else has changed them, but whom
/// the files let in.
pub(super) async fn until_refused(chain: &[CertificateDer<'static>], mut current: Current) {
    let Some((own, others)) = chain.split_first() else { return };
    loop {
        // Others may be in force already since the handshake.
        let clients = Arc::clone(&current.borrow_and_update().clients);
        if clients.verify_client_cert(own, others, UnixTime::now()).is_err() {
            return;
        }
        if current.changed().await.is_err() {
            // The files are not watched any more.
            return std::future::pending().await;
        }
    }
}

/// Keeps what is current as the files are, and tells when the certificate ends, until it is dropped.
pub(super) async fn keep(tls: AdminTls, renewed: watch::Sender<Arc<AdminTls>>, gateway: Arc<Gateway>) {
    let mut watched = Watched::new(tls);
    loop {
        let certificate = &watched.tls.certificate;
        gateway.events().certificate(&certificate.certificate_file.display().to_string(), certificate.ends_at_unix);
        sleep(LOOK_INTERVAL).await;
        // A disk may not answer.
        let looked = tokio::task::spawn_blocking(move || {
            let found = watched.look();
            (watched, found)
        });
        let found;
        (watched, found) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!("admin.tls is not watched any more until a restart: {error}");
                return;
            }
        };
        match found {
            Look::Same => {}
            Look::Renewed(problem) => {
                renewed.send_replace(Arc::new(watched.tls.clone()));
                tracing::info!("admin.tls was read again and is in use");
                problem.into_iter().for_each(|problem| tracing::error!("{problem}"));
            }
            Look::Unusable(problem) => tracing::error!("{problem}; admin.tls of before stays in use"),
        }
    }
}

impl Watched {
    /// For files that have just been read.
    fn new(tls: AdminTls) -> Self {
        let stamp = stamp(&tls);
        Self { tls, read: stamp, seen: stamp }
    }

    /// Files are read once they have looked the same at two looks in a row: they are written one after the other.
    fn look(&mut self) -> Look {
        let stamp = stamp(&self.tls);
        let is_settled = stamp == self.seen;
        self.seen = stamp;
        let was_read = stamp == self.read;
        // What an authority said goes out of date while its file stays as it is.
        if !is_settled || (was_read && !self.tls.certificate.has_stale_ocsp()) {
            return Look::Same;
        }
        self.read = stamp;
        match self.tls.read_again() {
            Ok((tls, problem)) => {
                self.tls = tls;
                Look::Renewed(problem)
            }
            // It was told when they were read first.
            Err(_) if was_read => Look::Same,
            Err(problem) => Look::Unusable(problem),
        }
    }
}

fn stamp(tls: &AdminTls) -> Stamp {
    let certificate = &tls.certificate;
    let files: [Option<&Path>; 4] = [
        Some(&certificate.certificate_file),
        Some(&certificate.private_key_file),
        certificate.ocsp_file.as_deref(),
        Some(&tls.client_ca_file),
    ];
    files.map(|file| file.and_then(file_stamp))
}

#[cfg(test)]
pub(super) mod tests;
