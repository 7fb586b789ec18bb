//! The bodies of the fuzz targets: each takes any bytes and panics when something is not as it must be.
//!
//! `tests/corpus.rs` of the packages includes these files by path and runs them over the corpus.

#![forbid(unsafe_code)]

pub mod client_hello;
pub mod config;
pub mod dns_answer;
pub mod endpoint_url;
pub mod expression;
pub mod frame_decode;
pub mod gateway_config;
pub mod input;
pub mod log_in;
pub mod message;
pub mod mux_ops;
pub mod mux_recv;
pub mod policy;
pub mod policy_grammar;
pub mod policy_rules;
pub mod proxy_handshake;
pub mod proxy_header;
pub mod saml_response;
pub mod template;
