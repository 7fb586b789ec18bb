//! Replays the corpus of every fuzz target that needs only the agent's library: what fuzzing has found stays found.

#![expect(unreachable_pub, reason = "the same files are modules of the fuzz crate, where the targets need them")]

#[path = "../fuzz/src/config.rs"]
mod config;
#[path = "../fuzz/src/endpoint_url.rs"]
mod endpoint_url;
#[path = "../fuzz/src/frame_decode.rs"]
mod frame_decode;
#[path = "../fuzz/src/input.rs"]
mod input;
#[path = "../fuzz/src/message.rs"]
mod message;
#[path = "../fuzz/src/mux_ops.rs"]
mod mux_ops;
#[path = "../fuzz/src/mux_recv.rs"]
mod mux_recv;

use std::fs;
use std::path::Path;

/// Runs a target over its corpus. An empty one is an error: it would test nothing.
#[expect(clippy::unwrap_used, reason = "a test may end here, the path is printed")]
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
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
fn frame_decode_holds_over_its_corpus() {
    replay("frame_decode", frame_decode::frame_decode);
}

#[test]
fn mux_recv_holds_over_its_corpus() {
    replay("mux_recv", mux_recv::mux_recv);
}

#[test]
fn mux_ops_holds_over_its_corpus() {
    replay("mux_ops", mux_ops::mux_ops);
}

#[test]
fn message_holds_over_its_corpus() {
    replay("message", message::message);
}

#[test]
fn endpoint_url_holds_over_its_corpus() {
    replay("endpoint_url", endpoint_url::endpoint_url);
}

#[test]
fn config_holds_over_its_corpus() {
    replay("config", config::config);
}
