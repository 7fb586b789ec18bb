//! The page of a made-up fleet.

use std::sync::Arc;

use super::page::{Facts, page};
use super::{protect, wanted};
use crate::events::{About, Event, Kind, Losses};
use crate::fleet::report::{
    BoundEndpoint, Counts, Endpoint, EndpointKind, EndpointState, Endpoints, Site, SiteState, Sites,
};

const EVIL: &str = "<script>alert(1)</script>\"'&";

fn site(number: usize) -> Site {
    Site {
        account: "clinic".to_owned(),
        credential: format!("site-{number}"),
        instance: Some("box".to_owned()),
        state: if number % 100 == 7 { SiteState::Offline } else { SiteState::Online },
        since: "2026-01-01T00:00:00Z".to_owned(),
        seconds: 100 + number as u64,
        address: Some("192.0.2.1:1".to_owned()),
        agent: "adit/0.1.0".to_owned(),
        version: "0.1.0".to_owned(),
        target: "linux/mips".to_owned(),
        metadata: String::new(),
        sessions: vec![1],
        sessions_total: 1,
        last_heard_ms: Some(1500),
        round_trip_ms: Some(12.345),
        endpoints: vec![BoundEndpoint {
            url: "https://a.internal".to_owned(),
            state: EndpointState::HeldBack,
            why: Some("why".to_owned()),
        }],
        counts: Counts::default(),
        last_end: None,
    }
}

fn endpoint(url: &str, state: EndpointState) -> Endpoint {
    Endpoint {
        url: url.to_owned(),
        kind: EndpointKind::Agent,
        state,
        why: None,
        account: "clinic".to_owned(),
        credential: Some("site-1".to_owned()),
        instance: None,
        session: Some(1),
        name: String::new(),
        forwards_to: "localhost:80".to_owned(),
    }
}

fn facts(count: usize, words: &str) -> Facts {
    let now = "2026-01-01T00:00:00Z".to_owned();
    let sites = (0..count).map(site).collect();
    let endpoints = vec![
        endpoint("https://fine.internal", EndpointState::Online),
        endpoint("https://held.internal", EndpointState::HeldBack),
    ];
    Facts {
        sites: Sites { now: now.clone(), started: now.clone(), draining: false, sites, forgotten: 0 },
        endpoints: Endpoints { now, endpoints },
        events: Vec::new(),
        samples: Vec::new(),
        losses: Losses::default(),
        waiting: 0,
        wanted: words.to_owned(),
    }
}

#[test]
fn what_strangers_write_is_text_on_the_page() {
    let mut facts = facts(1, EVIL);
    let site = &mut facts.sites.sites[0];
    for text in [&mut site.account, &mut site.credential, &mut site.agent, &mut site.target, &mut site.since] {
        EVIL.clone_into(text);
    }
    (site.instance, site.address) = (Some(EVIL.to_owned()), Some(EVIL.to_owned()));
    facts.endpoints.endpoints[0].forwards_to = EVIL.to_owned();
    facts.endpoints.endpoints[0].why = Some(EVIL.to_owned());
    facts.events.push(Arc::new(Event {
        id: "evt_1".into(),
        kind: Kind::SiteDown,
        unix_ms: 0,
        since_unix_ms: 0,
        about: About::default(),
        reason: None,
        count: None,
        text: EVIL.to_owned(),
    }));
    for words in ["", "<script>"] {
        facts.wanted = words.to_owned();
        let html = page(&facts).into_string();
        assert_eq!(html.matches("<script").count(), 1, "its own");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }
}

#[test]
fn sites_that_are_offline_and_endpoints_that_are_held_back_come_first() {
    let html = page(&facts(500, "")).into_string();
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("clinic / site-7 / box") < at("clinic / site-107 / box"), "what went away last comes first");
    assert!(at("clinic / site-407 / box") < at("clinic / site-0 / box"));
    assert!(at("https://held.internal") < at("https://fine.internal"));
    assert!(html.contains("Sites: <strong>495</strong> online, <strong>5</strong> offline; 2 endpoints"), "{html}");
    assert_eq!(html.matches("<tr><th scope=\"row\">").count(), 502);
}

#[test]
fn search_finds_names_states_and_addresses() {
    let rows = |words| page(&facts(500, words)).into_string().matches("<tr><th scope=\"row\">clinic").count();
    assert_eq!((rows("site-499"), rows("offline"), rows("192.0.2.1"), rows("nobody")), (1, 5, 500, 0));
    assert!(page(&facts(500, "offline")).into_string().contains("5 of 500."));
}

#[test]
fn rows_are_bounded_and_the_page_says_so() {
    let html = page(&facts(2001, "")).into_string();
    assert_eq!(html.matches("<tr><th scope=\"row\">clinic").count(), 2000);
    assert!(html.contains("The first 2000 of 2001"), "{html}");
}

#[test]
fn credential_with_very_many_sites_leaves_room_for_the_others() {
    let mut facts = facts(2100, "");
    for site in facts.sites.sites.iter_mut().take(2050) {
        site.credential = "loud".to_owned();
        site.state = SiteState::Offline;
    }
    let html = page(&facts).into_string();
    assert!(html.contains("The first 2000 of 2100"), "{html}");
    for number in 2050..2100 {
        assert!(html.contains(&format!("clinic / site-{number} / box")), "{number}");
    }
    assert_eq!(html.matches("<tr><th scope=\"row\">clinic / loud").count(), 1950);
}

#[test]
fn address_that_is_kept_for_its_agent_is_not_said_to_be_the_gateways_own() {
    let mut facts = facts(1, "");
    facts.endpoints.endpoints[1].kind = EndpointKind::Cloud;
    facts.endpoints.endpoints[0].state = EndpointState::Kept;
    for endpoint in &mut facts.endpoints.endpoints {
        endpoint.session = None;
    }
    assert_eq!(page(&facts).into_string().matches("the gateway itself").count(), 1);
}

#[test]
fn query_is_read_as_forms_send_it() {
    assert_eq!(wanted("q=Site+7%2F%C3%84"), "site 7/ä");
    assert_eq!(wanted("a=b&q=x"), "x");
    assert_eq!((wanted(""), wanted("q=%ff")), (String::new(), "\u{fffd}".to_owned()));
    assert_eq!(wanted(&format!("q={}", "x".repeat(300))).len(), 200);
}

#[test]
fn browser_is_told_to_load_nothing_from_elsewhere() {
    let mut response = http::Response::new(());
    protect(&mut response);
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = page(&facts(3, "")).into_string();
    assert!(!html.contains("style=") && !html.contains("http://"), "{html}");
}
