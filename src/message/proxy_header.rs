//! What stands in front of a visitor's bytes: for which endpoint they are and who the visitor is.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde_json::Value;

use super::error::MessageError;
use super::kind::StreamType;
use super::lookup;
use super::write::ObjectWriter;
use crate::endpoint_url::Scheme;

/// The header of one proxied stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The endpoint's bind id.
    pub id: String,
    /// The visitor as `ip:port`. It is what the peer wrote, and not necessarily an address.
    pub client_addr: String,
    /// The endpoint's protocol.
    pub proto: String,
    /// `"0"` for endpoints of agents; a string although it is a number.
    pub edge_type: String,
    /// Whether the bytes are a TLS connection that nobody has opened yet.
    pub passthrough_tls: bool,
    /// The number of the visitor's connection, which the gateway's logs have; ours, and only for agents of ours.
    pub connection: Option<u64>,
}

impl ProxyHeader {
    /// The header for a visitor of an endpoint that an agent brought online.
    pub fn new(id: impl Into<String>, client_addr: SocketAddr, proto: Scheme, passthrough_tls: bool) -> Self {
        Self {
            id: id.into(),
            client_addr: client_addr.to_string(),
            proto: proto.as_str().to_owned(),
            edge_type: EDGE_UNDEFINED.to_owned(),
            passthrough_tls,
            connection: None,
        }
    }

    /// The same header with the number of the visitor's connection.
    #[must_use]
    pub fn numbered(self, connection: u64) -> Self {
        Self { connection: Some(connection), ..self }
    }

    /// The endpoint's protocol, if it is one of the known.
    pub fn scheme(&self) -> Option<Scheme> {
        Scheme::from_str(&self.proto).ok()
    }

    /// The visitor's address, if it is one.
    pub fn visitor(&self) -> Option<SocketAddr> {
        self.client_addr.parse().ok()
    }

    /// The whole beginning of a proxied stream: type, length and header. It has to go out in one frame.
    ///
    /// No peer takes more than [`HEADER_BYTES_MAX`] of header; with an id of the gateway's own making it has about 100.
    pub fn encode(&self) -> Vec<u8> {
        let json = self.to_json();
        let len = i64::try_from(json.len()).unwrap_or(i64::MAX);
        let mut bytes = StreamType::Proxy.to_bytes().to_vec();
        // The only little-endian number of the protocol.
        bytes.extend(len.to_le_bytes());
        bytes.extend(json);
        bytes
    }

    /// Reads a header without its length.
    ///
    /// # Errors
    ///
    /// Text that is no object, a missing `Id`, or a member of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let root = lookup::parse_object(bytes)?;
        Ok(Self {
            id: lookup::required_text(&root, "Id")?,
            client_addr: lookup::text(&root, "ClientAddr")?,
            proto: lookup::text(&root, "Proto")?,
            edge_type: lookup::text(&root, "EdgeType")?,
            passthrough_tls: lookup::optional_flag(&root, "PassthroughTLS")?.unwrap_or_default(),
            // A help for people: without it, or with another one, the stream is as good.
            connection: lookup::member(&root, "AditConnection").and_then(Value::as_u64),
        })
    }

    /// Writes the header without its length, with all members, since the Rust family of agents needs each of them.
    pub fn to_json(&self) -> Vec<u8> {
        ObjectWriter::new()
            .member("Id", &self.id)
            .member("ClientAddr", &self.client_addr)
            .member("Proto", &self.proto)
            .member("EdgeType", &self.edge_type)
            .member("PassthroughTLS", &self.passthrough_tls)
            .optional("AditConnection", self.connection.as_ref())
            .finish()
    }
}

/// Reads length and header of a proxied stream, in chunks of any size.
#[derive(Clone, Debug, Default)]
pub struct ProxyHeaderReader {
    /// Invariant: at most `LENGTH_BYTES` and, once the length is known to be allowed, `HEADER_BYTES_MAX` more.
    bytes: Vec<u8>,
    /// Length of `bytes` at which the header is complete; `None` while the length itself is incomplete.
    complete_len: Option<usize>,
    /// Set when there is nothing more to read.
    end: Option<HeaderError>,
}

impl ProxyHeaderReader {
    /// Starts behind the four bytes of the stream's type.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. Once the header is complete, returns it and how many of these bytes belonged to it: the rest
    /// are the visitor's. Every call after that fails.
    ///
    /// # Errors
    ///
    /// A length that is negative or above [`HEADER_BYTES_MAX`], as soon as it is known, or a header that cannot be read.
    /// Every later call gives the same error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderError> {
        if let Some(end) = self.end {
            return Err(end);
        }
        let result = self.read(bytes);
        self.end = match &result {
            Ok(None) => None,
            Ok(Some(_)) => Some(HeaderError::Ended),
            Err(error) => Some(*error),
        };
        if self.end.is_some() {
            self.bytes = Vec::new();
        }
        result
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderError> {
        let mut rest = bytes;
        if self.complete_len.is_none() {
            rest = self.take_until(LENGTH_BYTES, rest);
            let Ok(length) = <[u8; LENGTH_BYTES]>::try_from(self.bytes.as_slice()) else {
                return Ok(None);
            };
            self.complete_len = Some(LENGTH_BYTES + allowed_len(i64::from_le_bytes(length))?);
        }
        let complete_len = self.complete_len.unwrap_or(LENGTH_BYTES);
        rest = self.take_until(complete_len, rest);
        if self.bytes.len() < complete_len {
            return Ok(None);
        }
        let json = self.bytes.get(LENGTH_BYTES..).unwrap_or_default();
        let header = ProxyHeader::parse(json).map_err(HeaderError::Message)?;
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Moves bytes over until there are `len`, and returns those that are left.
    fn take_until<'a>(&mut self, len: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = len.saturating_sub(self.bytes.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.bytes.extend_from_slice(taken);
        rest
    }
}

/// Why the beginning of a proxied stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The length is negative.
    Negative,
    /// The length is above [`HEADER_BYTES_MAX`].
    TooLong,
    /// The header is not the message that it should be.
    Message(MessageError),
    /// The header was read before.
    Ended,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative => f.write_str("the proxy header's length must not be negative"),
            Self::TooLong => write!(f, "the proxy header must not be longer than {HEADER_BYTES_MAX} bytes"),
            Self::Message(error) => write!(f, "in the proxy header, {error}"),
            Self::Ended => f.write_str("a stream must have only one proxy header"),
        }
    }
}

impl std::error::Error for HeaderError {}

fn allowed_len(len: i64) -> Result<usize, HeaderError> {
    if len < 0 {
        return Err(HeaderError::Negative);
    }
    match usize::try_from(len) {
        Ok(len) if len <= HEADER_BYTES_MAX => Ok(len),
        Ok(_) | Err(_) => Err(HeaderError::TooLong),
    }
}

/// The longest header, in bytes. Real ones have about 100; an agent can hold this much for every stream that is opening.
pub const HEADER_BYTES_MAX: usize = 64 << 10;

/// The length in front of the header is an `i64`.
const LENGTH_BYTES: usize = 8;

/// The edge type of everything that is not an edge with labels.
const EDGE_UNDEFINED: &str = "0";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The worked example of the protocol.
    const JSON: &str =
        r#"{"Id":"b1","ClientAddr":"10.0.0.7:51000","Proto":"https","EdgeType":"0","PassthroughTLS":false}"#;

    fn example() -> ProxyHeader {
        ProxyHeader::new("b1", "10.0.0.7:51000".parse().unwrap(), Scheme::Https, false)
    }

    fn with_length(len: i64, rest: &[u8]) -> Vec<u8> {
        [len.to_le_bytes().as_slice(), rest].concat()
    }

    fn read(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderError> {
        ProxyHeaderReader::new().push(bytes)
    }

    #[test]
    fn number_of_the_connection_is_ours_alone() {
        let numbered = example().numbered(9_007_199_254_740_991);
        let json = numbered.to_json();
        assert!(json.ends_with(br#","AditConnection":9007199254740991}"#));
        assert_eq!(ProxyHeader::parse(&json), Ok(numbered));
        let odd = String::from_utf8(json).unwrap().replace("9007199254740991", "\"x\"");
        assert_eq!(ProxyHeader::parse(odd.as_bytes()), Ok(example()));
    }

    #[test]
    fn worked_example_is_written_byte_for_byte() {
        let bytes = example().encode();
        assert_eq!(bytes.len(), 107);
        assert_eq!(bytes[..12], [0, 0, 0, 3, 0x5f, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12..], *JSON.as_bytes());
    }

    #[test]
    fn bytes_behind_the_header_are_left() {
        let bytes = with_length(95, format!("{JSON}GET /").as_bytes());
        assert_eq!(read(&bytes), Ok(Some((example(), 103))));
    }

    #[test]
    fn only_the_id_is_needed() {
        let json = br#"{"Id":"b1"}"#;
        let (header, used) = read(&with_length(11, json)).unwrap().unwrap();
        assert_eq!((header.id.as_str(), used), ("b1", 19));
        assert_eq!((header.visitor(), header.scheme()), (None, None));
        let missing = HeaderError::Message(MessageError::Missing { field: "Id" });
        assert_eq!(read(&with_length(2, b"{}")), Err(missing));
    }

    #[test]
    fn address_that_is_none_is_kept_as_text() {
        let json = br#"{"Id":"b1","ClientAddr":"unix"}"#;
        let header = ProxyHeader::parse(json).unwrap();
        assert_eq!((header.client_addr.as_str(), header.visitor()), ("unix", None));
        assert_eq!(example().visitor(), "10.0.0.7:51000".parse().ok());
    }

    #[test]
    fn edge_type_that_is_a_number_is_refused() {
        assert!(ProxyHeader::parse(br#"{"Id":"b1","EdgeType":0}"#).is_err());
    }

    #[test]
    fn absurd_length_is_refused_at_once() {
        let gib = with_length(1 << 30, b"");
        assert_eq!(read(&gib), Err(HeaderError::TooLong));
        assert_eq!(read(&with_length(-1, b"")), Err(HeaderError::Negative));
        assert_eq!(read(&with_length(i64::MIN, b"")), Err(HeaderError::Negative));
        assert_eq!(read(&with_length(i64::MAX, b"")), Err(HeaderError::TooLong));
        // A length that was meant to be big-endian.
        assert_eq!(read(&95i64.to_be_bytes()), Err(HeaderError::TooLong));
    }

    #[test]
    fn length_limit_holds_at_its_bound() {
        let mut header = example();
        header.id = "x".repeat(HEADER_BYTES_MAX - (JSON.len() - 2));
        let bytes = header.encode();
        assert_eq!(bytes.len(), 12 + HEADER_BYTES_MAX);
        assert_eq!(read(&bytes[4..]), Ok(Some((header.clone(), 8 + HEADER_BYTES_MAX))));
        header.id.push('x');
        assert_eq!(read(&header.encode()[4..]), Err(HeaderError::TooLong));
        assert_eq!(read(&with_length(1 + (64 << 10), b"")), Err(HeaderError::TooLong));
    }

    #[test]
    fn length_has_to_be_that_of_the_object() {
        let text = format!("{JSON}GET /");
        let message = |error| Err(HeaderError::Message(error));
        assert_eq!(read(&with_length(94, text.as_bytes())), message(MessageError::Truncated));
        assert_eq!(read(&with_length(96, text.as_bytes())), message(MessageError::Trailing));
        assert_eq!(read(&with_length(0, text.as_bytes())), message(MessageError::Truncated));
    }

    #[test]
    fn reader_that_ended_stays_ended() {
        let mut reader = ProxyHeaderReader::new();
        assert!(reader.push(&with_length(95, JSON.as_bytes())).unwrap().is_some());
        assert_eq!(reader.push(b"x"), Err(HeaderError::Ended));
        let mut reader = ProxyHeaderReader::new();
        assert_eq!(reader.push(&with_length(-1, b"")), Err(HeaderError::Negative));
        assert_eq!(reader.push(&with_length(95, JSON.as_bytes())), Err(HeaderError::Negative));
    }

    fn in_chunks(bytes: &[u8], chunk_len: usize) -> Result<Option<(ProxyHeader, usize)>, HeaderError> {
        let mut reader = ProxyHeaderReader::new();
        let mut before = 0;
        for chunk in bytes.chunks(chunk_len) {
            if let Some((header, used)) = reader.push(chunk)? {
                return Ok(Some((header, before + used)));
            }
            before += chunk.len();
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn header_survives_a_round_trip(texts in prop::array::uniform4(".{0,20}"), passthrough_tls: bool, connection: Option<u64>) {
            let [id, client_addr, proto, edge_type] = texts;
            let header = ProxyHeader { id, client_addr, proto, edge_type, passthrough_tls, connection };
            let bytes = header.encode();
            prop_assert_eq!(read(&bytes[4..]), Ok(Some((header, bytes.len() - 4))));
        }

        #[test]
        fn chunking_does_not_matter(len in -2i64..120, chunk_len in 1usize..20, tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let bytes = with_length(len, &[JSON.as_bytes(), tail.as_slice()].concat());
            prop_assert_eq!(in_chunks(&bytes, chunk_len), read(&bytes));
        }

        #[test]
        fn chunking_does_not_matter_to_good_headers(chunk_len in 1usize..120, tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let bytes = with_length(95, &[JSON.as_bytes(), tail.as_slice()].concat());
            prop_assert_eq!(in_chunks(&bytes, chunk_len), Ok(Some((example(), 103))));
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), chunk_len in 1usize..64) {
            let _ = in_chunks(&bytes, chunk_len);
        }
    }
}
