//! Everything that happens goes in, events come out: each once, when it is time, in words.
//!
//! It has no clock and does no I/O: every call says what time it is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certificate_ends::CertificateEnds;
use super::event::{About, Event, Kind, Moment, Site, clean};
use super::newcomers::{NEWCOMERS_MAX, Newcomer, Newcomers};
use super::settle::{Change, Settle, Settled};
use crate::admit::network;
use crate::departed::Grouped;
use crate::quiet::Quiet;

/// The state behind [`Events`](super::Events).
#[derive(Debug)]
pub(super) struct Machine {
    sites: Settle<Site>,
    /// How many sessions each site has. Invariant: no zeros.
    sessions: HashMap<Site, usize>,
    /// Agents name their instances themselves.
    newcomers: Newcomers,
    endpoints: Settle<EndpointName>,
    /// By what the gateway knows: whose site has a wrong token, or comes from a wrong place.
    known_refusals: Quiet<Arc<str>>,
    /// By address: strangers, who shall not silence the former.
    refusals: Quiet<IpAddr>,
    limits: Quiet<LimitKey>,
    certificates: CertificateEnds,
    outbox: VecDeque<Event>,
    /// Begins every id of this process.
    prefix: String,
    last_id: u64,
    /// The gateway itself goes away: that its agents do is nothing to tell.
    is_ending: bool,
    dropped: u64,
}

/// A limit, and the account and credential that have reached it.
type LimitKey = (Arc<str>, Option<Arc<str>>, Option<Arc<str>>);

/// The address of an endpoint within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct EndpointName {
    account: Arc<str>,
    url: Arc<str>,
}

impl Grouped for EndpointName {
    type Group = Arc<str>;

    /// The account: its agents name their endpoints.
    fn group(&self) -> Self::Group {
        Arc::clone(&self.account)
    }
}

/// A log-in that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Where it came from.
    pub address: IpAddr,
    /// The credential that the agent says it has; nothing has proved it.
    pub credential: Option<Arc<str>>,
    /// Whether there is a credential of this name.
    pub is_known: bool,
    /// Why.
    pub reason: String,
}

/// Who has reached a limit.
#[derive(Clone, Debug)]
pub enum Hit {
    /// All who come, together.
    Everybody,
    /// An account; the site was turned away, or a visitor of it.
    Account(Site),
    /// A site, or its credential. Its instances are told as one: they name themselves.
    Site(Site),
}

impl Machine {
    pub(super) fn new(settle: Duration, start: u64) -> Self {
        Self {
            sites: Settle::new(settle, AWAY_MAX),
            sessions: HashMap::new(),
            newcomers: Newcomers::new(),
            endpoints: Settle::new(settle, AWAY_MAX),
            known_refusals: Quiet::new(),
            refusals: Quiet::new(),
            limits: Quiet::new(),
            certificates: CertificateEnds::new(),
            outbox: VecDeque::new(),
            prefix: format!("evt_{start:016x}"),
            last_id: 0,
            is_ending: false,
            dropped: 0,
        }
    }

    pub(super) fn set_settle(&mut self, time: Duration) {
        self.sites.set_time(time);
        self.endpoints.set_time(time);
    }

    /// The gateway is about to end.
    pub(super) fn end(&mut self) {
        self.is_ending = true;
        self.sites.hush();
        self.endpoints.hush();
    }

    /// A session of a site has logged in.
    pub(super) fn session_up(&mut self, site: &Site, now: Moment) {
        let count = self.sessions.entry(site.clone()).or_default();
        *count = count.saturating_add(1);
        // One that was not told of when it came may be by now.
        if (*count == 1 || !self.sites.knows(site)) && self.is_told_of(site, now) {
            let told = self.sites.hear(site, true, None, now);
            self.put_site(told, now);
        }
    }

    /// Whether anything is told of a site. It is not of instances that a credential has never had, once it has had too many
    /// of them lately; that is told once, and each counts as something that nobody was told of.
    fn is_told_of(&mut self, site: &Site, now: Moment) -> bool {
        if site.instance.is_none() || self.sites.knows(site) {
            return true;
        }
        let is_first = match self.newcomers.come(site.group(), now.at) {
            Newcomer::Welcome => return true,
            Newcomer::FirstTooMany => true,
            Newcomer::TooMany => false,
        };
        self.dropped = self.dropped.saturating_add(1);
        if is_first {
            let Site { account, credential, .. } = site;
            let text = format!(
                "the agents of {account}/{credential} have named {NEWCOMERS_MAX} new instances within an hour: of others \
                 nothing is told until it is over"
            );
            let (account, credential) = (Some(Arc::clone(account)), Some(Arc::clone(credential)));
            let about = About { account, credential, subject: Some("instances".into()), instance: None };
            self.put(Kind::LimitHit, about, None, None, text, now, now);
        }
        false
    }

    /// A session of a site has ended.
    pub(super) fn session_down(&mut self, site: &Site, reason: &str, now: Moment) {
        let Some(count) = self.sessions.get_mut(site) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.sessions.remove(site);
            if self.is_ending {
                return;
            }
            // That it has gone is worth telling also of one that nothing was told of when it came.
            if !self.sites.knows(site) && self.is_told_of(site, now) {
                self.sites.hear(site, true, None, now);
            }
            let told = self.sites.hear(site, false, Some(clean(reason)), now);
            self.put_site(told, now);
        }
    }

    /// Somebody serves an endpoint, or nobody any more.
    pub(super) fn endpoint(&mut self, account: &Arc<str>, url: &str, is_online: bool, now: Moment) {
        if self.is_ending {
            return;
        }
        let name = EndpointName { account: Arc::clone(account), url: url.into() };
        let told = self.endpoints.hear(&name, is_online, None, now);
        // Agents choose the names: those that come and go at once are nothing to remember.
        self.endpoints.drop_untold(&name);
        self.put_endpoint(told, now);
    }

    pub(super) fn refused(&mut self, refusal: &Refusal, now: Moment) {
        let Refusal { address, credential, is_known, reason } = refusal;
        let told = match credential.as_ref().filter(|_| *is_known) {
            Some(credential) => self.known_refusals.hear(Arc::clone(credential), now.at),
            None => self.refusals.hear(network(*address), now.at),
        };
        let Some(untold) = told else { return };
        let reason = clean(reason);
        let who = credential.as_deref().map(|name| format!(" as {name}")).unwrap_or_default();
        let text = format!("a log-in{who} from {address} was refused: {reason}{}", untold.shown());
        let subject = Some(address.to_string().into());
        let about = About { credential: credential.clone(), subject, ..About::default() };
        self.put(Kind::CredentialRefused, about, Some(reason), Some(untold.same.saturating_add(1)), text, now, now);
    }

    /// A limit of the configuration, by its key, has turned somebody away.
    pub(super) fn limit_hit(&mut self, limit: &str, hit: &Hit, now: Moment) {
        let limit: Arc<str> = limit.into();
        let (account, credential) = match hit {
            Hit::Everybody => (None, None),
            Hit::Account(site) => (Some(&site.account), None),
            Hit::Site(site) => (Some(&site.account), Some(&site.credential)),
        };
        let key = (Arc::clone(&limit), account.cloned(), credential.cloned());
        let Some(untold) = self.limits.hear(key, now.at) else { return };
        let (whose, whom) = match hit {
            Hit::Everybody => (String::new(), "somebody".to_owned()),
            Hit::Account(site) => (format!(" by account {}", site.account), site.shown()),
            Hit::Site(site) => (format!(" by {}", site.shown()), "somebody".to_owned()),
        };
        let text = format!("the limit {limit} is reached{whose}: {whom} was turned away{}", untold.shown());
        let about = match hit {
            Hit::Everybody => About::default(),
            Hit::Account(site) | Hit::Site(site) => site.about(),
        };
        let about = About { subject: Some(limit), ..about };
        self.put(Kind::LimitHit, about, None, Some(untold.same.saturating_add(1)), text, now, now);
    }

    /// Looks at the end of a certificate.
    pub(super) fn certificate(&mut self, name: &str, ends_at_unix: i64, now: Moment) {
        let Some(days) = self.certificates.look(name, ends_at_unix, now.unix_ms.div_euclid(1000)) else { return };
        let text = match days {
            ..0 => format!("the certificate {name} has ended: clients do not accept it"),
            0 => format!("the certificate {name} ends within a day"),
            1 => format!("the certificate {name} ends tomorrow"),
            _ => format!("the certificate {name} ends in {days} days"),
        };
        let about = About { subject: Some(clean(name)), ..About::default() };
        self.put(Kind::CertificateEnding, about, None, None, text, now, now);
    }

    /// Events do not reach the webhook any more, or reach it again.
    pub(super) fn webhook(&mut self, trouble: Option<&str>, now: Moment) {
        let (kind, text) = match trouble {
            Some(trouble) => {
                (Kind::WebhookFailing, format!("events do not reach the webhook and wait: {}", clean(trouble)))
            }
            None => (Kind::WebhookRecovered, "events reach the webhook again".to_owned()),
        };
        self.put(kind, About::default(), trouble.map(clean), None, text, now, now);
    }

    /// Moves on what is due, and takes out what is to be published.
    pub(super) fn take(&mut self, now: Moment) -> VecDeque<Event> {
        while let Some((first, other)) = self.sites.poll(now.at) {
            self.put_site(Some(first), now);
            self.put_site(other, now);
        }
        while let Some((first, other)) = self.endpoints.poll(now.at) {
            self.put_endpoint(Some(first), now);
            self.put_endpoint(other, now);
        }
        std::mem::take(&mut self.outbox)
    }

    /// Whether something waits to be published.
    pub(super) fn has_news(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// When [`Machine::take`] has something next that is not there yet.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.sites.next(), self.endpoints.next()].into_iter().flatten().min()
    }

    /// How many events nobody was told of.
    pub(super) fn dropped(&self) -> u64 {
        let forgotten = self.sites.forgotten().saturating_add(self.endpoints.forgotten());
        self.dropped.saturating_add(forgotten)
    }

    fn put_site(&mut self, settled: Option<Settled<Site>>, now: Moment) {
        let Some(Settled { key, change, since, reason }) = settled else { return };
        let (kind, count) = match change {
            Change::Up(_) => (Kind::SiteUp, None),
            Change::Down => (Kind::SiteDown, None),
            Change::Flapping(count) => (Kind::SiteFlapping, Some(count)),
            Change::Steady(count, _) => (Kind::SiteSteady, Some(count)),
        };
        let text = words("site", &key.shown(), change, reason.as_deref());
        self.put(kind, key.about(), reason, count, text, since, now);
    }

    fn put_endpoint(&mut self, settled: Option<Settled<EndpointName>>, now: Moment) {
        let Some(Settled { key, change, since, reason }) = settled else { return };
        let (kind, count) = match change {
            Change::Up(_) => (Kind::EndpointOnline, None),
            Change::Down => (Kind::EndpointOffline, None),
            Change::Flapping(count) => (Kind::EndpointFlapping, Some(count)),
            Change::Steady(count, _) => (Kind::EndpointSteady, Some(count)),
        };
        let shown = format!("{} of {}", key.url, key.account);
        let text = words("endpoint", &shown, change, reason.as_deref());
        let about = About { account: Some(key.account), subject: Some(key.url), ..About::default() };
        self.put(kind, about, reason, count, text, since, now);
    }

    #[expect(clippy::too_many_arguments, reason = "each is one member of the event")]
    fn put(
        &mut self,
        kind: Kind,
        about: About,
        reason: Option<Arc<str>>,
        count: Option<u64>,
        text: String,
        since: Moment,
        now: Moment,
    ) {
        if self.outbox.len() >= OUTBOX_MAX {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.last_id = self.last_id.saturating_add(1);
        let id = format!("{}{:08x}", self.prefix, self.last_id).into();
        let (unix_ms, since_unix_ms) = (now.unix_ms, since.unix_ms);
        self.outbox.push_back(Event { id, kind, unix_ms, since_unix_ms, about, reason, count, text });
    }
}

/// A change in one sentence.
fn words(what: &str, name: &str, change: Change, reason: Option<&str>) -> String {
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    match change {
        Change::Up(None) => format!("{what} {name} is online"),
        Change::Up(Some(away)) => format!("{what} {name} is online again after {}", span(away)),
        Change::Down => format!("{what} {name} is offline{why}"),
        Change::Flapping(count) => {
            format!("{what} {name} comes and goes: it went away {count} times in a short while{why}")
        }
        Change::Steady(count, is_up) => {
            let state = if is_up { "online" } else { "offline" };
            format!("{what} {name} has settled and is {state}; it went away {count} times")
        }
    }
}

/// A time for a person: its two largest units.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Events that wait to be published: all sites of the largest gateway that this is built for, with ten endpoints each. They
/// wait for no more than a turn of the task that publishes them.
pub(super) const OUTBOX_MAX: usize = 8192;
/// Sites, and endpoints, that are remembered while they are not there.
const AWAY_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
