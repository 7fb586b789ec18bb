//! Answers of name servers: any bytes give addresses of the family that was asked for, or an error.

use std::net::IpAddr;

use adit::dns_message::{Answer, Question, RECORDS_MAX, RecordType};

/// Reads the input as the answer to a question for each family, under the id that the input has.
pub fn dns_answer(data: &[u8]) {
    let Some(id) = data.first_chunk::<2>() else { return };
    for record in [RecordType::A, RecordType::Aaaa] {
        let question = Question::new(u16::from_be_bytes(*id), NAME, record);
        let Some(question) = question else { panic!("{NAME} is no name") };
        if let Ok(Answer::Addresses(addresses)) = question.read_answer(data) {
            let fits = |address: &IpAddr| address.is_ipv4() == (record == RecordType::A);
            assert!(addresses.len() <= RECORDS_MAX && addresses.iter().all(fits), "{addresses:?}");
        }
        // A question is not its own answer.
        assert!(question.read_answer(&question.to_bytes()).is_err());
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(question) = Question::new(1, text, RecordType::A)
    {
        assert!(question.to_bytes().len() <= 12 + 255 + 4, "a name that is too long: {text:?}");
    }
}

const NAME: &str = "connect.example.test";
