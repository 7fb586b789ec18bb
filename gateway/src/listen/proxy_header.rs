//! PROXY headers as load balancers write them: whom a connection is from. Nothing here waits or has effects.
//!
//! It follows the specification published with HAProxy, versions 1 (one line of text) and 2 (binary), for TCP.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// The proxy passes on a connection of somebody else.
    Passed {
        /// Who made it.
        source: SocketAddr,
        /// Where to.
        destination: SocketAddr,
    },
    /// The proxy speaks for itself (`LOCAL`, `UNKNOWN`), as in a health check, or does not know: the addresses of its own
    /// connection count.
    Own,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They begin like none.
    Missing,
    /// They begin like one, and then something is not as the specification has it.
    Malformed,
    /// It is about another transport than TCP over IPv4 or IPv6.
    Transport,
    /// It is longer than [`HEADER_BYTES_MAX`], or of version 1 and longer than a line may be.
    Long,
}

/// Reads the header that `bytes` begin with: what it says, and its length. `None` while it is not whole; that is so for
/// less than [`HEADER_BYTES_MAX`] bytes.
///
/// # Errors
///
/// See [`HeaderError`]; as early as it can be told.
pub fn parse(bytes: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    if bytes.starts_with(&V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if bytes.starts_with(V1_PREFIX) {
        return parse_v1(bytes);
    }
    let may_become = V2_SIGNATURE.starts_with(bytes) || V1_PREFIX.starts_with(bytes);
    if may_become { Ok(None) } else { Err(HeaderError::Missing) }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < V1_BYTES_MAX { Ok(None) } else { Err(HeaderError::Long) };
    };
    let text = std::str::from_utf8(&line[V1_PREFIX.len()..end]).map_err(|_| HeaderError::Malformed)?;
    let announced = read_v1(text).ok_or(HeaderError::Malformed)?;
    Ok(Some((announced, end + 2)))
}

/// Reads what follows `PROXY `.
fn read_v1(text: &str) -> Option<Announced> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows means nothing.
        return Some(Announced::Own);
    }
    let fields: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = fields.as_slice() else { return None };
    let address = |text: &str| match family {
        "TCP4" => Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        "TCP6" => Ipv6Addr::from_str(text).ok().map(IpAddr::V6),
        _ => None,
    };
    let port = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if is_plain { text.parse::<u16>().ok() } else { None }
    };
    Some(Announced::Passed {
        source: SocketAddr::new(address(source)?, port(source_port)?),
        destination: SocketAddr::new(address(destination)?, port(destination_port)?),
    })
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
    let Some(&[command, transport, high, low]) = bytes.get(V2_SIGNATURE.len()..V2_FIXED_LEN) else { return Ok(None) };
    let len = V2_FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_BYTES_MAX {
        return Err(HeaderError::Long);
    }
    if command != V2_LOCAL && command != V2_PROXY {
        return Err(HeaderError::Malformed);
    }
    let Some(rest) = bytes.get(V2_FIXED_LEN..len) else { return Ok(None) };
    let announced = match (command, transport) {
        (V2_LOCAL, _) | (V2_PROXY, V2_UNSPECIFIED) => Announced::Own,
        (_, V2_TCP_OVER_IPV4) => passed::<4>(rest).ok_or(HeaderError::Malformed)?,
        (_, V2_TCP_OVER_IPV6) => passed::<16>(rest).ok_or(HeaderError::Malformed)?,
        _ => return Err(HeaderError::Transport),
    };
    Ok(Some((announced, len)))
}

/// Two addresses of `LEN` bytes and two ports. What follows them is for others.
fn passed<const LEN: usize>(rest: &[u8]) -> Option<Announced>
where
    IpAddr: From<[u8; LEN]>,
{
    let (source, rest) = rest.split_first_chunk::<LEN>()?;
    let (destination, rest) = rest.split_first_chunk::<LEN>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let address = |ip: &[u8; LEN], port: &[u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port));
    Some(Announced::Passed {
        source: address(source, source_port),
        destination: address(destination, destination_port),
    })
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the connection does not begin with a PROXY header"),
            Self::Malformed => f.write_str("its PROXY header is malformed"),
            Self::Transport => f.write_str("its PROXY header is about something else than TCP over IPv4 or IPv6"),
            Self::Long => write!(f, "its PROXY header is too long: at most {HEADER_BYTES_MAX} bytes are taken"),
        }
    }
}

impl std::error::Error for HeaderError {}

/// The longest header that is taken. Addresses have 36 bytes at most; what proxies add about TLS, names and ids has some
/// hundreds.
pub const HEADER_BYTES_MAX: usize = 2048;

const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const V1_BYTES_MAX: usize = 107;

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_LEN: usize = 16;
/// Version 2, command LOCAL.
const V2_LOCAL: u8 = 0x20;
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
const V2_UNSPECIFIED: u8 = 0x00;
const V2_TCP_OVER_IPV4: u8 = 0x11;
const V2_TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use adit::proxy_protocol::ProxyProtocol;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn v2(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, transport], &len, rest].concat()
    }

    /// The outcome of bytes that come one by one; none may be decided differently later.
    fn parsed(bytes: &[u8]) -> Result<Option<(Announced, usize)>, HeaderError> {
        for len in 0..bytes.len() {
            match parse(&bytes[..len]) {
                Ok(None) => {}
                early => {
                    assert_eq!(parse(bytes), early, "{len}");
                    return early;
                }
            }
        }
        parse(bytes)
    }

    #[test]
    fn header_is_whole_at_its_last_byte_and_says_what_was_written() {
        let pairs = [
            ("192.0.2.1:51000", "198.51.100.2:443"),
            ("[2001:db8::1]:1", "[::1]:65535"),
            ("[::ffff:192.0.2.1]:7", "10.0.0.1:0"),
        ];
        for (source, destination) in pairs.map(|(source, destination)| (address(source), address(destination))) {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let header = version.encode(source, destination);
                let announced = Announced::Passed {
                    source: SocketAddr::new(source.ip().to_canonical(), source.port()),
                    destination,
                };
                for more in [&b""[..], b"\x16\x03\x01\r\n", b"PROXY "] {
                    let bytes = [&header[..], more].concat();
                    assert_eq!(parsed(&bytes), Ok(Some((announced, header.len()))), "{version:?} {source}");
                }
            }
        }
    }

    #[test]
    fn proxy_that_speaks_for_itself_is_its_own_visitor() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
            v2(V2_LOCAL, V2_UNSPECIFIED, b""),
            v2(V2_LOCAL, V2_TCP_OVER_IPV4, &[0; 12]),
            v2(V2_LOCAL, 0x77, &[9; 300]),
            v2(V2_PROXY, V2_UNSPECIFIED, b"\x04\0\x01x"),
        ] {
            assert_eq!(parsed(&header), Ok(Some((Announced::Own, header.len()))), "{header:?}");
        }
    }

    #[test]
    fn what_follows_the_addresses_is_part_of_the_header() {
        let mut rest = vec![192, 0, 2, 1, 198, 51, 100, 2, 0, 7, 0, 8];
        rest.extend(b"\x05\0\x80");
        rest.resize(HEADER_BYTES_MAX - V2_FIXED_LEN, b'u');
        let header = v2(V2_PROXY, V2_TCP_OVER_IPV4, &rest);
        let announced = Announced::Passed { source: address("192.0.2.1:7"), destination: address("198.51.100.2:8") };
        assert_eq!(parsed(&header), Ok(Some((announced, HEADER_BYTES_MAX))));
        rest.push(b'u');
        assert_eq!(parsed(&v2(V2_PROXY, V2_TCP_OVER_IPV4, &rest)), Err(HeaderError::Long));
    }

    #[test]
    fn what_is_no_header_is_refused_as_early_as_it_can_be_told() {
        use HeaderError::{Long, Malformed, Missing, Transport};
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; V1_BYTES_MAX]].concat();
        for (bytes, error) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Missing),
            (b"PROXX".to_vec(), Missing),
            (b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), Missing),
            (vec![0x16, 3, 1], Missing),
            (b"\r\n\r\n\0\r\nQUIX".to_vec(), Missing),
            (line(""), Malformed),
            (line("TCP4"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 1"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 1 2 3"), Malformed),
            (line("TCP4  192.0.2.1 192.0.2.2 1 2"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 1 2 "), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 +1 2"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 01 2"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2 1 65536"), Malformed),
            (line("TCP4 192.0.2.1 192.0.2.2  2"), Malformed),
            (line("TCP4 192.0.2.256 192.0.2.2 1 2"), Malformed),
            (line("TCP4 192.0.2.01 192.0.2.2 1 2"), Malformed),
            (line("TCP4 ::1 ::1 1 2"), Malformed),
            (line("TCP6 192.0.2.1 192.0.2.2 1 2"), Malformed),
            (line("UDP4 192.0.2.1 192.0.2.2 1 2"), Malformed),
            (line("UNKNOWN\u{e9}"), Malformed),
            ([b"PROXY TCP4 \xff".to_vec(), b"\r\n".to_vec()].concat(), Malformed),
            (b"PROXY TCP4 192.0.2.1\n192.0.2.2 1 2\r\n".to_vec(), Malformed),
            (endless, Long),
            (v2(0x11, V2_TCP_OVER_IPV4, &[0; 12]), Malformed),
            (v2(0x22, V2_TCP_OVER_IPV4, &[0; 12]), Malformed),
            (v2(V2_PROXY, V2_TCP_OVER_IPV4, &[0; 11]), Malformed),
            (v2(V2_PROXY, V2_TCP_OVER_IPV6, &[0; 35]), Malformed),
            (v2(V2_PROXY, 0x12, &[0; 12]), Transport),
            (v2(V2_PROXY, 0x31, &[0; 216]), Transport),
        ] {
            assert_eq!(parsed(&bytes), Err(error), "{:?}", String::from_utf8_lossy(&bytes));
        }
        let whole = [b"PROXY TCP4 ".to_vec(), vec![b'1'; V1_BYTES_MAX - 12]].concat();
        assert_eq!(parsed(&whole), Ok(None));
    }
}
