//! What released agents have said, replayed against this gateway. Every release adds a folder to `data/transcripts`, and none is
//! ever changed: an agent that works stays where it is for years.
//!
//! A transcript is made with the agent as it is released, and with the gateway of the same version:
//!
//! ```sh
//! ADIT_AGENT=target/release/adit cargo test -p adit-gateway --test transcripts -- --ignored record
//! ```
//!
//! It has what went through the connection of the agent inside of TLS, in both directions, and what visitors asked and were
//! answered meanwhile. In a replay the agent's bytes are sent as they are, each once the gateway has said what it had said
//! before them then. Its answers have to have everything that the agent was given: the same members with the same values, but for
//! those that name a session. There may be more.

#![allow(clippy::unwrap_used)]

mod record;
mod replay;
#[allow(dead_code, reason = "not every test needs all of it")]
#[path = "../site/mod.rs"]
mod site;
mod stage;
mod streams;
mod transcript;
mod visits;

use std::fs;
use std::path::{Path, PathBuf};

use replay::Replay;
use stage::Stage;
use transcript::Transcript;

#[tokio::test]
async fn agents_of_every_release_are_served_as_they_were() {
    let mut releases: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    releases.sort_unstable();
    assert!(releases.contains(&folder().join("0.1.0")), "{releases:?}");
    for release in releases {
        let transcript = Transcript::parse(&fs::read_to_string(release.join("session.txt")).unwrap());
        println!("{}: {} events", release.display(), transcript.events.len());
        let stage = Stage::with_key(&fs::read_to_string(release.join("identity.key")).unwrap());
        Replay::of(&stage).run(&transcript).await;
    }
}

#[tokio::test]
#[should_panic(expected = "does not keep /Id")]
async fn gateway_with_another_key_does_not_pass() {
    let text = fs::read_to_string(folder().join("0.1.0/session.txt")).unwrap();
    Replay::of(&Stage::new()).run(&Transcript::parse(&text)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes the transcript of a release, once"]
async fn record() {
    let agent = std::env::var_os("ADIT_AGENT").expect("ADIT_AGENT names the agent to record");
    let folder = folder().join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(&folder).unwrap();
    let stage = Stage::new();
    let transcript = record::record(&stage, Path::new(&agent)).await;
    fs::write(folder.join("identity.key"), stage.key()).unwrap();
    fs::write(folder.join("session.txt"), transcript.to_text()).unwrap();
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts")
}
