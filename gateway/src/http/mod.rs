//! HTTP for visitors: public `http://` and `https://` connections in, requests out through proxy streams to agents.

pub mod reach;

mod headers;

pub(crate) use headers::is_failure_header;
