//! Answers of proxies: how they arrive makes no difference, and none is read without end.

use adit::config::{HostPort, ProxyUrl};
use adit::proxy_handshake::{ANSWER_MAX, Handshake, ProxyError};

/// Gives the input to a handshake of each kind, whole and in pieces whose length its first byte gives.
pub fn proxy_handshake(data: &[u8]) {
    let Some((&first, answer)) = data.split_first() else { return };
    for url in ["http://me:pw@proxy.example.test", "socks5://me:pw@proxy.example.test", "socks5://proxy.example.test"] {
        let whole = answered(url, answer, usize::MAX);
        let pieces = answered(url, answer, usize::from(first).max(1));
        match (&whole, &pieces) {
            // In pieces the connection is there before the page that follows is seen, and that is not taken.
            (Err(ProxyError::Page), Ok(true)) => {}
            _ => assert_eq!(whole, pieces, "the end of the handshake depends on the chunking"),
        }
        assert!(whole != Ok(false) || answer.len() < ANSWER_MAX, "it waits for more than {ANSWER_MAX} bytes");
    }
    if let Ok(text) = std::str::from_utf8(answer)
        && let Ok(proxy) = ProxyUrl::parse(text)
    {
        let again = ProxyUrl::parse(&proxy.to_string()).map(|again| (again.kind, again.address));
        assert_eq!(again, Ok((proxy.kind, proxy.address)), "{text:?} changes when it is read again");
    }
}

fn answered(url: &str, answer: &[u8], chunk: usize) -> Result<bool, ProxyError> {
    let (Ok(proxy), Ok(target)) = (ProxyUrl::parse(url), HostPort::parse_connect_url("connect.example.test")) else {
        panic!("{url} is no proxy")
    };
    let mut handshake = Handshake::new(&proxy, &target);
    for piece in answer.chunks(chunk) {
        if handshake.recv(piece)? {
            return Ok(true);
        }
    }
    Ok(false)
}
