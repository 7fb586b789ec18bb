//! Room for bytes on their way through: one buffer per thread, for as long as one poll takes. A connection that waits then
//! holds none, and what is read is still in the processor's cache when it is written.

use std::cell::RefCell;

/// Lends the thread's buffer of [`SCRATCH_LEN`] bytes to `call`. What is in it, nobody knows.
pub(crate) fn with_scratch<R>(call: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => {
            scratch.resize(SCRATCH_LEN, 0);
            call(&mut scratch)
        }
        // Somebody further up has it.
        Err(_) => call(&mut vec![0; SCRATCH_LEN]),
    })
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Four TLS records at their largest, or what a stream takes at once.
pub(crate) const SCRATCH_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_while_it_is_lent_gets_another_one() {
        with_scratch(|outer| {
            outer.fill(1);
            with_scratch(|inner| {
                assert_eq!(inner.len(), SCRATCH_LEN);
                inner.fill(2);
            });
            assert!(outer.iter().all(|byte| *byte == 1));
        });
    }
}
