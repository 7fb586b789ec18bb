//! The agent's library: the multiplexer, the protocol on top of it and the event loop that drives them.
//!
//! `frame`, `mux`, `message` and `session` are sans-IO and shared with the gateway: they take bytes and a `now` and
//! return bytes, events and the next deadline.

pub mod agent;
mod background;
pub mod backoff;
mod by_number;
pub mod config;
pub mod diagnose;
pub mod dns_message;
pub mod endpoint_url;
pub mod frame;
pub mod log_format;
pub mod message;
pub mod mux;
pub mod net;
pub mod pool;
pub mod proxy_handshake;
pub mod proxy_protocol;
pub mod session;
pub mod status;
pub mod tls;
pub mod wall_time;
