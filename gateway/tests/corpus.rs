//! Replays the corpus of every fuzz target that needs the gateway's library: what fuzzing has found stays found.

#![expect(unreachable_pub, reason = "the same files are modules of the fuzz crate, where the targets need them")]

#[path = "../../fuzz/src/client_hello.rs"]
mod client_hello;
#[path = "../../fuzz/src/gateway_config.rs"]
mod gateway_config;
#[path = "../../fuzz/src/policy.rs"]
mod policy;
#[path = "../../fuzz/replay.rs"]
mod replay;

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
