//! What is known of one socket's readiness.

/// Cached readiness of an edge-triggered socket: an event sets bits, only `WouldBlock` (or a short read) clears one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    /// A read may find something.
    pub(crate) readable: bool,
    /// A write may find room.
    pub(crate) writable: bool,
    /// The peer ended its direction: a short read does not mean that nothing is left to learn.
    pub(crate) read_closed: bool,
}

impl Ready {
    /// Adds what an event says.
    pub(crate) fn add(&mut self, event: &mio::event::Event) {
        self.read_closed |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.read_closed;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Notes that a read filled only `len` of `room` bytes: the socket's buffer is empty, and its next byte is an event.
    pub(crate) fn after_read(&mut self, len: usize, room: usize) {
        if len < room && !self.read_closed {
            self.readable = false;
        }
    }
}
