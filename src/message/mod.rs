//! What travels inside streams: stream types, remote procedure calls as JSON, the header of proxied streams.
//!
//! Both programs use the same types in both directions: `parse` reads what a peer sent, `to_json` writes what a peer can
//! read. Member names of incoming objects are compared without regard to case, because the official families of agents
//! differ in it; outgoing names have exactly the spelling that the strictest known reader wants. A missing or `null`
//! member reads as its empty value unless its peers rely on it too; a member of the wrong type is always an error.
//!
//! Nothing here does I/O, and no secret appears in an error or in the output of `Debug`.

mod auth;
mod bind;
mod bind_labeled;
mod bind_options;
pub mod codes;
mod command;
mod error;
mod json_scan;
mod kind;
mod lookup;
mod patch;
mod proxy_header;
mod reply;
mod secret;
mod srv_info;
mod unbind;
mod write;

pub use auth::{
    AditExtra, AuthExtra, AuthReply, AuthReplyExtra, AuthRequest, EXTRA_VERSION, HEARTBEAT_MAX, INSTANCE_LEN_MAX,
    is_instance,
};
pub use bind::{BindExtra, BindReply, BindReplyExtra, BindRequest};
pub use bind_labeled::{BindLabeledReply, BindLabeledRequest};
pub use bind_options::bind_options;
pub(crate) use bind_options::set_traffic_policy;
pub use command::{CommandReply, EmptyRequest, StopTunnel, Update};
pub use error::{MessageError, WireError};
pub use json_scan::{DEPTH_MAX, JsonScan, MESSAGE_BYTES_MAX, ScanError, VALUES_MAX};
pub use kind::StreamType;
pub use lookup::member;
pub use patch::PatchRequest;
pub use proxy_header::{HEADER_BYTES_MAX, HeaderError, ProxyHeader, ProxyHeaderReader};
pub use reply::EmptyReply;
pub use secret::Secret;
pub use srv_info::SrvInfoReply;
pub use unbind::UnbindRequest;
