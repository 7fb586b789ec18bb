//! The agent's configuration: one JSON file with the key names of ngrok's agent configuration, version 3.

pub mod document;
pub mod duration;
mod nearest;
pub mod problem;
pub mod reader;
