//! Lines about what goes through the gateway and what is done to it, as JSON: the access log, one line for each request or
//! connection of a visitor, and the audit log, one line for each act of an operator.

mod audit;
mod line;
mod line_log;
mod object;
mod spot;
mod visit;

pub use audit::Act;
pub(crate) use audit::Line as AuditLine;
pub use line_log::{Counts, LineLog, Place, QUEUE_BYTES_MAX};
pub use visit::{Ending, Guest, Site, Visit};
