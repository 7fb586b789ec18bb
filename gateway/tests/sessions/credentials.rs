//! Credentials in a directory, their ends and their limits, as agents and visitors notice them.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use adit_gateway::credentials::watch::Watch;
use adit_gateway::http::reach::OpenError;
use adit_gateway::stream::ProxyStream;
use adit_gateway::token::Token;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::peer::{AUTH, FIN, Peer, auth};
use crate::world::{Change, World};

const APP: &str = "https://app.internal";
const DIRECTORY: Change =
    Change { limits: "", site1: "", main: "", listeners: "", more: "credentials_directory: sites" };

/// A gateway with a directory, in which one site has its file.
struct Sites {
    world: World,
    watch: Watch,
    token: Token,
    file: PathBuf,
}

impl Sites {
    fn new() -> Self {
        let world = World::new();
        let token = Token::generate(&"site3".parse().unwrap()).unwrap();
        let file = world.write("sites/site3.yml", &Self::text(&token, ""));
        world.reload(&DIRECTORY);
        let watch = Watch::new(&world.gateway);
        Self { world, watch, token, file }
    }

    fn text(token: &Token, more: &str) -> String {
        format!("id: {}\nhashes: ['{}']\nallow_any: true\n{more}\n", token.credential_id(), token.hash())
    }

    /// Writes the file as an editor does that keeps it whole.
    fn write(&self, more: &str) {
        let new = self.world.write("sites/.new", &Self::text(&self.token, more));
        fs::rename(new, &self.file).unwrap();
    }

    /// Lets the gateway look for as long as a change may take to be in force.
    async fn look(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while let Ok(step) = tokio::time::timeout_at(deadline, self.watch.next()).await {
            self.watch.take(step, &self.world.gateway);
        }
    }
}

/// Does something to the file of a site that is online, and expects its sessions and streams, and only those, to end.
async fn assert_ends_the_site(change: impl FnOnce(&Sites)) {
    let mut sites = Sites::new();
    let mut peer = sites.world.agent(&sites.token).await;
    peer.bind(APP).await;
    let mut bystander = sites.world.agent(&sites.world.other1).await;
    bystander.bind(APP).await;
    let mut stream = sites.world.visit("main", APP).await;
    peer.visit().await;
    let mut other_stream = sites.world.visit("other", APP).await;
    let other_visit = bystander.visit().await;
    sites.look().await;
    assert_eq!(sites.world.gateway.sessions(), 2, "nothing has changed yet");

    change(&sites);
    sites.look().await;
    assert_eq!(sites.world.gateway.sessions(), 1);
    assert!(sites.world.internal("main", APP).is_err());
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (_, text) = peer.until_closed().await.unwrap();
    assert!(text.contains("ERR_NGROK_300"), "{text}");
    assert_eq!(sites.world.connect().refused(AUTH, &auth(sites.token.expose())).await, 107);

    bystander.data(other_visit.id, FIN, b"still here").await;
    let mut answer = String::new();
    other_stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "still here");
}

#[tokio::test(start_paused = true)]
async fn site_whose_file_is_removed_is_cut_off_within_a_second() {
    assert_ends_the_site(|sites| fs::remove_file(&sites.file).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn site_that_is_revoked_is_cut_off_within_a_second() {
    assert_ends_the_site(|sites| sites.write("revoked: true")).await;
}

#[tokio::test(start_paused = true)]
async fn site_whose_time_is_over_is_cut_off_within_a_second() {
    assert_ends_the_site(|sites| sites.write("not_after: 2020-12-31")).await;
}

#[tokio::test]
async fn session_ends_when_the_end_of_its_credential_comes() {
    // In real time: the end is one of the system's clock.
    let mut sites = Sites::new();
    let end = OffsetDateTime::now_utc() + Duration::from_secs(2);
    sites.write(&format!("not_after: '{}'", end.format(&time::format_description::well_known::Rfc3339).unwrap()));
    sites.look().await;
    let mut peer = sites.world.agent(&sites.token).await;
    assert_eq!(sites.world.gateway.sessions(), 1);
    while OffsetDateTime::now_utc() <= end {
        let step = sites.watch.next().await;
        sites.watch.take(step, &sites.world.gateway);
    }
    sites.look().await;
    assert_eq!(sites.world.gateway.sessions(), 0);
    assert!(peer.until_closed().await.unwrap().1.contains("ERR_NGROK_300"));
}

#[tokio::test(start_paused = true)]
async fn new_site_gets_in_within_a_second_and_a_broken_file_changes_nothing() {
    let mut sites = Sites::new();
    let token = Token::generate(&"site4".parse().unwrap()).unwrap();
    sites.world.write("sites/site4.yml", &Sites::text(&token, ""));
    sites.look().await;
    let _agent = sites.world.agent(&token).await;
    sites.world.write("sites/site4.yml", "id: site4\nhash");
    sites.look().await;
    assert_eq!(sites.world.gateway.sessions(), 1);
    sites.world.reload(&DIRECTORY);
    sites.look().await;
    assert_eq!(sites.world.gateway.sessions(), 0, "a reading of everything begins anew, unless it keeps what was");
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_the_credential_of_a_broken_file() {
    let sites = Sites::new();
    let _agent = sites.world.agent(&sites.token).await;
    sites.world.write("sites/site3.yml", "id: site3\nhash");
    sites.world.reload_keeping(&DIRECTORY);
    assert_eq!(sites.world.gateway.sessions(), 1);
    fs::remove_file(&sites.file).unwrap();
    sites.world.reload_keeping(&DIRECTORY);
    assert_eq!(sites.world.gateway.sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn streams_of_all_sessions_of_a_credential_are_counted_together() {
    let world = World::with(&Change { site1: "allow_any: true, limits: {streams_max: 3}", ..Change::default() });
    let (mut one, mut two) = (world.agent(&world.site1).await, world.agent(&world.site1).await);
    one.bind(APP).await;
    two.bind("https://two.internal").await;
    let (app, other) = (world.internal("main", APP).unwrap(), world.internal("main", "https://two.internal").unwrap());
    let streams = [world.open(&app).await.unwrap(), world.open(&app).await.unwrap(), world.open(&other).await.unwrap()];
    assert_eq!(world.open(&other).await.unwrap_err(), OpenError::Limited);
    let mut bystander = world.agent(&world.site2).await;
    bystander.bind("https://three.internal").await;
    let _free = world.visit("main", "https://three.internal").await;
    drop(streams);
    let _again = world.open(&app).await.unwrap();
    world.reload(&Change { site1: "allow_any: true, limits: {streams_max: 1}", ..Change::default() });
    assert_eq!(world.open(&app).await.unwrap_err(), OpenError::Limited, "a reload changes what sessions may do");
}

#[tokio::test(start_paused = true)]
async fn new_streams_come_as_fast_as_they_may() {
    let limited = Change { site1: "allow_any: true, limits: {new_streams_per_second_max: 4}", ..Change::default() };
    let world = World::with(&limited);
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let app = world.internal("main", APP).unwrap();
    for _ in 0..4 {
        world.open(&app).await.unwrap();
    }
    assert_eq!(world.open(&app).await.unwrap_err(), OpenError::Limited);
    tokio::time::sleep(Duration::from_millis(251)).await;
    world.open(&app).await.unwrap();
    assert_eq!(world.open(&app).await.unwrap_err(), OpenError::Limited);
}

#[tokio::test(start_paused = true)]
async fn visitor_whose_stream_is_opened_once_more_counts_once() {
    let limited = Change { site1: "allow_any: true, limits: {new_streams_per_second_max: 1}", ..Change::default() };
    let world = World::with(&limited);
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let app = world.internal("main", APP).unwrap();
    let (opened, ()) = tokio::join!(world.open(&app), async {
        let first = peer.visit().await;
        peer.data(first.id, FIN, b"").await;
        peer.visit().await;
    });
    assert!(opened.is_ok(), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_of_both_directions_share_the_bandwidth_and_others_are_not_held() {
    let limited = Change { site1: "allow_any: true, limits: {bytes_per_second_max: 64KiB}", ..Change::default() };
    let world = World::with(&limited);
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    let mut stream = world.visit("main", APP).await;
    let visit = peer.visit().await;
    let before = Instant::now();
    let half = vec![7; 96 << 10];
    peer.data(visit.id, FIN, &half[..60 << 10]).await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let took = before.elapsed().as_millis();
    assert!((700..=1000).contains(&took), "60 KiB took {took} ms");
    write_while_read(&mut stream, &half, &mut peer).await;
    let took = before.elapsed().as_millis();
    assert!((2100..=2500).contains(&took), "156 KiB took {took} ms");

    world.reload(&Change::default());
    let before = Instant::now();
    write_while_read(&mut stream, &half, &mut peer).await;
    let took = before.elapsed().as_millis();
    assert!(took < 400, "without a limit it took {took} ms");
}

async fn write_while_read(stream: &mut ProxyStream, bytes: &[u8], peer: &mut Peer) {
    let reading = async { while peer.next().await.is_some() {} };
    tokio::select! {
        written = stream.write_all(bytes) => written.unwrap(),
        () = reading => panic!("the gateway has closed the link"),
    }
}
