//! Log-in, binds, heartbeat, commands, drain.

use super::*;

#[test]
fn session_comes_up_and_binds_all_endpoints() {
    let urls =
        ["https://a.internal", "tcp://b.internal:1", "tls://c.internal", "http://d.internal", "https://e.internal"];
    let pair = Pair::up(&urls);
    assert!(matches!(pair.agent_events.first(), Some(agent::Event::Beat(_) | agent::Event::Up(_))));
    assert_eq!(pair.bound(), [0, 1, 2, 3, 4]);
    assert_eq!(pair.binds.len(), 5);
}

#[test]
fn pieces_of_one_byte_make_no_difference() {
    let mut pair = Pair::new(&["https://a.internal"]);
    pair.chunk = 1;
    pair.run();
    assert_eq!(pair.bound(), [0]);
}

// An endpoint may be routed only after the agent's FIN on the bind's stream.
#[test]
fn delivered_reply_is_told_once_per_call() {
    let pair = Pair::up(&["https://a.internal", "https://b.internal"]);
    let delivered =
        pair.gateway_events.iter().filter(|e| matches!(e, gateway::Event::CallDone { delivered: true, .. }));
    assert_eq!(delivered.count(), 3, "Auth and two binds");
}

#[test]
fn refused_login_ends_the_session_with_the_reason() {
    let mut pair = Pair::new(&[]);
    pair.step();
    let call = std::iter::from_fn(|| pair.gateway.poll_event()).find_map(|event| match event {
        gateway::Event::Call { call, request: Request::Auth(request) } => {
            assert_eq!(request.extra.authtoken.expose(), "token");
            Some(call)
        }
        _ => None,
    });
    let refusal = AuthReply::refused(WireError::new(codes::AUTHTOKEN_UNKNOWN, "who are you"));
    pair.gateway.refuse_auth(call.unwrap(), &refusal);
    pair.run();
    let refused = pair.agent_events.iter().find_map(|event| match event {
        agent::Event::AuthRefused { error, retry_after: None } => Some(error.code),
        _ => None,
    });
    assert_eq!(refused, Some(Some(codes::AUTHTOKEN_UNKNOWN)));
    assert!(pair.gateway.open_proxy(&header("bind-0")).is_err());
}

#[test]
fn refused_bind_is_asked_again_alone() {
    let mut pair = Pair::new(&["https://a.internal", "https://b.internal"]);
    pair.refusals = vec![WireError::new(codes::ACL_REFUSES_NAME, "no")];
    pair.run();
    assert_eq!((pair.bound(), pair.binds.len()), (vec![1], 2));
    pair.advance(Duration::from_secs(2));
    assert_eq!((pair.bound(), pair.binds.len()), (vec![1, 0], 3));
}

#[test]
fn refused_bind_is_asked_at_most_once_a_minute_in_the_end() {
    let mut pair = Pair::new(&["https://a.internal"]);
    pair.refusals = vec![WireError::new(codes::ENDPOINT_ONLINE, "taken"); 100];
    pair.run();
    for _ in 0..600 {
        pair.advance(Duration::from_secs(1));
    }
    // 2 + 4 + … + 60 s ceilings, each at least half of it: ten minutes hold no more than 26 tries.
    assert!((12..=26).contains(&pair.binds.len()), "{} binds", pair.binds.len());
    assert_eq!(pair.ended(), None);
}

#[test]
fn next_session_rebinds_under_the_same_ids() {
    let urls = ["https://a.internal", "tcp://b.internal:1"];
    let first = Pair::up(&urls);
    let mut second = Pair::resumed(&urls, first.agent.into_resumption(), first.now);
    second.step();
    let auth = std::iter::from_fn(|| second.gateway.poll_event()).find_map(|event| match event {
        gateway::Event::Call { call, request: Request::Auth(request) } => Some((call, request)),
        _ => None,
    });
    let (call, request) = auth.unwrap();
    assert_eq!((request.client_id.as_str(), request.extra.cookie.expose()), ("client", "cookie"));
    second.accept(call);
    second.run();
    let identities: Vec<_> = second.binds.iter().map(|b| (b.id.as_str(), b.extra.token.expose())).collect();
    assert_eq!(identities, [("bind-0", "token-of-bind-0"), ("bind-1", "token-of-bind-1")]);
    assert_eq!(second.bound(), [0, 1]);
}

#[test]
fn identity_that_is_refused_is_given_up_but_not_for_a_busy_address() {
    let urls = ["https://a.internal"];
    for (code, kept) in [(codes::BIND_TOKEN_MALFORMED, false), (codes::ENDPOINT_ONLINE, true)] {
        let first = Pair::up(&urls);
        let mut second = Pair::resumed(&urls, first.agent.into_resumption(), first.now);
        second.refusals = vec![WireError::new(code, "no")];
        second.run();
        second.advance(Duration::from_secs(2));
        let ids: Vec<_> = second.binds.iter().map(|bind| bind.id.as_str()).collect();
        assert_eq!(ids, ["bind-0", if kept { "bind-0" } else { "" }]);
    }
}

#[test]
fn beats_keep_both_ends_alive() {
    let mut pair = Pair::up(&[]);
    for _ in 0..100 {
        pair.advance(INTERVAL);
    }
    let beats = pair.agent_events.iter().filter(|event| matches!(event, agent::Event::Beat(_))).count();
    assert_eq!((beats, pair.ended()), (101, None));
    assert!(!pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Dead)));
}

#[test]
fn silence_ends_the_session_on_both_sides_in_time() {
    let mut pair = Pair::up(&[]);
    let start = pair.now;
    // The path eats everything from now on.
    for _ in 0..100 {
        let Some(at) = pair.agent.poll_timeout() else { break };
        pair.now = at;
        pair.agent.handle_timeout(at);
        while let Some(event) = pair.agent.poll_event() {
            pair.agent_events.push(event);
        }
    }
    assert_eq!(pair.ended(), Some(&End::Silence));
    assert_eq!(pair.now.duration_since(start), INTERVAL + TOLERANCE);
    assert_eq!(pair.gateway.poll_timeout(), Some(start + LIVENESS));
    pair.gateway.handle_timeout(start + LIVENESS);
    assert!(matches!(pair.gateway.poll_event(), Some(gateway::Event::Dead)));
    pair.gateway.handle_timeout(start + LIVENESS);
    assert!(pair.gateway.poll_event().is_none(), "told once");
}

/// Lets time pass at the agent, whom nobody answers, until its session is over.
fn until_ended(pair: &mut Pair) {
    while pair.ended().is_none() {
        pair.now = pair.agent.poll_timeout().unwrap();
        pair.agent.handle_timeout(pair.now);
        while let Some(event) = pair.agent.poll_event() {
            pair.agent_events.push(event);
        }
    }
}

#[test]
fn gateway_that_never_answers_a_call_is_left() {
    let mut pair = Pair::up(&["https://a.internal"]);
    let start = pair.now;
    pair.agent.drain(start);
    until_ended(&mut pair);
    assert_eq!(pair.ended(), Some(&End::CallTimeout("Unbind")));
    assert_eq!(pair.now.duration_since(start), agent::CALL_DEADLINE);
}

#[test]
fn gateway_that_never_answers_a_bind_is_left() {
    let mut pair = Pair::new(&["https://a.internal"]);
    pair.mutes_binds = true;
    pair.run();
    let start = pair.now;
    until_ended(&mut pair);
    assert_eq!(pair.ended(), Some(&End::CallTimeout("Bind")));
    assert_eq!(pair.now.duration_since(start), agent::CALL_DEADLINE);
}

#[test]
fn log_in_may_take_as_long_as_the_driver_allows() {
    let mut pair = Pair::new(&[]);
    assert_eq!(pair.agent.poll_timeout(), None);
    pair.now += 2 * (INTERVAL + TOLERANCE);
    pair.agent.handle_timeout(pair.now);
    assert!(pair.agent.poll_event().is_none());
    pair.run();
    assert!(pair.agent_events.iter().any(|event| matches!(event, agent::Event::Up(_))));
    pair.agent.handle_timeout(pair.now);
    assert!(pair.agent.poll_event().is_none());
}

#[test]
fn commands_are_refused_unless_the_file_allows_them() {
    for remote_management in [false, true] {
        let mut pair = Pair::new(&[]);
        let settings = Settings { remote_management, ..settings(&[]) };
        pair.agent = AgentSession::new(settings, Resumption::default(), 1, pair.now);
        pair.run();
        let update = Update { version: "9".to_owned(), permit_major: true }.to_json();
        for (kind, json) in
            [(StreamType::Stop, b"{}".as_slice()), (StreamType::Restart, b"{}"), (StreamType::Update, &update)]
        {
            pair.gateway.command(kind, json, pair.now).unwrap();
            pair.run();
        }
        let allowed: Vec<_> = pair
            .agent_events
            .iter()
            .filter_map(|event| match event {
                agent::Event::Command { allowed, .. } => Some(*allowed),
                _ => None,
            })
            .collect();
        assert_eq!(allowed, [remote_management, remote_management, false]);
        let refused: Vec<_> = pair
            .gateway_events
            .iter()
            .filter_map(|event| match event {
                gateway::Event::CommandDone { reply: Some(CommandReply { error }), .. } => Some(error.is_some()),
                _ => None,
            })
            .collect();
        assert_eq!(refused, [!remote_management, !remote_management, true]);
    }
}

#[test]
fn command_that_is_never_answered_frees_its_stream() {
    let mut pair = Pair::up(&[]);
    let before = pair.gateway.streams();
    pair.gateway.command(StreamType::Stop, b"{}", pair.now).unwrap();
    pair.now += gateway::COMMAND_DEADLINE;
    pair.gateway.handle_timeout(pair.now);
    let done = std::iter::from_fn(|| pair.gateway.poll_event())
        .any(|e| matches!(e, gateway::Event::CommandDone { reply: None, .. }));
    assert!(done && pair.gateway.streams() == before);
}

#[test]
fn stopped_endpoint_takes_no_visitors_and_the_others_do() {
    let mut pair = Pair::up(&["https://a.internal", "https://b.internal"]);
    let stop =
        StopTunnel { id: "bind-0".to_owned(), message: "bye".to_owned(), error_code: Some("ERR_NGROK_300".to_owned()) };
    pair.gateway.command(StreamType::StopTunnel, &stop.to_json(), pair.now).unwrap();
    pair.run();
    let stopped = pair.agent_events.iter().find_map(|event| match event {
        agent::Event::EndpointStopped { endpoint, error } => Some((*endpoint, error.code)),
        _ => None,
    });
    assert_eq!(stopped, Some((0, Some(300))));
    pair.open("bind-0");
    pair.open("bind-1");
    pair.run();
    let opened: Vec<_> = pair
        .agent_events
        .iter()
        .filter_map(|event| match event {
            agent::Event::Proxy { endpoint, .. } => Some(*endpoint),
            _ => None,
        })
        .collect();
    assert_eq!(opened, [1]);
}

#[test]
fn drain_unbinds_everything_and_lets_streams_go_on() {
    let mut pair = Pair::up(&["https://a.internal", "https://b.internal"]);
    let visitor = pair.open("bind-0");
    pair.run();
    pair.agent.drain(pair.now);
    pair.run();
    assert!(pair.agent_events.iter().any(|event| matches!(event, agent::Event::Unbound)));
    pair.gateway.want_send(visitor);
    assert!(pair.gateway.poll_grant().is_some(), "the stream lives");
    pair.open("bind-1");
    pair.run();
    assert!(pair.agent_events.iter().any(|event| matches!(event, agent::Event::ProxyRefused(_))));
}

#[test]
fn go_away_ends_the_session_and_is_the_last_word() {
    let mut pair = Pair::up(&["https://a.internal"]);
    pair.open("bind-0");
    pair.gateway.go_away(ErrorCode::NO_ERROR, "shutting down");
    pair.step();
    assert_eq!(pair.ended(), Some(&End::GoAway(ErrorCode::NO_ERROR, "shutting down".to_owned(), None)));
    let mut rest = Vec::new();
    pair.gateway.poll_transmit(&mut rest, usize::MAX);
    assert!(rest.is_empty());
}

#[test]
fn go_away_says_how_long_to_stay_away_to_those_who_know_the_form() {
    let seven = AditExtra { retry_after: Some(Duration::from_secs(7)), ..AditExtra::default() };
    let text = seven.to_go_away("shutting down");
    for (adit, expected) in [
        (true, End::GoAway(ErrorCode::NO_ERROR, "shutting down".to_owned(), seven.retry_after)),
        (false, End::GoAway(ErrorCode::NO_ERROR, text.clone(), None)),
    ] {
        let mut pair = Pair::new(&[]);
        pair.adit = adit;
        pair.run();
        pair.gateway.go_away(ErrorCode::NO_ERROR, &text);
        pair.step();
        assert_eq!(pair.ended(), Some(&expected));
    }
}

#[test]
fn probe_is_answered_by_an_agent_that_lives_and_leaves_nothing_behind() {
    let mut pair = Pair::up(&[]);
    let before = pair.gateway.streams();
    for count in 1..=3 {
        pair.gateway.probe([1, 2, 3, 4]).unwrap();
        pair.run();
        let answers = pair.gateway_events.iter().filter(|event| matches!(event, gateway::Event::ProbeAnswered(_)));
        assert_eq!((answers.count(), pair.gateway.streams()), (count, before));
    }
}

#[test]
fn probe_has_room_beside_all_proxied_streams() {
    let mut pair = Pair::up(&["https://a.internal"]);
    while pair.gateway.open_proxy(&header("bind-0")).is_ok() {}
    assert_eq!(pair.gateway.free_streams(), 0);
    pair.gateway.probe([1, 2, 3, 4]).unwrap();
    pair.run();
    assert!(pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::ProbeAnswered(_))));
    assert!(pair.gateway.open_proxy(&header("bind-0")).is_err());
}

#[test]
fn no_session_prints_a_secret() {
    let mut pair = Pair::new(&["https://a.internal"]);
    let token_as_bytes = format!("{:?}", b"token").replace(['[', ']'], "");
    for _ in 0..2 {
        let printed = format!("{:?} {:?}", pair.agent, pair.gateway);
        assert!(!printed.contains(&token_as_bytes) && !printed.contains("token-of"), "{printed}");
        // First with the log-in in the outbox, then with everything that the gateway gave.
        pair.run();
    }
}

#[test]
fn endpoint_that_comes_online_in_a_drain_is_taken_offline_too() {
    let unbound = |pair: &Pair| pair.agent_events.iter().any(|event| matches!(event, agent::Event::Unbound));
    let mut pair = Pair::new(&["https://a.internal"]);
    pair.step();
    pair.answer();
    pair.step();
    assert!(pair.agent_events.iter().any(|event| matches!(event, agent::Event::Up(_))));
    pair.agent.drain(pair.now);
    // The Bind reaches the gateway only now.
    pair.step();
    assert!(!unbound(&pair), "the Bind is under way");
    pair.answer();
    pair.step();
    assert!(!unbound(&pair), "the Unbind is under way");
    pair.run();
    assert!(unbound(&pair) && pair.bound().is_empty());
    assert_eq!(pair.ended(), None);
}
