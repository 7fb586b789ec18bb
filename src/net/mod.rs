//! Sockets and what belongs to them, for the event loop. All I/O of the agent is here and in `agent`.

pub mod dial;
pub mod resolve;
