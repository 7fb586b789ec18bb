//! What the log never holds, at any level and in any form: tokens, cookies, keys, bytes of visitors.

use adit::message::{StreamType, WireError};

use crate::gateway::{Behaviour, Gateway};
use crate::peer::{COOKIE, Peer, Script};
use crate::program::{Agent, Setup, TOKEN};
use crate::site::Site;
use crate::upstream;

#[test]
fn busy_run_at_debug_logs_no_secret_and_no_payload() {
    for format in ["logfmt", "json", "term"] {
        let gateway = Gateway::adit();
        let setup = Setup::new().agent("log_format", format).agent("metadata", META);
        let setup = setup.tcp("echo", upstream::echo()).tcp("down", upstream::nobody());
        let setup = setup.endpoint("web", "https://web.internal", &format!("https://{}", upstream::echo()));
        let setup = setup.with("traffic_policy", POLICY);
        let mut agent = setup.clone().system_bundle(&Site::new().ca_pem).start(&gateway);
        let peer = gateway.peer(0);
        peer.wait_bound(3);
        visit(&peer);
        for kind in [StreamType::Stop, StreamType::Restart, StreamType::Update, StreamType::StopTunnel] {
            peer.command(kind, format!(r#"{{"Version":"{PAYLOAD}","Id":"ep_web","Message":"m"}}"#).as_bytes());
        }
        agent.wait_line(&["asked for Update"]);
        // A bad file, then one with another token and policy.
        agent.reload(&setup.clone().agent("authtoken", format!("{OTHER_TOKEN} and more")), &gateway);
        agent.wait_line(&["is refused"]);
        let refusal = WireError::new(107, "unknown");
        gateway.set(Behaviour::Serve(Script { adit: true, refuses: Some(refusal), ..Script::default() }));
        agent.reload(&setup.with("traffic_policy", "s3cret_of_policy").agent("authtoken", OTHER_TOKEN), &gateway);
        agent.wait_line(&["refuses the log-in"]);
        gateway.set(Behaviour::Serve(Script { adit: true, ..Script::default() }));
        agent.wait_lines(2, &["endpoint=echo online"]);
        agent.signal("TERM");
        assert_eq!(agent.wait_exit().code(), Some(0));
        check(&agent, format);
    }
}

fn visit(peer: &Peer) {
    let stream = peer.visit("echo");
    stream.send(PAYLOAD.as_bytes());
    stream.wait_received(PAYLOAD.len());
    stream.reset();
    for name in ["down", "web"] {
        let stream = peer.visit(name);
        stream.send(format!("GET /{PAYLOAD} HTTP/1.1\r\nAuthorization: {PAYLOAD}\r\n\r\n").as_bytes());
        stream.wait_end();
    }
}

fn check(agent: &Agent, format: &str) {
    let log = agent.log();
    assert!(log.contains("debug") && log.contains("closed"), "{log}");
    for secret in [TOKEN, OTHER_TOKEN, COOKIE, PAYLOAD, META, "s3cret_of_policy", "token-of-", "BEGIN"] {
        assert!(!log.contains(secret), "{format}: {secret}: {log}");
    }
}

const PAYLOAD: &str = "p4yload_of_a_visitor";
const OTHER_TOKEN: &str = "tok_0ther_0ther";
const META: &str = "m3tadata";
const POLICY: &str = r#"{"on_http_request":[{"actions":[{"type":"deny","config":{"x":"s3cret_of_policy"}}]}]}"#;
