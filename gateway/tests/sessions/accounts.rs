//! Two accounts cannot touch each other, tried by every message of the wire.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{AUTH, BIND, BIND_LABELED, FIN, PATCH, Peer, SYN, UNBIND, auth, auth_again, bind, bind_again, code};
use crate::world::{Change, World};

const APP: &str = "https://app.internal";

/// The account `main` has an endpoint online; `other` knows everything of it that was ever on the wire.
struct Scene {
    world: World,
    victim: Peer,
    log_in: serde_json::Value,
    request: serde_json::Value,
    bound: serde_json::Value,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let mut victim = world.connect();
        let log_in = victim.log_in(world.site1.expose()).await;
        let bound = victim.bind(APP).await;
        Self { world, victim, log_in, request: bind(APP), bound }
    }

    fn id(&self) -> &str {
        self.bound["Id"].as_str().unwrap()
    }

    /// The victim's visitors reach the victim and nobody else.
    async fn assert_untouched(&mut self) {
        let mut stream = self.world.visit("main", APP).await;
        let visit = self.victim.visit().await;
        assert_eq!(visit.header["Id"], self.bound["Id"]);
        stream.write_all(b"ping").await.unwrap();
        assert_eq!(self.victim.take(visit.id, 4).await, b"ping");
        self.victim.data(visit.id, FIN, b"pong").await;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"pong");
        assert_eq!(self.world.gateway.sessions(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn both_accounts_have_the_same_name_and_see_only_their_own() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    assert!(scene.world.internal("other", APP).is_err());
    other.bind(APP).await;
    let _stream = scene.world.visit("other", APP).await;
    other.visit().await;
    scene.assert_untouched().await;
    assert!(!other.has_visit());
}

#[tokio::test(start_paused = true)]
async fn foreign_identity_gives_a_new_session_and_no_takeover() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.connect();
    let reply = other.call(AUTH, &auth_again(scene.world.other1.expose(), &scene.log_in)).await;
    assert_eq!(code(&reply), None);
    assert_ne!(reply["ClientId"], scene.log_in["ClientId"]);
    assert_ne!(reply["Extra"]["Cookie"], scene.log_in["Extra"]["Cookie"]);
    assert_eq!(reply["Extra"]["AccountName"], "other");
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn identity_of_another_credential_of_the_same_account_is_worth_nothing_either() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.connect();
    let reply = other.call(AUTH, &auth_again(scene.world.site2.expose(), &scene.log_in)).await;
    assert_ne!(reply["ClientId"], scene.log_in["ClientId"]);
    assert_eq!(other.refused(BIND, &bind_again(&scene.request, &scene.bound)).await, 334);
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn foreign_bind_id_and_token_give_an_endpoint_of_ones_own() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    let reply = other.call(BIND, &bind_again(&scene.request, &scene.bound)).await;
    assert_eq!(code(&reply), None, "{reply}");
    assert_eq!(reply["Id"], scene.bound["Id"], "agents insist on the Id they ask for");
    assert_ne!(reply["Extra"]["Token"], scene.bound["Extra"]["Token"]);
    other.beat().await;
    tokio::time::sleep(Duration::from_millis(6)).await;
    let target = scene.world.internal("other", APP).unwrap();
    assert_eq!(&*target.account, "other");
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn unbind_of_a_foreign_id_succeeds_and_does_nothing() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    let reply = other.call(UNBIND, &json!({"Id": scene.id()})).await;
    assert_eq!(code(&reply), None);
    // Also with an endpoint of one's own under that Id.
    other.call(BIND, &bind_again(&scene.request, &scene.bound)).await;
    other.call(UNBIND, &json!({"Id": scene.id()})).await;
    assert!(scene.world.internal("other", APP).is_err());
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn patch_of_a_foreign_endpoint_is_refused() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    let patch = json!({"TunnelId": scene.bound["Extra"]["TunnelID"], "PoolingEnabled": true, "TrafficPolicy": ""});
    assert_eq!(other.refused(PATCH, &patch).await, 333);
    let mut second = scene.world.agent(&scene.world.site2).await;
    assert_eq!(second.refused(PATCH, &patch).await, 333);
    let mut pooled = bind(APP);
    pooled["Extra"]["PoolingEnabled"] = json!(true);
    assert_eq!(second.refused(BIND, &pooled).await, 334, "it is not pooled");
    drop(second);
    scene.world.until_sessions(2).await;
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn public_names_of_an_account_are_not_for_others_online_or_kept() {
    let mut scene = Scene::new().await;
    scene.victim.bind("https://www.example.com").await;
    scene.victim.bind("tcp://apps.example.com:20001").await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    let attempts = ["https://www.example.com", "http://www.example.com", "tcp://apps.example.com:20001"];
    for url in attempts {
        let mut pooled = bind(url);
        pooled["Extra"]["PoolingEnabled"] = json!(true);
        assert_eq!(other.refused(BIND, &pooled).await, 334, "{url}");
    }
    drop(scene.victim);
    scene.world.until_sessions(1).await;
    for url in attempts {
        assert_eq!(other.refused(BIND, &bind(url)).await, 334, "{url}");
    }
    assert!(scene.world.public("https://www.example.com").is_err());
}

#[tokio::test(start_paused = true)]
async fn streams_of_types_that_only_the_gateway_opens_reach_nobody() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    let header = json!({"Id": scene.id(), "ClientAddr": "1.2.3.4:5", "Proto": "https", "EdgeType": "0", "PassthroughTLS": false});
    let header = header.to_string();
    for kind in [3, 4, 5, 6, 9, 11, 0xffff_fffe] {
        let id = other.open(kind).await;
        if kind == 3 {
            other.data(id, 0, &i64::try_from(header.len()).unwrap().to_le_bytes()).await;
        }
        other.data(id, 0, header.as_bytes()).await;
        let reply = other.answer(id).await;
        assert!(code(&reply).is_some(), "{kind}: {reply}");
    }
    let reply = other.call(BIND_LABELED, &json!({"Labels": {"a": "b"}, "ForwardsTo": "x"})).await;
    assert!(code(&reply).is_some());
    assert!(!scene.victim.has_visit());
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn frames_for_the_streams_of_another_link_touch_only_ones_own() {
    let mut scene = Scene::new().await;
    let mut stream = scene.world.visit("main", APP).await;
    let visit = scene.victim.visit().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    other.data(visit.id, 0, b"forged").await;
    other.data(visit.id, FIN, b"").await;
    other.reset(visit.id, 0xa001).await;
    other.beat().await;
    scene.victim.data(visit.id, FIN, b"real").await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"real");
    drop(stream);
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn end_of_one_account_session_leaves_the_other_alone() {
    let mut scene = Scene::new().await;
    let mut other = scene.world.agent(&scene.world.other1).await;
    other.data(2, SYN, b"an id of the gateway's side").await;
    let (code, _) = other.until_closed().await.unwrap();
    assert_eq!(code, 1);
    scene.world.until_sessions(1).await;
    let _another = scene.world.agent(&scene.world.other1).await;
    scene.assert_untouched().await;
    let mut third = scene.world.connect();
    third.refused(AUTH, &auth("wrong")).await;
    scene.assert_untouched().await;
}

#[tokio::test(start_paused = true)]
async fn policy_of_an_agent_forwards_only_to_what_its_credential_may_bind() {
    let world = World::with(&Change { site1: "acl: ['bind:*.site1.internal']", ..Change::default() });
    let mut peer = world.agent(&world.site1).await;
    let forward =
        |url| json!(format!("on_http_request: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]"));
    let mut request = bind("https://app.site1.internal");
    request["Opts"]["TrafficPolicy"] = forward("https://api.site2.internal");
    assert_eq!(peer.refused(BIND, &request).await, 316);
    assert!(world.internal("main", "https://app.site1.internal").is_err());
    request["Opts"]["TrafficPolicy"] = forward("https://api.site1.internal");
    let bound = peer.call(BIND, &request).await;
    assert_eq!(code(&bound), None, "{bound}");
    let tunnel = &bound["Extra"]["TunnelID"];
    let patch = json!({"TunnelId": tunnel, "TrafficPolicy": forward("https://api.site2.internal")});
    assert_eq!(peer.refused(PATCH, &patch).await, 316);
    let patch = json!({"TunnelId": tunnel, "TrafficPolicy": forward("https://other.site1.internal")});
    assert_eq!(code(&peer.call(PATCH, &patch).await), None);
}
