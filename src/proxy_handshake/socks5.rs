//! SOCKS5 (RFC 1928) with user name and password (RFC 1929). The proxy looks the gateway's name up.

use std::net::IpAddr;

use super::ProxyError;
use crate::config::{HostPort, ProxyCredentials};

/// Where the conversation stands.
pub(super) struct Socks5 {
    stage: Stage,
    /// Bytes of the answer that is awaited; the longest has 262.
    got: Vec<u8>,
    credentials: Option<ProxyCredentials>,
    connect: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Method,
    LogIn,
    Connect,
}

impl Socks5 {
    pub(super) fn new(target: &HostPort, credentials: Option<ProxyCredentials>, out: &mut Vec<u8>) -> Self {
        match &credentials {
            None => out.extend([VERSION, 1, NO_LOG_IN]),
            Some(_) => out.extend([VERSION, 2, NO_LOG_IN, PASSWORD]),
        }
        Self { stage: Stage::Method, got: Vec::new(), credentials, connect: connect_request(target) }
    }

    pub(super) fn recv(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, ProxyError> {
        let mut rest = bytes.iter();
        while let Some(byte) = rest.next() {
            self.got.push(*byte);
            if self.got.len() < self.wanted() {
                continue;
            }
            let answer = std::mem::take(&mut self.got);
            if self.take(&answer, out)? {
                return if rest.as_slice().is_empty() { Ok(true) } else { Err(ProxyError::Page) };
            }
        }
        Ok(false)
    }

    /// Length of the answer that is awaited, as far as it can be told.
    fn wanted(&self) -> usize {
        match (self.stage, self.got.get(3), self.got.get(4)) {
            // Told at once: the rest may never come.
            _ if self.is_foreign() => self.got.len(),
            (Stage::Method | Stage::LogIn, _, _) => 2,
            (Stage::Connect, Some(&IPV4), _) => 4 + 4 + 2,
            (Stage::Connect, Some(&IPV6), _) => 4 + 16 + 2,
            (Stage::Connect, Some(&NAME), Some(len)) => 4 + 1 + usize::from(*len) + 2,
            (Stage::Connect, Some(&NAME) | None, _) => 5,
            (Stage::Connect, Some(_), _) => 4,
        }
    }

    fn is_foreign(&self) -> bool {
        let version = if self.stage == Stage::LogIn { LOG_IN_VERSION } else { VERSION };
        self.got.first().is_some_and(|first| *first != version)
    }

    /// Takes one whole answer; true when it was the last.
    fn take(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<bool, ProxyError> {
        let version = if self.stage == Stage::LogIn { LOG_IN_VERSION } else { VERSION };
        let &[first, code, ..] = answer else { return Err(ProxyError::NotAProxy) };
        if first != version {
            return Err(ProxyError::NotAProxy);
        }
        match (self.stage, code) {
            (Stage::Method, PASSWORD) => {
                let credentials = self.credentials.as_ref().ok_or(ProxyError::NotAProxy)?;
                out.extend(log_in_request(credentials));
                self.stage = Stage::LogIn;
            }
            (Stage::Method, NO_ACCEPTABLE) if self.credentials.is_none() => {
                return Err(ProxyError::Credentials { offered: false });
            }
            (Stage::Method, NO_ACCEPTABLE) => return Err(ProxyError::NoMethod),
            (Stage::Method, NO_LOG_IN) | (Stage::LogIn, 0) => {
                out.append(&mut self.connect);
                self.stage = Stage::Connect;
            }
            (Stage::Method, _) => return Err(ProxyError::NotAProxy),
            (Stage::LogIn, _) => return Err(ProxyError::Credentials { offered: true }),
            (Stage::Connect, 0) => {
                let known = answer.get(3).is_some_and(|kind| [IPV4, NAME, IPV6].contains(kind));
                return if known { Ok(true) } else { Err(ProxyError::NotAProxy) };
            }
            (Stage::Connect, code) => return Err(ProxyError::Reply(code)),
        }
        Ok(false)
    }
}

fn log_in_request(ProxyCredentials { user, password }: &ProxyCredentials) -> Vec<u8> {
    let mut bytes = vec![LOG_IN_VERSION];
    for text in [user.expose(), password.expose()] {
        push_text(&mut bytes, text);
    }
    bytes
}

fn connect_request(target: &HostPort) -> Vec<u8> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match target.host().parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            bytes.push(IPV4);
            bytes.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            bytes.push(IPV6);
            bytes.extend(address.octets());
        }
        Err(_) => {
            bytes.push(NAME);
            push_text(&mut bytes, target.host());
        }
    }
    bytes.extend(target.port().to_be_bytes());
    bytes
}

/// A text behind its length in one byte. The configuration lets nothing longer through.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    bytes.push(len);
    bytes.extend(text.bytes().take(usize::from(len)));
}

/// RFC 1928, section 6.
pub(super) fn reply_text(code: u8) -> String {
    let text = match code {
        1 => "general failure of the SOCKS server",
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the gateway's host is unreachable",
        5 => "the gateway refused the connection",
        6 => "the time to live is over",
        7 => "it does not support CONNECT",
        8 => "it does not support this kind of address",
        _ => return format!("unknown SOCKS reply {code}"),
    };
    text.to_owned()
}

const VERSION: u8 = 5;
const LOG_IN_VERSION: u8 = 1;
const NO_LOG_IN: u8 = 0;
const PASSWORD: u8 = 2;
const NO_ACCEPTABLE: u8 = 0xFF;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ProxyUrl;
    use crate::proxy_handshake::Handshake;

    fn handshake(proxy: &str, target: &str) -> Handshake {
        let target = HostPort::parse_connect_url(target).unwrap();
        Handshake::new(&ProxyUrl::parse(proxy).unwrap(), &target)
    }

    const DONE: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    #[test]
    fn name_is_left_to_the_proxy_and_no_log_in_offered_without_credentials() {
        let mut handshake = handshake("socks5://proxy", "connect.example.com");
        assert_eq!(handshake.poll_transmit(), [5, 1, 0]);
        assert_eq!(handshake.recv(&[5, 0]), Ok(false));
        let mut expected = vec![5, 1, 0, 3, 19];
        expected.extend(b"connect.example.com");
        expected.extend([1, 187]);
        assert_eq!(handshake.poll_transmit(), expected);
        assert_eq!(handshake.recv(DONE), Ok(true));
    }

    #[test]
    fn addresses_go_as_addresses() {
        for (target, expected) in [
            ("192.0.2.7:444", vec![5, 1, 0, 1, 192, 0, 2, 7, 1, 188]),
            ("[::1]:1", [&[5, 1, 0, 4][..], &[0; 15], &[1, 0, 1]].concat()),
        ] {
            let mut handshake = handshake("socks5://proxy", target);
            handshake.poll_transmit();
            handshake.recv(&[5, 0]).unwrap();
            assert_eq!(handshake.poll_transmit(), expected);
        }
    }

    #[test]
    fn log_in_comes_before_the_connection_when_the_proxy_wants_it() {
        let mut handshake = handshake("socks5://me:pw@proxy", "192.0.2.7");
        assert_eq!(handshake.poll_transmit(), [5, 2, 0, 2]);
        assert_eq!(handshake.recv(&[5, 2]), Ok(false));
        assert_eq!(handshake.poll_transmit(), [1, 2, b'm', b'e', 2, b'p', b'w']);
        assert_eq!(handshake.recv(&[1, 0]), Ok(false));
        assert!(!handshake.poll_transmit().is_empty());
        assert_eq!(handshake.recv(DONE), Ok(true));
    }

    #[test]
    fn refusal_says_what_happened() {
        let answered = |proxy: &str, answers: &[u8]| handshake(proxy, "192.0.2.7").recv(answers);
        let (open, closed) = ("socks5://proxy", "socks5://me:pw@proxy");
        assert_eq!(answered(open, &[5, 0xFF]), Err(ProxyError::Credentials { offered: false }));
        assert_eq!(answered(closed, &[5, 0xFF]), Err(ProxyError::NoMethod));
        assert_eq!(answered(closed, &[5, 2, 1, 1]), Err(ProxyError::Credentials { offered: true }));
        assert_eq!(answered(open, &[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0]), Err(ProxyError::Reply(5)));
        assert_eq!(answered(open, b"HTTP/1.1 400 x"), Err(ProxyError::NotAProxy));
        assert_eq!(answered(open, &[5, 2]), Err(ProxyError::NotAProxy), "not offered");
        assert_eq!(answered(open, &[5, 0, 5, 0, 0, 9]), Err(ProxyError::NotAProxy));
        assert_eq!(answered(open, &[&[5, 0], DONE, b"x"].concat()), Err(ProxyError::Page));
        assert!(ProxyError::Reply(2).to_string().contains("its rules do not allow it"));
        assert!(ProxyError::Reply(99).to_string().contains("99"));
    }

    #[test]
    fn bound_address_of_every_kind_is_read_to_its_end() {
        let named = [&[5, 0, 0, 3, 2, b'a', b'b', 0, 1][..]].concat();
        let six = [&[5, 0, 0, 4][..], &[0; 18]].concat();
        for answer in [DONE, &named, &six] {
            let mut handshake = handshake("socks5://proxy", "192.0.2.7");
            assert_eq!(handshake.recv(&[5, 0]), Ok(false));
            for (index, byte) in answer.iter().enumerate() {
                assert_eq!(handshake.recv(&[*byte]), Ok(index + 1 == answer.len()));
            }
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_an_end_or_waits_for_more(answer: Vec<u8>) {
            let mut handshake = handshake("socks5://me:pw@proxy", "192.0.2.7");
            let whole = handshake.recv(&answer);
            let mut again = self::handshake("socks5://me:pw@proxy", "192.0.2.7");
            let mut last = Ok(false);
            for (index, byte) in answer.iter().enumerate() {
                if last != Ok(false) {
                    let rest = answer.len() > index;
                    prop_assert!(last != Ok(true) || (rest && whole == Err(ProxyError::Page)));
                    return Ok(());
                }
                last = again.recv(&[*byte]);
            }
            prop_assert_eq!(whole, last);
        }
    }
}
