//! The gateway's library: listeners, sessions of agents, the registry of endpoints and the Traffic Policy.
