//! The agent as a whole: the real binary on loopback, between a gateway and upstreams that the tests script.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

mod gateway;
mod name_server;
mod patience;
mod peer;
mod program;
mod proxy;
mod site;
mod upstream;
mod visitor;

mod aborts;
mod crowd;
mod descriptors;
mod diagnose;
mod lifecycle;
mod log_in;
mod looking_up;
mod proxying;
mod reachable;
mod reload;
mod secrets;
mod shutdown;
mod stalled;
mod status;
mod terminated;
mod through_proxy;
mod tls_upstreams;
mod unreachable;
