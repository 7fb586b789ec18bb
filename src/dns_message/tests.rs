//! Tests of questions and answers.

use proptest::prelude::*;

use super::*;

const NAME: &[u8] = b"\x07connect\x07example\x04test\x00";

fn question(record: RecordType) -> Question {
    Question::new(0x1234, "connect.example.test", record).unwrap()
}

/// A reply with these flags and records behind the question of `question(record)`.
fn reply(flags: u16, record: RecordType, records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap();
    let mut bytes = Vec::new();
    for word in [0x1234, 0x8180 | flags, 1, count, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(NAME);
    bytes.extend(record.code().to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(records.concat());
    bytes
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 0, 60]);
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A pointer to the name of the question.
const ITS_NAME: &[u8] = &[0xC0, 12];

#[test]
fn question_has_its_documented_bytes() {
    let mut expected = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    expected.extend(NAME);
    expected.extend([0, 28, 0, 1]);
    assert_eq!(question(RecordType::Aaaa).to_bytes(), expected);
    assert_eq!(Question::new(0x1234, "Connect.Example.test.", RecordType::Aaaa), Some(question(RecordType::Aaaa)));
}

#[test]
fn name_that_does_not_fit_is_refused() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert!(Question::new(1, &longest, RecordType::A).is_some());
    let too_long = format!("{longest}a");
    let wide = "a".repeat(64);
    for name in ["", ".", "a..b", too_long.as_str(), wide.as_str()] {
        assert_eq!(Question::new(1, name, RecordType::A), None, "{name}");
    }
}

#[test]
fn addresses_of_the_name_are_found_in_their_order() {
    let bytes = reply(
        0,
        RecordType::A,
        &[
            record(ITS_NAME, 1, &[192, 0, 2, 1]),
            record(b"\x05other\x00", 1, &[192, 0, 2, 9]),
            record(ITS_NAME, 16, b"\x04text"),
            record(b"\x07CONNECT\x07Example\x04test\x00", 1, &[192, 0, 2, 2]),
        ],
    );
    let expected = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    assert_eq!(question(RecordType::A).read_answer(&bytes), Ok(Answer::Addresses(expected.into())));

    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let bytes = reply(0, RecordType::Aaaa, &[record(ITS_NAME, 28, &six.octets())]);
    assert_eq!(question(RecordType::Aaaa).read_answer(&bytes), Ok(Answer::Addresses(vec![six.into()])));
}

#[test]
fn aliases_are_followed_in_any_order_and_circles_are_left() {
    let (edge, far) = (b"\x04edge\x04test\x00", b"\x03far\x04test\x00");
    let bytes = reply(
        0,
        RecordType::A,
        &[record(far, 1, &[192, 0, 2, 3]), record(edge, CNAME, far), record(ITS_NAME, CNAME, edge)],
    );
    let expected = vec!["192.0.2.3".parse().unwrap()];
    assert_eq!(question(RecordType::A).read_answer(&bytes), Ok(Answer::Addresses(expected)));
    let circle = reply(0, RecordType::A, &[record(ITS_NAME, CNAME, edge), record(edge, CNAME, ITS_NAME)]);
    assert_eq!(question(RecordType::A).read_answer(&circle), Ok(Answer::Addresses(Vec::new())));
}

#[test]
fn answer_without_addresses_says_why() {
    let ask = |flags| question(RecordType::A).read_answer(&reply(flags, RecordType::A, &[]));
    assert_eq!(ask(0), Ok(Answer::Addresses(Vec::new())));
    assert_eq!(ask(TRUNCATED), Ok(Answer::Truncated));
    assert_eq!(ask(3), Ok(Answer::NoSuchName));
    assert_eq!(ask(2), Err(AnswerError::Refused(2)));
    assert_eq!(ask(5), Err(AnswerError::Refused(5)));
}

#[test]
fn answer_to_anything_else_does_not_count() {
    let good = reply(0, RecordType::A, &[record(ITS_NAME, 1, &[192, 0, 2, 1])]);
    let spoilt = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        question(RecordType::A).read_answer(&bytes)
    };
    let type_at = HEADER_LEN + NAME.len() + 1;
    for (at, value) in [(0, 0x13), (1, 0x35), (2, 0x01), (2, 0x89), (5, 2), (13, b'x'), (type_at, 28), (type_at + 2, 3)]
    {
        assert_eq!(spoilt(at, value), Err(AnswerError::Foreign), "{at}");
    }
    assert_eq!(question(RecordType::Aaaa).read_answer(&good), Err(AnswerError::Foreign));
    assert_eq!(question(RecordType::A).read_answer(&[]), Err(AnswerError::Foreign));
}

#[test]
fn broken_records_are_malformed() {
    let here = u8::try_from(HEADER_LEN + NAME.len() + 4).unwrap();
    let records = [
        record(&[0xC0, here], 1, &[192, 0, 2, 1]),
        record(&[0xC1, 0xFF], 1, &[192, 0, 2, 1]),
        record(&[0x80, 1], 1, &[192, 0, 2, 1]),
        record(ITS_NAME, 1, &[192, 0, 2]),
        record(ITS_NAME, 28, &[0; 15]),
        record(ITS_NAME, CNAME, &[0xC0]),
    ];
    for (index, broken) in records.into_iter().enumerate() {
        let kind = if index == 4 { RecordType::Aaaa } else { RecordType::A };
        let bytes = reply(0, kind, &[broken]);
        assert_eq!(question(kind).read_answer(&bytes), Err(AnswerError::Malformed), "{index}");
    }
    let whole = reply(0, RecordType::A, &[record(ITS_NAME, 1, &[192, 0, 2, 1])]);
    for len in type_end()..whole.len() {
        assert_eq!(question(RecordType::A).read_answer(&whole[..len]), Err(AnswerError::Malformed), "{len}");
    }
}

fn type_end() -> usize {
    HEADER_LEN + NAME.len() + 4
}

#[test]
fn records_are_read_up_to_the_limit() {
    let lasts = 0..=u8::try_from(RECORDS_MAX).unwrap();
    let records: Vec<_> = lasts.map(|last| record(ITS_NAME, 1, &[10, 0, 0, last])).collect();
    let bytes = reply(0, RecordType::A, &records);
    let Ok(Answer::Addresses(addresses)) = question(RecordType::A).read_answer(&bytes) else { panic!() };
    assert_eq!(addresses.len(), RECORDS_MAX);
}

proptest! {
    #[test]
    fn any_bytes_behind_a_good_header_give_an_answer_or_an_error(tail: Vec<u8>, count: u8) {
        let mut bytes = reply(0, RecordType::A, &[]);
        bytes[7] = count;
        bytes.extend(tail);
        if let Ok(Answer::Addresses(addresses)) = question(RecordType::A).read_answer(&bytes) {
            prop_assert!(addresses.len() <= RECORDS_MAX && addresses.iter().all(IpAddr::is_ipv4));
        }
    }
}
