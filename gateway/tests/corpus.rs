//! Replays the corpus of every fuzz target that needs the gateway's library: what fuzzing has found stays found.

#![expect(unreachable_pub, reason = "the same files are modules of the fuzz crate, where the targets need them")]

#[path = "../../fuzz/src/client_hello.rs"]
mod client_hello;
#[path = "../../fuzz/src/expression.rs"]
mod expression;
#[path = "../../fuzz/src/gateway_config.rs"]
mod gateway_config;
#[path = "../../fuzz/src/input.rs"]
#[expect(dead_code, reason = "other targets draw words")]
mod input;
#[path = "../../fuzz/src/log_in.rs"]
mod log_in;
#[path = "../../fuzz/src/policy.rs"]
mod policy;
#[path = "../../fuzz/src/policy_grammar.rs"]
mod policy_grammar;
#[path = "../../fuzz/src/policy_rules.rs"]
mod policy_rules;
#[path = "../../fuzz/src/proxy_header.rs"]
mod proxy_header;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/src/saml_response.rs"]
mod saml_response;
#[path = "../../fuzz/src/template.rs"]
mod template;

use replay::replay;

/// Where the inputs are, from the package.
const CORPUS: &str = "../fuzz/corpus";

#[test]
fn client_hello_holds_over_its_corpus() {
    replay(CORPUS, "client_hello", client_hello::client_hello);
}

#[test]
fn gateway_config_holds_over_its_corpus() {
    replay(CORPUS, "gateway_config", gateway_config::gateway_config);
}

#[test]
fn policy_holds_over_its_corpus() {
    replay(CORPUS, "policy", policy::policy);
}

#[test]
fn policy_rules_holds_over_its_corpus() {
    replay(CORPUS, "policy_rules", policy_rules::policy_rules);
}

#[test]
fn expression_holds_over_its_corpus() {
    replay(CORPUS, "expression", expression::expression);
}

#[test]
fn template_holds_over_its_corpus() {
    replay(CORPUS, "template", template::template);
}

#[test]
fn proxy_header_holds_over_its_corpus() {
    replay(CORPUS, "proxy_header", proxy_header::proxy_header);
}

#[test]
fn log_in_holds_over_its_corpus() {
    replay(CORPUS, "log_in", log_in::log_in);
}

#[test]
fn saml_response_holds_over_its_corpus() {
    replay(CORPUS, "saml_response", saml_response::saml_response);
}
