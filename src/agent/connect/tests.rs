//! Tests of the waits between attempts: in virtual time, without a network.

use super::*;
use crate::backoff::Backoff;
use crate::config::{CONNECT_TIMEOUT_DEFAULT, Config};

fn agent(connect_url: &str) -> Agent {
    let text = format!(r#"{{"version":3,"agent":{{"authtoken":"t","connect_url":"{connect_url}"}},"endpoints":[]}}"#);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adit.json");
    std::fs::write(&path, text).unwrap();
    let (config, _) = Config::load(&path, &|_| None).unwrap();
    Agent::new(config).unwrap()
}

#[test]
fn told_to_reconnect_the_agent_waits_no_longer_and_forgets_its_failures() {
    let mut agent = agent("192.0.2.1");
    for _ in 0..10 {
        agent.failed(Cause::Network, "of the test");
    }
    agent.connection = Connection::Waiting { until: agent.now + Duration::from_secs(20) };
    agent.handle().reconnect();
    assert!(agent.obey() == Flow::Continue);
    assert_eq!(agent.connection.deadline(), Some(agent.now));
    assert!(agent.backoff.next(u64::MAX) <= Duration::from_secs(1));
}

#[test]
fn look_up_leaves_time_for_the_last_good_addresses_when_there_are_some() {
    let mut agent = agent("connect.example.com");
    let half = CONNECT_TIMEOUT_DEFAULT / 2;
    for (known, expected) in [(false, CONNECT_TIMEOUT_DEFAULT), (true, half)] {
        if known {
            let place = agent.first_hop().clone();
            agent.addresses.begin(&place);
            agent.addresses.on_session(SocketAddr::from(([192, 0, 2, 1], 443)));
        }
        agent.attempt();
        let Connection::Resolving { until, deadline, .. } = agent.connection else { panic!() };
        assert_eq!((until, deadline), (agent.now + expected, agent.now + CONNECT_TIMEOUT_DEFAULT));
        agent.hang_up("of the test");
    }
}

/// A path that swallowed everything is whole again at some moment of an attempt or of the wait after it. Whatever the
/// moment and the jitter, a SYN goes out soon enough for a session within 30 s, with time left for look-up and log-in.
#[test]
fn session_is_back_within_30_s_of_the_paths_return() {
    let longest_wait = {
        let mut backoff = Backoff::new();
        (0..64).map(|_| backoff.next(u64::MAX)).max().unwrap()
    };
    let attempt = CONNECT_TIMEOUT_DEFAULT;
    // When Linux sends a SYN again, and after it again: RFC 6298 with 1 s at first. One address: all of the time is its.
    let syns: Vec<Duration> =
        [0, 1, 3, 7, 15].map(Duration::from_secs).into_iter().filter(|at| *at < attempt).collect();
    let cycle = attempt + longest_wait;
    let mut worst = Duration::ZERO;
    for ms in 0..u64::try_from(cycle.as_millis()).unwrap() {
        let returns = Duration::from_millis(ms);
        let next = syns.iter().copied().find(|at| *at >= returns).unwrap_or(cycle);
        worst = worst.max(next - returns);
    }
    let log_in = Duration::from_secs(5);
    assert!(worst + log_in <= Duration::from_secs(30), "{worst:?} until the next SYN");
}
