//! Sessions of agents, from the first byte of a link to what visitors see: scripted peers on one side, the gateway's
//! interface for visitors on the other. No sockets and no real time: the clock stands still and jumps when all wait.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod arrivals;
mod bind;
mod credentials;
mod events;
mod fleet;
mod go_peer;
mod hostile;
mod log_in;
mod peer;
mod proxy;
mod reload;
mod resume;
#[allow(dead_code)] // Shared with the configuration's tests.
#[path = "../site/mod.rs"]
mod site;
mod succession;
mod world;
