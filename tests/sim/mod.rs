//! The parts of the simulation.

pub(crate) mod end;
pub(crate) mod fairness;
pub(crate) mod pattern;
pub(crate) mod pipe;
pub(crate) mod random;
pub(crate) mod world;
