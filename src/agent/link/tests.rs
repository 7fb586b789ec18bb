//! Tests of what the end of a session means for the next attempt: in virtual time, on a socket that nobody reads.

use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::agent::{clock, settings_without_endpoints};
use crate::net::ready::Ready;
use crate::session::{AgentSession, Resumption};

fn agent() -> Agent {
    let text = r#"{"version":3,"agent":{"authtoken":"t","connect_url":"127.0.0.1"},"endpoints":[]}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adit.json");
    std::fs::write(&path, text).unwrap();
    Agent::new(Config::load(&path, &|_| None).unwrap().0).unwrap()
}

/// A session that has just come up.
fn up(agent: &Agent) -> Linked {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let session = AgentSession::new(settings_without_endpoints(&agent.config), Resumption::default(), 1, agent.now);
    let name = tls::server_name("127.0.0.1").unwrap();
    let socket = mio::net::TcpStream::from_std(socket);
    let link = Link::new(socket, Ready::default(), agent.connect_tls.clone(), name, session).unwrap();
    let mut linked = Linked::new(link, 1, address, agent.now, agent.now);
    (linked.login_deadline, linked.up_at) = (None, Some(agent.now));
    linked
}

/// Lets a session of this length end like this; the longest wait that another failure would lead to now, in seconds.
fn ceiling_after(agent: &mut Agent, lasted: Duration, end: End) -> u64 {
    agent.connection = Connection::Linked(Box::new(up(agent)));
    agent.now += lasted;
    let over = agent.on_event(Event::Ended(end)).unwrap();
    agent.leave(&over);
    assert!(matches!(agent.connection, Connection::Waiting { until } if until <= clock() + Duration::from_secs(20)));
    agent.backoff.clone().next(u64::MAX).as_secs()
}

#[test]
fn gateway_that_leaves_a_session_unanswered_is_asked_ever_less_often() {
    let patience = |agent: &Agent| agent.config.agent.heartbeat_interval + agent.config.agent.heartbeat_tolerance;
    let mut agent = agent();
    let growing = [2, 4, 8, 16, 20, 20];
    let ceilings = growing.map(|_| ceiling_after(&mut agent, CALL_DEADLINE, End::CallTimeout("Bind")));
    assert_eq!(ceilings, growing, "left at Bind");
    let mut agent = self::agent();
    let silence = patience(&agent);
    let ceilings = growing.map(|_| ceiling_after(&mut agent, silence, End::Silence));
    assert_eq!(ceilings, growing, "no beat ever came back");
    // A moment of answers is not enough.
    let moment = STABLE - Duration::from_millis(1);
    assert_eq!(ceiling_after(&mut agent, silence + moment, End::Silence), 20);
}

#[test]
fn session_in_which_the_gateway_has_answered_for_long_enough_makes_its_end_a_first_failure() {
    let mut agent = agent();
    let silence = agent.config.agent.heartbeat_interval + agent.config.agent.heartbeat_tolerance;
    let ends = [
        (CALL_DEADLINE, End::CallTimeout("Patch")),
        (silence, End::Silence),
        (Duration::ZERO, End::GoAway(ErrorCode::NO_ERROR, String::new(), None)),
    ];
    for (unanswered, end) in ends {
        (0..5).for_each(|_| agent.failed(Cause::Network, "of the test"));
        assert_eq!(ceiling_after(&mut agent, STABLE + unanswered, end.clone()), 2, "{end:?}");
    }
}
