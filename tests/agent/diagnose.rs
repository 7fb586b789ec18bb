//! `adit diagnose` against everything that can be wrong on the way.

use std::process::{Command, Output};

use adit::message::WireError;
use rcgen::date_time_ymd;

use crate::gateway::{Behaviour, Gateway};
use crate::peer::Script;
use crate::program::{Setup, TOKEN};
use crate::proxy::{Proxy, Proxying};
use crate::site::{NAME, Site};
use crate::upstream;

/// Exit code and output, in which no secret is.
fn diagnose(setup: &Setup, gateway: &Gateway) -> (i32, String) {
    let files = setup.files(gateway);
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.env_clear().args(["diagnose", "--config"]).arg(files.path().join("adit.json"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    (status.code().unwrap(), text)
}

#[track_caller]
fn assert_found(setup: &Setup, gateway: &Gateway, code: i32, words: &[&str]) {
    let (found, text) = diagnose(setup, gateway);
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?}: {text}");
    }
    assert_eq!(code != 0, text.contains("who can mend it: "), "{text}");
}

/// A site whose certificate is valid between these days.
fn valid(from: (i32, u8, u8), to: (i32, u8, u8)) -> Site {
    Site::with(|server| {
        server.not_before = date_time_ymd(from.0, from.1, from.2);
        server.not_after = date_time_ymd(to.0, to.1, to.2);
    })
}

fn setup() -> Setup {
    Setup::new().tcp("echo", upstream::echo())
}

#[test]
fn walk_that_is_well_says_every_step_and_disturbs_nobody() {
    let gateway = Gateway::adit();
    let agent = setup().start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    let words = [
        "ok    configuration",
        "ok    names",
        "ok    TCP",
        "ok    TLS: TLSv1_3",
        "ok    log-in: account \"main\"",
        "ok    upstream",
        "of echo",
    ];
    assert_found(&setup(), &gateway, 0, &words);
    gateway.peer(1).wait("its log-in and goodbye", |state| {
        let auth = state.auth.as_ref()?;
        assert_eq!((auth.client_id.as_str(), auth.extra.cookie.expose(), state.binds.len()), ("", "", 0));
        state.go_away.clone()
    });
    stream.send(b"y");
    assert_eq!(stream.wait_received(2), b"xy");
    assert_eq!(agent.lines(&["no session with"]), Vec::<String>::new());
}

#[test]
fn name_without_an_address_is_a_matter_of_dns() {
    let setup = setup().agent("connect_url", "no-such-host.invalid");
    assert_found(&setup, &Gateway::adit(), 10, &["FAIL  names", "no-such-host.invalid", "name server"]);
}

#[test]
fn closed_port_is_told_from_one_that_answers_nothing() {
    let gateway = Gateway::adit();
    let closed = setup().agent("connect_url", upstream::nobody().to_string());
    assert_found(&closed, &gateway, 11, &["FAIL  TCP", "refused", "nothing listens"]);
    let silent = upstream::Silent::new();
    let silent = setup().agent("connect_timeout", "1s").agent("connect_url", silent.address.to_string());
    assert_found(&silent, &gateway, 11, &["FAIL  TCP", "timed out", "firewall"]);
}

#[test]
fn certificate_out_of_its_time_is_told_with_both_times() {
    let old = Gateway::at(valid((2001, 1, 1), (2002, 2, 2)));
    assert_found(&setup(), &old, 12, &["FAIL  TLS", "expired", "2002-02-02T00:00:00Z", "the system clock says 20"]);
    let young = Gateway::at(valid((2090, 1, 1), (2091, 1, 1)));
    assert_found(&setup(), &young, 12, &["FAIL  TLS", "not valid before 2090-01-01", "clock"]);
}

#[test]
fn certificate_of_a_stranger_is_named() {
    let setup = setup().trusts(&Site::new().ca_pem);
    let words = ["FAIL  TLS", "a certificate of CN=", "issued by CN=", "inspects TLS", "connect_cas"];
    assert_found(&setup, &Gateway::adit(), 13, &words);
    // The right authority, and another name: what a portal shows.
    let portal = Site::with(|server| {
        server.subject_alt_names = vec![rcgen::SanType::DnsName("portal.example".try_into().unwrap())];
    });
    assert_found(&self::setup(), &Gateway::at(portal), 13, &["FAIL  TLS", "portal.example", "portal wants a log-in"]);
}

#[test]
fn what_is_no_gateway_is_found_out() {
    let gateway = Gateway::adit();
    let at = |address: std::net::SocketAddr| setup().agent("connect_url", address.to_string());
    let plain = upstream::tcp(|mut socket| {
        upstream::send(&mut socket, b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n");
    });
    assert_found(&at(plain), &gateway, 14, &["FAIL  TLS", "does not speak TLS"]);
    assert_found(&at(upstream::tcp(drop)), &gateway, 14, &["FAIL  TLS", "cut during the TLS handshake"]);
    let other = upstream::tls(gateway.site.server.clone(), |mut stream| {
        upstream::send(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert_found(&at(other), &gateway, 14, &["ok    TLS", "FAIL  log-in", "not as a gateway does"]);
}

#[test]
fn refused_token_is_for_who_gave_it() {
    let error = WireError::new(107, "the token is not known");
    let gateway = Gateway::new(Behaviour::Serve(Script { adit: true, refuses: Some(error), ..Script::default() }));
    let words = ["ok    TLS", "FAIL  log-in", "the token is not known", "ERR_NGROK_107", "gave this agent its token"];
    assert_found(&setup(), &gateway, 15, &words);
}

#[test]
fn every_upstream_is_tried_also_behind_one_that_fails() {
    let gateway = Gateway::adit();
    let dead = upstream::nobody();
    let stranger = upstream::tls(Site::new().server, |mut stream| upstream::send(&mut stream, b"x"));
    let setup = Setup::new()
        .tcp("dead", dead)
        .tcp("dead-too", dead)
        .endpoint("web", "https://web.internal", &format!("https://{stranger}"))
        .tcp("echo", upstream::echo());
    let dead = format!("FAIL  upstream tcp://{dead} of dead, dead-too: ");
    let words = [dead.as_str(), "refused", "FAIL  upstream https://", "ok    upstream", "of echo"];
    assert_found(&setup, &gateway, 16, &words);
}

#[test]
fn way_through_a_proxy_is_walked_to_its_end() {
    let gateway = Gateway::adit();
    let proxies = [
        ("http", Proxy::new(Proxying::Connect(gateway.address))),
        ("socks5", Proxy::new(Proxying::Socks5(gateway.address))),
    ];
    for (scheme, proxy) in proxies {
        let place = format!("{scheme}://{}", proxy.address);
        // A name that only the proxy has to know.
        let setup =
            setup().agent("connect_url", NAME).agent("proxy_url", format!("{scheme}://me:pa55word@{}", proxy.address));
        let words = [
            format!("ok    names: {} is {}", proxy.address, proxy.address),
            format!("ok    TCP: {} answered", proxy.address),
            format!("ok    proxy: {place} connects to {NAME}:443 in"),
            "ok    TLS: TLSv1_3".to_owned(),
            "ok    log-in: account \"main\"".to_owned(),
        ];
        let (code, text) = diagnose(&setup, &gateway);
        assert_eq!(code, 0, "{text}");
        for word in words {
            assert!(text.contains(&word), "{word:?}: {text}");
        }
        assert!(!text.contains("pa55word"), "{text}");
        assert!(proxy.wait_asked().contains(NAME));
    }
    assert_eq!(gateway.accepted(), 2);
}

#[test]
fn proxy_that_does_not_let_through_is_told_from_the_network() {
    let gateway = Gateway::adit();
    let answers = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "does not accept the user name and password"),
        ("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n", "captive portal"),
        ("", "closed the connection without an answer"),
    ];
    for (answer, words) in answers {
        let proxy = Proxy::new(Proxying::Answer(answer));
        let setup = setup().agent("proxy_url", format!("http://me:pa55word@{}", proxy.address));
        let (code, text) = diagnose(&setup, &gateway);
        assert_eq!(code, 11, "{text}");
        let place = format!("the proxy http://{}: ", proxy.address);
        for word in ["ok    TCP", "FAIL  proxy: ", &place, words, "who can mend it: whoever runs that proxy"] {
            assert!(text.contains(word), "{word:?}: {text}");
        }
        assert!(!text.contains("pa55word"), "{text}");
    }
    let silent = Proxy::new(Proxying::Ignore);
    let setup = setup().agent("connect_timeout", "1s").agent("proxy_url", format!("socks5://{}", silent.address));
    assert_found(&setup, &gateway, 11, &["ok    TCP", "FAIL  proxy"]);
    assert_eq!(gateway.accepted(), 0);
}
