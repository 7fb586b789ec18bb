//! Endpoints that are added, removed and changed while the session is up.

use super::*;

impl Pair {
    /// Changes the list of endpoints and lets both ends come to rest.
    fn change(&mut self, endpoints: Vec<EndpointSpec>) {
        self.agent.change_endpoints(endpoints, self.now);
        self.run();
    }

    fn changed(&self) -> Vec<usize> {
        let numbers = self.agent_events.iter().filter_map(|event| match event {
            agent::Event::Changed { endpoint } => Some(*endpoint),
            _ => None,
        });
        numbers.collect()
    }

    fn is_refused(&mut self, id: &str) -> bool {
        let key = self.open(id);
        self.run();
        let refused = |event: &gateway::Event| matches!(event, gateway::Event::Reset(other, ErrorCode::STREAM_REFUSED) if *other == key);
        self.gateway_events.iter().any(refused)
    }
}

fn specs(urls: &[&str]) -> Vec<EndpointSpec> {
    settings(urls).endpoints
}

const A: &str = "https://a.internal";
const B: &str = "https://b.internal";
const C: &str = "tcp://c.internal:1";

#[test]
fn same_list_tells_the_gateway_nothing() {
    let mut pair = Pair::up(&[A, B]);
    pair.change(specs(&[A, B]));
    assert_eq!((pair.binds.len(), pair.unbinds.len(), pair.patches.len()), (2, 0, 0));
}

#[test]
fn endpoint_that_is_added_is_bound_and_the_others_are_left_alone() {
    let mut pair = Pair::up(&[A]);
    let visitor = pair.open("bind-0");
    pair.run();
    pair.change(specs(&[A, C]));
    assert_eq!((pair.bound(), pair.unbinds.len()), (vec![0, 1], 0));
    assert!(!pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Reset(key, _) if *key == visitor)));
}

#[test]
fn endpoint_that_is_removed_takes_no_visitor_and_keeps_its_streams() {
    let mut pair = Pair::up(&[A, B]);
    let visitor = pair.open("bind-1");
    pair.run();
    // From the moment of the change, before the gateway knows.
    pair.agent.change_endpoints(specs(&[A]), pair.now);
    assert!(pair.is_refused("bind-1"));
    assert_eq!(pair.unbinds, ["bind-1"]);
    assert!(!pair.gateway_events.iter().any(|event| matches!(event, gateway::Event::Reset(key, _) if *key == visitor)));
    assert!(!pair.is_refused("bind-0"));
}

#[test]
fn words_about_an_endpoint_change_while_it_is_online() {
    let mut pair = Pair::up(&[A]);
    let mut changed = specs(&[A]);
    changed[0].traffic_policy = "{}".to_owned();
    changed[0].description = "new".to_owned();
    pair.change(changed.clone());
    let expected = PatchRequest {
        tunnel_id: "tunnel".to_owned(),
        description: Some("new".to_owned()),
        traffic_policy: Some("{}".to_owned()),
        ..PatchRequest::default()
    };
    assert_eq!((&pair.patches, pair.changed()), (&vec![expected], vec![0]));
    assert_eq!((pair.binds.len(), pair.unbinds.len()), (1, 0));
    pair.change(changed.clone());
    assert_eq!(pair.patches.len(), 1);

    // The next session takes the identity up with what is in force now.
    let mut next = Pair::resumed(&[], pair.agent.into_resumption(), pair.now);
    next.agent.change_endpoints(changed, next.now);
    next.run();
    assert_eq!(next.binds[0].opts["TrafficPolicy"], "{}");
}

#[test]
fn change_that_the_gateway_refuses_takes_the_endpoint_offline_until_it_is_accepted() {
    let mut pair = Pair::up(&[A]);
    pair.patch_refusal = Some(WireError::new(9026, "no such action"));
    pair.refusals = vec![WireError::new(9026, "no such action")];
    let mut changed = specs(&[A]);
    changed[0].traffic_policy = "wrong".to_owned();
    pair.change(changed);
    assert_eq!((pair.unbinds.as_slice(), pair.binds.len()), (&["bind-0".to_owned()][..], 2));
    assert!(pair.binds[1].id.is_empty() && pair.binds[1].opts["TrafficPolicy"] == "wrong");
    assert!(pair.agent_events.iter().any(|event| matches!(event, agent::Event::ChangeRefused { endpoint: 0, .. })));
    assert!(pair.is_refused("bind-0"));
    // Mended: it does not wait for the end of its interval.
    pair.change(specs(&[A]));
    assert_eq!(pair.bound(), [0, 0]);
}

#[test]
fn gateway_that_does_not_know_the_call_for_changes_gets_the_endpoint_anew() {
    let mut pair = Pair::up(&[A]);
    pair.aborts_patches = true;
    let mut changed = specs(&[A]);
    changed[0].metadata = "new".to_owned();
    pair.change(changed);
    assert_eq!((pair.bound(), pair.unbinds.len(), pair.ended()), (vec![0, 0], 1, None));
    assert_eq!(pair.binds[1].extra.metadata, "new");
}

#[test]
fn another_address_is_asked_for_only_after_the_old_one_is_free() {
    let mut pair = Pair::up(&[A, B]);
    let mut swapped = specs(&[B, A]);
    (swapped[0].name, swapped[1].name) = (swapped[1].name.clone(), swapped[0].name.clone());
    pair.agent.change_endpoints(swapped, pair.now);
    // The calls that are on their way before any answer.
    pair.step();
    let calls: Vec<_> = std::iter::from_fn(|| pair.gateway.poll_event()).collect();
    let requests = calls.into_iter().filter_map(|event| match event {
        gateway::Event::Call { call, request: Request::Unbind(_) } => Some(call),
        gateway::Event::Call { request, .. } => panic!("{request:?} before the addresses are free"),
        _ => None,
    });
    let requests: Vec<Key> = requests.collect();
    assert_eq!(requests.len(), 2);
    for call in requests {
        pair.gateway.reply(call, &EmptyReply { error: None }.to_json());
    }
    pair.run();
    let fresh: Vec<_> = pair.binds[2..].iter().map(|bind| (bind.id.as_str(), bind.opts["URL"].as_str())).collect();
    assert_eq!(fresh, [("", Some(B)), ("", Some(A))]);
}

#[test]
fn endpoint_that_is_removed_or_moved_while_it_is_asked_for_goes_offline_at_once() {
    for moved in [false, true] {
        let mut pair = Pair::new(&[A]);
        // The log-in is through, the bind is not answered.
        pair.step();
        while let Some(event) = pair.gateway.poll_event() {
            if let gateway::Event::Call { call, request: Request::Auth(_) } = event {
                pair.accept(call);
            }
        }
        pair.step();
        pair.agent.change_endpoints(if moved { specs(&[B]) } else { Vec::new() }, pair.now);
        pair.run();
        assert_eq!(pair.unbinds, ["bind-0"]);
        assert_eq!(pair.bound(), if moved { vec![0] } else { Vec::new() });
        assert!(pair.is_refused("bind-0"));
    }
}

#[test]
fn endpoint_without_its_old_address_does_not_take_up_the_old_identity() {
    let first = Pair::up(&[A, B]);
    let mut second = Pair::resumed(&[C, B], first.agent.into_resumption(), first.now);
    second.run();
    let ids: Vec<_> = second.binds.iter().map(|bind| bind.id.as_str()).collect();
    assert_eq!(ids, ["", "bind-1"]);
}

#[test]
fn as_many_calls_are_under_way_as_at_the_start() {
    let urls: Vec<String> = (0..100).map(|number| format!("https://n{number}.internal")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut pair = Pair::up(&urls);
    pair.agent.change_endpoints(Vec::new(), pair.now);
    pair.step();
    let calls = std::iter::from_fn(|| pair.gateway.poll_event());
    let calls: Vec<_> = calls.filter(|event| matches!(event, gateway::Event::Call { .. })).collect();
    assert_eq!(calls.len(), 4);
}
