//! Sockets and what belongs to them, for the event loop. All I/O of the agent is here and in `agent`.

pub mod dial;
pub(crate) mod link;
mod link_tls;
pub mod outgoing;
pub mod private_socket;
pub(crate) mod ready;
pub mod resolve;
pub(crate) mod socket_options;
mod tls_records;
pub(crate) mod tunnel;
pub(crate) mod upstream;
#[cfg_attr(not(feature = "own-certificates"), path = "no_visitor_tls.rs")]
pub(crate) mod visitor_tls;
