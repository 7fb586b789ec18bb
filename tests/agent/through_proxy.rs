//! The way to the gateway through a proxy.

use adit::session::{FIRST_BYTES, FIRST_RECORD_MAX};

use crate::gateway::Gateway;
use crate::program::{Agent, Setup};
use crate::proxy::{Proxy, Proxying};
use crate::site::NAME;
use crate::upstream;

const PASSWORD: &str = "pa55word";

fn assert_serves(gateway: &Gateway) {
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("a");
    stream.send(b"through");
    assert_eq!(stream.wait_received(7), b"through");
}

fn assert_tells_no_password(agent: &Agent) {
    let encoded = "bWU6cGE1NXdvcmQ=";
    for secret in [PASSWORD, encoded] {
        assert_eq!(agent.lines(&[secret]), Vec::<String>::new());
    }
    agent.wait_line(&["lvl=debug"]);
}

#[test]
fn http_proxy_is_asked_for_the_gateway_by_its_name() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Connect(gateway.address));
    let agent = Setup::new()
        .agent("connect_url", NAME)
        .agent("proxy_url", format!("http://me:{PASSWORD}@{}", proxy.address))
        .tcp("a", upstream::echo())
        .start(&gateway);
    assert_serves(&gateway);
    let asked = proxy.wait_asked();
    assert!(asked.starts_with(&format!("CONNECT {NAME}:443 HTTP/1.1\r\n")), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic bWU6cGE1NXdvcmQ=\r\n"), "{asked}");
    agent.wait_line(&["session=1", "up at", &format!("through the proxy http://{}", proxy.address)]);
    assert_tells_no_password(&agent);
}

#[test]
fn socks_proxy_is_asked_for_the_gateway_by_its_name() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Socks5(gateway.address));
    let agent = Setup::new()
        .agent("connect_url", format!("{NAME}:8443"))
        .agent("proxy_url", format!("socks5://me:{PASSWORD}@{}", proxy.address))
        .tcp("a", upstream::echo())
        .start(&gateway);
    assert_serves(&gateway);
    assert_eq!(proxy.wait_asked(), format!("me {PASSWORD} {NAME} 8443"));
    assert_tells_no_password(&agent);
}

#[test]
fn proxy_that_refuses_is_explained_and_tried_again() {
    let gateway = Gateway::adit();
    let refusals = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "does not accept the user name and password"),
        ("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n", "captive portal"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "forbids the connection (403 Forbidden)"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>Welcome!</html>", "a page of its own"),
        ("SSH-2.0-OpenSSH\r\n", "does not speak the proxy's protocol"),
        ("", "closed the connection without an answer"),
    ];
    for (answer, words) in refusals {
        let proxy = Proxy::new(Proxying::Answer(answer));
        let mut agent = Setup::new()
            .agent("proxy_url", format!("http://me:{PASSWORD}@{}", proxy.address))
            .tcp("a", upstream::echo())
            .start(&gateway);
        agent.wait_line(&["no session with", words, &proxy.address.to_string()]);
        assert!(agent.is_running());
        assert_tells_no_password(&agent);
    }
    assert_eq!(gateway.accepted(), 0);
}

#[test]
fn proxy_that_recovers_is_used() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Answer("HTTP/1.1 503 Service Unavailable\r\n\r\n"));
    let proxy_url = format!("http://{}", proxy.address);
    let agent = Setup::new().agent("proxy_url", proxy_url).tcp("a", upstream::echo()).start(&gateway);
    agent.wait_line(&["no session with", "cannot reach the gateway (503 Service Unavailable)"]);
    proxy.set(Proxying::Connect(gateway.address));
    assert_serves(&gateway);
}

#[test]
fn silent_proxy_is_left_at_the_deadline() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Ignore);
    let agent = Setup::new()
        .agent("proxy_url", format!("socks5://{}", proxy.address))
        .agent("connect_timeout", "1s")
        .tcp("a", upstream::echo())
        .start(&gateway);
    agent.wait_line(&["no session with", "gave no answer in time", &format!("proxy socks5://{}", proxy.address)]);
    agent.wait_lines(2, &["the next attempt follows in"]);
}

#[test]
fn proxy_that_is_not_there_is_named() {
    let gateway = Gateway::adit();
    let proxy_url = format!("http://{}", upstream::nobody());
    let agent = Setup::new().agent("proxy_url", proxy_url.clone()).tcp("a", upstream::echo()).start(&gateway);
    agent.wait_line(&["no session with", &format!("the proxy {proxy_url} cannot be reached"), "refused"]);
}

#[test]
fn proxy_of_the_environment_is_used_unless_the_file_has_another() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Connect(gateway.address));
    let variable = format!("http://{}", proxy.address);
    let setup = || Setup::new().agent("connect_url", NAME).tcp("a", upstream::echo());
    let agent = setup().env("https_proxy", variable.clone()).start(&gateway);
    assert_serves(&gateway);
    agent.wait_line(&["https_proxy", &variable]);

    let other = Proxy::new(Proxying::Connect(gateway.address));
    let proxy_url = format!("http://{}", other.address);
    let before = proxy.asked();
    let agent = setup().env("HTTPS_PROXY", variable).agent("proxy_url", proxy_url).start(&gateway);
    agent.wait_line(&["up at"]);
    assert_eq!((proxy.asked(), other.asked()), (before, 1));
}

#[test]
fn first_records_of_a_session_fit_into_a_packet_each() {
    let gateway = Gateway::adit();
    let proxy = Proxy::new(Proxying::Connect(gateway.address));
    let _agent = Setup::new()
        .agent("proxy_url", format!("http://{}", proxy.address))
        .agent("metadata", "x".repeat(4096))
        .tcp("a", upstream::tcp(|mut socket| upstream::send(&mut socket, &[7; 100_000])))
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    peer.visit("a").wait_received(100_000);
    let (mut sent, lengths) = (0, proxy.record_lengths());
    for len in &lengths {
        if sent < FIRST_BYTES {
            assert!(*len <= FIRST_RECORD_MAX + 29, "{lengths:?}");
        }
        sent += len;
    }
    assert!(sent > 100_000 && lengths.iter().any(|len| *len > 10_000), "later ones are large: {lengths:?}");
}
