//! Who a certificate says it is, for people: subject, issuer and validity, read off the DER by hand.
//!
//! Nothing is verified or trusted by what is read here. It comes from whoever answered: everything is bounded, and
//! bytes that are no certificate are no error but nothing.

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whom it is for, such as `CN=gw.example.com, O=Example`.
    pub subject: String,
    /// Who signed it, in the same form.
    pub issuer: String,
    /// From when it is valid, such as `2026-01-31T00:00:00Z`.
    pub not_before: String,
    /// Until when it is valid.
    pub not_after: String,
}

/// Reads a certificate; `None` for anything else.
#[must_use]
pub fn read(der: &[u8]) -> Option<Facts> {
    let mut certificate = Values(Values(der).content(SEQUENCE)?);
    let mut fields = Values(certificate.content(SEQUENCE)?);
    // The version is there for every certificate of this century.
    let mut first = fields.next()?;
    if first.0 == VERSION {
        first = fields.next()?;
    }
    if first.0 != INTEGER {
        return None;
    }
    fields.content(SEQUENCE)?;
    let issuer = name(fields.content(SEQUENCE)?)?;
    let mut validity = Values(fields.content(SEQUENCE)?);
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = name(fields.content(SEQUENCE)?)?;
    Some(Facts { subject, issuer, not_before, not_after })
}

/// Values one behind the other, each a tag, a length and a content.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The content of the next value if it has this tag.
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, short], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
            }
            // Of no definite length, or longer than any certificate.
            0x80 | 0x84.. => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// The parts of a name that people know, in the order in which they stand there.
fn name(der: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    for (_, set) in Values(der) {
        for (_, attribute) in Values(set) {
            let mut values = Values(attribute);
            let kind = values.content(OBJECT_IDENTIFIER)?;
            let (tag, value) = values.next()?;
            let known = KINDS.iter().find(|(oid, _)| *oid == kind);
            if let Some((_, word)) = known.filter(|_| parts.len() < PARTS_MAX) {
                parts.push(format!("{word}={}", text(tag, value)));
            }
        }
    }
    if parts.is_empty() {
        parts.push("(no name)".to_owned());
    }
    Some(parts.join(", "))
}

fn text(tag: u8, bytes: &[u8]) -> String {
    let text = if tag == BMP_STRING {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    // It goes to a terminal: nothing in it may move the cursor or end the line.
    text.chars().take(PART_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` as RFC 3339 writes it.
fn time((tag, bytes): (u8, &[u8])) -> Option<String> {
    let digits = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (century, rest) = match (tag, digits.len()) {
        // RFC 5280, 4.1.2.5.1.
        (UTC_TIME, 12) => (if digits < "5" { "20" } else { "19" }, digits),
        (GENERALIZED_TIME, 14) => digits.split_at(2),
        _ => return None,
    };
    let (year, rest) = rest.split_at(2);
    let pairs = [rest.get(0..2)?, rest.get(2..4)?, rest.get(4..6)?, rest.get(6..8)?, rest.get(8..10)?];
    let [month, day, hour, minute, second] = pairs;
    Some(format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Of X.520.
const KINDS: [(&[u8], &str); 4] =
    [(&[0x55, 4, 3], "CN"), (&[0x55, 4, 10], "O"), (&[0x55, 4, 11], "OU"), (&[0x55, 4, 6], "C")];

/// As much of a name as helps.
const PARTS_MAX: usize = 6;
const PART_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.remove(DnType::CommonName);
        ca.distinguished_name.push(DnType::OrganizationName, "Inspectors");
        ca.distinguished_name.push(DnType::CommonName, "Deep Look CA");
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(2051, 2, 28);
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
    }

    #[test]
    fn certificate_says_who_it_is_and_who_signed_it() {
        let expected = Facts {
            subject: "CN=gw.example.com".to_owned(),
            issuer: "O=Inspectors, CN=Deep Look CA".to_owned(),
            not_before: "1999-12-31T00:00:00Z".to_owned(),
            not_after: "2051-02-28T00:00:00Z".to_owned(),
        };
        assert_eq!(read(&certificate("gw.example.com")), Some(expected));
    }

    #[test]
    fn name_cannot_move_the_cursor_or_fill_the_screen() {
        let facts = read(&certificate(&format!("a\u{1b}[2J\n{}", "x".repeat(1000)))).unwrap();
        assert!(facts.subject.starts_with("CN=a?[2J?xxx") && facts.subject.len() < 100, "{}", facts.subject);
    }

    #[test]
    fn certificate_that_is_cut_anywhere_is_none() {
        let der = certificate("gw.example.com");
        for len in 0..der.len() {
            assert_eq!(read(&der[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }

        #[test]
        fn certificate_with_some_bytes_changed_does_no_harm(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
        ) {
            let mut der = certificate("gw.example.com");
            for (place, byte) in changes {
                let place = place.index(der.len());
                der[place] = byte;
            }
            if let Some(facts) = read(&der) {
                prop_assert!(facts.subject.len() < PARTS_MAX * PART_CHARS_MAX * 4 + 50);
            }
        }
    }
}
