//! What the gateway hands to agents so that they can come back: ClientId and Cookie, bind Id and Token.
//!
//! Nothing of it is stored. A Cookie proves that this gateway, or another one with the same key, gave this ClientId to
//! this credential of this account; a Token proves the same of a bind Id and its URL, within that ClientId. Both
//! therefore hold after a restart and on every gateway with the key, and are worthless to another account, another
//! credential or another instance of an agent.
//!
//! An agent that says which instance of its credential it is has the ClientId and the bind Ids that the key makes of
//! that: it gets them back also when it has forgotten everything. Within another credential the same instance makes
//! another ClientId.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use adit::endpoint_url::EndpointUrl;

use crate::identity_key::KEY_LEN;

/// Names one instance of an agent across its connections; its legs share it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

/// Names one endpoint towards its agent; unique within a [`ClientId`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindId(Arc<str>);

/// Whose identity it is: the account and the credential in it that logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The account's name.
    pub account: Arc<str>,
    /// The credential's id within the account.
    pub credential: Arc<str>,
}

/// How an endpoint got its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The agent named it.
    Asked,
    /// The agent left the choice to the gateway. At a rebind it names what it was given then, which its access rules
    /// need not allow it to ask for.
    Assigned,
}

/// Names one session in its Cookie: whoever comes with the Ticket of a session is the process that had it, because only
/// that one has read it. A process that has forgotten it comes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket([u8; TICKET_LEN]);

/// Issues and checks identities with one key. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    key: hmac::Key,
    random: SystemRandom,
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl Identity {
    /// Takes the configured key. Gateways that share it accept each other's identities.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), random: SystemRandom::new() }
    }

    /// Makes a ClientId for an agent that has none, or none that is valid here.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]: refuse the log-in, with a text that says it is temporary.
    pub fn new_client(&self) -> Result<ClientId, NoRandomness> {
        Ok(ClientId(self.new_name("c_")?.into()))
    }

    /// The ClientId of an instance of a credential's agents, always the same. What agents say they are is no secret, so
    /// it gives them no right beyond their own credential's.
    #[must_use]
    pub fn client_of(&self, owner: &Owner, instance: &str) -> ClientId {
        let text = framed(&["adit client 1", &owner.account, &owner.credential, instance]);
        ClientId(self.derived_name("c_", &text).into())
    }

    /// The bind Id of an endpoint of such an agent, always the same.
    #[must_use]
    pub fn bind_of(&self, owner: &Owner, client: &ClientId, url: &EndpointUrl) -> BindId {
        let text = framed(&["adit bind 1", &owner.account, &owner.credential, client.as_str(), &url.to_string()]);
        BindId(self.derived_name("b_", &text).into())
    }

    /// Makes a name for a new session.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]: refuse the log-in.
    pub fn new_ticket(&self) -> Result<Ticket, NoRandomness> {
        Ok(Ticket(self.random()?))
    }

    /// Makes a bind Id for a new endpoint.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]: refuse the Bind.
    pub fn new_bind(&self) -> Result<BindId, NoRandomness> {
        Ok(BindId(self.new_name("b_")?.into()))
    }

    /// Computes the Cookie that goes with `client` when it logs in as `owner` and its session is named `ticket`.
    #[must_use]
    pub fn cookie(&self, owner: &Owner, client: &ClientId, ticket: Ticket) -> String {
        let ticket = URL_SAFE_NO_PAD.encode(ticket.0);
        let proof = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &cookie_text(owner, client, &ticket)));
        format!("{ticket}{proof}")
    }

    /// Gives the identity of an agent that comes back and names its last session, if `cookie` was issued for exactly
    /// this ClientId, account and credential. Otherwise the agent gets a new one. Takes the same time for every wrong
    /// cookie.
    #[must_use]
    pub fn resume(&self, owner: &Owner, client_id: &str, cookie: &str) -> Option<(ClientId, Ticket)> {
        let client = ClientId::parse(client_id)?;
        let (text, proof) = cookie.split_at_checked(TICKET_TEXT_LEN)?;
        let ticket = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Ticket)?;
        self.is_signed(&cookie_text(owner, &client, text), proof).then_some((client, ticket))
    }

    /// Computes the Token that goes with `bind` at `url`.
    #[must_use]
    pub fn token(&self, owner: &Owner, client: &ClientId, bind: &BindId, url: &EndpointUrl, origin: Origin) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &token_text(owner, client, bind, url, origin)))
    }

    /// Tells whether this agent had this endpoint before, and how it came by its address. `None`: it did not, or not
    /// at this address: the bind counts as a new one.
    #[must_use]
    pub fn origin(
        &self,
        owner: &Owner,
        client: &ClientId,
        bind: &BindId,
        url: &EndpointUrl,
        token: &str,
    ) -> Option<Origin> {
        [Origin::Asked, Origin::Assigned]
            .into_iter()
            .find(|origin| self.is_signed(&token_text(owner, client, bind, url, *origin), token))
    }

    /// Gives random bytes, for seeds and assigned names.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn random<const N: usize>(&self) -> Result<[u8; N], NoRandomness> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(bytes)
    }

    fn new_name(&self, prefix: &str) -> Result<String, NoRandomness> {
        let bytes: [u8; RANDOM_LEN] = self.random()?;
        Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn derived_name(&self, prefix: &str, text: &[u8]) -> String {
        let tag = hmac::sign(&self.key, text);
        let bytes = tag.as_ref().get(..RANDOM_LEN).unwrap_or(tag.as_ref());
        format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn is_signed(&self, text: &[u8], proof: &str) -> bool {
        if proof.len() > PROOF_LEN_MAX {
            return false;
        }
        let Ok(tag) = URL_SAFE_NO_PAD.decode(proof) else { return false };
        hmac::verify(&self.key, text, &tag).is_ok()
    }
}

impl ClientId {
    /// Takes what an agent sent: 1 to [`ID_LEN_MAX`] printable ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.into()))
    }

    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BindId {
    /// Takes what an agent sent: 1 to [`ID_LEN_MAX`] printable ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.into()))
    }

    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text, for who keeps it.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for BindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BindId({})", self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity([secret])")
    }
}

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes; try again")
    }
}

impl std::error::Error for NoRandomness {}

fn is_id(text: &str) -> bool {
    (1..=ID_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn cookie_text(owner: &Owner, client: &ClientId, ticket: &str) -> Vec<u8> {
    framed(&["adit cookie 2", &owner.account, &owner.credential, client.as_str(), ticket])
}

fn token_text(owner: &Owner, client: &ClientId, bind: &BindId, url: &EndpointUrl, origin: Origin) -> Vec<u8> {
    let label = match origin {
        Origin::Asked => "adit token 1 asked",
        Origin::Assigned => "adit token 1 assigned",
    };
    framed(&[label, &owner.account, &owner.credential, client.as_str(), bind.as_str(), &url.to_string()])
}

/// Each part behind its length, so that no two lists of parts give the same bytes.
fn framed(parts: &[&str]) -> Vec<u8> {
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    text
}

/// Longest ClientId and bind Id accepted, in bytes (wire document 4.3). Ours have 26.
pub const ID_LEN_MAX: usize = 64;
/// Random bytes in an id: 144 bit, above the 128 that make guessing hopeless, and a multiple of 3 for base64.
const RANDOM_LEN: usize = 18;
/// Bytes of a ticket: 72 bit, which never repeat by chance, and a multiple of 3 for base64.
const TICKET_LEN: usize = 9;
/// Characters of a ticket in a Cookie.
const TICKET_TEXT_LEN: usize = TICKET_LEN / 3 * 4;
/// Longest proof worth decoding: 32 bytes make 43 characters of base64.
const PROOF_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(key: u8) -> Identity {
        Identity::new(&[key; KEY_LEN])
    }

    fn owner(account: &str, credential: &str) -> Owner {
        Owner { account: account.into(), credential: credential.into() }
    }

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap()
    }

    #[test]
    fn ids_are_short_printable_and_never_repeat() {
        let identity = identity(1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let bind = identity.new_bind().unwrap();
            assert!(BindId::parse(bind.as_str()).is_some());
            assert!(seen.insert(bind.as_str().to_owned()));
            let client = identity.new_client().unwrap();
            assert!(ClientId::parse(client.as_str()).is_some());
            assert!(seen.insert(client.as_str().to_owned()));
        }
    }

    #[test]
    fn ids_from_the_wire_are_bounded() {
        assert!(BindId::parse(&"x".repeat(ID_LEN_MAX)).is_some());
        for bad in ["", "with space", "tab\t", "nul\0", "ünï", &"x".repeat(ID_LEN_MAX + 1)] {
            assert!(BindId::parse(bad).is_none(), "{bad:?}");
            assert!(ClientId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn cookie_resumes_on_every_gateway_with_the_key_and_for_nobody_else() {
        let owner_a = owner("main", "site-1");
        let client = identity(1).new_client().unwrap();
        let ticket = identity(1).new_ticket().unwrap();
        let cookie = identity(1).cookie(&owner_a, &client, ticket);

        assert_eq!(identity(1).resume(&owner_a, client.as_str(), &cookie), Some((client.clone(), ticket)));
        let of_another = identity(1).cookie(&owner_a, &client, Ticket([7; TICKET_LEN]));
        let mixed = format!("{}{}", &of_another[..TICKET_TEXT_LEN], &cookie[TICKET_TEXT_LEN..]);
        assert_eq!(identity(1).resume(&owner_a, client.as_str(), &mixed), None, "another session's ticket");
        assert_eq!(identity(2).resume(&owner_a, client.as_str(), &cookie), None, "another key");
        assert_eq!(identity(1).resume(&owner("other", "site-1"), client.as_str(), &cookie), None);
        assert_eq!(identity(1).resume(&owner("main", "site-2"), client.as_str(), &cookie), None);
        assert_eq!(identity(1).resume(&owner_a, "c_other", &cookie), None);
        assert_eq!(identity(1).resume(&owner_a, client.as_str(), ""), None);
        assert_eq!(identity(1).resume(&owner_a, client.as_str(), &cookie[1..]), None);
        assert_eq!(identity(1).resume(&owner_a, client.as_str(), &"A".repeat(100_000)), None);
        assert_eq!(identity(1).resume(&owner_a, client.as_str(), &"é".repeat(40)), None);
    }

    #[test]
    fn instance_has_the_same_ids_always_and_only_within_its_credential() {
        let owner_a = owner("main", "site-1");
        let client = identity(1).client_of(&owner_a, "box-7");
        assert_eq!(identity(1).client_of(&owner_a, "box-7"), client);
        assert!(ClientId::parse(client.as_str()).is_some() && client.as_str().len() == 26);
        for (key, owner, instance) in [
            (2, owner("main", "site-1"), "box-7"),
            (1, owner("other", "site-1"), "box-7"),
            (1, owner("main", "site-2"), "box-7"),
            (1, owner("mains", "ite-1"), "box-7"),
            (1, owner("main", "site-1"), "box-8"),
        ] {
            assert_ne!(identity(key).client_of(&owner, instance), client);
        }
        let app = url("https://app.internal");
        let bind = identity(1).bind_of(&owner_a, &client, &app);
        assert_eq!(identity(1).bind_of(&owner_a, &client, &app), bind);
        assert_ne!(identity(1).bind_of(&owner_a, &client, &url("https://b.internal")), bind);
        assert_ne!(identity(1).bind_of(&owner_a, &identity(1).client_of(&owner_a, "box-8"), &app), bind);
    }

    #[test]
    fn token_binds_owner_client_id_url_and_origin() {
        let identity = identity(1);
        let owner_a = owner("main", "site-1");
        let client = identity.new_client().unwrap();
        let bind = identity.new_bind().unwrap();
        let db = url("tcp://db.internal:5432");
        let asked = identity.token(&owner_a, &client, &bind, &db, Origin::Asked);
        let assigned = identity.token(&owner_a, &client, &bind, &db, Origin::Assigned);
        let origin = |owner: &Owner, client: &ClientId, bind: &BindId, url: &EndpointUrl, token: &str| {
            identity.origin(owner, client, bind, url, token)
        };

        assert_eq!(origin(&owner_a, &client, &bind, &db, &asked), Some(Origin::Asked));
        assert_eq!(origin(&owner_a, &client, &bind, &db, &assigned), Some(Origin::Assigned));
        assert_eq!(origin(&owner("other", "site-1"), &client, &bind, &db, &asked), None);
        assert_eq!(origin(&owner("main", "site-2"), &client, &bind, &db, &asked), None);
        assert_eq!(origin(&owner_a, &identity.new_client().unwrap(), &bind, &db, &asked), None);
        assert_eq!(origin(&owner_a, &client, &identity.new_bind().unwrap(), &db, &asked), None);
        assert_eq!(origin(&owner_a, &client, &bind, &url("tcp://db.internal:5433"), &asked), None);
        assert_eq!(origin(&owner_a, &client, &bind, &db, "tok"), None);
        assert_eq!(origin(&owner_a, &client, &bind, &db, ""), None);
    }

    #[test]
    fn account_and_credential_cannot_be_shifted_into_each_other() {
        let identity = identity(1);
        let client = identity.new_client().unwrap();
        let cookie = identity.cookie(&owner("ab", "c"), &client, identity.new_ticket().unwrap());
        assert_eq!(identity.resume(&owner("a", "bc"), client.as_str(), &cookie), None);
    }

    #[test]
    fn key_is_not_printed() {
        assert_eq!(format!("{:?}", identity(1)), "Identity([secret])");
    }
}
