//! The file: one event a line, in the order in which they happened.

use std::fmt::Write;

use crate::visits::Errand;

/// A session from its first byte to its last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) events: Vec<Event>,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The agent sent this.
    Agent(Vec<u8>),
    /// The gateway sent this.
    Gateway(Vec<u8>),
    /// A visitor came.
    Visitor(Errand),
    /// That visitor was answered this.
    Answer(Errand, Vec<u8>),
}

impl Transcript {
    /// Reads a file; lines that begin with `#` are for people.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self { events: lines.map(Event::parse).collect() }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = "# See gateway/tests/transcripts. Bytes are in hexadecimal.\n".to_owned();
        for event in &self.events {
            match event {
                Event::Agent(bytes) => writeln!(text, "agent {}", to_hex(bytes)),
                Event::Gateway(bytes) => writeln!(text, "gateway {}", to_hex(bytes)),
                Event::Visitor(errand) => writeln!(text, "visitor {}", errand.name()),
                Event::Answer(errand, bytes) => writeln!(text, "answer {} {}", errand.name(), to_hex(bytes)),
            }
            .unwrap();
        }
        text
    }
}

impl Event {
    fn parse(line: &str) -> Self {
        let (kind, rest) = line.split_once(' ').unwrap();
        match kind {
            "agent" => Self::Agent(from_hex(rest)),
            "gateway" => Self::Gateway(from_hex(rest)),
            "visitor" => Self::Visitor(Errand::named(rest)),
            "answer" => {
                let (name, answer) = rest.split_once(' ').unwrap();
                Self::Answer(Errand::named(name), from_hex(answer))
            }
            other => panic!("no event is called {other}"),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_is_written_is_read() {
    let events = vec![
        Event::Agent(vec![0, 0xff]),
        Event::Gateway(vec![7]),
        Event::Visitor(Errand::Page),
        Event::Answer(Errand::Page, b"200 hello".to_vec()),
    ];
    let transcript = Transcript { events };
    assert_eq!(Transcript::parse(&transcript.to_text()), transcript);
}
