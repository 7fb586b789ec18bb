//! Raw bytes into the frame decoder: what it makes of them must not depend on how they are cut.

use adit::frame::{DecodeError, Decoder, Item};

/// Decodes the input whole and in pieces whose length its first byte gives.
pub fn frame_decode(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let whole = decode(data, data.len().max(1));
    let pieces = decode(data, usize::from(first).max(1));
    assert_eq!(whole, pieces, "the frames depend on the chunking");
}

/// The items of the input, with the payload of a frame joined, and the error that ended it.
fn decode(data: &[u8], chunk: usize) -> (Vec<Owned>, Option<DecodeError>) {
    let mut decoder = Decoder::default();
    let mut items = Vec::new();
    for piece in data.chunks(chunk) {
        let mut input = piece;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(item)) => keep(&mut items, item),
                Ok(None) => break,
                Err(error) => {
                    assert!(decoder.has_ended());
                    return (items, Some(error));
                }
            }
        }
        assert!(input.is_empty() || decoder.has_ended(), "input was left over");
    }
    (items, None)
}

fn keep(items: &mut Vec<Owned>, item: Item<'_>) {
    let Item::Payload { bytes, last } = item else {
        items.push(Owned::Item(format!("{item:?}")));
        return;
    };
    assert!(!bytes.is_empty(), "an empty piece of payload");
    match items.last_mut() {
        Some(Owned::Payload { joined, complete }) => {
            assert!(!*complete, "payload after the last piece");
            joined.extend_from_slice(bytes);
            *complete = last;
        }
        _ => items.push(Owned::Payload { joined: bytes.to_vec(), complete: last }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Owned {
    Item(String),
    Payload { joined: Vec<u8>, complete: bool },
}
