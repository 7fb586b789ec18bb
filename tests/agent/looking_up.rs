//! Where the gateway is, as name servers have it: changed, several places, nobody who knows.

use std::net::{Ipv4Addr, TcpListener};

use crate::gateway::{Behaviour, Gateway};
use crate::name_server::{NameServer, Says};
use crate::program::Setup;
use crate::site::NAME;
use crate::upstream;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Another address of this machine.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An agent that knows the gateway by a name that only these servers know.
fn setup(gateway: &Gateway, servers: &[&NameServer]) -> Setup {
    let servers: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    Setup::new()
        .agent("connect_url", format!("{NAME}:{}", gateway.address.port()))
        .agent("dns_resolver_ips", servers)
        .tcp("a", upstream::echo())
}

#[test]
fn name_is_asked_for_anew_with_every_attempt_and_at_a_signal() {
    let (gateway, names) = (Gateway::adit(), NameServer::new(Says::Addresses(vec![HERE])));
    let agent = setup(&gateway, &[&names]).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(names.asked(), 1);
    gateway.peer(0).cut();
    gateway.peer(1).wait_bound(1);
    assert_eq!(names.asked(), 2);
    agent.signal("USR1");
    gateway.peer(2).wait_bound(1);
    assert_eq!(names.asked(), 3);
}

#[test]
fn agent_that_starts_before_its_name_server_waits_for_it() {
    let (gateway, names) = (Gateway::adit(), NameServer::new(Says::ServerFailure));
    let mut agent = setup(&gateway, &[&names]).start(&gateway);
    agent.wait_line(&["no session with", NAME, "server failure", &names.address.to_string()]);
    names.wait_asked(4);
    assert!(agent.is_running());
    names.say(Says::Addresses(vec![HERE]));
    gateway.peer(0).wait_bound(1);
}

#[test]
fn gateway_that_has_moved_is_found() {
    let (gateway, names) = (Gateway::adit(), NameServer::new(Says::Addresses(vec![ELSEWHERE])));
    let agent = setup(&gateway, &[&names]).start(&gateway);
    agent.wait_line(&["no session with", &ELSEWHERE.to_string(), "refused"]);
    names.say(Says::Addresses(vec![HERE]));
    gateway.peer(0).wait_bound(1);
}

#[test]
fn last_good_address_serves_when_nobody_knows_the_name_any_more() {
    let (gateway, names) = (Gateway::adit(), NameServer::new(Says::Addresses(vec![HERE])));
    let agent = setup(&gateway, &[&names]).agent("connect_timeout", "4s").start(&gateway);
    gateway.peer(0).wait_bound(1);
    for (number, says) in [Says::ServerFailure, Says::Nothing].into_iter().enumerate() {
        names.say(says);
        gateway.peer(number).cut();
        gateway.peer(number + 1).wait_bound(1);
        agent.wait_lines(number + 1, &["cannot look", NAME, "trying where it was", &gateway.address.to_string()]);
    }
}

#[test]
fn second_name_server_is_asked_when_the_first_is_silent() {
    let (silent, names) = (NameServer::new(Says::Nothing), NameServer::new(Says::Addresses(vec![HERE])));
    let gateway = Gateway::adit();
    let _agent = setup(&gateway, &[&silent, &names]).start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!((silent.asked(), names.asked()), (1, 1));
}

#[test]
fn address_that_swallows_packets_does_not_hide_the_next() {
    let gateway = Gateway::adit();
    let _silent = upstream::Silent::at((ELSEWHERE, gateway.address.port()).into());
    let names = NameServer::new(Says::Addresses(vec![ELSEWHERE, HERE]));
    // Longer than any test waits: only an attempt beside the first one can succeed.
    let _agent = setup(&gateway, &[&names]).agent("connect_timeout", "10m").start(&gateway);
    gateway.peer(0).wait_bound(1);
    assert_eq!(names.asked(), 1, "one attempt");
}

#[test]
fn address_that_takes_connections_and_says_nothing_is_tried_last_the_next_time() {
    let gateway = Gateway::adit();
    let mute = TcpListener::bind((ELSEWHERE, gateway.address.port())).unwrap();
    let names = NameServer::new(Says::Addresses(vec![ELSEWHERE, HERE]));
    let agent = setup(&gateway, &[&names]).agent("connect_timeout", "1s").start(&gateway);
    let _taken = mute.accept().unwrap();
    agent.wait_line(&["no session with", &ELSEWHERE.to_string(), "no answer in time"]);
    gateway.peer(0).wait_bound(1);
    assert_eq!(names.asked(), 2);
}

#[test]
fn interface_that_comes_later_is_waited_for() {
    let gateway = Gateway::new(Behaviour::Ignore);
    let mut agent = Setup::new().agent("connect_interface", "adit-none0").tcp("a", upstream::echo()).start(&gateway);
    agent.wait_line(&["no session with", "agent.connect_interface adit-none0", "no such interface now"]);
    agent.wait_lines(2, &["the next attempt follows in"]);
    assert!(agent.is_running());
    assert_eq!(gateway.accepted(), 0);
}

#[test]
fn connection_leaves_through_the_named_interface() {
    let gateway = Gateway::adit();
    let setup = Setup::new().agent("connect_interface", "lo").agent("connect_mss", 600);
    let _agent = setup.tcp("a", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
}
