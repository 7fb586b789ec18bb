//! The header of the PROXY protocol, which tells an upstream who its visitor is.
//!
//! It follows the specification published with HAProxy, versions 1 (one line of text) and 2 (binary), for TCP.

use std::net::{IpAddr, SocketAddr};

/// Which header an endpoint puts in front of each connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// None.
    #[default]
    None,
    /// The line of version 1.
    V1,
    /// The binary header of version 2.
    V2,
}

impl ProxyProtocol {
    /// The version as bind requests and configurations number it: 0 is none.
    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }

    /// The number of this version; 0 for none.
    pub const fn as_number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// How long the header is that `bytes` begin with; `None` while that cannot be told yet. At most
    /// [`HEADER_BYTES_MAX`].
    ///
    /// # Errors
    /// The bytes do not begin with a header of this version, or with one that is longer.
    pub fn header_len(self, bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
        match self {
            Self::None => Ok(Some(0)),
            Self::V1 => v1_len(bytes),
            Self::V2 => v2_len(bytes),
        }
    }

    /// The header for a connection from `source` to `destination`, at most 107 bytes; empty for `None`.
    ///
    /// IPv4 addresses that an IPv6 socket reports are written as IPv4. A header cannot name addresses of two families:
    /// such a pair is written as an unknown connection, for which the upstream uses the addresses of its own socket.
    pub fn encode(self, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let from = (source.ip().to_canonical(), source.port());
        let to = (destination.ip().to_canonical(), destination.port());
        match self {
            Self::None => Vec::new(),
            Self::V1 => encode_v1(from, to),
            Self::V2 => encode_v2(from, to),
        }
    }
}

/// The bytes are no header of the expected version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError;

impl std::fmt::Display for HeaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the stream does not begin with the PROXY header that was agreed on")
    }
}

impl std::error::Error for HeaderError {}

fn v1_len(bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
    let common = bytes.len().min(V1_PREFIX.len());
    if bytes[..common] != V1_PREFIX[..common] {
        return Err(HeaderError);
    }
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => Ok(Some(end + 2)),
        None if line.len() < V1_BYTES_MAX => Ok(None),
        None => Err(HeaderError),
    }
}

fn v2_len(bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
    let common = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..common] != V2_SIGNATURE[..common] {
        return Err(HeaderError);
    }
    let Some(&[high, low]) = bytes.get(V2_FIXED_LEN - 2..V2_FIXED_LEN) else { return Ok(None) };
    let len = V2_FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_BYTES_MAX {
        return Err(HeaderError);
    }
    Ok((bytes.len() >= len).then_some(len))
}

fn encode_v1(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let family = match (from.0, to.0) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return b"PROXY UNKNOWN\r\n".to_vec();
        }
    };
    format!("PROXY {family} {} {} {} {}\r\n", from.0, to.0, from.1, to.1).into_bytes()
}

fn encode_v2(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    match (from.0, to.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend([V2_PROXY, V2_TCP_OVER_IPV4]);
            header.extend(V2_IPV4_LEN.to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header.extend([V2_PROXY, V2_TCP_OVER_IPV6]);
            header.extend(V2_IPV6_LEN.to_be_bytes());
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            header.extend([V2_LOCAL, V2_UNSPECIFIED, 0, 0]);
            return header;
        }
    }
    header.extend(from.1.to_be_bytes());
    header.extend(to.1.to_be_bytes());
    header
}

/// Longest header that is taken: addresses of UNIX sockets (216 bytes) and some room for what may follow them.
pub const HEADER_BYTES_MAX: usize = 536;

const V1_PREFIX: &[u8] = b"PROXY ";

/// The longest line of version 1, with its end.
const V1_BYTES_MAX: usize = 107;

/// Signature, version and command, family, length.
const V2_FIXED_LEN: usize = 16;

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY: the addresses are those of somebody else's connection.
const V2_PROXY: u8 = 0x21;
/// Version 2, command LOCAL: the receiver uses the addresses of its socket.
const V2_LOCAL: u8 = 0x20;

const V2_UNSPECIFIED: u8 = 0x00;
const V2_TCP_OVER_IPV4: u8 = 0x11;
const V2_TCP_OVER_IPV6: u8 = 0x21;

/// Two addresses of 4 bytes and two ports.
const V2_IPV4_LEN: u16 = 12;
/// Two addresses of 16 bytes and two ports.
const V2_IPV6_LEN: u16 = 36;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn v1(source: &str, destination: &str) -> String {
        let header = ProxyProtocol::V1.encode(address(source), address(destination));
        String::from_utf8(header).unwrap()
    }

    #[test]
    fn version_1_is_one_line() {
        let cases = [
            ("192.0.2.1:51000", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 51000 443\r\n"),
            ("[2001:db8::1]:1", "[::1]:65535", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
            ("[::ffff:192.0.2.1]:7", "[::ffff:10.0.0.1]:8", "PROXY TCP4 192.0.2.1 10.0.0.1 7 8\r\n"),
            ("[::ffff:192.0.2.1]:7", "10.0.0.1:8", "PROXY TCP4 192.0.2.1 10.0.0.1 7 8\r\n"),
            ("192.0.2.1:7", "[::1]:8", "PROXY UNKNOWN\r\n"),
        ];
        for (source, destination, line) in cases {
            assert_eq!(v1(source, destination), line);
        }
    }

    #[test]
    fn version_2_over_ipv4_has_28_bytes() {
        let header = ProxyProtocol::V2.encode(address("192.0.2.1:51000"), address("[::ffff:198.51.100.2]:443"));
        let expected = [
            0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00, 0x0c, 192, 0, 2,
            1, 198, 51, 100, 2, 0xc7, 0x38, 0x01, 0xbb,
        ];
        assert_eq!(header, expected);
    }

    #[test]
    fn version_2_over_ipv6_has_52_bytes() {
        let header = ProxyProtocol::V2.encode(address("[2001:db8::1]:1"), address("[::2]:258"));
        assert_eq!(header.len(), 52);
        assert_eq!(header[12..16], [0x21, 0x21, 0x00, 0x24]);
        assert_eq!(header[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(header[47..], [2, 0, 1, 1, 2]);
    }

    #[test]
    fn version_2_of_mixed_families_is_local() {
        let header = ProxyProtocol::V2.encode(address("192.0.2.1:7"), address("[::1]:8"));
        assert_eq!(header[..12], V2_SIGNATURE);
        assert_eq!(header[12..], [0x20, 0, 0, 0]);
    }

    #[test]
    fn number_and_version_match_both_ways() {
        for number in 0..=2 {
            assert_eq!(ProxyProtocol::from_number(number).map(|version| i64::from(version.as_number())), Some(number));
        }
        for number in [-1, 3, i64::MAX] {
            assert_eq!(ProxyProtocol::from_number(number), None);
        }
        assert!(ProxyProtocol::None.encode(address("192.0.2.1:7"), address("[::1]:8")).is_empty());
    }

    proptest! {
        #[test]
        fn length_field_of_version_2_is_that_of_the_rest(source: IpAddr, destination: IpAddr, ports: (u16, u16)) {
            let header = ProxyProtocol::V2.encode(SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1));
            let len = u16::from_be_bytes([header[14], header[15]]);
            prop_assert_eq!(usize::from(len), header.len() - 16);
        }

        #[test]
        fn line_of_version_1_fits_the_limit_of_the_specification(source: IpAddr, destination: IpAddr, ports: (u16, u16)) {
            let header = ProxyProtocol::V1.encode(SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1));
            prop_assert!(header.len() <= 107 && header.ends_with(b"\r\n"));
        }
    }

    #[test]
    fn header_is_found_at_its_last_byte_and_not_before() {
        let addresses: [(SocketAddr, SocketAddr); 3] = [
            ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()),
            ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap()),
            ("192.0.2.1:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap()),
        ];
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for (source, destination) in addresses {
                let header = version.encode(source, destination);
                for len in 0..header.len() {
                    assert_eq!(version.header_len(&header[..len]), Ok(None), "{version:?} {len}");
                }
                let more = [&header[..], b"\x16\x03\x01\r\n"].concat();
                assert_eq!(version.header_len(&more), Ok(Some(header.len())));
            }
        }
        assert_eq!(ProxyProtocol::None.header_len(b""), Ok(Some(0)));
    }

    #[test]
    fn what_is_no_header_or_too_long_is_refused_early() {
        for bytes in [&b"P_"[..], b"\x16\x03", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(ProxyProtocol::V1.header_len(bytes), Err(HeaderError));
            assert_eq!(ProxyProtocol::V2.header_len(bytes), Err(HeaderError));
        }
        let mut line = b"PROXY TCP4 ".to_vec();
        line.resize(V1_BYTES_MAX - 1, b'1');
        assert_eq!(ProxyProtocol::V1.header_len(&line), Ok(None));
        line.push(b'1');
        assert_eq!(ProxyProtocol::V1.header_len(&line), Err(HeaderError));
        let header = |len: u16| [&V2_SIGNATURE[..], &[0x21, 0x11], &len.to_be_bytes()].concat();
        assert_eq!(ProxyProtocol::V2.header_len(&header(520)), Ok(None));
        assert_eq!(ProxyProtocol::V2.header_len(&header(521)), Err(HeaderError));
    }
}
