//! Orders and revocations while a file does not answer: it is a pipe into which nobody has written yet.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::*;

const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// For what takes no time at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files of a gateway.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
        fs::write(site.path("certificate.pem"), made.cert.pem()).unwrap();
        fs::write(site.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::create_dir(site.path("sites")).unwrap();
        fs::set_permissions(site.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text() -> String {
        format!(
            "listeners: {{agents: '127.0.0.1:0'}}\n\
             certificates: [{{certificate_file: certificate.pem, private_key_file: key.pem}}]\n\
             admin: {{socket: admin.sock}}\n\
             credentials_directory: sites\n\
             credentials: [{{id: listed, hashes: ['{HASH}'], allow_any: true}}]\n"
        )
    }

    fn config(&self) -> Config {
        Config::parse(&self.path("gateway.yml"), &Self::text()).unwrap().0
    }

    fn pipe(&self, name: &str) {
        assert!(Command::new("mkfifo").arg(self.path(name)).status().unwrap().success());
    }
}

async fn ask(socket: PathBuf, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Opens a pipe once somebody reads it.
async fn open_pipe(file: &Path) -> fs::File {
    let file = file.to_owned();
    spawn_blocking(move || OpenOptions::new().write(true).open(file).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_ends_while_its_configuration_does_not_answer() {
    let site = Site::new();
    site.pipe("gateway.yml");
    let running = tokio::spawn(run(site.config(), LogControl::default()));
    while !site.path("admin.sock").exists() {
        tokio::task::yield_now().await;
    }
    let socket = site.path("admin.sock");
    let reload = tokio::spawn(async move { ask(socket, "POST /v1/reload").await });
    let pipe = open_pipe(&site.path("gateway.yml")).await;
    let drained = ask(site.path("admin.sock"), "POST /v1/drain?all=true").await;
    assert!(drained.starts_with("HTTP/1.1 202 "), "{drained}");
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    let reloaded = reload.await.unwrap();
    assert!(reloaded.is_empty() || reloaded.starts_with("HTTP/1.1 503 "), "{reloaded}");
    drop(pipe);
}

#[tokio::test]
async fn who_asks_during_a_reload_waits_for_the_next_within_the_bound() {
    let site = Site::new();
    site.pipe("gateway.yml");
    let key = IdentityKey::load_or_create(&site.path("identity.key")).unwrap();
    let gateway = Gateway::new(site.config(), &key).unwrap();
    let mut reloads = Reloads::none();
    let admin = || {
        let (done, outcome) = oneshot::channel();
        (Asker::Admin { by: "somebody".to_owned(), done }, outcome)
    };
    for _ in 0..3 {
        reloads.ask(Asker::Signal, &gateway);
    }
    assert_eq!(reloads.counts(), (1, 1), "what two signals say is said once");
    let mut waiting = Vec::new();
    for _ in 1..reloads::LATER_MAX {
        let (asker, outcome) = admin();
        reloads.ask(asker, &gateway);
        waiting.push(outcome);
    }
    assert_eq!(reloads.counts(), (1, reloads::LATER_MAX));
    let (asker, mut refused) = admin();
    reloads.ask(asker, &gateway);
    assert!(refused.try_recv().unwrap().unwrap_err()[0].contains("too many others wait"));
    assert!(waiting.iter_mut().all(|outcome| outcome.try_recv().is_err()), "they wait");
    // The reading ends with the pipe.
    drop(open_pipe(&site.path("gateway.yml")).await);
    reloads.done().await.unwrap();
}
