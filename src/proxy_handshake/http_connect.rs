//! HTTP's method CONNECT (RFC 9110, section 9.3.6) with the Basic scheme (RFC 7617).

use super::{ANSWER_MAX, ProxyError};
use crate::config::{HostPort, ProxyCredentials};

/// Waits for the head of the proxy's answer.
pub(super) struct HttpConnect {
    head: Vec<u8>,
    offered: bool,
}

impl HttpConnect {
    pub(super) fn new(target: &HostPort, credentials: Option<&ProxyCredentials>, out: &mut Vec<u8>) -> Self {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: adit\r\n");
        if let Some(ProxyCredentials { user, password }) = credentials {
            let pair = format!("{}:{}", user.expose(), password.expose());
            request.push_str(&format!("Proxy-Authorization: Basic {}\r\n", base64(pair.as_bytes())));
        }
        request.push_str("\r\n");
        out.extend(request.into_bytes());
        Self { head: Vec::new(), offered: credentials.is_some() }
    }

    pub(super) fn recv(&mut self, bytes: &[u8]) -> Result<bool, ProxyError> {
        let room = ANSWER_MAX.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(room));
        let looks_right = self.head.iter().zip(b"HTTP/1.").all(|(has, wanted)| has == wanted);
        if !looks_right {
            return Err(ProxyError::NotAProxy);
        }
        let Some(end) = end_of_head(&self.head) else {
            return if self.head.len() >= ANSWER_MAX { Err(ProxyError::TooLong) } else { Ok(false) };
        };
        match status(&self.head)? {
            (200..=299, _) if end < self.head.len() || bytes.len() > room => Err(ProxyError::Page),
            (200..=299, _) => Ok(true),
            (407, _) => Err(ProxyError::Credentials { offered: self.offered }),
            (code @ 300..=399, _) => Err(ProxyError::Portal(code)),
            (code, text) => Err(ProxyError::Status(code, text)),
        }
    }
}

/// Where the head ends: behind the first empty line.
fn end_of_head(head: &[u8]) -> Option<usize> {
    let by_crlf = head.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let by_lf = head.windows(2).position(|window| window == b"\n\n").map(|at| at + 2);
    [by_crlf, by_lf].into_iter().flatten().min()
}

/// The status code, and the text beside it as a log may show it.
fn status(head: &[u8]) -> Result<(u16, String), ProxyError> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let rest = line.split_once(' ').map_or("", |(_, rest)| rest).trim();
    let (code, text) = rest.split_at_checked(3).ok_or(ProxyError::NotAProxy)?;
    let code = code.parse().ok().filter(|code| (100..600).contains(code)).ok_or(ProxyError::NotAProxy)?;
    let text = text.trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS_SHOWN).collect();
    Ok((code, text))
}

/// Base 64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            let sextet = group >> (18 - 6 * index) & 0x3F;
            let symbol = usize::try_from(sextet).ok().and_then(|sextet| ALPHABET.get(sextet)).copied();
            // n bytes make n + 1 symbols.
            text.push(if index <= chunk.len() { symbol.map_or('=', char::from) } else { '=' });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Enough of a reason phrase to recognise it.
const REASON_CHARS_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyUrl;
    use crate::proxy_handshake::Handshake;

    fn handshake(proxy: &str) -> (Handshake, String) {
        let target = HostPort::parse_connect_url("connect.example.com").unwrap();
        let mut handshake = Handshake::new(&ProxyUrl::parse(proxy).unwrap(), &target);
        let sent = String::from_utf8(handshake.poll_transmit()).unwrap();
        (handshake, sent)
    }

    fn answered(answer: &[u8]) -> Result<bool, ProxyError> {
        handshake("http://proxy").0.recv(answer)
    }

    #[test]
    fn request_names_the_gateway_and_carries_the_credentials() {
        let (_, sent) = handshake("http://proxy");
        assert_eq!(
            sent,
            "CONNECT connect.example.com:443 HTTP/1.1\r\nHost: connect.example.com:443\r\nUser-Agent: adit\r\n\r\n"
        );
        let (handshake, sent) = handshake("http://Aladdin:open%20sesame@proxy");
        assert!(sent.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{sent}");
        assert_eq!(format!("{handshake:?}"), "Handshake { .. }");
    }

    #[test]
    fn base64_has_the_vectors_of_its_document() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (len, expected) in vectors.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..len]), expected);
        }
    }

    #[test]
    fn connection_is_there_after_the_whole_head_in_any_chunking() {
        let answer = b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n";
        assert_eq!(answered(answer), Ok(true));
        assert_eq!(answered(b"HTTP/1.1 204 x\n\n"), Ok(true));
        let (mut handshake, _) = handshake("http://proxy");
        for (index, byte) in answer.iter().enumerate() {
            assert_eq!(handshake.recv(&[*byte]), Ok(index + 1 == answer.len()));
        }
    }

    #[test]
    fn refusal_says_what_happened() {
        let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in</html>";
        assert_eq!(answered(page), Err(ProxyError::Page));
        assert_eq!(answered(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n"), Err(ProxyError::Portal(302)));
        let status = |code, text: &str| Err(ProxyError::Status(code, text.to_owned()));
        assert_eq!(answered(b"HTTP/1.1 403 Forbidden\r\n\r\n"), status(403, "Forbidden"));
        assert_eq!(answered(b"HTTP/1.1 502\r\n\r\n"), status(502, ""));
        assert_eq!(answered(b"HTTP/1.1 503 a\x1b[31mb\r\n\r\n"), status(503, "a[31mb"));
        let wants = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        assert_eq!(answered(wants), Err(ProxyError::Credentials { offered: false }));
        let (mut handshake, _) = handshake("http://me:hunter2@proxy");
        let error = handshake.recv(wants).unwrap_err();
        assert_eq!(error, ProxyError::Credentials { offered: true });
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn answer_of_something_else_is_told_at_once() {
        for answer in [
            &b"\x15\x03\x01"[..],
            b"SSH-2.0-x",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 99 x\r\n\r\n",
        ] {
            assert_eq!(answered(answer), Err(ProxyError::NotAProxy));
        }
        assert_eq!(answered(b"HTT"), Ok(false));
    }

    #[test]
    fn head_is_read_up_to_its_limit() {
        let start = b"HTTP/1.1 200 OK\r\nX: ";
        let mut longest = start.to_vec();
        longest.resize(ANSWER_MAX - 4, b'x');
        longest.extend(b"\r\n\r\n");
        assert_eq!(answered(&longest), Ok(true));
        longest.insert(start.len(), b'x');
        assert_eq!(answered(&longest), Err(ProxyError::TooLong));
    }
}
