//! Replays the corpus of every fuzz target that needs only the agent's library: what fuzzing has found stays found.

#![expect(unreachable_pub, reason = "the same files are modules of the fuzz crate, where the targets need them")]

#[path = "../fuzz/src/config.rs"]
mod config;
#[path = "../fuzz/src/dns_answer.rs"]
mod dns_answer;
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
#[path = "../fuzz/src/proxy_handshake.rs"]
mod proxy_handshake;
#[path = "../fuzz/replay.rs"]
mod replay;

use replay::replay;

/// Where the inputs are, from the package.
const CORPUS: &str = "fuzz/corpus";

#[test]
fn frame_decode_holds_over_its_corpus() {
    replay(CORPUS, "frame_decode", frame_decode::frame_decode);
}

#[test]
fn mux_recv_holds_over_its_corpus() {
    replay(CORPUS, "mux_recv", mux_recv::mux_recv);
}

#[test]
fn mux_ops_holds_over_its_corpus() {
    replay(CORPUS, "mux_ops", mux_ops::mux_ops);
}

#[test]
fn message_holds_over_its_corpus() {
    replay(CORPUS, "message", message::message);
}

#[test]
fn endpoint_url_holds_over_its_corpus() {
    replay(CORPUS, "endpoint_url", endpoint_url::endpoint_url);
}

#[test]
fn config_holds_over_its_corpus() {
    replay(CORPUS, "config", config::config);
}

#[test]
fn dns_answer_holds_over_its_corpus() {
    replay(CORPUS, "dns_answer", dns_answer::dns_answer);
}

#[test]
fn proxy_handshake_holds_over_its_corpus() {
    replay(CORPUS, "proxy_handshake", proxy_handshake::proxy_handshake);
}
