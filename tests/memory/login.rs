//! A log-in and a Bind for tests of a whole session: what the agent says, and what the gateway answers.

use std::time::Duration;

use adit::endpoint_url::RequestedUrl;
use adit::message::{
    AditExtra, AuthReply, AuthReplyExtra, AuthRequest, BindReply, BindReplyExtra, BindRequest, Secret,
};
use adit::mux::{Key, Limits};
use adit::proxy_protocol::ProxyProtocol;
use adit::session::agent::Settings;
use adit::session::gateway::PeerFacts;
use adit::session::{EndpointSpec, GatewaySession};

/// An agent with the endpoint `a`.
pub(crate) fn settings(limits: Limits) -> Settings {
    Settings {
        authtoken: Secret::new("token"),
        instance: None,
        metadata: String::new(),
        version: "1".to_owned(),
        os: String::new(),
        arch: String::new(),
        heartbeat_interval: Duration::from_secs(10),
        heartbeat_tolerance: Duration::from_secs(15),
        remote_management: false,
        endpoints: vec![EndpointSpec {
            number: 0,
            name: "a".to_owned(),
            url: RequestedUrl::parse("tcp://a.internal:1").unwrap(),
            forwards_to: String::new(),
            proxy_protocol: ProxyProtocol::None,
            bindings: vec!["internal".to_owned()],
            pooling_enabled: false,
            metadata: String::new(),
            description: String::new(),
            traffic_policy: String::new(),
        }],
        limits,
    }
}

/// Accepts a log-in as a gateway of ours, which grants `window`, if any.
pub(crate) fn accept(session: &mut GatewaySession, call: Key, request: &AuthRequest, window: Option<u32>) {
    let adit = Some(AditExtra { window, ..AditExtra::default() });
    let extra = AuthReplyExtra { adit, ..AuthReplyExtra::default() };
    let reply = AuthReply { version: "3".to_owned(), client_id: "c".to_owned(), error: None, extra };
    let facts = PeerFacts {
        client_type: "adit".to_owned(),
        streams_max: None,
        window: request.extra.adit.as_ref().and_then(|adit| adit.window),
        liveness: Duration::from_secs(3600),
    };
    session.accept_auth(call, &reply, &facts, Limits::default());
}

/// The id under which an endpoint is bound.
pub(crate) fn bind_id(name: &str) -> String {
    format!("bind-{name}")
}

/// The answer to a Bind.
pub(crate) fn bound(request: &BindRequest) -> BindReply {
    BindReply {
        id: bind_id(&request.extra.name),
        url: format!("tcp://{}.internal:1", request.extra.name),
        proto: request.proto,
        opts: request.opts.clone(),
        error: None,
        extra: BindReplyExtra { token: Secret::new("t"), tunnel_id: bind_id(&request.extra.name) },
    }
}
