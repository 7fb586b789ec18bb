//! Accounts and their credentials: who may log in, from where, and what for.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use adit::config::problem::shown_text;
use adit::config::reader::Object;

use super::networks::parse_network;
use crate::acl::{Acl, Rule};
use crate::networks::{NETWORKS_MAX, NetworkSet};
use crate::token::{CredentialId, MalformedToken, Token, TokenHash};

/// All accounts. Ids of credentials are unique among all of them, because a token names its credential by the id alone.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    list: Vec<Account>,
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

/// What an agent logs in with. Two of them are equal when a reload has changed nothing for their agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its id, unique among all accounts.
    pub id: Arc<str>,
    /// The account that it belongs to.
    pub account: Arc<str>,
    /// The hashes of its tokens: one, or two while a token is being replaced.
    pub hashes: Vec<TokenHash>,
    /// What its agents may bind.
    pub acl: Acl,
    /// Where its agents may connect from, within what the account allows. `None`: no narrower than the account.
    pub allowed_networks: Option<NetworkSet>,
}

/// Why a log-in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogInRefusal {
    /// The token is not of the gateway's form.
    Malformed,
    /// No credential has this token.
    Unknown,
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
        let mut accounts = Self { list, credentials: HashMap::new() };
        for entry in file.objects("credentials", CREDENTIALS_MAX) {
            accounts.read_credential(entry);
        }
        accounts
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
    pub fn log_in(&self, token: &str, source: IpAddr) -> Result<Arc<Credential>, LogInRefusal> {
        let token = Token::parse(token)?;
        let hash = token.hash();
        let credential = self.credentials.get(token.credential_id()).filter(|known| hash.is_among(&known.hashes));
        let credential = credential.ok_or(LogInRefusal::Unknown)?;
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

    fn read_credential(&mut self, mut entry: Object<'_>) {
        let id = entry.required_parsed("id", str::parse::<CredentialId>);
        let account = self.read_account_of(&mut entry);
        let hashes = read_hashes(&mut entry);
        let acl = read_acl(&mut entry);
        let allowed_networks = read_networks(&mut entry);
        let (reader, id_path) = (entry.reader(), entry.path_of("id"));
        entry.finish();
        let (Some(id), Some(account), Some(acl)) = (id, account, acl) else { return };
        let id: Arc<str> = id.as_str().into();
        let credential = Credential { id: Arc::clone(&id), account, hashes, acl, allowed_networks };
        if self.credentials.insert(Arc::clone(&id), Arc::new(credential)).is_some() {
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
            Self::Unknown => 107,
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
            Self::AccountSource => f.write_str("this account may not connect from this address"),
            Self::CredentialSource => f.write_str("this authtoken may not be used from this address"),
        }
    }
}

impl std::error::Error for LogInRefusal {}

fn read_hashes(entry: &mut Object<'_>) -> Vec<TokenHash> {
    if !entry.has("hashes") {
        entry.missing("hashes", "the hash of its token, as `adit-gateway token new` prints it");
    }
    let texts = entry.strings("hashes", HASHES_MAX);
    let mut hashes: Vec<TokenHash> = Vec::new();
    for (path, text) in &texts {
        match text.parse() {
            Ok(hash) if hashes.contains(&hash) => {
                entry.reader().problem(path, None, "is there twice: keep one of them")
            }
            Ok(hash) => hashes.push(hash),
            // What stands there may be the token itself.
            Err(error) => entry.reader().problem(path, None, error),
        }
    }
    if texts.is_empty() && entry.value("hashes").is_some_and(serde_json::Value::is_array) {
        entry.problem(
            "hashes",
            "must have one hash, or two while a token is replaced; to revoke, remove the credential",
        );
    }
    hashes
}

/// A credential without rules could do nothing or everything; neither is what somebody meant who wrote nothing.
fn read_acl(entry: &mut Object<'_>) -> Option<Acl> {
    let allow_any = entry.boolean("allow_any").unwrap_or_default();
    let has_rules = entry.has("acl");
    let rules = entry.parsed_list("acl", RULES_MAX, str::parse::<Rule>);
    match (allow_any, has_rules) {
        (true, false) => Some(Acl::everything()),
        (false, true) => {
            if entry.value("acl").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
                entry.problem("acl", "must have a rule, such as bind:*.site1.internal");
            }
            Some(Acl::new(rules))
        }
        (true, true) => {
            entry.problem("allow_any", "makes the rules of acl meaningless: keep one of the two");
            None
        }
        (false, false) => {
            entry.missing("acl", "rules such as bind:*.site1.internal, or allow_any: true");
            None
        }
    }
}

fn read_networks(entry: &mut Object<'_>) -> Option<NetworkSet> {
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
/// One in use and one that replaces it.
pub const HASHES_MAX: usize = 2;
/// Each Bind is checked against all rules of its credential.
pub const RULES_MAX: usize = 100;
/// Enough names to recognise a misspelt one.
const NAMES_SHOWN: usize = 10;
