//! Expressions as people write them, and as nobody would, in a condition.

use serde_json::json;

use crate::policy::run_everywhere;

/// Compiles the input as an expression of each phase, and evaluates it over a request, its response and a connection.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for phase in ["on_tcp_connect", "on_http_request", "on_http_response"] {
        run_everywhere(
            &json!({phase: [{"expressions": [text], "actions": [{"type": "restrict-ips", "config": {"deny": ["::1"]}}]}]}),
        );
    }
}
