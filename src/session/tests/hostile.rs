//! Peers that break the rules, by hand-made frames.

use super::*;
use crate::session::heartbeat::{BEAT_LEN, ECHO_UNSENT_MAX};

/// A DATA frame.
fn data(id: u32, flag: DataFlag, payload: &[u8]) -> Vec<u8> {
    [data_header(id, payload.len(), flag).as_slice(), payload].concat()
}

fn call(id: u32, kind: StreamType, json: &[u8]) -> Vec<u8> {
    [data(id, DataFlag::Syn, &kind.to_bytes()), data(id, DataFlag::None, json)].concat()
}

fn anonymous() -> (GatewaySession, Instant) {
    let now = Instant::now();
    (GatewaySession::new(Limits::default(), now), now)
}

fn sent(gateway: &mut GatewaySession) -> String {
    let mut out = Vec::new();
    gateway.poll_transmit(&mut out, usize::MAX);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn bind_before_login_and_second_login_are_answered_with_an_error() {
    let (mut gateway, now) = anonymous();
    gateway.recv(&call(3, StreamType::Bind, br#"{"Proto":"https"}"#), &mut (), now).unwrap();
    assert!(gateway.poll_event().is_none());
    assert!(sent(&mut gateway).contains("ERR_NGROK_109"));
    gateway.recv(&call(5, StreamType::Auth, b"{}"), &mut (), now).unwrap();
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Call { request: Request::Auth(_), .. })));
    gateway.recv(&call(7, StreamType::Auth, b"{}"), &mut (), now).unwrap();
    assert!(gateway.poll_event().is_none());
    assert!(sent(&mut gateway).contains("ERR_NGROK_109"));
}

#[test]
fn beats_and_server_info_need_no_login() {
    let (mut gateway, now) = anonymous();
    let beat = [data(3, DataFlag::Syn, &[0xff; 4]), data(3, DataFlag::None, b"beat")].concat();
    gateway.recv(&beat, &mut (), now).unwrap();
    assert!(sent(&mut gateway).ends_with("beat"));
    gateway.recv(&call(5, StreamType::SrvInfo, b"{}"), &mut (), now).unwrap();
    assert!(matches!(gateway.poll_event(), Some(gateway::Event::Call { request: Request::SrvInfo, .. })));
}

#[test]
fn stranger_gets_few_streams() {
    let (mut gateway, now) = anonymous();
    for id in (3..).step_by(2).take(100) {
        gateway.recv(&data(id, DataFlag::Syn, &StreamType::Auth.to_bytes()), &mut (), now).unwrap();
    }
    assert_eq!(gateway.streams(), gateway::ANONYMOUS_STREAMS_MAX);
}

#[test]
fn unfinished_calls_hold_a_bounded_amount() {
    let mut pair = Pair::up(&[]);
    let mut id = 101;
    let piece = vec![b'a'; 200_000];
    // Twelve calls of 800 kB each, none complete.
    for _ in 0..12 {
        let mut wire = call(id, StreamType::Bind, b"{\"x\":\"");
        for _ in 0..4 {
            wire.extend_from_slice(&data(id, DataFlag::None, &piece));
            pair.gateway.recv(&wire, &mut (), pair.now).unwrap();
            wire.clear();
            let mut out = Vec::new();
            pair.gateway.poll_transmit(&mut out, usize::MAX);
        }
        id += 2;
    }
    // The heartbeat, and as many calls as fit.
    assert!(pair.gateway.streams() <= 1 + gateway::CALL_BYTES_MAX / 800_000 + 1, "{}", pair.gateway.streams());
}

#[test]
fn unfinished_calls_hold_little_before_the_log_in() {
    let (mut gateway, now) = anonymous();
    let part = vec![b'a'; 60_000];
    for (id, live) in [(3, 1), (5, 2), (7, 2)] {
        gateway.recv(&call(id, StreamType::SrvInfo, b"{\"x\":\""), &mut (), now).unwrap();
        gateway.recv(&data(id, DataFlag::None, &part), &mut (), now).unwrap();
        assert_eq!(gateway.streams(), live);
    }
}

#[test]
fn call_that_is_no_json_costs_itself_alone() {
    for text in [b"nonsense".as_slice(), b"[1]", b"{\"a\":}", &[b"{\"a\":".repeat(100).as_slice()].concat()] {
        let mut pair = Pair::up(&["https://a.internal"]);
        pair.gateway.recv(&call(101, StreamType::Bind, text), &mut (), pair.now).unwrap();
        assert!(sent(&mut pair.gateway).contains("ERR_NGROK_"), "{}", String::from_utf8_lossy(text));
        assert!(pair.gateway.open_proxy(&header("bind-0")).is_ok());
    }
}

#[test]
fn call_that_ends_in_the_middle_is_reset() {
    let mut pair = Pair::up(&[]);
    let wire = [call(101, StreamType::Bind, b"{\"Id\":"), data(101, DataFlag::Fin, b"")].concat();
    pair.gateway.recv(&wire, &mut (), pair.now).unwrap();
    let mut out = Vec::new();
    pair.gateway.poll_transmit(&mut out, usize::MAX);
    assert!(out.windows(8).any(|w| w == [0, 0, 4, 0, 0, 0, 0, 101]), "a RST for stream 101: {out:?}");
}

#[test]
fn unknown_stream_types_are_refused_by_the_agent() {
    let mut pair = Pair::up(&["https://a.internal"]);
    for (id, kind) in [(100u32, 77u32), (102, 0), (104, 1), (106, 10)] {
        pair.agent.recv(&data(id, DataFlag::Syn, &kind.to_be_bytes()), &mut (), pair.now).unwrap();
        let mut out = Vec::new();
        pair.agent.poll_transmit(&mut out, usize::MAX);
        let mut expected = vec![0, 0, 4, 0];
        expected.extend_from_slice(&id.to_be_bytes());
        expected.extend_from_slice(&[0, 0, 0, 5]);
        assert_eq!(out, expected);
    }
    assert_eq!(pair.ended(), None);
}

#[test]
fn absurd_proxy_headers_cost_their_stream_alone() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let lengths = [1i64 << 30, -1, i64::MAX, 70_000];
    for (id, length) in (100u32..).step_by(2).zip(lengths) {
        let wire = [StreamType::Proxy.to_bytes().as_slice(), &length.to_le_bytes()].concat();
        pair.agent.recv(&data(id, DataFlag::Syn, &wire), &mut (), pair.now).unwrap();
    }
    let broken = [StreamType::Proxy.to_bytes().as_slice(), &4i64.to_le_bytes(), b"null"].concat();
    pair.agent.recv(&data(200, DataFlag::Syn, &broken), &mut (), pair.now).unwrap();
    let refused = std::iter::from_fn(|| pair.agent.poll_event()).filter(|e| matches!(e, agent::Event::ProxyRefused(_)));
    assert_eq!(refused.count(), 5);
    let mut out = Vec::new();
    pair.agent.poll_transmit(&mut out, usize::MAX);
    assert_eq!(out.len(), 5 * 12, "five RST frames");
}

#[test]
fn header_in_single_bytes_opens_the_stream() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let bytes = header("bind-0").encode();
    let (first, rest) = bytes.split_at(1);
    pair.agent.recv(&data(100, DataFlag::Syn, first), &mut (), pair.now).unwrap();
    for byte in rest {
        pair.agent.recv(&data(100, DataFlag::None, &[*byte]), &mut (), pair.now).unwrap();
    }
    assert!(
        std::iter::from_fn(|| pair.agent.poll_event()).any(|e| matches!(e, agent::Event::Proxy { endpoint: 0, .. }))
    );
}

#[test]
fn addresses_and_keys_in_a_header_lead_nowhere() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let json = br#"{"Id":"tcp://10.0.0.1:22","ClientAddr":"10.0.0.1:22","Proto":"tcp","EdgeType":"0","PassthroughTLS":false,"Upstream":"10.0.0.1:22"}"#;
    let wire = [StreamType::Proxy.to_bytes().as_slice(), &(json.len() as i64).to_le_bytes(), json].concat();
    pair.agent.recv(&data(100, DataFlag::Syn, &wire), &mut (), pair.now).unwrap();
    assert!(matches!(pair.agent.poll_event(), Some(agent::Event::ProxyRefused(_))));
}

/// Beats on one stream, all in one piece.
fn beats(id: u32, count: usize) -> Vec<u8> {
    let open = data(id, DataFlag::Syn, &StreamType::Heartbeat.to_bytes());
    [open, data(id, DataFlag::None, &vec![7; 4 * count])].concat()
}

#[test]
fn echoes_that_nobody_reads_are_bounded() {
    let fits = ECHO_UNSENT_MAX / BEAT_LEN;
    for (count, lives) in [(fits, true), (fits + 1, false)] {
        let mut pair = Pair::up(&[]);
        let rst = |id: u8| [0, 0, 4, 0, 0, 0, 0, id, 0, 0, 0, 10];
        let mut out = Vec::new();
        pair.gateway.recv(&beats(101, count), &mut (), pair.now).unwrap();
        pair.gateway.poll_transmit(&mut out, usize::MAX);
        assert_eq!(!out.windows(12).any(|w| w == rst(101)), lives, "gateway, {count}");
        out.clear();
        pair.agent.recv(&beats(100, count), &mut (), pair.now).unwrap();
        pair.agent.poll_transmit(&mut out, usize::MAX);
        assert_eq!(!out.windows(12).any(|w| w == rst(100)), lives, "agent, {count}");
    }
}

#[test]
fn unfinished_commands_and_headers_hold_a_bounded_amount() {
    let mut pair = Pair::up(&[]);
    let piece = vec![b'a'; 60_000];
    for id in (100..).step_by(2).take(100) {
        let header = [StreamType::Proxy.to_bytes().as_slice(), &65_000i64.to_le_bytes()].concat();
        let wire = [data(id, DataFlag::Syn, &header), data(id, DataFlag::None, &piece)].concat();
        pair.agent.recv(&wire, &mut (), pair.now).unwrap();
        pair.agent.poll_transmit(&mut Vec::new(), usize::MAX);
    }
    for id in (1000..).step_by(2).take(10) {
        pair.agent.recv(&call(id, StreamType::Stop, b"{\"x\":\""), &mut (), pair.now).unwrap();
        for _ in 0..15 {
            pair.agent.recv(&data(id, DataFlag::None, &piece), &mut (), pair.now).unwrap();
            pair.agent.poll_transmit(&mut Vec::new(), usize::MAX);
        }
    }
    let held = pair.agent.unfinished_bytes();
    let most = agent::UNFINISHED_BYTES_MAX.min(Limits::default().memory_max / 4);
    assert!((most - 900_000..=most).contains(&held), "{held}");
    assert_eq!(pair.agent.usage().memory, held, "it counts against the budget");
    assert_eq!(pair.ended(), None);
}
