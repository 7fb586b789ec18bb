//! One behaviour of the multiplexer each, as scripts of frames.

use super::*;
use crate::frame;

fn agent() -> Mux {
    Mux::new(Side::Agent, Limits::default())
}

fn out(mux: &mut Mux) -> Vec<u8> {
    let mut bytes = Vec::new();
    mux.poll_transmit(&mut bytes, usize::MAX);
    bytes
}

#[test]
fn opened_stream_carries_its_first_bytes_with_syn() {
    let mut mux = agent();
    let key = mux.open(&[0xff; 4]).unwrap();
    mux.send(key, &[1, 2, 3, 4]).unwrap();
    let mut expected = frame::data_header(3, 4, frame::DataFlag::Syn).to_vec();
    expected.extend_from_slice(&[0xff; 4]);
    expected.extend_from_slice(&frame::data_header(3, 4, frame::DataFlag::None));
    expected.extend_from_slice(&[1, 2, 3, 4]);
    assert_eq!(out(&mut mux), expected);
}
