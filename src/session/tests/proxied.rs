//! Proxied streams: headers, bytes, ends and aborts.

use super::*;

/// Sends `bytes` from the gateway under grants.
fn send(pair: &mut Pair, stream: Key, bytes: &[u8]) {
    let mut wire = Vec::new();
    pair.gateway.poll_transmit(&mut wire, usize::MAX);
    pair.gateway.want_send(stream);
    let mut left = bytes;
    while !left.is_empty() {
        let grant = pair.gateway.poll_grant().expect("credit");
        let (now, later) = left.split_at(left.len().min(grant.max));
        let header = pair.gateway.commit(grant, now.len()).unwrap();
        wire.extend_from_slice(&header);
        wire.extend_from_slice(now);
        left = later;
    }
    pair.agent.recv(&wire, &mut (), pair.now).unwrap();
    pair.step();
}

#[test]
fn bytes_behind_the_header_are_the_visitors() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let stream = pair.open("bind-0");
    send(&mut pair, stream, b"GET / HTTP/1.1\r\n");
    let key = pair.proxied();
    assert_eq!(pair.agent.queue(key).unwrap().chunk(), b"GET / HTTP/1.1\r\n");
}

#[test]
fn half_close_passes_and_the_answer_still_arrives() {
    let mut pair = Pair::up(&["tcp://a.internal:1"]);
    let stream = pair.open("bind-0");
    send(&mut pair, stream, b"ask");
    pair.gateway.finish(stream);
    pair.run();
    let key = pair.proxied();
    pair.agent.consume(key, 3);
    assert!(pair.agent.is_finished(key));
    pair.agent.want_send(key);
    let grant = pair.agent.poll_grant().unwrap();
    let header = pair.agent.commit(grant, 6).unwrap();
    pair.gateway.recv(&[header.as_slice(), b"answer"].concat(), &mut (), pair.now).unwrap();
    pair.agent.finish(key);
    pair.run();
    assert_eq!(pair.gateway.chunk(stream), b"answer");
    pair.gateway.consume(stream, 6);
    assert!(pair.gateway.is_finished(stream));
}

#[test]
fn abort_behind_an_end_is_an_abort() {
    let mut pair = Pair::up(&["tcp://a.internal:1"]);
    let stream = pair.open("bind-0");
    pair.run();
    let key = pair.proxied();
    pair.agent.finish(key);
    pair.step();
    pair.agent.reset(key);
    pair.run();
    let last = pair.gateway_events.iter().rev().find_map(|event| match event {
        gateway::Event::Finished(other) if *other == stream => Some("finished"),
        gateway::Event::Reset(other, _) if *other == stream => Some("reset"),
        _ => None,
    });
    assert_eq!(last, Some("reset"));
}

#[test]
fn unknown_endpoint_costs_its_stream_alone() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let foreign = pair.open("bind-of-somebody-else");
    let good = pair.open("bind-0");
    pair.run();
    assert!(pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Reset(key, _) if *key == foreign)));
    assert!(!pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Reset(key, _) if *key == good)));
    assert_eq!(pair.ended(), None);
}

#[test]
fn unreachable_upstream_is_a_code_for_our_gateway() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let stream = pair.open("bind-0");
    pair.run();
    let key = pair.proxied();
    pair.agent.refuse_unreachable(key, 0, "no");
    pair.run();
    let code = pair.gateway_events.iter().find_map(|event| match event {
        gateway::Event::Reset(other, code) if *other == stream => Some(*code),
        _ => None,
    });
    assert_eq!(code, Some(ErrorCode::UPSTREAM_UNREACHABLE));
}

#[test]
fn unreachable_upstream_is_an_answer_or_an_end_for_other_gateways() {
    for (url, answered) in [
        ("https://a.internal", true),
        ("http://a.internal", true),
        ("tcp://a.internal:1", false),
        ("tls://a.internal", false),
    ] {
        let mut pair = Pair::new(&[url]);
        pair.adit = false;
        pair.run();
        let stream = pair.open("bind-0");
        send(&mut pair, stream, b"request");
        let key = pair.proxied();
        pair.agent.refuse_unreachable(key, 0, "the reason");
        pair.run();
        let text = String::from_utf8(pair.gateway.chunk(stream).to_vec()).unwrap();
        if answered {
            assert!(text.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{text}");
            assert!(
                text.contains("\r\nadit-error-code: ERR_NGROK_8012\r\n")
                    && text.contains("\r\nngrok-error-code: ERR_NGROK_8012\r\n")
            );
            assert!(text.ends_with("\r\n\r\nthe reason"));
        } else {
            assert_eq!(text, "");
        }
        assert!(
            pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Finished(key) if *key == stream))
        );
        assert!(!pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Reset(..))));
    }
}

#[test]
fn streams_beyond_the_limit_are_not_opened_and_the_session_lives() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let mut opened = 0;
    while pair.gateway.open_proxy(&header("bind-0")).is_ok() {
        opened += 1;
        pair.run();
    }
    // The heartbeat and nothing else takes one of the 500.
    assert_eq!(opened, 499);
    assert_eq!((pair.ended(), pair.gateway.free_streams()), (None, 0));
}

#[test]
fn refusal_behind_unread_bytes_comes_when_they_are_consumed() {
    let mut pair = Pair::up(&["tcp://a.internal:1"]);
    let stream = pair.open("bind-0");
    send(&mut pair, stream, b"ask");
    let key = pair.proxied();
    let id = pair.agent.stream_id(key);
    // An official gateway that is done with the stream, and then got more of the answer.
    let wire = [&data_header(id, 0, DataFlag::Fin)[..], &[0, 0, 4, 0], &id.to_be_bytes(), &[0, 0, 0, 4]].concat();
    pair.agent.recv(&wire, &mut (), pair.now).unwrap();
    let reset = |pair: &mut Pair| {
        std::iter::from_fn(|| pair.agent.poll_event()).any(|event| matches!(event, agent::Event::Reset(..)))
    };
    assert!(!reset(&mut pair));
    pair.agent.consume(key, 3);
    assert!(pair.agent.poll_timeout().is_some_and(|at| at <= pair.now), "no byte of the link will tell");
    pair.agent.handle_timeout(pair.now);
    assert!(reset(&mut pair));
}
