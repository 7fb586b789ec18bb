//! The way of a log-in through a host of the gateway's own, so that a provider has to know one address for all endpoints of
//! an account.
//!
//! The provider sends the browser to the callback host, with a `state` that says, sealed, to which endpoint the log-in
//! belongs. The callback host seals what the provider said into a ticket for that endpoint alone and sends the browser on.
//! The endpoint takes the ticket only from the browser that began the log-in there, so that nothing is gained by sending
//! somebody else to either of them, and the session's cookie is set by the endpoint itself.
//!
//! The address has the account in it, and a mark of provider and client. A provider gives codes only for addresses that its
//! client has registered, so that the code for one client cannot be made to arrive at an endpoint of another account, or at
//! one with another provider, either of which could bring it into a log-in of its own (RFC 9700, 4.4.2).

use adit::endpoint_url::{EndpointUrl, Scheme};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::query::{encode, form_text, parameter};
use super::seal::{Keys, SealError};

/// The host at which providers hand log-ins over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackHost {
    host: Box<str>,
    /// With the port, if it is not that of the scheme.
    authority: Box<str>,
}

/// Whose log-ins an address is for.
#[derive(Clone, Copy, Debug)]
pub struct Party<'p> {
    /// The account of the endpoints.
    pub account: &'p str,
    /// The mark of a client at a provider, see [`mark`].
    pub client: &'p str,
}

/// What a provider sends back, beside `state`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What tokens are got for.
    pub code: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// The same in words.
    pub error_description: Option<String>,
    /// Who says so (RFC 9207).
    pub iss: Option<String>,
}

/// Why a callback is handed to no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverError {
    /// A parameter is there twice, or cannot be read.
    Malformed(&'static str),
    /// `state` is missing, or not from a gateway with this key for this account.
    State,
    /// The log-in was begun too long ago.
    Late,
    /// What the provider says is longer than [`SAID_BYTES_MAX`].
    Long,
    /// The ticket cannot be sealed.
    Seal,
}

/// What a `state` says.
#[derive(Serialize, Deserialize)]
struct Home {
    id: String,
    authority: String,
    /// In seconds since 1970.
    ends: i64,
}

/// What one endpoint gets.
#[derive(Serialize, Deserialize)]
struct Ticket {
    id: String,
    /// In seconds since 1970.
    ends: i64,
    said: Said,
}

impl CallbackHost {
    /// Reads a name such as `login.example.com`, with a port where it is not 443.
    ///
    /// # Errors
    ///
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "a host name such as login.example.com, with a port where it is not 443";
        let url = EndpointUrl::parse(&format!("https://{text}")).map_err(|_| expected)?;
        if url.scheme() != Scheme::Https || url.is_internal() || text.contains(['*', '/']) {
            return Err(expected);
        }
        let host = url.host().to_ascii_lowercase();
        let authority = if url.port() == 443 { host.clone() } else { format!("{host}:{}", url.port()) };
        Ok(Self { host: host.into(), authority: authority.into() })
    }

    /// The name alone, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where the responses of an identity provider of SAML go, for all endpoints of an account.
    #[must_use]
    pub fn acs(&self, party: Party<'_>) -> String {
        self.place(ACS_PATH, party)
    }

    /// An address below a path, for all endpoints of an account.
    #[must_use]
    pub fn place(&self, path: &str, party: Party<'_>) -> String {
        format!("https://{}{path}/{}/{}", self.authority, encode(party.account), encode(party.client))
    }

    /// What has to be registered at a provider, for all endpoints of an account.
    #[must_use]
    pub fn redirect(&self, party: Party<'_>) -> String {
        self.place(CALLBACK_PATH, party)
    }
}

/// Tells a client at a provider apart from all others.
#[must_use]
pub fn mark(provider: &str, client: &str) -> String {
    let digest = digest(&SHA256, format!("{provider}\n{client}").as_bytes());
    let mut mark = URL_SAFE_NO_PAD.encode(digest);
    mark.truncate(MARK_LEN);
    mark
}

/// The `state` for a log-in that began at an endpoint; it ends at a time in seconds since 1970.
///
/// # Errors
///
/// [`SealError`]
pub fn state(keys: &Keys, party: Party<'_>, (id, authority): (&str, &str), ends: i64) -> Result<String, SealError> {
    let home = Home { id: id.to_owned(), authority: authority.to_owned(), ends };
    keys.seal(&state_purpose(party), &serde_json::to_vec(&home).map_err(|_| SealError)?)
}

/// Where a browser goes that a provider has sent to the callback host, with the query of that request.
///
/// # Errors
///
/// [`HandOverError`]
pub fn pass_on(keys: &Keys, party: Party<'_>, query: &str, now: i64) -> Result<String, HandOverError> {
    let get = |name| parameter(query, name).map_err(HandOverError::Malformed);
    let state = get("state")?.ok_or(HandOverError::State)?;
    let said = Said {
        code: get("code")?,
        error: get("error")?,
        error_description: get("error_description")?,
        iss: get("iss")?,
    };
    let home = home(keys, party, &state, now)?;
    if said.len() > SAID_BYTES_MAX {
        return Err(HandOverError::Long);
    }
    let ticket = Ticket { id: home.id, ends: now.saturating_add(TICKET_SECS), said };
    let plain = serde_json::to_vec(&ticket).map_err(|_| HandOverError::Seal)?;
    let sealed = keys.seal(&ticket_purpose(party, &home.authority), &plain).map_err(|_| HandOverError::Seal)?;
    let query = form_text(&[("state", &ticket.id), ("ticket", &sealed)]);
    Ok(format!("https://{}{CALLBACK_PATH}?{query}", home.authority))
}

/// Where a browser takes a form of SAML that a provider's page has posted to the callback host, with its `RelayState`: the
/// form goes on as it is.
///
/// # Errors
///
/// [`HandOverError`]
pub fn pass_form_on(keys: &Keys, party: Party<'_>, relay_state: &str, now: i64) -> Result<String, HandOverError> {
    Ok(format!("https://{}{ACS_PATH}", home(keys, party, relay_state, now)?.authority))
}

/// Whether a `state` was sealed for the log-in of this id at an endpoint.
#[must_use]
pub fn is_state_of(keys: &Keys, party: Party<'_>, (id, authority): (&str, &str), state: &str, now: i64) -> bool {
    home(keys, party, state, now).is_ok_and(|home| home.id == id && home.authority == authority)
}

fn home(keys: &Keys, party: Party<'_>, state: &str, now: i64) -> Result<Home, HandOverError> {
    let home = keys.open(&state_purpose(party), state).ok_or(HandOverError::State)?;
    let home: Home = serde_json::from_slice(&home).map_err(|_| HandOverError::State)?;
    if now > home.ends { Err(HandOverError::Late) } else { Ok(home) }
}

/// What the provider said of a log-in of this id, for an endpoint. `None`: the ticket is not for it, or too old.
#[must_use]
pub fn open(keys: &Keys, party: Party<'_>, (id, authority): (&str, &str), ticket: &str, now: i64) -> Option<Said> {
    let plain = keys.open_long(&ticket_purpose(party, authority), ticket, TICKET_BYTES_MAX)?;
    let ticket: Ticket = serde_json::from_slice(&plain).ok()?;
    (ticket.id == id && now <= ticket.ends).then_some(ticket.said)
}

impl Said {
    fn len(&self) -> usize {
        let all = [&self.code, &self.error, &self.error_description, &self.iss];
        all.into_iter().flatten().map(String::len).sum()
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Said")
            .field("has_code", &self.code.is_some())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

fn state_purpose(Party { account, client }: Party<'_>) -> String {
    format!("state\n{account}\n{client}")
}

fn ticket_purpose(Party { account, client }: Party<'_>, authority: &str) -> String {
    format!("ticket\n{account}\n{client}\n{authority}")
}

/// The reserved path of every endpoint with a log-in; at the callback host, account and mark follow.
pub const CALLBACK_PATH: &str = "/ngrok/oauth2/callback";
/// Where responses of SAML go, at every endpoint with such a log-in; at the callback host, account and mark follow.
pub const ACS_PATH: &str = "/ngrok/saml/acs";
/// 72 bits: nobody finds a provider with the mark of another.
const MARK_LEN: usize = 12;
/// Codes of Microsoft have 2 KiB, and an error may bring words with it.
pub const SAID_BYTES_MAX: usize = 6 * 1024;
/// What the largest one has when each of its bytes is written as six (`\u0000`), and then in base64.
const TICKET_BYTES_MAX: usize = 6 * SAID_BYTES_MAX * 4 / 3 + 1024;
/// A browser follows a redirect at once; the clocks of two gateways may be a minute apart.
const TICKET_SECS: i64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: Party<'_> = Party { account: "main", client: "mark" };
    const OTHER: Party<'_> = Party { account: "other", client: "mark" };
    const HOME: (&str, &str) = ("id", "app.example.com:8443");

    fn keys() -> Keys {
        Keys::derive([&b"k"[..]])
    }

    fn ticket(location: &str) -> String {
        let query = location.strip_prefix("https://app.example.com:8443/ngrok/oauth2/callback?").unwrap();
        assert_eq!(parameter(query, "state"), Ok(Some("id".into())));
        parameter(query, "ticket").unwrap().unwrap()
    }

    fn passed(query: &str) -> Result<String, HandOverError> {
        let state = state(&keys(), MAIN, HOME, 1000).unwrap();
        pass_on(&keys(), MAIN, &query.replace("STATE", &state), 500)
    }

    #[test]
    fn what_the_provider_says_arrives_at_the_endpoint_that_began_and_nowhere_else() {
        let location = passed("state=STATE&code=a%26b&iss=https%3A%2F%2Fidp.example.com").unwrap();
        let sealed = ticket(&location);
        let said = open(&keys(), MAIN, HOME, &sealed, 500).unwrap();
        assert_eq!((said.code.as_deref(), said.iss.as_deref()), (Some("a&b"), Some("https://idp.example.com")));
        assert_eq!(open(&keys(), MAIN, HOME, &sealed, 500 + TICKET_SECS + 1), None, "it is old");
        assert_eq!(open(&keys(), OTHER, HOME, &sealed, 500), None, "another account");
        assert_eq!(open(&keys(), MAIN, ("other", HOME.1), &sealed, 500), None, "another log-in");
        assert_eq!(open(&keys(), MAIN, ("id", "evil.example.com"), &sealed, 500), None, "another host");
        assert_eq!(open(&Keys::derive([&b"x"[..]]), MAIN, HOME, &sealed, 500), None, "another gateway");
        assert!(!location.contains("a%26b") && !format!("{said:?}").contains("a&b"), "the code is not to be read");
    }

    #[test]
    fn state_that_was_not_sealed_for_the_account_leads_nowhere() {
        let state = state(&keys(), MAIN, HOME, 1000).unwrap();
        let query = format!("state={state}&code=a");
        assert!(pass_on(&keys(), MAIN, &query, 1000).is_ok());
        assert_eq!(pass_on(&keys(), MAIN, &query, 1001), Err(HandOverError::Late));
        assert_eq!(pass_on(&keys(), OTHER, &query, 500), Err(HandOverError::State));
        assert_eq!(pass_on(&Keys::derive([&b"x"[..]]), MAIN, &query, 500), Err(HandOverError::State));
        for query in ["", "code=a", "state=&code=a", "state=x&code=a"] {
            assert_eq!(pass_on(&keys(), MAIN, query, 500), Err(HandOverError::State), "{query}");
        }
        assert!(matches!(passed("state=STATE&state=STATE"), Err(HandOverError::Malformed(_))));
        assert!(matches!(passed("state=STATE&code=%ff"), Err(HandOverError::Malformed(_))));
        assert!(matches!(passed("state=STATE&code=a&code=b"), Err(HandOverError::Malformed(_))));
    }

    #[test]
    fn form_of_saml_goes_on_to_the_endpoint_that_began() {
        let state = state(&keys(), MAIN, HOME, 1000).unwrap();
        let place = "https://app.example.com:8443/ngrok/saml/acs".to_owned();
        assert_eq!(pass_form_on(&keys(), MAIN, &state, 1000), Ok(place));
        assert_eq!(pass_form_on(&keys(), MAIN, &state, 1001), Err(HandOverError::Late));
        assert_eq!(pass_form_on(&keys(), OTHER, &state, 500), Err(HandOverError::State));
        assert_eq!(pass_form_on(&keys(), MAIN, "https://evil.example/", 500), Err(HandOverError::State));
        assert!(is_state_of(&keys(), MAIN, HOME, &state, 500) && !is_state_of(&keys(), MAIN, HOME, &state, 1001));
        assert!(!is_state_of(&keys(), MAIN, ("other", HOME.1), &state, 500), "another log-in");
        assert!(!is_state_of(&keys(), MAIN, ("id", "evil.example.com"), &state, 500), "another host");
        assert!(!is_state_of(&keys(), OTHER, HOME, &state, 500), "another account");
    }

    #[test]
    fn longest_words_fit_and_longer_ones_are_refused() {
        let words = "%00".repeat(SAID_BYTES_MAX);
        let sealed = ticket(&passed(&format!("state=STATE&error_description={words}")).unwrap());
        assert!(open(&keys(), MAIN, HOME, &sealed, 500).is_some());
        assert_eq!(passed(&format!("state=STATE&code={words}a")), Err(HandOverError::Long));
    }

    #[test]
    fn host_is_a_public_name() {
        let host = CallbackHost::parse("Login.Example.com").unwrap();
        assert_eq!(
            (host.host(), &*host.redirect(Party { account: "a.b", ..MAIN })),
            ("login.example.com", "https://login.example.com/ngrok/oauth2/callback/a.b/mark")
        );
        let host = CallbackHost::parse("login.example.com:8443").unwrap();
        assert_eq!(host.redirect(MAIN), "https://login.example.com:8443/ngrok/oauth2/callback/main/mark");
        for text in
            ["", "a b", "*.example.com", "login.internal", "https://login.example.com", "login.example.com/x", "a@b.c"]
        {
            assert!(CallbackHost::parse(text).is_err(), "{text}");
        }
    }
}
