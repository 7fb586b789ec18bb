//! Credentials in a directory of their own, one file each, and what each of them may use.

pub mod directory;
mod file;
pub(crate) mod usage;
pub mod watch;
pub mod written;
