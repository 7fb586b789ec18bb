//! What is known of every site: whether it is online, since when, from where, and how its last session ended.
//!
//! A site is an instance of a credential: one box. Agents that do not say which instance they are, as those of the official
//! SDKs, are one site for each credential. The record is in memory, so that it begins anew with the process, and it is
//! bounded: of the sites that are offline one is forgotten for the one that comes beyond `OFFLINE_MAX`: the
//! one that went first of the credential that has most of them. It reads no clock.

mod ending;
pub mod report;
mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use adit::message::AuthRequest;

use crate::admit::shown;
use crate::departed::Departed;
use crate::events::{Moment, Site as SiteKey};
use crate::gateway::Agent;
use crate::http::reach::SessionId;

pub(crate) use ending::{Cause, Ending};
pub(crate) use traffic::Traffic;

/// The program and the machine that an agent says it is; strangers' words, made harmless for a terminal and cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) user_agent: Arc<str>,
    pub(crate) version: Arc<str>,
    /// Operating system and processor, such as `linux/mips`.
    pub(crate) target: Arc<str>,
}

/// All sites that are online, and those of which something is still known.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Since when there has been a record.
    pub(crate) started: Moment,
    sites: BTreeMap<SiteKey, Site>,
    /// Sites without a session. Invariant: agrees with `Site::departure`.
    offline: Departed<SiteKey>,
    /// Sites that were forgotten to make room.
    forgotten: u64,
}

/// What is known of one site.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Its sessions, each with why it is about to end if that is known.
    sessions: BTreeMap<SessionId, Option<Ending>>,
    /// Since when it has been online or offline.
    pub(crate) since: Moment,
    pub(crate) address: SocketAddr,
    pub(crate) about: About,
    pub(crate) metadata: Arc<str>,
    /// The session that ended last.
    pub(crate) last_end: Option<LastEnd>,
    /// Sessions so far.
    pub(crate) sessions_total: u64,
    /// What passed in sessions that have ended.
    pub(crate) traffic: Traffic,
    departure: Option<u64>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastEnd {
    pub(crate) session: SessionId,
    pub(crate) at: Moment,
    pub(crate) why: Ending,
}

impl Fleet {
    /// A record that begins now.
    pub(crate) fn new(now: Moment) -> Self {
        Self { started: now, sites: BTreeMap::new(), offline: Departed::default(), forgotten: 0 }
    }

    /// A session has logged in.
    pub(crate) fn arrived(&mut self, agent: &Agent) {
        let arrival = Arrival {
            key: agent.site(),
            session: agent.session,
            at: agent.since,
            address: agent.address,
            about: agent.about.clone(),
            metadata: shown(&agent.metadata).into(),
        };
        self.enter(arrival);
    }

    fn enter(&mut self, arrival: Arrival) {
        let Arrival { key, session, at, address, about, metadata } = arrival;
        let site = self.sites.entry(key.clone()).or_insert_with(|| Site {
            sessions: BTreeMap::new(),
            since: at,
            address,
            about: About::default(),
            metadata: "".into(),
            last_end: None,
            sessions_total: 0,
            traffic: Traffic::default(),
            departure: None,
        });
        if let Some(departure) = site.departure.take() {
            self.offline.remove(departure, &key);
            site.since = at;
        }
        site.sessions.insert(session, None);
        site.sessions_total = site.sessions_total.saturating_add(1);
        (site.address, site.about, site.metadata) = (address, about, metadata);
    }

    /// A session is over. What [`Fleet::explain`] has not explained, the gateway has ended, and says why.
    pub(crate) fn left(&mut self, key: &SiteKey, session: SessionId, why: &str, traffic: Traffic, at: Moment) {
        let Some(site) = self.sites.get_mut(key) else { return };
        let Some(explained) = site.sessions.remove(&session) else { return };
        let why = explained.unwrap_or_else(|| Ending::new(Cause::Gateway, why));
        site.last_end = Some(LastEnd { session, at, why });
        site.traffic = site.traffic.plus(traffic);
        if !site.sessions.is_empty() {
            return;
        }
        site.since = at;
        site.departure = Some(self.offline.insert(key.clone()));
        if self.offline.len() > OFFLINE_MAX
            && let Some(oldest) = self.offline.pop()
        {
            self.sites.remove(&oldest);
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Why a session is about to leave.
    pub(crate) fn explain(&mut self, key: &SiteKey, session: SessionId, ending: Ending) {
        if let Some(why) = self.sites.get_mut(key).and_then(|site| site.sessions.get_mut(&session)) {
            why.get_or_insert(ending);
        }
    }

    /// All that is known, in the order of accounts, credentials and instances.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (&SiteKey, &Site)> {
        self.sites.iter()
    }

    /// Whether anything is known of any site of a credential.
    pub(crate) fn has_seen(&self, account: &Arc<str>, credential: &Arc<str>) -> bool {
        let first = SiteKey { account: Arc::clone(account), credential: Arc::clone(credential), instance: None };
        let next = self.sites.range(first..).next();
        next.is_some_and(|(key, _)| key.account == *account && key.credential == *credential)
    }

    /// How many sites were forgotten to make room.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// A session that has logged in.
#[derive(Debug)]
struct Arrival {
    key: SiteKey,
    session: SessionId,
    at: Moment,
    address: SocketAddr,
    about: About,
    metadata: Arc<str>,
}

impl Site {
    /// Whether it has a session.
    pub(crate) fn is_online(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Its sessions, oldest first.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }
}

impl About {
    /// What a log-in says.
    pub(crate) fn of(request: &AuthRequest) -> Self {
        let extra = &request.extra;
        let target = match (extra.os.as_str(), extra.arch.as_str()) {
            ("", "") => String::new(),
            (os, "") => shown(os),
            (os, arch) => format!("{}/{}", shown(os), shown(arch)),
        };
        Self {
            user_agent: shown(&extra.user_agent).into(),
            version: shown(&extra.version).into(),
            target: target.into(),
        }
    }
}

/// Sites that are offline and still known: eight fleets of 500, at about a kilobyte each.
pub(crate) const OFFLINE_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    struct Scene {
        fleet: Fleet,
        start: Moment,
    }

    impl Scene {
        fn new() -> Self {
            let start = Moment { at: Instant::now(), unix_ms: 0 };
            Self { fleet: Fleet::new(start), start }
        }

        fn at(&self, seconds: u64) -> Moment {
            Moment { at: self.start.at + Duration::from_secs(seconds), unix_ms: seconds as i64 * 1000 }
        }

        fn enter(&mut self, name: &str, session: u64, seconds: u64) {
            self.enter_as(key(name), session, seconds);
        }

        fn enter_as(&mut self, key: SiteKey, session: u64, seconds: u64) {
            let arrival = Arrival {
                key,
                session: SessionId(session),
                at: self.at(seconds),
                address: "192.0.2.1:5".parse().unwrap(),
                about: About::default(),
                metadata: "".into(),
            };
            self.fleet.enter(arrival);
        }

        fn leave(&mut self, name: &str, session: u64, seconds: u64) {
            let traffic = Traffic { streams: 1, to_agent: 10, from_agent: 100 };
            self.fleet.left(&key(name), SessionId(session), "told to", traffic, self.at(seconds));
        }

        /// A site of a credential with many instances comes and goes.
        fn pass(&mut self, credential: &str, instance: usize, session: u64) {
            let key = SiteKey { instance: Some(instance.to_string().into()), ..key(credential) };
            self.enter_as(key.clone(), session, 1);
            self.fleet.left(&key, SessionId(session), "told to", Traffic::default(), self.at(2));
        }

        fn site(&self, name: &str) -> &Site {
            &self.fleet.sites[&key(name)]
        }
    }

    fn key(name: &str) -> SiteKey {
        SiteKey { account: "main".into(), credential: name.into(), instance: None }
    }

    fn silent() -> Ending {
        Ending::new(Cause::Silent, "nothing was heard")
    }

    #[test]
    fn site_is_online_with_its_first_session_and_offline_with_the_last() {
        let mut scene = Scene::new();
        scene.enter("a", 1, 0);
        scene.enter("a", 2, 5);
        scene.leave("a", 1, 7);
        assert!(scene.site("a").is_online());
        assert_eq!(scene.site("a").since, scene.at(0), "a second session does not begin anything anew");
        scene.leave("a", 2, 9);
        let site = scene.site("a");
        assert!(!site.is_online());
        assert_eq!((site.since, site.sessions_total), (scene.at(9), 2));
        assert_eq!(site.traffic, Traffic { streams: 2, to_agent: 20, from_agent: 200 });
        // A session leaves once.
        scene.leave("a", 2, 11);
        assert_eq!(scene.site("a").since, scene.at(9));
        scene.enter("a", 3, 12);
        assert_eq!(scene.site("a").since, scene.at(12));
        assert_eq!(scene.fleet.offline.len(), 0);
    }

    #[test]
    fn end_has_the_reason_that_was_explained_or_the_gateways_own() {
        let mut scene = Scene::new();
        let end = |scene: &Scene| scene.site("a").last_end.clone().unwrap();
        scene.enter("a", 1, 0);
        scene.fleet.explain(&key("a"), SessionId(1), silent());
        scene.fleet.explain(&key("a"), SessionId(1), Ending::new(Cause::Closed, "later"));
        scene.leave("a", 1, 1);
        assert_eq!((end(&scene).session, end(&scene).why), (SessionId(1), silent()));
        scene.enter("a", 2, 2);
        scene.leave("a", 2, 3);
        assert_eq!((end(&scene).session, end(&scene).why), (SessionId(2), Ending::new(Cause::Gateway, "told to")));
        // It has gone already.
        scene.fleet.explain(&key("a"), SessionId(2), silent());
        assert_eq!(end(&scene).why.cause, Cause::Gateway);
    }

    #[test]
    fn sites_that_went_first_are_forgotten_first_and_those_online_never() {
        let mut scene = Scene::new();
        scene.enter("stays", 1, 0);
        let name = |n: usize| format!("site{n}");
        for n in 0..OFFLINE_MAX {
            let session = 2 + n as u64;
            scene.enter(&name(n), session, 0);
            scene.leave(&name(n), session, 1);
        }
        assert_eq!(scene.fleet.sites.len(), OFFLINE_MAX + 1);
        // The first one comes back and goes again, so that it is the last to be forgotten.
        scene.enter(&name(0), 1_000_000, 2);
        scene.leave(&name(0), 1_000_000, 3);
        scene.enter("late", 1_000_001, 4);
        scene.leave("late", 1_000_001, 5);
        assert_eq!((scene.fleet.sites.len(), scene.fleet.offline.len()), (OFFLINE_MAX + 1, OFFLINE_MAX));
        assert_eq!(scene.fleet.forgotten(), 1);
        assert!(!scene.fleet.sites.contains_key(&key(&name(1))));
        for name in ["stays", "site0", "late"] {
            assert!(scene.fleet.sites.contains_key(&key(name)), "{name}");
        }
    }

    #[test]
    fn credential_with_many_sites_pushes_out_only_its_own() {
        let mut scene = Scene::new();
        for n in 0..10 {
            scene.pass("quiet", n, n as u64);
        }
        for n in 0..2 * OFFLINE_MAX {
            scene.pass("loud", n, 100 + n as u64);
        }
        let of = |scene: &Scene, name: &str| {
            let keys = scene.fleet.sites.keys().filter(|key| &*key.credential == name);
            keys.filter_map(|key| key.instance.as_deref()?.parse::<usize>().ok())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(of(&scene, "quiet"), (0..10).collect());
        assert_eq!(of(&scene, "loud"), (OFFLINE_MAX + 10..2 * OFFLINE_MAX).collect(), "the last ones are known");
        assert_eq!((scene.fleet.offline.len(), scene.fleet.forgotten()), (OFFLINE_MAX, OFFLINE_MAX as u64 + 10));
        // A site that comes later is known all the same.
        scene.pass("late", 0, 1_000_000);
        assert_eq!(of(&scene, "late").len(), 1);
        assert_eq!(of(&scene, "loud").first(), Some(&(OFFLINE_MAX + 11)));
    }
}
