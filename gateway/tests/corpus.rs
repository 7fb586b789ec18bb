//! Replays the corpus of every fuzz target that needs the gateway's library: what fuzzing has found stays found.

#![expect(unreachable_pub, reason = "the same files are modules of the fuzz crate, where the targets need them")]

#[path = "../../fuzz/src/client_hello.rs"]
mod client_hello;
#[path = "../../fuzz/src/gateway_config.rs"]
mod gateway_config;
#[path = "../../fuzz/src/policy.rs"]
mod policy;

use std::fs;
use std::path::Path;

/// Runs a target over its corpus. An empty one is an error: it would test nothing.
#[expect(clippy::unwrap_used, reason = "a test may end here, the path is printed")]
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn client_hello_holds_over_its_corpus() {
    replay("client_hello", client_hello::client_hello);
}

#[test]
fn gateway_config_holds_over_its_corpus() {
    replay("gateway_config", gateway_config::gateway_config);
}

#[test]
fn policy_holds_over_its_corpus() {
    replay("policy", policy::policy);
}
