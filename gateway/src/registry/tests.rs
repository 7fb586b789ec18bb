//! Tests of the registry.

#![expect(unused_must_use, reason = "who is evicted matters to few of the tests")]

use super::*;

const HOLD: Duration = Duration::from_secs(60);

/// A registry with a clock, and short words for what sessions do.
struct World {
    registry: Registry,
    now: Instant,
    dead: Vec<SessionId>,
}

/// What an agent says of an endpoint, with defaults for the rest.
#[derive(Clone)]
struct Wish {
    account: &'static str,
    credential: &'static str,
    client: &'static str,
    leg: u32,
    session: u64,
    bind: &'static str,
    pooled: bool,
    url: &'static str,
}

fn wish(session: u64, bind: &'static str, url: &'static str) -> Wish {
    Wish { account: "main", credential: "site", client: "", leg: 0, session, bind, pooled: false, url }
}

impl Wish {
    /// Makes it another agent's of another credential.
    fn of(mut self, account: &'static str, credential: &'static str) -> Self {
        (self.account, self.credential) = (account, credential);
        self
    }

    fn client(mut self, client: &'static str, leg: u32) -> Self {
        (self.client, self.leg) = (client, leg);
        self
    }

    fn pooled(mut self) -> Self {
        self.pooled = true;
        self
    }

    fn endpoint(&self) -> Endpoint {
        let client = if self.client.is_empty() { format!("client-{}", self.session) } else { self.client.into() };
        Endpoint {
            url: EndpointUrl::parse(self.url).unwrap(),
            owner: owner(self.account, self.credential),
            client: ClientId::parse(&client).unwrap(),
            leg: self.leg,
            session: SessionId(self.session),
            bind: bind(self.bind),
            pooled: self.pooled,
            forwards_to: "localhost:1".into(),
            forwards_proto: "".into(),
            client_type: "test".into(),
            proxy_protocol: ProxyProtocol::None,
            policy: None,
            name: "".into(),
            description: "".into(),
            metadata: "".into(),
        }
    }
}

fn owner(account: &str, credential: &str) -> Owner {
    Owner { account: account.into(), credential: credential.into() }
}

fn bind(id: &str) -> BindId {
    BindId::parse(id).unwrap()
}

fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { registry: Registry::new(), now, dead: Vec::new() }
    }

    fn bind_only(&mut self, wish: &Wish) -> Result<Bound, Conflict> {
        let result = self.registry.bind(wish.endpoint(), self.now, &|session| self.dead.contains(&session));
        self.check();
        result
    }

    /// Binds and confirms.
    fn bind(&mut self, wish: &Wish) -> Result<Bound, Conflict> {
        let bound = self.bind_only(wish)?;
        self.registry.confirm(SessionId(wish.session), &bind(wish.bind), self.now);
        Ok(bound)
    }

    fn lose(&mut self, session: u64) {
        self.registry.lost(SessionId(session), self.now, HOLD);
        self.check();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn internal(&self, account: &str, text: &str) -> Option<u64> {
        self.registry.internal(account, &url(text), self.now, 0).map(|found| found.endpoint.session.0)
    }

    fn public(&self, scheme: Scheme, host: &str, port: u16) -> Option<u64> {
        self.registry.public(scheme, host, port, self.now, 0).map(|found| found.endpoint.session.0)
    }

    /// The invariants that the fields promise.
    fn check(&self) {
        let registry = &self.registry;
        for (session, binds) in &registry.bound {
            assert!(!binds.is_empty());
            assert_eq!(registry.endpoints(*session).count(), binds.len());
        }
        let queued = registry.holds.len();
        assert_eq!(queued, registry.held.values().sum::<usize>());
        assert!(registry.held.values().all(|held| (1..=HOLDS_PER_CREDENTIAL_MAX).contains(held)));
    }

    fn assert_empty(&mut self) {
        self.registry.expire(self.now);
        let Registry { table, bound, holds, held, .. } = &self.registry;
        assert!(table.internal.is_empty() && table.public.is_empty(), "{table:?}");
        assert!(bound.is_empty() && holds.is_empty() && held.is_empty());
    }
}

fn no_eviction() -> Result<Bound, Conflict> {
    Ok(Bound { evicted: vec![], stopped: false })
}

fn evicts(session: u64) -> Result<Bound, Conflict> {
    Ok(Bound { evicted: vec![SessionId(session)], stopped: false })
}

fn is_taken(result: &Result<Bound, Conflict>) -> bool {
    matches!(result, Err(Conflict::Taken { .. }))
}

#[test]
fn endpoint_is_found_at_once_and_routable_only_after_the_agent_has_confirmed() {
    let mut world = World::new();
    let db = wish(1, "b1", "tcp://db.internal:5432");
    assert_eq!(world.bind_only(&db), no_eviction());
    assert_eq!(world.internal("main", db.url), Some(1));
    assert_eq!(world.registry.routable_at(SessionId(1), &bind("b1")), None);
    let at = world.now + Duration::from_millis(5);
    world.registry.confirm(SessionId(1), &bind("b1"), at);
    assert_eq!(world.registry.routable_at(SessionId(1), &bind("b1")), Some(at));
}

#[test]
fn confirming_what_nobody_bound_does_nothing() {
    let mut world = World::new();
    world.registry.confirm(SessionId(1), &bind("b1"), world.now);
    world.bind_only(&wish(2, "b1", "tcp://db.internal:5432")).unwrap();
    world.registry.confirm(SessionId(1), &bind("b1"), world.now);
    assert_eq!(world.registry.routable_at(SessionId(2), &bind("b1")), None);
}

#[test]
fn accounts_have_the_same_internal_name_side_by_side() {
    let mut world = World::new();
    let db = "tcp://db.internal:5432";
    assert_eq!(world.bind(&wish(1, "b1", db).of("a", "site")), no_eviction());
    assert_eq!(world.bind(&wish(2, "b1", db).of("b", "site")), no_eviction());
    assert_eq!(world.internal("a", db), Some(1));
    assert_eq!(world.internal("b", db), Some(2));
    assert_eq!(world.internal("c", db), None);
    assert_eq!(world.public(Scheme::Tcp, "db.internal", 5432), None, "never from outside");
    world.lose(1);
    assert_eq!(world.internal("a", db), None);
    assert_eq!(world.internal("b", db), Some(2));
}

#[test]
fn second_holder_is_refused_and_named() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal").of("main", "site-1")).unwrap();
    let second = world.bind(&wish(2, "b2", "https://app.internal").of("main", "site-2"));
    assert_eq!(second, Err(Conflict::Taken { credential: "site-1".into(), session: SessionId(1) }));
    assert!(second.unwrap_err().to_string().contains("site-1"));
    assert_eq!(world.internal("main", "https://app.internal"), Some(1));
}

#[test]
fn same_session_cannot_have_an_address_twice_but_may_bind_an_id_again() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal")).unwrap();
    assert!(is_taken(&world.bind(&wish(1, "b2", "https://app.internal"))));
    assert_eq!(world.bind(&wish(1, "b1", "https://app.internal")), no_eviction());
    assert_eq!(world.registry.count(SessionId(1)), 1);
    assert_eq!(world.bind(&wish(1, "b1", "https://moved.internal")), no_eviction());
    assert_eq!(world.internal("main", "https://app.internal"), None);
    assert_eq!(world.internal("main", "https://moved.internal"), Some(1));
    assert_eq!(world.registry.count(SessionId(1)), 1);
}

#[test]
fn conflict_leaves_everything_as_it_was() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal")).unwrap();
    world.bind(&wish(2, "b1", "https://other.internal")).unwrap();
    assert!(is_taken(&world.bind(&wish(2, "b1", "https://app.internal"))));
    assert_eq!(world.internal("main", "https://other.internal"), Some(2));
}

#[test]
fn pool_needs_everybody_to_agree_and_draws_one() {
    let mut world = World::new();
    let app = "https://app.internal";
    world.bind(&wish(1, "b1", app).pooled()).unwrap();
    assert!(is_taken(&world.bind(&wish(2, "b2", app))));
    world.bind(&wish(2, "b2", app).pooled()).unwrap();
    world.bind(&wish(3, "b3", app).pooled()).unwrap();
    let draw = |world: &World, random| {
        world.registry.internal("main", &url(app), world.now, random).unwrap().endpoint.session.0
    };
    let mut drawn: Vec<_> = (0..3).map(|random| draw(&world, random)).collect();
    drawn.sort_unstable();
    assert_eq!(drawn, [1, 2, 3]);
    draw(&world, u64::MAX);
    world.lose(2);
    let mut drawn: Vec<_> = (0..2).map(|random| draw(&world, random)).collect();
    drawn.sort_unstable();
    assert_eq!(drawn, [1, 3]);
}

#[test]
fn pool_prefers_members_that_are_routable() {
    let mut world = World::new();
    let app = "https://app.internal";
    world.bind_only(&wish(1, "b1", app).pooled()).unwrap();
    world.bind(&wish(2, "b2", app).pooled()).unwrap();
    for random in 0..10 {
        let found = world.registry.internal("main", &url(app), world.now, random);
        assert_eq!(found.unwrap().endpoint.session.0, 2);
    }
}

#[test]
fn pool_member_that_is_held_back_gets_no_visitor_while_another_can_serve() {
    let app = "https://app.internal";
    let mut world = World::new();
    let held = |session, bind| {
        let place = crate::policy::Place::agent(&url(app));
        let policy = Policy::held(place, 2200, "no such action".into());
        Endpoint { policy: Some(Arc::new(policy)), ..wish(session, bind, app).pooled().endpoint() }
    };
    for (session, id) in [(1, "b1"), (2, "b2")] {
        world.registry.bind(held(session, id), world.now, &|_| false).unwrap();
        world.registry.confirm(SessionId(session), &bind(id), world.now);
    }
    let draw = |world: &World| -> Vec<u64> {
        let found = (0..6).map(|random| world.registry.internal("main", &url(app), world.now, random).unwrap());
        let mut drawn: Vec<_> = found.map(|found| found.endpoint.session.0).collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    };
    assert_eq!(draw(&world), [1, 2], "they say why they do not serve");
    // Its visitor waits for the confirmation, which is better than a refusal.
    world.bind_only(&wish(3, "b3", app).pooled()).unwrap();
    assert_eq!(draw(&world), [3]);
    world.bind(&wish(4, "b4", app).pooled()).unwrap();
    assert_eq!(draw(&world), [4]);
    world.lose(3);
    world.lose(4);
    assert_eq!(draw(&world), [1, 2]);
}

#[test]
fn unpooled_holder_refuses_pooled_newcomer() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal")).unwrap();
    assert!(is_taken(&world.bind(&wish(2, "b2", "https://app.internal").pooled())));
}

#[test]
fn wildcard_and_exact_name_never_pool_and_the_most_specific_online_wins() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://*.site.internal")).unwrap();
    world.bind(&wish(2, "b2", "https://app.site.internal")).unwrap();
    world.bind(&wish(3, "b3", "https://*.internal")).unwrap();
    assert_eq!(world.internal("main", "https://app.site.internal"), Some(2));
    assert_eq!(world.internal("main", "https://x.site.internal"), Some(1));
    assert_eq!(world.internal("main", "https://x.y.site.internal"), Some(1));
    assert_eq!(world.internal("main", "https://site.internal"), Some(3));
    world.lose(2);
    assert_eq!(world.internal("main", "https://app.site.internal"), Some(1), "a held name does not shadow");
}

#[test]
fn reconnecting_agent_replaces_its_own_stale_session() {
    let mut world = World::new();
    let app = wish(1, "b1", "https://app.internal").client("c", 0);
    world.bind(&app).unwrap();
    let again = wish(2, "b1", "https://app.internal").client("c", 0);
    assert_eq!(world.bind(&again), evicts(1));
    assert_eq!(world.internal("main", app.url), Some(2));
    world.lose(1);
    assert_eq!(world.internal("main", app.url), Some(2), "what the old session loses is its own");
}

#[test]
fn dead_session_yields_to_anybody_of_its_account() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal").of("main", "old")).unwrap();
    assert!(is_taken(&world.bind(&wish(2, "b2", "https://app.internal").of("main", "new"))));
    world.dead.push(SessionId(1));
    assert_eq!(world.bind(&wish(2, "b2", "https://app.internal").of("main", "new")), evicts(1));
    world.lose(1);
    assert_eq!(world.internal("main", "https://app.internal"), Some(2));
}

#[test]
fn legs_of_one_agent_serve_the_same_endpoint_together() {
    let mut world = World::new();
    let app = "https://app.internal";
    world.bind(&wish(1, "b1", app).client("c", 0)).unwrap();
    assert_eq!(world.bind(&wish(2, "b1", app).client("c", 1)), no_eviction());
    assert!(is_taken(&world.bind(&wish(2, "b9", app).client("c", 1))), "another Id is another endpoint");
    world.lose(1);
    assert_eq!(world.internal("main", app), Some(2));
    world.bind(&wish(3, "b1", app).client("c", 0)).unwrap();

    assert!(world.registry.unbind(&owner("main", "site"), &ClientId::parse("c").unwrap(), SessionId(3), &bind("b1")));
    assert_eq!(world.internal("main", app), None, "unbind on one leg is for all");
    assert_eq!(world.registry.count(SessionId(2)), 0);
}

#[test]
fn unbind_frees_the_address_at_once_and_twice_is_fine() {
    let mut world = World::new();
    let app = wish(1, "b1", "https://app.internal").of("main", "one");
    world.bind(&app).unwrap();
    let endpoint = app.endpoint();
    let mut unbind = || world.registry.unbind(&endpoint.owner, &endpoint.client, endpoint.session, &endpoint.bind);
    assert!(unbind());
    assert!(!unbind());
    world.check();
    assert_eq!(world.bind(&wish(2, "b2", "https://app.internal").of("main", "two")), no_eviction());
    world.lose(2);
    world.pass(HOLD);
    world.assert_empty();
}

#[test]
fn unbind_by_another_session_touches_nothing() {
    let mut world = World::new();
    let app = wish(1, "b1", "https://app.internal").of("a", "site").client("c", 0);
    world.bind(&app).unwrap();
    let client = ClientId::parse("c").unwrap();
    // Even with the victim's ClientId and bind Id, which an agent of another account can at most guess.
    assert!(!world.registry.unbind(&owner("b", "site"), &client, SessionId(2), &bind("b1")));
    assert_eq!(world.internal("a", app.url), Some(1));
}

#[test]
fn lost_address_is_kept_for_its_credential() {
    let mut world = World::new();
    let app = "https://app.internal";
    world.bind(&wish(1, "b1", app).of("main", "one")).unwrap();
    world.lose(1);
    world.pass(Duration::from_secs(20));
    let stranger = wish(2, "b2", app).of("main", "two");
    let remaining = Duration::from_secs(40);
    assert_eq!(world.bind(&stranger), Err(Conflict::Held { credential: "one".into(), remaining }));
    assert_eq!(world.bind(&wish(3, "b1", app).of("main", "one")), no_eviction());
    assert!(is_taken(&world.bind(&stranger)));
    world.lose(3);
    world.pass(HOLD);
    assert_eq!(world.bind(&stranger), no_eviction());
}

#[test]
fn newer_hold_outlives_the_older_one_of_the_same_address() {
    let mut world = World::new();
    let app = "https://app.internal";
    for session in 1..=2 {
        world.bind(&wish(session, "b1", app).of("main", "one")).unwrap();
        world.lose(session);
        world.pass(Duration::from_secs(40));
    }
    let stranger = wish(3, "b2", app).of("main", "two");
    assert!(matches!(world.bind(&stranger), Err(Conflict::Held { .. })));
    world.pass(Duration::from_secs(20));
    assert_eq!(world.bind(&stranger), no_eviction());
}

#[test]
fn lost_pool_member_does_not_keep_other_members_out() {
    let mut world = World::new();
    let app = "https://app.internal";
    world.bind(&wish(1, "b1", app).of("main", "one").pooled()).unwrap();
    world.lose(1);
    assert_eq!(world.bind(&wish(2, "b2", app).of("main", "two").pooled()), no_eviction());
    assert!(matches!(world.bind(&wish(3, "b3", app).of("main", "three")), Err(Conflict::Taken { .. })));
}

#[test]
fn removed_credential_keeps_nothing() {
    let mut world = World::new();
    for (session, id) in [(1, "one"), (2, "two")] {
        let app = if session == 1 { "https://a.internal" } else { "https://b.internal" };
        world.bind(&wish(session, "b1", app).of("main", id)).unwrap();
        world.lose(session);
    }
    world.registry.forget(|gone| *gone == owner("main", "one"));
    world.check();
    assert_eq!(world.bind(&wish(3, "b1", "https://a.internal").of("main", "three")), no_eviction());
    assert!(world.bind(&wish(3, "b2", "https://b.internal").of("main", "three")).is_err());
}

#[test]
fn holds_of_one_credential_are_bounded() {
    let mut world = World::new();
    for at in 0..HOLDS_PER_CREDENTIAL_MAX + 10 {
        let mut endpoint = wish(1, "b1", "https://a.internal").endpoint();
        endpoint.url = url(&format!("https://n{at}.internal"));
        assert!(world.registry.bind(endpoint, world.now, &|_| false).is_ok());
        world.lose(1);
    }
    assert_eq!(world.registry.holds.len(), HOLDS_PER_CREDENTIAL_MAX);
    world.pass(HOLD);
    world.assert_empty();
}

#[test]
fn public_name_belongs_to_one_account() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.example.com").of("a", "site")).unwrap();
    for taken in [
        "https://app.example.com",
        "http://app.example.com",
        "tls://app.example.com:8443",
        "https://*.example.com",
        "https://*.com",
    ] {
        assert_eq!(world.bind(&wish(2, "b2", taken).of("b", "site")), Err(Conflict::Foreign), "{taken}");
    }
    world.dead.push(SessionId(1));
    assert_eq!(world.bind(&wish(2, "b2", "https://app.example.com").of("b", "site")), Err(Conflict::Foreign));
    for free in ["https://other.example.com", "https://x.app.example.com", "tcp://app.example.com:7000"] {
        assert_eq!(world.bind(&wish(2, free, free).of("b", "site")), no_eviction(), "{free}");
    }
    assert_eq!(world.bind(&wish(3, "b3", "http://app.example.com").of("a", "site-2")), no_eviction());
}

#[test]
fn names_below_a_public_wildcard_are_not_for_other_accounts() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://*.example.com").of("a", "site")).unwrap();
    let steal = wish(2, "b2", "https://login.example.com");
    assert_eq!(world.bind(&steal.clone().of("b", "site")), Err(Conflict::Foreign));
    assert_eq!(world.bind(&steal.of("a", "site-2")), no_eviction());
    world.lose(1);
    let apex = wish(4, "b4", "https://*.x.example.com").of("b", "site");
    assert_eq!(world.bind(&apex), Err(Conflict::Foreign), "held");
    world.lose(2);
    world.pass(HOLD);
    assert_eq!(world.bind(&apex), no_eviction());
}

#[test]
fn public_tcp_goes_by_port() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "tcp://one.example.com:7000").of("a", "site")).unwrap();
    assert_eq!(world.public(Scheme::Tcp, "anything", 7000), Some(1));
    assert_eq!(world.bind(&wish(2, "b2", "tcp://two.example.com:7000").of("b", "site")), Err(Conflict::Foreign));
    let same_account = wish(3, "b3", "tcp://two.example.com:7000").of("a", "site-2");
    assert!(is_taken(&world.bind(&same_account)));
    assert!(is_taken(&world.bind(&same_account.pooled())), "another URL is no pool");
    assert!(world.registry.is_taken(&url("tcp://three.example.com:7000")));
}

#[test]
fn endpoint_without_port_is_served_on_every_listener_of_its_scheme() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://a.example.com")).unwrap();
    world.bind(&wish(2, "b2", "https://a.example.com:8443")).unwrap();
    world.bind(&wish(3, "b3", "https://*.example.com:9443")).unwrap();
    assert_eq!(world.public(Scheme::Https, "a.example.com", 443), Some(1));
    assert_eq!(world.public(Scheme::Https, "a.example.com", 40123), Some(1));
    assert_eq!(world.public(Scheme::Https, "a.example.com", 8443), Some(2));
    assert_eq!(world.public(Scheme::Https, "a.example.com", 9443), Some(1), "an exact name before a wildcard");
    assert_eq!(world.public(Scheme::Https, "b.example.com", 9443), Some(3));
    assert_eq!(world.public(Scheme::Https, "b.example.com", 443), None);
    assert_eq!(world.public(Scheme::Http, "a.example.com", 80), None);
}

#[test]
fn stopped_endpoint_hears_success_and_gets_nothing_until_it_is_unbound() {
    let mut world = World::new();
    let app = wish(1, "b1", "https://app.internal").client("c", 0);
    world.bind(&app).unwrap();
    let (owner, client) = (owner("main", "site"), ClientId::parse("c").unwrap());
    assert_eq!(world.registry.stop(&owner, &url(app.url)), [(SessionId(1), bind("b1"))]);
    assert_eq!(world.internal("main", app.url), None);

    let again = wish(2, "b1", "https://app.internal").client("c", 0);
    assert_eq!(world.bind(&again), Ok(Bound { evicted: vec![], stopped: true }));
    assert_eq!(world.internal("main", app.url), None);
    assert_eq!(world.bind(&wish(3, "b1", app.url).client("d", 0)), no_eviction(), "others may have it");
    world.lose(3);

    world.registry.unbind(&owner, &client, SessionId(2), &bind("b1"));
    assert_eq!(world.bind(&again), no_eviction());
    assert_eq!(world.internal("main", app.url), Some(2));
}

#[test]
fn patched_values_survive_a_reconnect_but_not_an_unbind() {
    let mut world = World::new();
    let app = wish(1, "b1", "https://app.internal").client("c", 0);
    world.bind(&app).unwrap();
    let patch = |name: &str| Patch { name: Some(name.into()), ..Patch::default() };
    assert!(world.registry.patch(SessionId(1), &bind("b1"), &patch("first")));
    let description = Patch { description: Some("text".into()), ..Patch::default() };
    assert!(world.registry.patch(SessionId(1), &bind("b1"), &description));
    assert!(world.registry.patch(SessionId(1), &bind("b1"), &patch("second")));
    world.lose(1);

    let again = wish(2, "b1", "https://app.internal").client("c", 0);
    world.bind(&again).unwrap();
    let named = |world: &World| {
        let endpoint = world.registry.internal("main", &url(app.url), world.now, 0).unwrap().endpoint;
        (endpoint.name.to_string(), endpoint.description.to_string())
    };
    assert_eq!(named(&world), ("second".into(), "text".into()));

    let client = ClientId::parse("c").unwrap();
    world.registry.unbind(&owner("main", "site"), &client, SessionId(2), &bind("b1"));
    world.bind(&again).unwrap();
    assert_eq!(named(&world), (String::new(), String::new()));
}

#[test]
fn patch_needs_an_endpoint_of_that_very_session() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://app.internal").of("a", "site")).unwrap();
    world.bind(&wish(2, "b2", "https://app.internal").of("b", "site")).unwrap();
    let patch = Patch { name: Some("mine".into()), ..Patch::default() };
    assert!(!world.registry.patch(SessionId(2), &bind("b1"), &patch));
    assert!(!world.registry.patch(SessionId(9), &bind("b1"), &patch));
    let found = world.registry.internal("a", &url("https://app.internal"), world.now, 0).unwrap();
    assert_eq!(&*found.endpoint.name, "");
    assert!(world.registry.patches.is_empty());
}

#[test]
fn patched_values_are_bounded_per_credential() {
    let mut world = World::new();
    for at in 0..=PATCHES_PER_CREDENTIAL_MAX {
        let mut endpoint = wish(1, "b1", "https://a.internal").endpoint();
        endpoint.bind = bind(&format!("b{at}"));
        endpoint.url = url(&format!("https://n{at}.internal"));
        world.registry.bind(endpoint, world.now, &|_| false).unwrap();
        let patch = Patch { name: Some("x".into()), ..Patch::default() };
        assert!(world.registry.patch(SessionId(1), &bind(&format!("b{at}")), &patch));
    }
    let kept = &world.registry.patches[&owner("main", "site")];
    let client = ClientId::parse("client-1").unwrap();
    let find = |id: &str| kept.find(&(client.clone(), bind(id)));
    assert!(find("b0").is_none() && find("b1").is_some());
}

#[test]
fn ids_of_two_sessions_do_not_mix() {
    let mut world = World::new();
    world.bind(&wish(1, "b1", "https://one.internal")).unwrap();
    world.bind(&wish(2, "b1", "https://two.internal")).unwrap();
    world.lose(1);
    assert_eq!(world.internal("main", "https://two.internal"), Some(2));
    world.lose(2);
    world.pass(HOLD);
    world.assert_empty();
}
