//! Accounts and their credentials: who may log in, and from where.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use adit::config::problem::shown_text;
use adit::config::reader::Object;
use time::OffsetDateTime;

pub use super::credential::{Credential, CredentialLimits, KeptHash};
use super::networks::parse_network;
use crate::networks::{NETWORKS_MAX, NetworkSet};
use crate::token::{CredentialId, MalformedToken, Token};

/// All accounts. Ids of credentials are unique among all of them, because a token names its credential by the id alone.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    list: Vec<Account>,
    /// Those of the gateway's own file.
    listed: HashMap<Arc<str>, Arc<Credential>>,
    /// These, and those of the directory.
    credentials: HashMap<Arc<str>, Arc<Credential>>,
}

/// A namespace of internal endpoints: two accounts can both have `db.internal` and never see each other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Where its agents may connect from. `None`: from anywhere.
    pub allowed_networks: Option<NetworkSet>,
}

/// Why a log-in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInRefusal {
    /// The token is not of the gateway's form.
    Malformed,
    /// No credential has this token.
    Unknown,
    /// The credential was revoked.
    Revoked,
    /// The credential or the token has come to its end.
    Expired,
    /// The account does not allow the source address.
    AccountSource,
    /// The credential does not allow the source address.
    CredentialSource,
}

impl Accounts {
    pub(super) fn read(file: &mut Object<'_>) -> Self {
        let mut list: Vec<Account> = Vec::new();
        for entry in file.objects("accounts", ACCOUNTS_MAX) {
            let path = entry.path_of("name");
            let Some(account) = Account::read(entry) else { continue };
            if list.iter().any(|other| other.name == account.name) {
                file.reader().problem(&path, Some(shown_text(&account.name)), "is the name of another account already");
                continue;
            }
            list.push(account);
        }
        if !file.has("accounts") {
            list.push(Account { name: ACCOUNT_DEFAULT.into(), allowed_networks: None });
        }
        let mut accounts = Self { list, ..Self::default() };
        for entry in file.objects("credentials", CREDENTIALS_MAX) {
            accounts.read_credential(entry);
        }
        accounts.credentials.clone_from(&accounts.listed);
        accounts
    }

    /// Puts these in the place of the credentials that came from the directory before.
    pub(crate) fn set_filed<'c>(&mut self, filed: impl Iterator<Item = &'c Arc<Credential>>) {
        self.credentials.clone_from(&self.listed);
        self.credentials.extend(filed.map(|credential| (Arc::clone(&credential.id), Arc::clone(credential))));
    }

    /// Whether a credential of this id stands in the gateway's own file.
    pub(crate) fn is_listed(&self, id: &str) -> bool {
        self.listed.contains_key(id)
    }

    /// The next moment at which a credential or a token comes to its end.
    #[must_use]
    pub fn next_end(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.credentials().filter_map(|credential| credential.next_end(now)).min()
    }

    /// The accounts, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.list.iter()
    }

    /// The credentials, in no order.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.credentials.values()
    }

    /// The credential with this id.
    #[must_use]
    pub fn credential(&self, id: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(id)
    }

    /// The account with this name.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.list.iter().find(|account| &*account.name == name)
    }

    /// Finds the credential that a token belongs to. The time it takes tells nothing about the secret of the token.
    ///
    /// # Errors
    ///
    /// See [`LogInRefusal`]; [`LogInRefusal::code`] is what the agent is told.
    pub fn log_in(&self, token: &str, source: IpAddr, now: OffsetDateTime) -> Result<Arc<Credential>, LogInRefusal> {
        let token = Token::parse(token)?;
        let credential = self.credentials.get(token.credential_id()).ok_or(LogInRefusal::Unknown)?;
        credential.check(&token.hash(), now)?;
        self.check_source(credential, source)?;
        Ok(Arc::clone(credential))
    }

    /// Checks where an agent comes from; at a reload also for the sessions that are there.
    ///
    /// # Errors
    ///
    /// [`LogInRefusal::AccountSource`] or [`LogInRefusal::CredentialSource`].
    pub fn check_source(&self, credential: &Credential, source: IpAddr) -> Result<(), LogInRefusal> {
        let allows = |networks: &Option<NetworkSet>| networks.as_ref().is_none_or(|networks| networks.contains(source));
        if !self.account(&credential.account).is_some_and(|account| allows(&account.allowed_networks)) {
            return Err(LogInRefusal::AccountSource);
        }
        if !allows(&credential.allowed_networks) {
            return Err(LogInRefusal::CredentialSource);
        }
        Ok(())
    }

    fn read_credential(&mut self, entry: Object<'_>) {
        let (reader, id_path) = (entry.reader(), entry.path_of("id"));
        let Some(credential) = Credential::read(entry, self) else { return };
        let id = Arc::clone(&credential.id);
        if self.listed.insert(Arc::clone(&id), Arc::new(credential)).is_some() {
            reader.problem(&id_path, Some(shown_text(&id)), "is the id of another credential already");
        }
    }

    /// The account that an entry belongs to: `main` unless it says otherwise, and always one that exists.
    pub(super) fn read_account_of(&self, entry: &mut Object<'_>) -> Option<Arc<str>> {
        let name = if entry.has("account") { entry.string("account")? } else { ACCOUNT_DEFAULT.to_owned() };
        if let Some(account) = self.account(&name) {
            return Some(Arc::clone(&account.name));
        }
        let known: Vec<&str> = self.list.iter().take(NAMES_SHOWN).map(|account| &*account.name).collect();
        entry.reader().problem(
            &entry.path_of("account"),
            Some(shown_text(&name)),
            format_args!("is not among the accounts of this file: {}", known.join(", ")),
        );
        None
    }
}

impl Account {
    fn read(mut entry: Object<'_>) -> Option<Self> {
        // Accounts and credentials are named alike: both end up in logs and in URLs of the administration.
        let name = entry.required_parsed("name", str::parse::<CredentialId>);
        let allowed_networks = read_networks(&mut entry);
        entry.finish();
        Some(Self { name: name?.as_str().into(), allowed_networks })
    }
}

impl LogInRefusal {
    /// The number of its `ERR_NGROK_` code.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Malformed => 105,
            Self::Unknown | Self::Revoked | Self::Expired => 107,
            Self::AccountSource => 115,
            Self::CredentialSource => 116,
        }
    }
}

impl From<MalformedToken> for LogInRefusal {
    fn from(_: MalformedToken) -> Self {
        Self::Malformed
    }
}

impl fmt::Display for LogInRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => MalformedToken.fmt(f),
            Self::Unknown => f.write_str(
                "the authtoken is not valid here: it was revoked or replaced, or belongs to another gateway; ask the \
                 operator of the gateway for a new one",
            ),
            Self::Revoked => f.write_str("the authtoken was revoked; ask the operator of the gateway for a new one"),
            Self::Expired => f.write_str("the authtoken has expired; ask the operator of the gateway for a new one"),
            Self::AccountSource => f.write_str("this account may not connect from this address"),
            Self::CredentialSource => f.write_str("this authtoken may not be used from this address"),
        }
    }
}

impl std::error::Error for LogInRefusal {}

pub(super) fn read_networks(entry: &mut Object<'_>) -> Option<NetworkSet> {
    if !entry.has("allowed_networks") {
        return None;
    }
    let networks = entry.parsed_list("allowed_networks", NETWORKS_MAX, parse_network);
    if entry.value("allowed_networks").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
        entry.problem("allowed_networks", "is empty, which would let nobody in: remove the key, or name a network");
    }
    Some(networks.into_iter().collect())
}

/// The account of everything that names none.
pub const ACCOUNT_DEFAULT: &str = "main";
/// Accounts are the vendor's tenants or stages; each look-up walks through them.
pub const ACCOUNTS_MAX: usize = 1_000;
/// One per agent, twenty times the fleet this is built for.
pub const CREDENTIALS_MAX: usize = 10_000;
/// Enough names to recognise a misspelt one.
const NAMES_SHOWN: usize = 10;
