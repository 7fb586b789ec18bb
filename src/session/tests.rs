//! Both ends of a session against each other.
