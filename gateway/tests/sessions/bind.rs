//! Bringing endpoints online, changing them and taking them offline.

use std::time::Duration;

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit_gateway::http::reach::{OpenError, Reach};
use adit_gateway::policy::{Connection, Position, Request, State, Tls, Verdict};
use serde_json::{Value, json};

use crate::peer::{BIND, BIND_LABELED, FIN, PATCH, Peer, UNBIND, bind, bind_again, code};
use crate::world::{Change, World};

/// A Bind with other options than the usual.
fn bind_with(proto: &str, opts: Value) -> Value {
    let mut request = bind("https://x.internal");
    request["Proto"] = json!(proto);
    request["Opts"] = opts;
    request
}

async fn settle(peer: &mut Peer) {
    peer.beat().await;
    tokio::time::sleep(Duration::from_millis(6)).await;
}

#[tokio::test(start_paused = true)]
async fn every_spelling_of_an_address_is_understood_and_echoed() {
    let world = World::new();
    for (proto, opts, url) in [
        ("https", json!({"URL": "https://app.internal", "Domain": "", "Hostname": ""}), "https://app.internal"),
        ("https", json!({"Domain": "app.internal", "Hostname": "", "Auth": ""}), "https://app.internal"),
        ("https", json!({"Hostname": "app.internal", "Subdomain": ""}), "https://app.internal"),
        ("https", json!({"hostname": "APP.internal"}), "https://app.internal"),
        ("http", json!({"Subdomain": "shop"}), "http://shop.apps.example.com"),
        ("tcp", json!({"URL": "tcp://db.internal:5432", "Addr": ""}), "tcp://db.internal:5432"),
        ("tcp", json!({"Addr": "db.internal:5432", "ProxyProto": 0}), "tcp://db.internal:5432"),
        ("tls", json!({"URL": "tls://www.example.com"}), "tls://www.example.com"),
        ("https", json!({"URL": "https://*.site.internal"}), "https://*.site.internal"),
    ] {
        let mut peer = world.agent(&world.site1).await;
        let reply = peer.call(BIND, &bind_with(proto, opts.clone())).await;
        assert_eq!(code(&reply), None, "{reply}");
        assert_eq!(reply["URL"], url);
        assert_eq!(reply["Proto"], proto);
        assert_eq!(reply["Opts"], opts);
        let id = reply["Id"].as_str().unwrap();
        assert!((1..=64).contains(&id.len()) && id.is_ascii());
        peer.call(UNBIND, &json!({"Id": id})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn visitor_of_a_new_endpoint_waits_until_the_agent_has_confirmed() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let id = peer.ask(BIND, &bind("https://app.internal").to_string()).await;
    peer.answer_unconfirmed(id).await;
    let target = world.internal("main", "https://app.internal").unwrap();
    let confirm = async {
        peer.idle(Duration::from_millis(500)).await;
        assert!(!peer.has_visit(), "nothing may come before the confirmation");
        peer.data(id, FIN, &[]).await;
        peer.beat().await;
        peer.visit().await;
    };
    let (opened, ()) = tokio::join!(world.open(&target), confirm);
    assert!(opened.is_ok());
}

#[tokio::test(start_paused = true)]
async fn visitors_who_wait_for_a_confirmation_are_bounded() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let id = peer.ask(BIND, &bind("https://app.internal").to_string()).await;
    peer.answer_unconfirmed(id).await;
    let target = world.internal("main", "https://app.internal").unwrap();
    let mut visitors = tokio::task::JoinSet::new();
    for _ in 0..501 {
        let (gateway, target) = (std::sync::Arc::clone(&world.gateway), target.clone());
        visitors.spawn(async move { gateway.open(&target, &crate::world::visitor(), false).await.err() });
    }
    let outcomes = visitors.join_all().await;
    let count = |outcome| outcomes.iter().filter(|other| **other == Some(outcome)).count();
    assert_eq!((count(OpenError::Busy), count(OpenError::Offline)), (1, 500));
    assert!(!peer.has_visit());
}

#[tokio::test(start_paused = true)]
async fn bind_whose_reply_was_thrown_away_gets_no_traffic() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let id = peer.ask(BIND, &bind("https://app.internal").to_string()).await;
    peer.answer_unconfirmed(id).await;
    peer.reset(id, 6).await;
    settle(&mut peer).await;
    let target = world.internal("main", "https://app.internal").unwrap();
    assert_eq!(world.open(&target).await.err(), Some(OpenError::Offline));
    assert!(!peer.has_visit());
}

#[tokio::test(start_paused = true)]
async fn assigned_names_are_written_where_the_agent_will_ask_for_them_again() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    for (opts, key) in [
        (json!({"URL": "https://"}), "URL"),
        (json!({"Domain": "", "Hostname": ""}), "Domain"),
        (json!({"Hostname": ""}), "Hostname"),
    ] {
        let request = bind_with("https", opts);
        let reply = peer.call(BIND, &request).await;
        let url = reply["URL"].as_str().unwrap().to_owned();
        assert!(url.starts_with("https://") && url.ends_with(".apps.example.com"), "{url}");
        assert!(url.contains(reply["Opts"][key].as_str().unwrap().trim_start_matches("https://")), "{reply}");
        let again = peer.call(BIND, &bind_again(&request, &reply)).await;
        assert_eq!(again["URL"], url.as_str());
        assert_eq!(again["Id"], reply["Id"]);
    }
}

#[tokio::test(start_paused = true)]
async fn access_rules_are_kept_with_their_codes() {
    let change =
        Change { site1: "acl: ['bind:*.site1.internal', 'bind:tcp://pub.example.com:20002']", ..Change::default() };
    let world = World::with(&change);
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://app.site1.internal").await;
    peer.bind("tcp://db.site1.internal:5432").await;
    for (url, expected) in [
        ("https://app.site2.internal", 316),
        ("https://site1.internal", 316),
        ("tcp://db.internal:5432", 316),
        ("tcp://pub.example.com:20001", 308),
        ("tcp://", 356),
    ] {
        assert_eq!(peer.refused(BIND, &bind(url)).await, expected, "{url}");
    }
    assert_eq!(peer.refused(BIND, &bind("https://")).await, 316, "an assigned name counts like any other");
}

#[tokio::test(start_paused = true)]
async fn wrong_addresses_are_refused_with_their_codes() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    for (url, expected) in [
        ("https://user@app.internal", 9037),
        ("https://app.internal/path", 9037),
        ("https://app.internal/", 9038),
        ("https://a.b.c.d.e.internal", 9031),
        ("tcp://db.internal", 9030),
        ("tcp://db.internal:0", 9030),
        ("https://app.somewhere.test", 316),
        ("tcp://apps.example.com:22", 308),
    ] {
        assert_eq!(peer.refused(BIND, &bind(url)).await, expected, "{url}");
    }
    assert_eq!(peer.refused(BIND, &bind_with("ssh", json!({}))).await, 332);
    let mut request = bind("https://app.internal");
    for (bindings, expected) in
        [(json!(["kubernetes"]), 301), (json!(["internal", "public"]), 301), (json!(["public"]), 9029)]
    {
        request["Extra"]["Bindings"] = bindings;
        assert_eq!(peer.refused(BIND, &request).await, expected, "{request}");
    }
    request["Extra"]["Bindings"] = json!(["internal"]);
    assert_eq!(code(&peer.call(BIND, &request).await), None);
    let mut request = bind("https://www.example.com");
    request["Extra"]["Bindings"] = json!(["internal"]);
    assert_eq!(peer.refused(BIND, &request).await, 9029);
    let mut request = bind("https://");
    request["Extra"]["Bindings"] = json!(["internal"]);
    assert_eq!(peer.refused(BIND, &request).await, 9028);
}

#[tokio::test(start_paused = true)]
async fn modules_that_are_not_there_are_refused_by_name_and_never_ignored() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    for (module, value) in [
        ("Compression", json!({"level": 9})),
        ("CircuitBreaker", json!({"error_threshold": 1.5})),
        ("BasicAuth", json!({"credentials": [{"username": "u", "cleartext_password": "hunter2"}]})),
        ("OAuth", json!({"provider": "google", "client_secret": "hunter2"})),
        ("OIDC", json!({"issuer_url": "https://x"})),
        ("WebhookVerification", json!({"provider": "x", "secret": "hunter2"})),
        ("MutualTLSCA", json!({"mutual_tls_ca": "AAAA"})),
        ("WebsocketTCPConverter", json!({})),
        ("TLSTermination", json!({"key": "hunter2"})),
        ("MutualTLSAtEdge", json!({"mutual_tls_ca": "AAAA"})),
    ] {
        let reply = peer.call(BIND, &bind_with("https", json!({"Domain": "app.internal", module: value}))).await;
        assert!(code(&reply).is_some(), "{module} was ignored");
        let error = reply["Error"].as_str().unwrap();
        assert!(error.contains(module) && !error.contains("hunter2"), "{error}");
    }
    let mut request = bind("https://app.internal");
    request["Extra"]["IPPolicyRef"] = json!("ipp_1");
    assert!(code(&peer.call(BIND, &request).await).is_some());
    assert!(world.internal("main", "https://app.internal").is_err());
}

#[tokio::test(start_paused = true)]
async fn modules_that_a_policy_can_replace_become_one_and_no_patch_removes_them() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let options = json!({
        "Domain": "app.internal",
        "IPRestriction": {"allow_cidrs": ["10.0.0.0/8"]},
        "BasicAuth": {"credentials": [{"username": "ann", "cleartext_password": "longenough"}]},
        "RequestHeaders": {"add": ["a:b"]},
        "Compression": {},
        "CircuitBreaker": {"error_threshold": 0.5},
        "WebhookVerification": {"provider": "github", "secret": "s", "sealed_secret": ""},
        "TrafficPolicy": "on_http_request: [{actions: [{type: deny}]}]",
    });
    let bound = peer.call(BIND, &bind_with("https", options.clone())).await;
    assert_eq!(code(&bound), None, "{bound}");
    assert_eq!(bound["Opts"]["BasicAuth"], options["BasicAuth"], "agents rebind with what they are told");
    settle(&mut peer).await;
    assert!(world.internal("main", "https://app.internal").unwrap().policy.unwrap().holds_more());
    let patch = json!({"TunnelId": bound["Extra"]["TunnelID"], "TrafficPolicy": ""});
    assert!(code(&peer.call(PATCH, &patch).await).is_some());
    assert!(world.internal("main", "https://app.internal").unwrap().policy.is_some());
}

#[tokio::test(start_paused = true)]
async fn rebind_that_cannot_be_honoured_any_more_succeeds_and_is_held_back() {
    for (name, value) in [
        ("TrafficPolicy", json!("on_http_request: [{actions: [{type: no-such-action}]}]")),
        ("MutualTLSCA", json!({"mutual_tls_ca": "AAAA"})),
        ("BasicAuth", json!({"credentials": [{"username": "ann", "cleartext_password": "short"}]})),
    ] {
        let world = World::new();
        let mut peer = world.agent(&world.site1).await;
        let mut request = bind("https://app.internal");
        let bound = peer.call(BIND, &request).await;
        request["Opts"][name] = value;
        assert!(code(&peer.call(BIND, &request).await).is_some(), "{name}: a first bind is refused");
        let mut again = bind_again(&request, &bound);
        again["Opts"][name] = request["Opts"][name].clone();
        let reply = peer.call(BIND, &again).await;
        assert_eq!(code(&reply), None, "{name}: {reply}");
        settle(&mut peer).await;
        let policy = world.internal("main", "https://app.internal").unwrap().policy.unwrap();
        let endpoint = EndpointUrl::parse("https://app.internal").unwrap();
        let address = "192.0.2.1:1000".parse().unwrap();
        let connection = Connection {
            peer: address,
            local: address,
            scheme: Scheme::Https,
            endpoint: &endpoint,
            bind: None,
            course: None,
            tls: Tls::Unknown,
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        let mut asked = Request { connection, head: &mut head };
        match policy.on_http_request(&mut asked, &mut State::default(), Position::default()).await {
            Verdict::Refuse(refused) => assert_eq!(refused.status.as_u16(), 503, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn policies_are_checked_kept_and_echoed() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let mut request = bind("https://app.internal");
    request["Opts"]["TrafficPolicy"] = json!("on_http_request:\n- actions: [{type: no-such-action}]");
    assert_eq!(peer.refused(BIND, &request).await, 2201);
    request["Opts"]["TrafficPolicy"] = json!({"on_http_request": []});
    assert_eq!(peer.refused(BIND, &request).await, 9026);
    let text = "on_http_request:\n- actions: [{type: deny, config: {status_code: 403}}]";
    request["Opts"]["TrafficPolicy"] = json!(text);
    let reply = peer.call(BIND, &request).await;
    assert_eq!(reply["Opts"]["TrafficPolicy"], text);
    settle(&mut peer).await;
    assert!(world.internal("main", "https://app.internal").unwrap().policy.is_some());
}

#[tokio::test(start_paused = true)]
async fn long_policy_is_credited_while_it_is_read() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let text = format!("# {}\non_http_request: []", "x".repeat(600 * 1024));
    let mut request = bind("https://app.internal");
    request["Opts"]["TrafficPolicy"] = json!(text);
    let request = request.to_string();
    let id = peer.open(BIND).await;
    let mut credit: i64 = 262_144 - 4;
    for chunk in request.as_bytes().chunks(16 * 1024) {
        let len = i64::try_from(chunk.len()).unwrap();
        while credit < len {
            match peer.next().await.unwrap() {
                crate::peer::Frame::Credit { id: on, increment } if on == id => credit += i64::from(increment),
                frame => panic!("{frame:?}"),
            }
        }
        credit -= len;
        peer.data(id, 0, chunk).await;
    }
    let reply = peer.answer(id).await;
    assert_eq!(reply["URL"], "https://app.internal", "{:?}", reply["Error"]);
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_a_session_are_limited_and_an_unbind_makes_room() {
    let world = World::with(&Change { limits: "endpoints_per_session_max: 2", ..Change::default() });
    let mut peer = world.agent(&world.site1).await;
    let first = peer.bind("https://a.internal").await;
    peer.bind("https://b.internal").await;
    assert_eq!(peer.refused(BIND, &bind("https://c.internal")).await, 324);
    let again = peer.call(BIND, &bind_again(&bind("https://a.internal"), &first)).await;
    assert_eq!(code(&again), None, "what is there does not count twice");
    peer.call(UNBIND, &json!({"Id": first["Id"]})).await;
    peer.bind("https://c.internal").await;
}

#[tokio::test(start_paused = true)]
async fn long_texts_are_refused() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    for (path, len, fine) in
        [("/Extra/Metadata", 4096, true), ("/Extra/Metadata", 4097, false), ("/ForwardsTo", 5000, false)]
    {
        let mut request = bind("https://app.internal");
        *request.pointer_mut(path).unwrap() = json!("x".repeat(len));
        assert_eq!(code(&peer.call(BIND, &request).await).is_none(), fine, "{path} {len}");
    }
    let mut request = bind("https://app2.internal");
    request["Id"] = json!("x".repeat(65));
    assert_eq!(peer.refused(BIND, &request).await, 335);
}

#[tokio::test(start_paused = true)]
async fn unbind_takes_offline_at_once_and_may_be_repeated() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let bound = peer.bind("https://app.internal").await;
    for _ in 0..2 {
        let reply = peer.call(UNBIND, &json!({"Id": bound["Id"], "Extra": null})).await;
        assert!(reply.is_object());
        assert_eq!(code(&reply), None);
        assert!(world.internal("main", "https://app.internal").is_err());
    }
    assert_eq!(code(&peer.call(UNBIND, &json!({"Id": "no such"})).await), None);
    world.agent(&world.site2).await.bind("https://app.internal").await;
}

#[tokio::test(start_paused = true)]
async fn same_url_needs_pooling_on_both_sides() {
    let world = World::new();
    let (mut first, mut second) = (world.agent(&world.site1).await, world.agent(&world.site2).await);
    first.bind("https://app.internal").await;
    let mut pooled = bind("https://app.internal");
    pooled["Extra"]["PoolingEnabled"] = json!(true);
    assert_eq!(second.refused(BIND, &pooled).await, 334);

    let mut pooled = bind("https://pool.internal");
    pooled["Extra"]["PoolingEnabled"] = json!(true);
    for peer in [&mut first, &mut second] {
        assert_eq!(code(&peer.call(BIND, &pooled).await), None);
        settle(peer).await;
    }
    let sessions: std::collections::HashSet<_> =
        (0..100).map(|_| world.internal("main", "https://pool.internal").unwrap().location.session).collect();
    assert_eq!(sessions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn shared_socket_cannot_tell_https_from_tls() {
    let shared = "{agents: '127.0.0.1:7443', https: '127.0.0.1:8443', tls: '127.0.0.1:8443'}";
    let world = World::with(&Change { listeners: shared, ..Change::default() });
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://www.example.com").await;
    assert_eq!(peer.refused(BIND, &bind("tls://www.example.com")).await, 334);
    peer.bind("tls://other.example.com").await;

    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    peer.bind("https://www.example.com").await;
    peer.bind("tls://www.example.com").await;
}

#[tokio::test(start_paused = true)]
async fn public_tcp_endpoint_has_its_port_open_as_long_as_somebody_has_it() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let bound = peer.bind("tcp://apps.example.com:20001").await;
    assert_eq!(world.ports.open_now(), [20001]);
    assert!(world.public("tcp://apps.example.com:20001").is_ok());
    peer.bind("tcp://db.internal:20002").await;
    assert_eq!(world.ports.open_now(), [20001], "internal ports are not the system's");
    peer.call(UNBIND, &json!({"Id": bound["Id"]})).await;
    assert!(world.ports.open_now().is_empty());

    peer.bind("tcp://apps.example.com:20003").await;
    drop(peer);
    world.until_sessions(0).await;
    assert_eq!(world.ports.open_now(), [20003], "kept for the agent to come back");
    tokio::time::sleep(Duration::from_secs(151)).await;
    assert!(world.ports.open_now().is_empty());
}

#[tokio::test(start_paused = true)]
async fn port_that_another_program_has_is_refused_and_not_kept() {
    let world = World::new();
    world.ports.busy.lock().unwrap().insert(20001);
    let mut peer = world.agent(&world.site1).await;
    assert_eq!(peer.refused(BIND, &bind("tcp://apps.example.com:20001")).await, 308);
    world.ports.busy.lock().unwrap().clear();
    peer.bind("tcp://apps.example.com:20001").await;
}

#[tokio::test(start_paused = true)]
async fn assigned_port_is_free_and_comes_back_to_its_agent_after_a_restart() {
    let change = Change { site1: "acl: ['bind:tcp://']", ..Change::default() };
    let mut world = World::with(&change);
    world.ports.busy.lock().unwrap().extend([20000, 20001]);
    let mut other = world.agent(&world.other1).await;
    other.bind("tcp://apps.example.com:20002").await;

    let mut peer = world.connect();
    let log_in = peer.log_in(world.site1.expose()).await;
    let mut request = bind("tcp://");
    request["Opts"] = json!({"URL": "tcp://", "Addr": ""});
    let bound = peer.call(BIND, &request).await;
    assert_eq!(bound["URL"], "tcp://apps.example.com:20003", "{bound}");
    assert_eq!(bound["Opts"]["URL"], "tcp://apps.example.com:20003");
    assert_eq!(peer.refused(BIND, &request).await, 308, "no port is left");
    assert_eq!(peer.refused(BIND, &bind("tcp://apps.example.com:20001")).await, 308, "the rules allow no choice");

    world.restart_with(&change);
    let mut peer = world.connect();
    peer.call(crate::peer::AUTH, &crate::peer::auth_again(world.site1.expose(), &log_in)).await;
    let again = peer.call(BIND, &bind_again(&request, &bound)).await;
    assert_eq!((again["URL"].as_str(), &again["Id"]), (bound["URL"].as_str(), &bound["Id"]), "{again}");
    let mut forged = bind_again(&request, &bound);
    forged["Opts"]["URL"] = json!("tcp://apps.example.com:20001");
    assert_eq!(peer.refused(BIND, &forged).await, 308, "the token is for the one port");
}

#[tokio::test(start_paused = true)]
async fn any_port_is_whatever_the_system_gives() {
    let any = "{agents: '127.0.0.1:7443', tcp: {addresses: '127.0.0.1', agent_ports: any}}";
    let world = World::with(&Change { listeners: any, ..Change::default() });
    let mut peer = world.agent(&world.site1).await;
    let bound = peer.call(BIND, &bind("tcp://")).await;
    assert_eq!(bound["URL"], "tcp://apps.example.com:40000");
    assert_eq!(world.ports.open_now(), [40_000]);
    peer.call(UNBIND, &json!({"Id": bound["Id"]})).await;
    assert!(world.ports.open_now().is_empty());
}

#[tokio::test(start_paused = true)]
async fn patch_changes_only_what_it_names_and_is_remembered() {
    let world = World::new();
    let mut peer = world.connect();
    let log_in = peer.log_in(world.site1.expose()).await;
    let request = bind("https://app.internal");
    let bound = peer.bind("https://app.internal").await;
    let text = "on_http_request:\n- actions: [{type: deny}]";
    let patch = json!({"TunnelId": bound["Extra"]["TunnelID"], "TrafficPolicy": text});
    let reply = peer.call(PATCH, &patch).await;
    assert_eq!(reply["Error"], "");
    assert!(world.internal("main", "https://app.internal").unwrap().policy.is_some());
    let patch = json!({"TunnelId": bound["Extra"]["TunnelID"], "Description": "new"});
    assert_eq!(peer.call(PATCH, &patch).await["Error"], "");
    let bad = json!({"TunnelId": bound["Extra"]["TunnelID"], "TrafficPolicy": "- nonsense"});
    assert!(code(&peer.call(PATCH, &bad).await).is_some());
    assert!(world.internal("main", "https://app.internal").unwrap().policy.is_some());

    drop(peer);
    world.until_sessions(0).await;
    let mut peer = world.connect();
    peer.call(crate::peer::AUTH, &crate::peer::auth_again(world.site1.expose(), &log_in)).await;
    peer.call(BIND, &bind_again(&request, &bound)).await;
    settle(&mut peer).await;
    assert!(
        world.internal("main", "https://app.internal").unwrap().policy.is_some(),
        "agents rebind with the old values"
    );
}

#[tokio::test(start_paused = true)]
async fn patch_does_not_follow_its_id_to_another_address() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let bound = peer.bind("https://app.internal").await;
    let patch = json!({"TunnelId": bound["Extra"]["TunnelID"], "TrafficPolicy": ""});
    assert_eq!(peer.call(PATCH, &patch).await["Error"], "");
    let mut request = bind("tcp://db.internal:5432");
    request["Id"] = bound["Id"].clone();
    request["Opts"]["TrafficPolicy"] = json!("on_tcp_connect: [{actions: [{type: deny}]}]");
    assert_eq!(code(&peer.call(BIND, &request).await), None);
    settle(&mut peer).await;
    assert!(world.internal("main", "tcp://db.internal:5432").unwrap().policy.is_some());
}

#[tokio::test(start_paused = true)]
async fn labelled_tunnels_are_refused_cleanly() {
    let world = World::new();
    let mut peer = world.agent(&world.site1).await;
    let reply = peer
        .call(BIND_LABELED, &json!({"Labels": {"a": "b"}, "ForwardsTo": "", "ForwardsProto": "", "Metadata": ""}))
        .await;
    assert_eq!(code(&reply), Some(332));
    peer.bind("https://app.internal").await;
}
