//! PROXY headers of load balancers: how they arrive makes no difference, and none is read without end.

use adit::proxy_protocol::ProxyProtocol;
use adit_gateway::listen::proxy_header::{Announced, HEADER_BYTES_MAX, parse};

/// Reads the input as a header, whole and byte by byte.
pub fn proxy_header(data: &[u8]) {
    let whole = parse(data);
    let first =
        (0..=data.len().min(HEADER_BYTES_MAX)).map(|len| parse(&data[..len])).find(|parsed| *parsed != Ok(None));
    assert_eq!(whole, first.unwrap_or(Ok(None)), "it depends on the chunking");
    let Ok(Some((announced, len))) = whole else {
        assert!(whole.is_err() || data.len() < HEADER_BYTES_MAX, "it waits for more than {HEADER_BYTES_MAX} bytes");
        return;
    };
    assert!(len <= data.len().min(HEADER_BYTES_MAX), "it is longer than what is there");
    let Announced::Passed { source, destination } = announced else { return };
    assert_eq!(source.is_ipv4(), destination.is_ipv4(), "two families in one header");
    // Addresses of IPv4 within IPv6 come out as IPv4.
    let plain = |address: std::net::SocketAddr| std::net::SocketAddr::new(address.ip().to_canonical(), address.port());
    if plain(source).is_ipv4() == plain(destination).is_ipv4() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let again = version.encode(source, destination);
            let same = Announced::Passed { source: plain(source), destination: plain(destination) };
            assert_eq!(parse(&again), Ok(Some((same, again.len()))), "{version:?} says something else");
        }
    }
}
