//! How streams begin, and which ids they get.

use super::*;

#[test]
fn opened_stream_carries_its_first_bytes_with_syn() {
    let mut mux = agent();
    let key = mux.open(&[0xff; 4]).unwrap();
    mux.send(key, &[1, 2, 3, 4]).unwrap();
    let expected = [data(3, DataFlag::Syn, &[0xff; 4]), data(3, DataFlag::None, &[1, 2, 3, 4])].concat();
    assert_eq!(out(&mut mux), expected);
}

#[test]
fn first_ids_are_3_for_an_agent_and_2_for_a_gateway() {
    for (mut mux, ids) in [(agent(), [3, 5, 7]), (gateway(), [2, 4, 6])] {
        for _ in ids {
            mux.open(b"type").unwrap();
        }
        assert_eq!(written(&mut mux), ids.map(|id| format!("DATA {id} SYN 4")));
    }
}

#[test]
fn ids_rise_in_the_order_in_which_streams_reach_the_wire() {
    let mut mux = agent();
    let blocked = mux.open(&[b'a'; 100]).unwrap();
    let dropped = mux.open(b"gone").unwrap();
    let small = mux.open(b"fits").unwrap();
    mux.reset(dropped, ErrorCode::STREAM_CANCELLED);
    let mut bytes = Vec::new();
    mux.poll_transmit(&mut bytes, 107);
    assert!(bytes.is_empty());
    mux.poll_transmit(&mut bytes, 1000);
    assert_eq!(lines(&bytes), ["DATA 3 SYN 100", "DATA 5 SYN 4"]);
    mux.finish(small);
    mux.finish(blocked);
    assert_eq!(written(&mut mux), ["DATA 5 FIN 0", "DATA 3 FIN 0"]);
}

#[test]
fn first_frame_is_never_split() {
    let mut mux = gateway();
    let header = vec![7; 3000];
    let key = mux.open(&header).unwrap();
    mux.send(key, &[8; 10]).unwrap();
    let mut bytes = Vec::new();
    mux.poll_transmit(&mut bytes, 3007);
    assert!(bytes.is_empty());
    mux.poll_transmit(&mut bytes, 3008);
    assert_eq!(lines(&bytes), ["DATA 2 SYN 3000"]);
    assert_eq!(written(&mut mux), ["DATA 2 - 10"]);
}

#[test]
fn first_bytes_longer_than_a_frame_or_missing_are_refused() {
    let mut mux = gateway();
    assert_eq!(mux.open(&vec![0; limits::FRAME_DATA_MAX + 1]), Err(OpenError::Limit));
    assert_eq!(mux.open(&[]), Err(OpenError::Limit));
    assert!(mux.open(&vec![0; limits::FRAME_DATA_MAX]).is_ok());
    assert_eq!(written(&mut mux), ["DATA 2 SYN 16376"]);
}

// F19, rule 8.
#[test]
fn stream_finished_before_its_first_frame_sends_syn_and_fin_apart() {
    let mut mux = agent();
    let key = mux.open(b"type").unwrap();
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 SYN 4", "DATA 3 FIN 0"]);
}

#[test]
fn peer_opens_a_stream_and_both_sides_talk() {
    let mut mux = gateway();
    recv(&mut mux, &data(3, DataFlag::Syn, b"typehello"));
    let [Event::Opened(key), Event::Readable(same)] = events(&mut mux)[..] else { panic!() };
    assert_eq!((same, mux.chunk(key)), (key, &b"typehello"[..]));
    mux.send(key, b"hi").unwrap();
    assert_eq!(written(&mut mux), ["DATA 3 - 2"]);
}

#[test]
fn agent_may_begin_with_id_1() {
    let mut mux = gateway();
    accept(&mut mux, 1);
    accept(&mut mux, 3);
    assert_eq!(mux.streams(), 2);
}

// F18.
#[test]
fn type_may_come_byte_by_byte() {
    let mut mux = agent();
    recv(&mut mux, &data(2, DataFlag::Syn, b""));
    let [Event::Opened(key)] = events(&mut mux)[..] else { panic!() };
    for byte in [0u8, 0, 0, 3] {
        recv(&mut mux, &data(2, DataFlag::None, &[byte]));
    }
    assert_eq!(events(&mut mux), [Event::Readable(key)]);
    assert_eq!(mux.chunk(key), [0, 0, 0, 3]);
}

#[test]
fn peer_may_open_and_end_a_stream_in_one_frame() {
    let mut mux = gateway();
    let mut bytes = open(3);
    bytes[3] |= 1;
    recv(&mut mux, &bytes);
    let [Event::Opened(key), Event::Readable(_), Event::Finished(_)] = events(&mut mux)[..] else { panic!() };
    assert!(!mux.is_finished(key));
    mux.consume(key, 4);
    assert!(mux.is_finished(key));
    mux.finish(key);
    assert_eq!(written(&mut mux), ["DATA 3 FIN 0"]);
    assert_eq!(mux.streams(), 0);
}

// F17.
#[test]
fn a_thousand_streams_in_sequence_leave_nothing_behind() {
    let mut mux = gateway();
    for n in 1..=1000 {
        let key = mux.open(b"type").unwrap();
        mux.finish(key);
        let id = 2 * n;
        assert_eq!(written(&mut mux), [format!("DATA {id} SYN 4"), format!("DATA {id} FIN 0")]);
        recv(&mut mux, &data(id, DataFlag::Fin, b"answer"));
        assert_eq!(events(&mut mux), [Event::Readable(key), Event::Finished(key)]);
        mux.consume(key, 6);
        assert_eq!((mux.streams(), mux.memory_used()), (0, 0));
        assert_eq!(key.index(), 0);
    }
    assert_eq!(mux.free_streams(), Limits::default().open_max);
}

#[test]
fn stale_key_never_touches_the_stream_in_its_place() {
    let mut mux = agent();
    let old = opened(&mut mux);
    mux.reset(old, ErrorCode::STREAM_CANCELLED);
    let new = opened(&mut mux);
    assert_eq!(old.index(), new.index());
    recv(&mut mux, &data(5, DataFlag::None, b"data"));
    assert_eq!(mux.send(old, b"x"), Err(SendError));
    mux.finish(old);
    mux.want_send(old);
    mux.consume(old, 4);
    mux.set_direct(old);
    mux.reset(old, ErrorCode::STREAM_CANCELLED);
    mux.finish_and_reset(old, ErrorCode::STREAM_CANCELLED);
    assert_eq!((mux.chunk(old), mux.queue(old).is_none(), mux.is_finished(old)), (&[][..], true, true));
    assert_eq!(mux.chunk(new), b"data");
    assert_eq!(written(&mut mux), Vec::<String>::new());
    assert!(mux.poll_grant().is_none());
}

#[test]
fn ids_run_out_before_they_wrap() {
    let mut mux = agent();
    mux.next_local_id = STREAM_ID_MAX - ID_RESERVE;
    assert!(mux.open(b"type").is_ok());
    assert_eq!(written(&mut mux), [format!("DATA {} SYN 4", STREAM_ID_MAX - ID_RESERVE)]);
    assert_eq!(mux.open(b"type"), Err(OpenError::IdsExhausted));
}
