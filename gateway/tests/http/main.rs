//! The HTTP side over real loopback sockets: visitors on one side, a scripted agent on the other, no sessions in between.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails like the test itself")]

mod actions;
mod failures;
mod forwarding;
mod limits;
mod malformed;
mod reuse;
mod streaming;
mod support;
mod upgrades;
