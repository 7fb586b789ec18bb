//! The numbers of `ERR_NGROK_` codes that the two programs use, with the meaning that ngrok's error reference gives them.

/// The session's metadata is too long.
pub const METADATA_TOO_LONG: u32 = 100;
/// The authtoken has the wrong form.
pub const AUTHTOKEN_MALFORMED: u32 = 105;
/// The authtoken is well formed but not known.
pub const AUTHTOKEN_UNKNOWN: u32 = 107;
/// Too many sessions of agents at the same time.
pub const SESSIONS_TOO_MANY: u32 = 108;
/// The login request could not be read.
pub const AUTH_MALFORMED: u32 = 109;
/// The session's cookie is not valid.
pub const COOKIE_INVALID: u32 = 110;
/// The heartbeat interval is too short.
pub const HEARTBEAT_INTERVAL: u32 = 111;
/// The heartbeat tolerance is too short.
pub const HEARTBEAT_TOLERANCE: u32 = 112;
/// The account does not allow agents from this source address.
pub const SOURCE_REFUSED_BY_ACCOUNT: u32 = 115;
/// The credential does not allow agents from this source address.
pub const SOURCE_REFUSED_BY_CREDENTIAL: u32 = 116;
/// The agent's version is no longer supported.
pub const AGENT_UNSUPPORTED: u32 = 120;
/// The agent's version is too old.
pub const AGENT_TOO_OLD: u32 = 121;
/// The credential was revoked while the session ran.
pub const CREDENTIAL_REVOKED: u32 = 300;
/// The bind request could not be read.
pub const BIND_MALFORMED: u32 = 301;
/// The credential does not allow this TCP address.
pub const ACL_REFUSES_ADDRESS: u32 = 308;
/// The credential does not allow this name.
pub const ACL_REFUSES_NAME: u32 = 316;
/// Too many endpoints in one session.
pub const ENDPOINTS_TOO_MANY: u32 = 324;
/// The protocol of an endpoint is none that the gateway serves.
pub const PROTOCOL_UNSUPPORTED: u32 = 332;
/// No endpoint has this id.
pub const ENDPOINT_UNKNOWN: u32 = 333;
/// The endpoint is online already, and not pooled.
pub const ENDPOINT_ONLINE: u32 = 334;
/// The token of a bind request is not that of the endpoint.
pub const BIND_TOKEN_MALFORMED: u32 = 335;
/// Too many sessions for the account.
pub const ACCOUNT_SESSIONS_TOO_MANY: u32 = 348;
/// New sessions of the account come too fast.
pub const SESSIONS_TOO_FAST: u32 = 349;
/// Too many endpoints for the account.
pub const ACCOUNT_ENDPOINTS_TOO_MANY: u32 = 350;
/// New endpoints of the account come too fast.
pub const ENDPOINTS_TOO_FAST: u32 = 351;
/// The credential does not allow an assigned TCP address.
pub const ACL_REFUSES_ASSIGNED_TCP: u32 = 356;
/// Too many connections to an endpoint.
pub const CONNECTIONS_TOO_MANY: u32 = 702;
/// Requests to an endpoint come too fast.
pub const REQUESTS_TOO_FAST: u32 = 703;
/// An endpoint has nothing behind it.
pub const NO_BACKEND: u32 = 724;
/// The gateway is draining: connect again.
pub const DRAINING: u32 = 742;
/// The gateway is shutting down.
pub const SHUTTING_DOWN: u32 = 803;
/// The agent does not support being stopped from afar.
pub const STOP_UNSUPPORTED: u32 = 804;
/// None of the agent's protocol versions is known.
pub const VERSION_NEGOTIATION: u32 = 811;
/// An action of a policy failed.
pub const POLICY_FAILED: u32 = 2300;
/// A visitor's TLS handshake failed.
pub const TLS_HANDSHAKE: u32 = 3002;
/// A visitor's TLS handshake names no server.
pub const SERVER_NAME_MISSING: u32 = 3003;
/// The upstream's answer is not HTTP, or incomplete.
pub const UPSTREAM_INVALID: u32 = 3004;
/// The upstream did not answer in time.
pub const UPSTREAM_TIMEOUT: u32 = 3005;
/// The upstream refused the connection.
pub const UPSTREAM_REFUSED: u32 = 3006;
/// The endpoint is offline or does not exist.
pub const ENDPOINT_OFFLINE: u32 = 3200;
/// The agent could not be reached with the visitor's connection.
pub const FORWARDING_FAILED: u32 = 3210;
/// Too many endpoints forward to each other.
pub const FORWARDS_TOO_MANY: u32 = 3501;
/// The policy of a cloud endpoint ends without an answer.
pub const POLICY_UNFINISHED: u32 = 6029;
/// The agent was reached, its upstream was not.
pub const UPSTREAM_UNREACHABLE: u32 = 8012;
/// The policy of an endpoint is not valid.
pub const POLICY_INVALID: u32 = 9026;
/// An internal endpoint must be given a name.
pub const INTERNAL_NAME_MISSING: u32 = 9028;
/// The name of an internal endpoint must end in `.internal`.
pub const INTERNAL_SUFFIX: u32 = 9029;
/// An endpoint's URL has a part that it must not have.
pub const URL_PART: u32 = 9037;
