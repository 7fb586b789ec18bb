//! Decisions drawn from the bytes of a fuzz input, front to back.

/// What is left of the input. When nothing is left, every decision is zero.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether decisions are left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// A number below `end`, from two bytes.
    pub fn below(&mut self, end: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number % end.max(1)
    }

    /// The next four bytes as a number.
    pub fn word(&mut self) -> u32 {
        self.bytes(4).iter().fold(0, |word, &byte| word << 8 | u32::from(byte))
    }

    /// The next `len` bytes, or what is left of them.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
