//! One credential: what its agents show, what they may do, how much of it, and until when.

use std::slice;
use std::sync::Arc;

use adit::config::document::join_index;
use adit::config::reader::{Object, Reader};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, Time};

use super::accounts::{Accounts, LogInRefusal, read_networks};
use crate::acl::{Acl, Rule};
use crate::networks::NetworkSet;
use crate::token::{CredentialId, TokenHash};

/// What an agent logs in with. Two of them are equal when a reload has changed nothing for their agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its id, unique among all accounts.
    pub id: Arc<str>,
    /// The account that it belongs to.
    pub account: Arc<str>,
    /// The hashes of its tokens: one, or two while a token is being replaced.
    pub hashes: Vec<KeptHash>,
    /// What its agents may bind.
    pub acl: Acl,
    /// Where its agents may connect from, within what the account allows. `None`: no narrower than the account.
    pub allowed_networks: Option<NetworkSet>,
    /// The last moment at which it is good. `None`: for ever.
    pub not_after: Option<OffsetDateTime>,
    /// It is good for nothing any more, and is kept so that its agents are told so.
    pub is_revoked: bool,
    /// How much all its sessions together may do.
    pub limits: CredentialLimits,
}

/// The hash of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptHash {
    /// The hash.
    pub hash: TokenHash,
    /// The last moment at which the token is good. `None`: as long as the credential is.
    pub not_after: Option<OffsetDateTime>,
}

/// What all sessions of a credential may do together. `None`: as much as the gateway's limits allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialLimits {
    /// Streams of visitors at once.
    pub streams_max: Option<usize>,
    /// Streams that visitors may begin in a second, on average; as many may begin at once.
    pub new_streams_per_second_max: Option<u32>,
    /// Bytes of visitors in a second, both directions together.
    pub bytes_per_second_max: Option<u64>,
}

impl Credential {
    /// Reads an entry of the list of credentials, or a file that is one.
    pub(crate) fn read(mut entry: Object<'_>, accounts: &Accounts) -> Option<Self> {
        let id = entry.required_parsed("id", str::parse::<CredentialId>);
        let account = accounts.read_account_of(&mut entry);
        let hashes = read_hashes(&mut entry);
        let acl = read_acl(&mut entry);
        let allowed_networks = read_networks(&mut entry);
        let not_after = entry.parsed("not_after", parse_end);
        let is_revoked = entry.boolean("revoked").unwrap_or_default();
        let limits = CredentialLimits::read(entry.object("limits"));
        entry.finish();
        let (id, account, acl) = (id?.as_str().into(), account?, acl?);
        Some(Self { id, account, hashes, acl, allowed_networks, not_after, is_revoked, limits })
    }

    /// Whether a token with this hash is good now; at a reload also for the sessions that are there. It always looks at
    /// all hashes.
    ///
    /// # Errors
    ///
    /// [`LogInRefusal::Unknown`], [`LogInRefusal::Revoked`] or [`LogInRefusal::Expired`]; the last two only to those who
    /// have shown the right token.
    pub fn check(&self, hash: &TokenHash, now: OffsetDateTime) -> Result<(), LogInRefusal> {
        let (mut is_known, mut is_current) = (false, false);
        for kept in &self.hashes {
            let is_same = kept.hash.matches(hash);
            is_known |= is_same;
            is_current |= is_same & !is_over(kept.not_after, now);
        }
        if !is_known {
            return Err(LogInRefusal::Unknown);
        }
        if self.is_revoked {
            return Err(LogInRefusal::Revoked);
        }
        if !is_current || is_over(self.not_after, now) {
            return Err(LogInRefusal::Expired);
        }
        Ok(())
    }

    /// The next moment at which something of it comes to its end.
    pub(super) fn next_end(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends = self.hashes.iter().map(|kept| kept.not_after).chain([self.not_after]);
        ends.flatten().filter(|end| *end >= now).min()
    }
}

impl CredentialLimits {
    fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let streams = section.integer("streams_max", 1..=STREAMS_MOST);
        let new_streams = section.integer("new_streams_per_second_max", 1..=NEW_STREAMS_MOST);
        let bytes_per_second_max = section.size("bytes_per_second_max", BYTES_LEAST..=BYTES_MOST);
        section.finish();
        Self {
            streams_max: streams.and_then(|number| usize::try_from(number).ok()),
            new_streams_per_second_max: new_streams.and_then(|number| u32::try_from(number).ok()),
            bytes_per_second_max,
        }
    }
}

fn is_over(not_after: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    not_after.is_some_and(|end| now > end)
}

/// Reads a day, which ends with its last moment in UTC, or a moment.
///
/// # Errors
///
/// What it should look like.
pub fn parse_end(text: &str) -> Result<OffsetDateTime, &'static str> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| END_EXPECTED)?;
    let next = day.next_day().ok_or(END_EXPECTED)?;
    Ok(next.with_time(Time::MIDNIGHT).assume_utc() - Duration::NANOSECOND)
}

fn read_hashes(entry: &mut Object<'_>) -> Vec<KeptHash> {
    let items = match entry.value("hashes") {
        None => {
            entry.missing("hashes", "the hash of its token, as `adit-gateway token new` prints it");
            return Vec::new();
        }
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => slice::from_ref(item),
    };
    if items.is_empty() {
        entry.problem(
            "hashes",
            "must have one hash, or two while a token is replaced; to revoke, remove the credential",
        );
    }
    if items.len() > HASHES_MAX {
        entry.problem("hashes", format_args!("must have at most {HASHES_MAX} entries, this has {}", items.len()));
    }
    let mut hashes: Vec<KeptHash> = Vec::new();
    for (index, item) in items.iter().take(HASHES_MAX).enumerate() {
        let path = join_index(&entry.path_of("hashes"), index);
        let Some(kept) = read_hash(entry.reader(), item, &path) else { continue };
        if hashes.iter().any(|other| other.hash == kept.hash) {
            entry.reader().problem(&path, None, "is there twice: keep one of them");
            continue;
        }
        hashes.push(kept);
    }
    hashes
}

/// A hash alone, or one with its end.
fn read_hash(reader: &Reader, item: &Value, path: &str) -> Option<KeptHash> {
    // What stands there may be the token itself.
    let parse =
        |path: &str, text: &str| text.parse::<TokenHash>().map_err(|error| reader.problem(path, None, error)).ok();
    match item {
        Value::String(text) => Some(KeptHash { hash: parse(path, text)?, not_after: None }),
        Value::Object(_) => {
            let mut object = reader.object(item, path)?;
            if !object.has("hash") {
                object.missing("hash", "the hash of the token");
            }
            let text = object.secret("hash");
            let hash = text.and_then(|text| parse(&object.path_of("hash"), &text));
            let not_after = object.parsed("not_after", parse_end);
            object.finish();
            Some(KeptHash { hash: hash?, not_after })
        }
        _ => {
            reader.problem(path, None, "must be a hash, or an object with hash and not_after");
            None
        }
    }
}

/// A credential without rules could do nothing or everything; neither is what somebody meant who wrote nothing.
fn read_acl(entry: &mut Object<'_>) -> Option<Acl> {
    let allow_any = entry.boolean("allow_any").unwrap_or_default();
    let has_rules = entry.has("acl");
    let rules = entry.parsed_list("acl", RULES_MAX, str::parse::<Rule>);
    match (allow_any, has_rules) {
        (true, false) => Some(Acl::everything()),
        (false, true) => {
            if entry.value("acl").and_then(Value::as_array).is_some_and(Vec::is_empty) {
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

const END_EXPECTED: &str = "must be a day, such as 2030-12-31, or a moment, such as 2030-12-31T18:00:00Z";
/// One in use and one that replaces it.
pub const HASHES_MAX: usize = 2;
/// Each Bind is checked against all rules of its credential.
pub const RULES_MAX: usize = 100;
/// Beyond every limit of sessions and their streams.
const STREAMS_MOST: u64 = 1_000_000;
/// More than one gateway opens.
const NEW_STREAMS_MOST: u64 = 1_000_000;
/// Less would hold the smallest step that is taken at once for longer than a tenth of a second.
const BYTES_LEAST: u64 = 16 << 10;
/// More than a network card of today has.
const BYTES_MOST: u64 = 1 << 40;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A credential that may do everything.
    pub(crate) fn credential(id: &str) -> Credential {
        Credential {
            id: id.into(),
            account: "main".into(),
            hashes: Vec::new(),
            acl: Acl::everything(),
            allowed_networks: None,
            not_after: None,
            is_revoked: false,
            limits: CredentialLimits::default(),
        }
    }

    #[test]
    fn end_is_a_moment_or_the_last_one_of_a_day() {
        let day = parse_end("2030-12-31").unwrap();
        assert_eq!(day + Duration::NANOSECOND, parse_end("2031-01-01T01:00:00+01:00").unwrap());
        for bad in ["", "2030", "2030-13-01", "2030-02-30", "2030-12-31 18:00", "9999-12-31", "tomorrow"] {
            assert_eq!(parse_end(bad), Err(END_EXPECTED), "{bad}");
        }
    }
}
