//! What is told of what happens, on a clock of numbers.

use super::*;

struct World {
    start: Instant,
    machine: Machine,
}

impl World {
    fn new() -> Self {
        Self { start: Instant::now(), machine: Machine::new(Duration::from_secs(30), 7) }
    }

    fn at(&self, seconds: u64) -> Moment {
        let unix_ms = i64::try_from(seconds).unwrap() * 1000;
        Moment { at: self.start + Duration::from_secs(seconds), unix_ms }
    }

    fn told(&mut self, seconds: u64) -> Vec<Event> {
        self.machine.take(self.at(seconds)).into()
    }
}

fn site(instance: Option<&str>) -> Site {
    Site { account: "clinic".into(), credential: "north".into(), instance: instance.map(Arc::from) }
}

fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(|event| event.kind).collect()
}

#[test]
fn site_that_went_away_is_told_with_reason_and_time() {
    let mut world = World::new();
    world.machine.session_up(&site(Some("box1")), world.at(0));
    assert_eq!(kinds(&world.told(30)), [Kind::SiteUp]);
    world.machine.session_down(&site(Some("box1")), "the connection\nbroke", world.at(100));
    assert_eq!(world.machine.next(), Some(world.at(130).at));
    assert_eq!(world.told(129), []);
    let told = world.told(130);
    assert_eq!(kinds(&told), [Kind::SiteDown]);
    assert_eq!((told[0].unix_ms, told[0].since_unix_ms), (130_000, 100_000));
    assert_eq!(told[0].text, "site clinic/north/box1 is offline: the connection broke");
    assert_eq!(told[0].about.instance.as_deref(), Some("box1"));
    world.machine.session_up(&site(Some("box1")), world.at(200));
    assert_eq!(world.told(230)[0].text, "site clinic/north/box1 is online again after 1 min 40 s");
}

#[test]
fn site_is_online_as_long_as_one_session_is() {
    let mut world = World::new();
    world.machine.session_up(&site(None), world.at(0));
    world.machine.session_up(&site(None), world.at(1));
    world.told(60);
    world.machine.session_down(&site(None), "", world.at(60));
    assert_eq!(world.told(1000), []);
    world.machine.session_down(&site(None), "", world.at(1000));
    world.machine.session_down(&site(None), "", world.at(1001));
    assert_eq!(kinds(&world.told(2000)), [Kind::SiteDown]);
    assert!(world.machine.sessions.is_empty());
}

#[test]
fn endpoint_is_told_as_sites_are() {
    let mut world = World::new();
    let account = "clinic".into();
    world.machine.endpoint(&account, "https://pacs.internal", true, world.at(0));
    world.machine.endpoint(&account, "https://short.internal", true, world.at(0));
    let mut told = world.told(60);
    world.machine.endpoint(&account, "https://pacs.internal", false, world.at(100));
    told.remove(1);
    told.extend(world.told(200));
    assert_eq!(kinds(&told), [Kind::EndpointOnline, Kind::EndpointOffline]);
    assert_eq!(told[1].text, "endpoint https://pacs.internal of clinic is offline");
    assert_eq!(told[1].about.subject.as_deref(), Some("https://pacs.internal"));
}

#[test]
fn refusals_of_one_address_are_told_once_in_a_while() {
    let mut world = World::new();
    let refusal = Refusal {
        address: "192.0.2.1".parse().unwrap(),
        credential: Some("north".into()),
        is_known: false,
        reason: "the authtoken is not known".to_owned(),
    };
    for second in 0..50 {
        world.machine.refused(&refusal, world.at(second));
    }
    world.machine.refused(&refusal, world.at(700));
    let told = world.told(700);
    assert_eq!(kinds(&told), [Kind::CredentialRefused; 2]);
    assert_eq!(told[0].text, "a log-in as north from 192.0.2.1 was refused: the authtoken is not known");
    assert_eq!(told[1].count, Some(50));
}

#[test]
fn limit_is_told_for_each_account() {
    let mut world = World::new();
    for account in ["a", "b", "a"] {
        let site = Site { account: account.into(), ..site(None) };
        world.machine.limit_hit("limits.sessions_per_account_max", &Hit::Account(site), world.at(0));
    }
    let told = world.told(0);
    assert_eq!(kinds(&told), [Kind::LimitHit; 2]);
    assert!(told[0].text.starts_with("the limit limits.sessions_per_account_max is reached by account a: a/"));
}

#[test]
fn limit_of_a_site_names_it_and_is_told_once_for_its_instances() {
    let mut world = World::new();
    for instance in [Some("1"), Some("2"), None] {
        world.machine.limit_hit("credentials.limits.streams_max", &Hit::Site(site(instance)), world.at(0));
    }
    let other = Site { credential: "other".into(), ..site(None) };
    world.machine.limit_hit("credentials.limits.streams_max", &Hit::Site(other), world.at(0));
    let told = world.told(0);
    assert_eq!(kinds(&told), [Kind::LimitHit; 2]);
    let About { account, credential, instance, subject } = &told[0].about;
    let names = [account, credential, instance, subject].map(|name| name.as_deref());
    let site = site(Some("1"));
    let expected = [&*site.account, &*site.credential, "1", "credentials.limits.streams_max"];
    assert_eq!(names, expected.map(Some));
    assert!(told[0].text.contains(&format!("is reached by {}: ", site.shown())), "{}", told[0].text);
    assert_eq!(told[1].about.credential.as_deref(), Some("other"));
}

#[test]
fn certificate_is_told_in_days() {
    let mut world = World::new();
    let day = 86_400;
    for now in [day * 87, day * 99 + day / 2, day * 101] {
        world.machine.certificate("a.pem", 100 * i64::try_from(day).unwrap(), world.at(now));
    }
    let told: Vec<_> = world.told(0).into_iter().map(|event| event.text).collect();
    let expected = [
        "the certificate a.pem ends in 13 days",
        "the certificate a.pem ends within a day",
        "the certificate a.pem has ended: clients do not accept it",
    ];
    assert_eq!(told, expected);
}

#[test]
fn ids_differ_and_the_outbox_is_bounded() {
    let mut world = World::new();
    for count in 0..=OUTBOX_MAX {
        world.machine.webhook((count % 2 == 0).then_some("down"), world.at(0));
    }
    assert_eq!(world.machine.dropped(), 1);
    let told = world.told(0);
    assert_eq!(told.len(), OUTBOX_MAX);
    let ids: std::collections::HashSet<_> = told.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), OUTBOX_MAX);
    world.machine.webhook(None, world.at(0));
    assert_eq!(world.told(0).len(), 1);
}

#[test]
fn end_of_the_gateway_is_no_end_of_its_sites() {
    let mut world = World::new();
    let account = "clinic".into();
    for instance in ["box1", "box2"] {
        world.machine.session_up(&site(Some(instance)), world.at(0));
    }
    world.machine.endpoint(&account, "https://pacs.internal", true, world.at(0));
    world.told(60);
    world.machine.session_down(&site(Some("box1")), "", world.at(90));
    world.machine.end();
    world.machine.session_down(&site(Some("box2")), "", world.at(100));
    world.machine.endpoint(&account, "https://pacs.internal", false, world.at(100));
    assert_eq!(world.told(10_000), []);
}

#[test]
fn endpoints_that_come_and_go_at_once_leave_no_trace() {
    let mut world = World::new();
    let account = "clinic".into();
    for number in 0..100 {
        for is_online in [true, false] {
            world.machine.endpoint(&account, &format!("https://{number}.internal"), is_online, world.at(number));
        }
    }
    assert_eq!((world.told(10_000), world.machine.next()), (Vec::new(), None));
}

#[test]
fn strangers_do_not_silence_the_refusal_of_a_known_credential() {
    let mut world = World::new();
    let refusal = |address: String, is_known| Refusal {
        address: address.parse().unwrap(),
        credential: Some("north".into()),
        is_known,
        reason: "no".to_owned(),
    };
    for stranger in 0..100 {
        world.machine.refused(&refusal(format!("192.0.2.{stranger}"), false), world.at(0));
        world.machine.refused(&refusal(format!("2001:db8::{stranger}"), false), world.at(0));
    }
    assert_eq!(world.told(0).len(), 20);
    world.machine.refused(&refusal("192.0.2.200".to_owned(), true), world.at(0));
    assert_eq!(world.told(0).len(), 1);
}

#[test]
fn credential_that_makes_up_instances_is_told_of_once_and_the_others_as_before() {
    let mut world = World::new();
    let made_up = |number: usize| site(Some(&format!("made-up-{number}")));
    for number in 0..NEWCOMERS_MAX + 500 {
        world.machine.session_up(&made_up(number), world.at(0));
    }
    let told = world.told(0);
    assert_eq!(kinds(&told), [Kind::LimitHit]);
    assert!(told[0].text.contains("clinic/north have named 2000 new instances"), "{}", told[0].text);
    assert_eq!((told[0].about.instance.as_deref(), told[0].about.subject.as_deref()), (None, Some("instances")));
    assert_eq!(world.machine.dropped(), 500);
    let other = Site { credential: "south".into(), ..site(Some("box1")) };
    world.machine.session_up(&other, world.at(1));
    world.machine.session_up(&site(None), world.at(1));
    let told = world.told(60);
    assert_eq!(told.len(), NEWCOMERS_MAX + 2);
    assert!(told.iter().all(|event| event.kind == Kind::SiteUp));
    // Nothing was told of it, so its end is nothing to tell either; of those that are known everything is.
    world.machine.session_down(&made_up(NEWCOMERS_MAX), "", world.at(70));
    world.machine.session_down(&made_up(7), "", world.at(70));
    let told = world.told(200);
    assert_eq!(kinds(&told), [Kind::SiteDown]);
    assert_eq!(told[0].about.instance.as_deref(), Some("made-up-7"));
    world.machine.session_up(&made_up(7), world.at(300));
    world.machine.session_up(&made_up(NEWCOMERS_MAX), world.at(3600));
    assert_eq!(kinds(&world.told(4000)), [Kind::SiteUp, Kind::SiteUp], "one is known, the other comes in another hour");
}

#[test]
fn site_that_came_untold_is_told_of_as_soon_as_it_may_be() {
    let mut world = World::new();
    let one = |number: usize| site(Some(&format!("box{number}")));
    for number in 0..NEWCOMERS_MAX + 2 {
        world.machine.session_up(&one(number), world.at(0));
    }
    world.told(60);
    let (gone, again) = (one(NEWCOMERS_MAX), one(NEWCOMERS_MAX + 1));
    world.machine.session_down(&gone, "silent", world.at(3600));
    // Its second session comes before the first one has ended.
    world.machine.session_up(&again, world.at(3600));
    world.machine.session_down(&again, "", world.at(3601));
    let told = world.told(3700);
    assert_eq!(kinds(&told), [Kind::SiteDown, Kind::SiteUp]);
    assert_eq!(told[0].text, format!("site {} is offline: silent", gone.shown()));
    assert_eq!(told[1].text, format!("site {} is online", again.shown()));
}
