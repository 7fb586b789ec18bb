//! Counts of what passed over links.

/// What passed: streams of visitors, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Streams that were opened.
    pub(crate) streams: u64,
    /// Bytes of visitors that left for the agent.
    pub(crate) to_agent: u64,
    /// Bytes of the agent that were taken for visitors.
    pub(crate) from_agent: u64,
}

impl Traffic {
    pub(crate) fn add_to_agent(&mut self, len: usize) {
        self.to_agent = self.to_agent.saturating_add(len as u64);
    }

    pub(crate) fn add_from_agent(&mut self, len: usize) {
        self.from_agent = self.from_agent.saturating_add(len as u64);
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            streams: self.streams.saturating_add(other.streams),
            to_agent: self.to_agent.saturating_add(other.to_agent),
            from_agent: self.from_agent.saturating_add(other.from_agent),
        }
    }
}
