//! What was said in one direction, by stream. It shares no code with the gateway.

use std::collections::BTreeMap;

/// Everything of one direction so far.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    rest: Vec<u8>,
    pub(crate) by_id: BTreeMap<u32, Said>,
    pub(crate) has_gone: bool,
}

/// What was said on a stream.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) data: Vec<u8>,
    pub(crate) fin: bool,
    pub(crate) reset: Option<u32>,
}

impl Streams {
    /// Takes bytes in any pieces.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(header) = self.rest.first_chunk::<8>().copied() {
            let [l2, l1, l0, kind, i3, i2, i1, i0] = header;
            let (len, id) = (u32::from_be_bytes([0, l2, l1, l0]), u32::from_be_bytes([i3, i2, i1, i0]));
            let end = 8 + usize::try_from(len).unwrap();
            if self.rest.len() < end {
                return;
            }
            let body: Vec<u8> = self.rest.drain(..end).skip(8).collect();
            self.take_frame(kind >> 4, kind & FIN != 0, id, &body);
        }
    }

    fn take_frame(&mut self, kind: u8, fin: bool, id: u32, body: &[u8]) {
        let said = || u32::from_be_bytes(body.try_into().unwrap());
        match kind {
            0 => self.by_id.entry(id).or_default().reset = Some(said()),
            1 => {
                let stream = self.by_id.entry(id).or_default();
                stream.data.extend_from_slice(body);
                stream.fin |= fin;
            }
            // Credit is the multiplexer's own affair.
            2 => {}
            3 => self.has_gone = true,
            other => panic!("frame type {other}"),
        }
    }
}

impl Said {
    /// Whether this has come as far as `then` had: to the end of the stream, or to the same last bytes.
    pub(crate) fn is_as_far_as(&self, then: &Self) -> bool {
        if then.fin || then.reset.is_some() {
            return self.fin == then.fin && self.reset == then.reset;
        }
        self.data.ends_with(&then.data[then.data.len().saturating_sub(LAST_BYTES)..])
    }

    /// The first four bytes: what the stream is for.
    pub(crate) fn kind(&self) -> u32 {
        u32::from_be_bytes(*self.data.first_chunk().unwrap())
    }
}

const FIN: u8 = 1;
/// The end of a head of HTTP.
const LAST_BYTES: usize = 4;
