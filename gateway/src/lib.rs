//! The gateway's library: listeners, sessions of agents, the registry of endpoints and the Traffic Policy.

pub mod acl;
mod admit;
mod bounded;
pub mod certificates;
pub mod config;
pub mod dev;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod identity_key;
pub mod listen;
pub mod log;
pub mod networks;
mod pace;
pub mod policy;
pub mod registry;
pub mod route;
mod rpc;
pub mod run;
pub mod session;
pub mod splice;
pub mod stream;
mod succession;
pub mod token;
pub mod yaml;
