//! The protocol on top of the multiplexer, sans-IO: typed streams, calls, heartbeat, proxied streams, commands.
//!
//! [`AgentSession`] and [`GatewaySession`] are the two ends of one session. Both take bytes and `now` and give bytes,
//! events and the next deadline; neither knows sockets or clocks.

pub mod agent;
mod binds;
mod first_records;
pub mod gateway;
mod heartbeat;
mod incoming;
mod random;
mod round_trip;
mod table;

pub use agent::AgentSession;
pub use binds::{EndpointSpec, Resumption};
pub use first_records::{FIRST_BYTES, FIRST_RECORD_MAX, FirstRecords};
pub use gateway::GatewaySession;
pub use random::Random;
pub(crate) use table::Table;

#[cfg(test)]
mod tests;
