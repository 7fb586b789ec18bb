//! Where everything from outside comes in.

pub mod client_hello;
pub mod decide;
