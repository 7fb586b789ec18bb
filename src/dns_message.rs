//! Questions to a name server and its answers as bytes (RFC 1035): what a stub resolver needs, and no more.
//!
//! Only addresses are asked for, and only an answer to exactly the question that was asked counts. Every length and
//! every pointer is checked against the bytes that are there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    id: u16,
    name: Name,
    record: RecordType,
}

/// What a name server says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the name, at most [`RECORDS_MAX`]; none when it has no record of this type.
    Addresses(Vec<IpAddr>),
    /// The name does not exist.
    NoSuchName,
    /// The answer was too long for a datagram: ask over TCP.
    Truncated,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// They answer something else, or come from somebody who guesses: wait on.
    Foreign,
    /// They answer the question, but break the format.
    Malformed,
    /// The server could not or would not answer, with this response code.
    Refused(u8),
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("the answer is to another question"),
            Self::Malformed => f.write_str("the answer is malformed"),
            Self::Refused(2) => f.write_str("server failure"),
            Self::Refused(5) => f.write_str("the server refuses to answer"),
            Self::Refused(code) => write!(f, "the server answers with error {code}"),
        }
    }
}

impl std::error::Error for AnswerError {}

impl Question {
    /// A question for `name`; `id` should be hard to guess. `None` when the name does not fit the format.
    #[must_use]
    pub fn new(id: u16, name: &str, record: RecordType) -> Option<Self> {
        Some(Self { id, name: Name::from_text(name)?, record })
    }

    /// The question as a message, for a datagram. Over TCP its length goes before it, in two bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.name.0.len() + 4);
        for word in [self.id, RECURSION_DESIRED, 1, 0, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&self.name.0);
        for word in [self.record.code(), CLASS_INTERNET] {
            bytes.extend(word.to_be_bytes());
        }
        bytes
    }

    /// Reads a message as the answer to this question.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn read_answer(&self, bytes: &[u8]) -> Result<Answer, AnswerError> {
        let mut reader = Reader { bytes, at: 0 };
        let (flags, records) = self.read_header(&mut reader).ok_or(AnswerError::Foreign)?;
        if flags & TRUNCATED != 0 {
            return Ok(Answer::Truncated);
        }
        match flags & RESPONSE_CODE {
            0 => {}
            3 => return Ok(Answer::NoSuchName),
            code => return Err(AnswerError::Refused(code.to_be_bytes()[1])),
        }
        let mut found = Found::default();
        for _ in 0..records.min(RECORDS_MAX) {
            found.take(&mut reader, self.record).ok_or(AnswerError::Malformed)?;
        }
        Ok(Answer::Addresses(found.addresses_of(&self.name)))
    }

    /// Flags and number of answers of a message that answers this very question.
    fn read_header(&self, reader: &mut Reader<'_>) -> Option<(u16, usize)> {
        let id = reader.word()?;
        let flags = reader.word()?;
        let (questions, answers) = (reader.word()?, reader.word()?);
        reader.skip(4)?;
        let is_reply = flags & IS_REPLY != 0 && flags & OPCODE == 0;
        if id != self.id || !is_reply || questions != 1 || reader.name()? != self.name {
            return None;
        }
        let same = reader.word()? == self.record.code() && reader.word()? == CLASS_INTERNET;
        same.then_some((flags, usize::from(answers)))
    }
}

impl RecordType {
    fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// The records of an answer, in whatever order they came.
#[derive(Default)]
struct Found {
    aliases: Vec<(Name, Name)>,
    addresses: Vec<(Name, IpAddr)>,
}

impl Found {
    fn take(&mut self, reader: &mut Reader<'_>, wanted: RecordType) -> Option<()> {
        let owner = reader.name()?;
        let (kind, class) = (reader.word()?, reader.word()?);
        // How long it may be kept: every attempt asks anew.
        reader.skip(4)?;
        let len = usize::from(reader.word()?);
        let end = reader.at.checked_add(len).filter(|end| *end <= reader.bytes.len())?;
        if class == CLASS_INTERNET && kind == CNAME {
            let target = reader.name()?;
            if reader.at > end {
                return None;
            }
            self.aliases.push((owner, target));
        } else if class == CLASS_INTERNET && kind == wanted.code() {
            let data = reader.bytes.get(reader.at..end)?;
            let address = match wanted {
                RecordType::A => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                RecordType::Aaaa => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
            };
            self.addresses.push((owner, address));
        }
        reader.at = end;
        Some(())
    }

    /// Follows the aliases from `name`; in a circle there are no addresses.
    fn addresses_of(self, name: &Name) -> Vec<IpAddr> {
        let mut current = name;
        for _ in 0..=self.aliases.len() {
            let Some((_, target)) = self.aliases.iter().find(|(owner, _)| owner == current) else {
                let of_it = self.addresses.iter().filter(|(owner, _)| owner == current);
                return of_it.map(|(_, address)| *address).collect();
            };
            current = target;
        }
        Vec::new()
    }
}

/// A name as it stands on the wire, uncompressed and in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Name(Vec<u8>);

impl Name {
    fn from_text(text: &str) -> Option<Self> {
        let mut name = Self::default();
        for label in text.trim_end_matches('.').split('.') {
            name.push_label(label.as_bytes())?;
        }
        name.0.push(0);
        (name.0.len() <= NAME_LEN_MAX).then_some(name)
    }

    fn push_label(&mut self, label: &[u8]) -> Option<()> {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=LABEL_LEN_MAX).contains(len))?;
        if self.0.len() + label.len() + 2 > NAME_LEN_MAX {
            return None;
        }
        self.0.push(len);
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
        Some(())
    }
}

/// A message and how far it was read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Option<u16> {
        let bytes = self.bytes.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(u16::from_be_bytes(*bytes))
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    /// A name, with its pointers followed. Each points in front of the part that it ends, so that there is no circle.
    fn name(&mut self) -> Option<Name> {
        let mut name = Name::default();
        let (mut at, mut part) = (self.at, self.at);
        let mut after = None;
        loop {
            let len = *self.bytes.get(at)?;
            let next = at + 1;
            match len {
                0 => {
                    name.0.push(0);
                    self.at = after.unwrap_or(next);
                    return Some(name);
                }
                1..=LABEL_LEN_MAX => {
                    let end = next + usize::from(len);
                    name.push_label(self.bytes.get(next..end)?)?;
                    at = end;
                }
                POINTER.. => {
                    let low = *self.bytes.get(next)?;
                    let target = usize::from(u16::from_be_bytes([len & !POINTER, low]));
                    if target >= part {
                        return None;
                    }
                    after.get_or_insert(next + 1);
                    (at, part) = (target, target);
                }
                _ => return None,
            }
        }
    }
}

/// Records of one answer that are looked at: a name with more addresses has enough.
pub const RECORDS_MAX: usize = 64;

const HEADER_LEN: usize = 12;

/// RFC 1035, section 2.3.4, with the lengths and the root.
const NAME_LEN_MAX: usize = 255;

/// RFC 1035, section 2.3.4.
const LABEL_LEN_MAX: u8 = 63;

/// RFC 1035, section 4.1.4.
const POINTER: u8 = 0xC0;

/// RFC 1035, section 3.2.2.
const CNAME: u16 = 5;

const CLASS_INTERNET: u16 = 1;

// RFC 1035, section 4.1.1.
const IS_REPLY: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RESPONSE_CODE: u16 = 0x000F;

#[cfg(test)]
mod tests;
