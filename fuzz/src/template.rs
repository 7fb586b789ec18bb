//! Texts with `${…}`, wherever a policy has them.

use serde_json::json;

use crate::policy::run_everywhere;

/// Compiles the input as a text of every action that has one, and works it out over a request and its response.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let both = [
        json!({"type": "set-vars", "config": {"vars": [{"a": text}]}}),
        json!({"type": "log", "config": {"metadata": {"a": text}}}),
        json!({"type": "add-headers", "config": {"headers": {"x-a": text}}}),
        json!({"type": "custom-response", "config": {"body": text, "headers": {"x-a": text}}}),
    ];
    let requests = [
        json!({"type": "redirect", "config": {"from": "/(.*)", "to": text}}),
        json!({"type": "url-rewrite", "config": {"from": "/(.*)", "to": text}}),
        json!({"type": "restrict-ips", "config": {"allow": [text]}}),
    ];
    for action in both.iter().chain(&requests) {
        run_everywhere(&json!({"on_http_request": [{"actions": [action]}]}));
    }
    for action in &both {
        run_everywhere(&json!({"on_http_response": [{"actions": [action]}]}));
    }
}
