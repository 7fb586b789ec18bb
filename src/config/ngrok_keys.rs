//! The keys that ngrok's agent accepts (configuration version 3), to tell which of a file's keys it would refuse.

use serde_json::Value;

use super::document::{join_index, join_key};

/// The paths of all keys of the file that ngrok's agent does not know, at most [`FOREIGN_MAX`].
pub(super) fn foreign_keys(file: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(file, &ROOT, "", &mut found);
    found
}

/// What ngrok's agent accepts at one place of the file.
enum Shape {
    /// An object with these keys.
    Keys(&'static [(&'static str, Self)]),
    /// A list of such.
    List(&'static Self),
    /// Anything; keys below are not the agent's own.
    Any,
}

fn compare(value: &Value, shape: &Shape, path: &str, found: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Keys(known), Value::Object(members)) => {
            for (key, member) in members {
                let path = join_key(path, key);
                match known.iter().find(|(name, _)| name == key) {
                    Some((_, shape)) => compare(member, shape, &path, found),
                    None if found.len() < FOREIGN_MAX => found.push(path),
                    None => return,
                }
            }
        }
        (Shape::List(shape), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                compare(item, shape, &join_index(path, index), found);
            }
        }
        (Shape::Keys(_) | Shape::List(_) | Shape::Any, _) => {}
    }
}

const ROOT: Shape = Shape::Keys(&[
    ("version", Shape::Any),
    ("agent", AGENT),
    ("endpoints", Shape::List(&ENDPOINT)),
    ("tunnels", Shape::Any),
]);

const AGENT: Shape = Shape::Keys(&[
    ("authtoken", Shape::Any),
    ("api_key", Shape::Any),
    ("connect_url", Shape::Any),
    ("connect_cas", Shape::Any),
    ("connect_interface", Shape::Any),
    ("connect_timeout", Shape::Any),
    ("crl_noverify", Shape::Any),
    ("crl_url", Shape::Any),
    ("dns_resolver_ips", Shape::Any),
    ("heartbeat_interval", Shape::Any),
    ("heartbeat_tolerance", Shape::Any),
    ("proxy_url", Shape::Any),
    ("log", Shape::Any),
    ("log_level", Shape::Any),
    ("log_format", Shape::Any),
    ("metadata", Shape::Any),
    ("remote_management", Shape::Any),
    ("update_check", Shape::Any),
    ("update_channel", Shape::Any),
    ("console_ui", Shape::Any),
    ("console_ui_color", Shape::Any),
    ("inspect_db_size", Shape::Any),
    ("local_storage", Shape::Any),
    ("web_addr", Shape::Any),
    ("web_allow_hosts", Shape::Any),
]);

const ENDPOINT: Shape = Shape::Keys(&[
    ("name", Shape::Any),
    ("url", Shape::Any),
    ("bindings", Shape::Any),
    ("upstream", Shape::Keys(&[("url", Shape::Any), ("protocol", Shape::Any), ("proxy_protocol", Shape::Any)])),
    (
        "agent_tls_termination",
        Shape::Keys(&[
            ("server_certificate", Shape::Any),
            ("server_private_key", Shape::Any),
            ("mutual_tls_certificate_authorities", Shape::Any),
        ]),
    ),
    ("traffic_policy", Shape::Any),
    ("traffic_policy_file", Shape::Any),
    ("pooling_enabled", Shape::Any),
    ("metadata", Shape::Any),
    ("description", Shape::Any),
]);

/// As many as a list of problems shows.
const FOREIGN_MAX: usize = super::problem::PROBLEMS_MAX;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_our_own_are_named_and_ngroks_are_not() {
        let file = json!({
            "version": 3,
            "agent": {"authtoken": "x", "authtoken_file": "y", "connect_url": "z", "drain_timeout": "1s", "instance_id": "b"},
            "endpoints": [
                {"name": "a", "upstream": {"url": "80", "tls": {}}, "traffic_policy": {"on_http_request": []}},
                {"name": "b", "ours": 1},
            ],
            "more": {},
        });
        assert_eq!(
            foreign_keys(&file),
            [
                "agent.authtoken_file",
                "agent.drain_timeout",
                "agent.instance_id",
                "endpoints[0].upstream.tls",
                "endpoints[1].ours",
                "more"
            ]
        );
    }

    #[test]
    fn foreign_keys_are_listed_up_to_the_limit() {
        let file = Value::Object((0..FOREIGN_MAX + 5).map(|index| (format!("k{index}"), Value::Null)).collect());
        assert_eq!(foreign_keys(&file).len(), FOREIGN_MAX);
    }
}
