//! Who answers a TLS connection, decided from its ClientHello alone. Nothing here waits or has effects.

use std::fmt;

use super::client_hello::Hello;
use crate::acme::ACME_TLS;

/// What a socket is for. Several may share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Agents connect here.
    pub agents: bool,
    /// HTTP over TLS that the gateway terminates.
    pub https: bool,
    /// TLS that goes to the upstream unopened.
    pub tls: bool,
}

/// What is known of names.
pub trait Names {
    /// Tells whether agents connect under this name.
    fn is_connect_name(&self, name: &str) -> bool;

    /// Tells whether connections to this name belong to a `tls` endpoint. Where the socket serves `https` as well
    /// (`beside_https`), an `https` endpoint with a more specific name takes precedence.
    fn passes_through(&self, name: &str, beside_https: bool) -> bool;

    /// Tells whether an authority was told to look just now whether this name is the gateway's.
    fn is_proving(&self, name: &str) -> bool;
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The gateway, as to an agent; no application protocol is chosen.
    Agents,
    /// The upstream of the `tls` endpoint for this name.
    PassThrough(&'a str),
    /// The gateway, to prove to a certificate authority that a name is its own (RFC 8737).
    AcmeTls,
    /// The gateway, as to a visitor of web pages.
    Https,
    /// Nobody.
    Refuse(Refusal),
}

/// Why nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client named nobody, and endpoints are told apart by their names.
    NoName,
    /// No endpoint has the name.
    UnknownName,
    /// It asks by `acme-tls/1` for a name that the gateway is not proving.
    NoProtocol,
}

/// Decides by these rules, the first that fits:
///
/// 1. The connect name belongs to agents, whatever the client offers: no middlebox turns an agent away. Only a client
///    that offers `acme-tls/1` is not one of them.
/// 2. `acme-tls/1` for a name that the gateway is proving is for the gateway.
/// 3. The names of `tls` endpoints go through unopened, `acme-tls/1` included: only their upstream can answer. For any
///    other name `acme-tls/1` is for the gateway, too, which then has no answer.
/// 4. Without a name, a client that offers a protocol of the web is a visitor, where the socket serves those; any other
///    is an agent that connects to an address.
/// 5. On a socket for agents alone everybody is an agent: it may know the gateway by a name that the configuration does
///    not.
/// 6. The rest are visitors of `https` endpoints, where the socket serves those.
#[must_use]
pub fn decide<'a>(roles: Roles, hello: &'a Hello, names: &impl Names) -> Answer<'a> {
    let is_acme = hello.offers(ACME_TLS);
    let Some(name) = hello.name.as_deref() else {
        return decide_nameless(roles, hello);
    };
    if roles.agents && !is_acme && names.is_connect_name(name) {
        return Answer::Agents;
    }
    if is_acme && names.is_proving(name) {
        return Answer::AcmeTls;
    }
    if roles.tls && names.passes_through(name, roles.https) {
        return Answer::PassThrough(name);
    }
    match roles {
        _ if is_acme => Answer::AcmeTls,
        Roles { https: true, .. } => Answer::Https,
        Roles { agents: true, tls: false, .. } => Answer::Agents,
        Roles { .. } => Answer::Refuse(Refusal::UnknownName),
    }
}

fn decide_nameless(roles: Roles, hello: &Hello) -> Answer<'static> {
    let is_web = WEB.iter().any(|protocol| hello.offers(protocol));
    match roles {
        Roles { https: true, agents, .. } if is_web || !agents => Answer::Https,
        Roles { agents: true, .. } => Answer::Agents,
        Roles { .. } => Answer::Refuse(Refusal::NoName),
    }
}

impl Refusal {
    /// The TLS record that tells the client: a fatal alert (RFC 8446, 6.2).
    #[must_use]
    pub const fn alert(self) -> [u8; 7] {
        let description = match self {
            Self::NoName => 109,
            Self::UnknownName => 112,
            Self::NoProtocol => 120,
        };
        [21, 3, 3, 0, 2, 2, description]
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "the client named no server (SNI), by which tls endpoints are told apart",
            Self::UnknownName => "no endpoint has this name",
            Self::NoProtocol => "the gateway is not proving this name by acme-tls/1 now",
        })
    }
}

/// What browsers and HTTP clients offer.
const WEB: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

#[cfg(test)]
mod tests {
    use super::*;

    struct Table;

    impl Names for Table {
        fn is_connect_name(&self, name: &str) -> bool {
            name == "connect.example.com"
        }

        fn passes_through(&self, name: &str, beside_https: bool) -> bool {
            let is_wild = name.ends_with(".db.example.com");
            is_wild && !(beside_https && name == "web.db.example.com")
        }

        fn is_proving(&self, name: &str) -> bool {
            name == "own.db.example.com"
        }
    }

    const AGENTS: Roles = Roles { agents: true, https: false, tls: false };
    const HTTPS: Roles = Roles { agents: false, https: true, tls: false };
    const TLS: Roles = Roles { agents: false, https: false, tls: true };
    const AGENTS_HTTPS: Roles = Roles { agents: true, https: true, tls: false };
    const AGENTS_TLS: Roles = Roles { agents: true, https: false, tls: true };
    const HTTPS_TLS: Roles = Roles { agents: false, https: true, tls: true };
    const ALL: Roles = Roles { agents: true, https: true, tls: true };
    const CONNECT: Option<&str> = Some("connect.example.com");
    const PASS: Option<&str> = Some("x.db.example.com");
    const WEB_IN_WILDCARD: Option<&str> = Some("web.db.example.com");
    const PROVING: Option<&str> = Some("own.db.example.com");
    const OTHER: Option<&str> = Some("www.example.com");
    const NO_NAME: Answer<'_> = Answer::Refuse(Refusal::NoName);
    const UNKNOWN: Answer<'_> = Answer::Refuse(Refusal::UnknownName);

    #[test]
    fn every_socket_answers_by_the_table() {
        use Answer::{AcmeTls, Agents, Https};
        let raw = Answer::PassThrough("x.db.example.com");
        let own = Answer::PassThrough("own.db.example.com");
        let raw_web = Answer::PassThrough("web.db.example.com");
        // (name, protocol), then the answer of each kind of socket.
        let roles = [ALL, AGENTS_HTTPS, AGENTS_TLS, HTTPS_TLS, AGENTS, HTTPS, TLS];
        let table = [
            ((CONNECT, ""), [Agents, Agents, Agents, Https, Agents, Https, UNKNOWN]),
            ((CONNECT, "h2"), [Agents, Agents, Agents, Https, Agents, Https, UNKNOWN]),
            ((CONNECT, "acme-tls/1"), [AcmeTls; 7]),
            ((None, ""), [Agents, Agents, Agents, Https, Agents, Https, NO_NAME]),
            ((None, "h2"), [Https, Https, Agents, Https, Agents, Https, NO_NAME]),
            ((None, "http/1.1"), [Https, Https, Agents, Https, Agents, Https, NO_NAME]),
            ((None, "acme-tls/1"), [Agents, Agents, Agents, Https, Agents, Https, NO_NAME]),
            ((None, "postgresql"), [Agents, Agents, Agents, Https, Agents, Https, NO_NAME]),
            ((PASS, ""), [raw, Https, raw, raw, Agents, Https, raw]),
            ((PASS, "h2"), [raw, Https, raw, raw, Agents, Https, raw]),
            ((PASS, "acme-tls/1"), [raw, AcmeTls, raw, raw, AcmeTls, AcmeTls, raw]),
            ((WEB_IN_WILDCARD, "h2"), [Https, Https, raw_web, Https, Agents, Https, raw_web]),
            ((PROVING, "h2"), [own, Https, own, own, Agents, Https, own]),
            ((PROVING, "acme-tls/1"), [AcmeTls; 7]),
            ((OTHER, ""), [Https, Https, UNKNOWN, Https, Agents, Https, UNKNOWN]),
            ((OTHER, "h2"), [Https, Https, UNKNOWN, Https, Agents, Https, UNKNOWN]),
            ((OTHER, "acme-tls/1"), [AcmeTls; 7]),
        ];
        for ((name, protocol), answers) in table {
            let protocols = Some(protocol.as_bytes().to_vec()).filter(|protocol| !protocol.is_empty());
            let hello = Hello { name: name.map(str::to_owned), protocols: protocols.into_iter().collect() };
            for (roles, answer) in roles.into_iter().zip(answers) {
                assert_eq!(decide(roles, &hello, &Table), answer, "{name:?} {protocol:?} {roles:?}");
            }
        }
    }

    #[test]
    fn alert_is_a_fatal_one_in_a_record_of_its_own() {
        assert_eq!(Refusal::UnknownName.alert(), [0x15, 3, 3, 0, 2, 2, 112]);
    }
}
