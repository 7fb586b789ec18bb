//! Log-outs that begin at the provider, and what the upstream is told of a person.

use std::io;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::super::log_out::ENDED_MAX;
use super::*;
use crate::login::saml::pretend::ToldLogOut;
use crate::login::store::{Noted, SpendError, Store, Unlisted};

fn site(more: &str) -> Site {
    Site::with(Provider::rsa(), more, Arc::new(Journal::in_memory()))
}

impl Site {
    fn told_log_out(&self) -> ToldLogOut {
        ToldLogOut { now: self.told("").now, ..ToldLogOut::default() }
    }

    /// What comes of a log-out that a browser brings in a query.
    async fn ends(&self, browser: &mut Browser, told: &ToldLogOut) -> Answer {
        let query = self.provider.query(&told.message(""), "relay");
        self.get(browser, &format!("/ngrok/saml/slo?{query}")).await
    }

    async fn is_in(&self, browser: &Browser) -> bool {
        matches!(self.get(&mut browser.clone(), "/").await.verdict, Verdict::Forward { .. })
    }
}

#[tokio::test]
async fn log_out_that_begins_at_the_provider_ends_the_session_without_its_cookie() {
    let site = site("");
    let mut browser = Browser::default();
    site.log_in(&mut browser, "/").await;
    let told = site.told_log_out();
    let location = site.ends(&mut Browser::default(), &told).await.location();
    assert!(!site.is_in(&browser).await);
    let query = location.strip_prefix("https://idp.example.com/slo?SAMLResponse=").unwrap();
    let (packed, relay) = query.split_once("&RelayState=").unwrap();
    let answer = unpacked(&percent_decode_str(packed).decode_utf8().unwrap());
    assert!(relay.starts_with("relay") && answer.contains("status:Success"), "{relay} {answer}");
    assert_eq!(attribute(&answer, "InResponseTo"), "_l1");
    // A message that comes again is answered, and says what is so.
    let again = answered(&site.ends(&mut Browser::default(), &told).await);
    assert!(again.contains("status:Success"), "{again}");
    // It must not end what begins later.
    site.log_in(&mut browser, "/").await;
    let late = answered(&site.ends(&mut Browser::default(), &told).await);
    assert!(late.contains("PartialLogout") && site.is_in(&browser).await, "{late}");
}

/// What the provider is answered.
fn answered(answer: &Answer) -> String {
    let location = answer.location();
    let packed = location.split_once("SAMLResponse=").unwrap().1.split_once('&').unwrap().0;
    unpacked(&percent_decode_str(packed).decode_utf8().unwrap())
}

#[tokio::test]
async fn log_out_of_the_provider_ends_what_it_names_and_nothing_else() {
    let site = site("");
    let mut browser = Browser::default();
    site.log_in(&mut browser, "/").await;
    let told = |id: &str| ToldLogOut { id: id.into(), ..site.told_log_out() };
    let other = ToldLogOut { name: "bob".into(), ..told("_l2") };
    let elsewhere = ToldLogOut { sessions: vec!["s2".into(), "s3".into()], ..told("_l3") };
    for told in [other, elsewhere] {
        site.ends(&mut browser, &told).await.location();
        assert!(site.is_in(&browser).await, "its cookie stays as well");
    }
    let all = ToldLogOut { sessions: Vec::new(), ..told("_l4") };
    site.ends(&mut Browser::default(), &all).await.location();
    assert!(!site.is_in(&browser).await);
}

#[tokio::test]
async fn log_out_of_very_many_sessions_is_said_to_be_partial() {
    let (site, mut browser) = (site(""), Browser::default());
    site.log_in(&mut browser, "/").await;
    let (store, now) = (site.log_ins.store(), site.told("").now);
    let first = store.sessions(now).remove(0);
    let more = |name: &str, count: usize| {
        for index in 0..count {
            store.note(Noted { id: format!("{name}-{index}"), ..first.clone() }, now).unwrap();
        }
    };
    more("more", ENDED_MAX - 1);
    let answer = async |id: &str| {
        let told = ToldLogOut { id: id.into(), sessions: Vec::new(), ..site.told_log_out() };
        answered(&site.ends(&mut Browser::default(), &told).await)
    };
    let whole = answer("_l1").await;
    assert!(whole.contains("status:Success") && store.sessions(now).is_empty(), "{whole}");
    more("again", ENDED_MAX + 1);
    let partial = answer("_l2").await;
    assert!(partial.contains("PartialLogout") && !partial.contains("status:Success"), "{partial}");
    assert_eq!(store.sessions(now).len(), 1);
}

#[tokio::test]
async fn log_out_of_the_provider_reaches_a_session_of_another_gateway_by_its_cookie() {
    let (site, mut browser) = (site(""), Browser::default());
    site.log_in(&mut browser, "/").await;
    // The same key and provider; it has not heard of the session.
    let log_ins = Arc::new(LogIns::new(Keys::derive([&b"secret"[..]]), Arc::new(Journal::in_memory())));
    let second = Site { log_ins, ..site };
    assert!(second.is_in(&browser).await);
    let before = browser.clone();
    second.ends(&mut browser, &second.told_log_out()).await.location();
    assert!(browser.0.is_empty() && !second.is_in(&before).await);
}

#[tokio::test]
async fn log_out_comes_with_a_form_as_well_and_has_to_be_signed() {
    let site = site("");
    let mut browser = Browser::default();
    site.log_in(&mut browser, "/").await;
    let post = async |message: &str| {
        let encoded = utf8_percent_encode(&STANDARD.encode(message), NON_ALPHANUMERIC).to_string();
        let body = format!("SAMLRequest={encoded}&RelayState=relay");
        site.ask(&mut Browser::default(), Method::POST, "/ngrok/saml/slo", &body).await
    };
    assert_eq!(post(&site.told_log_out().message("")).await.code(), 5303);
    assert!(site.is_in(&browser).await);
    post(&site.provider.log_out(&site.told_log_out())).await.location();
    assert!(!site.is_in(&browser).await);
    let neither = site.get(&mut Browser::default(), "/ngrok/saml/slo").await.refused();
    assert_eq!((neither.code, neither.status), (5301, StatusCode::BAD_REQUEST));
    let query = site.provider.query(&site.told_log_out().message(""), &"x".repeat(1025));
    assert_eq!(site.get(&mut Browser::default(), &format!("/ngrok/saml/slo?{query}")).await.code(), 5301);
}

#[tokio::test]
async fn upstream_is_told_who_it_is_in_headers_that_nobody_else_can_set() {
    let more = ", authorized_groups: [staff, board], identity_headers: {x-mail: email, x-groups: groups}";
    let (site, mut browser) = (site(more), Browser::default());
    site.log_in(&mut browser, "/").await;
    let forged = [("x-mail", "eve@example.com"), ("x_mail", "eve@example.com"), ("x_groups", "board")];
    let answer = site.ask_with(&mut browser, Method::GET, "/", "", &forged).await;
    let told: Vec<(&str, &str)> = answer.head.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert!(told.contains(&("x-mail", "ann@example.com")) && told.contains(&("x-groups", "staff")), "{told:?}");
    assert!(!told.iter().any(|(name, _)| name.contains('_')), "{told:?}");
}

#[tokio::test]
async fn log_out_of_the_provider_reaches_names_whose_policies_ask_for_other_groups() {
    let more = ", entity_id: 'urn:site'";
    let (journal, provider) = (Arc::new(Journal::in_memory()), Provider::rsa());
    let metadata = provider.metadata();
    let first = Site::with(provider, more, journal);
    let text = document(&format!("idp_metadata: '{metadata}'{more}, authorized_groups: [staff]"));
    let policy = Policy::parse(&text, Place::cloud(&first.endpoint)).unwrap();
    let mut browser = Browser::default();
    let (id, relay) = first.leave(&mut browser, "/").await;
    let told = Told { audience: "urn:site".into(), ..first.told(&id) };
    let response = first.provider.response(&told);
    first.post(&mut browser, &response, &relay).await.location();
    assert!(first.is_in(&browser).await);
    let (log_ins, endpoint) = (Arc::clone(&first.log_ins), first.endpoint.clone());
    let (told, now) = (first.told_log_out(), first.told("").now);
    let second = Site { policy, endpoint, log_ins, provider: first.provider };
    let answer = answered(&second.ends(&mut Browser::default(), &told).await);
    assert!(answer.contains("status:Success") && second.log_ins.store().sessions(now).is_empty(), "{answer}");
}

#[tokio::test]
async fn log_out_of_the_provider_ends_sessions_whose_names_are_long_or_missing() {
    let long = "s".repeat(300);
    for (name, meant, is_over) in [
        (format!(" SessionIndex=\"{long}\""), long.clone(), true),
        (format!(" SessionIndex=\"{long}\""), format!("{long}2"), false),
        (String::new(), "s1".into(), true),
    ] {
        let (site, mut browser) = (site(""), Browser::default());
        let (id, relay) = site.leave(&mut browser, "/").await;
        let statements = Told::default().statements.replace(" SessionIndex=\"s1\"", &name);
        let response = site.provider.response(&Told { statements, ..site.told(&id) });
        site.post(&mut browser, &response, &relay).await.location();
        let told = ToldLogOut { sessions: vec![meant], ..site.told_log_out() };
        site.ends(&mut Browser::default(), &told).await.location();
        assert_eq!(site.is_in(&browser).await, !is_over, "{name}");
    }
}

/// A memory whose disk fails, or stands still, when a session is to end.
#[derive(Debug)]
struct Halting {
    journal: Journal,
    fails: AtomicUsize,
    has_begun: AtomicUsize,
    is_stuck: Mutex<bool>,
    goes_on: Condvar,
}

impl Store for Halting {
    fn spend(&self, account: &str, what: &str, until: i64, now: i64) -> Result<bool, SpendError> {
        if what.starts_with("session ") {
            self.has_begun.fetch_add(1, Ordering::SeqCst);
            drop(self.goes_on.wait_while(self.is_stuck.lock().unwrap(), |is_stuck| *is_stuck).unwrap());
            if self.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |fails| fails.checked_sub(1)).is_ok() {
                return Err(SpendError::Write(io::ErrorKind::StorageFull.into()));
            }
        }
        self.journal.spend(account, what, until, now)
    }

    fn is_spent(&self, what: &str) -> bool {
        self.journal.is_spent(what)
    }

    fn note(&self, session: Noted, now: i64) -> io::Result<()> {
        self.journal.note(session, now)
    }

    fn sessions(&self, now: i64) -> Vec<Noted> {
        self.journal.sessions(now)
    }

    fn unlisted(&self, now: i64) -> Vec<Unlisted> {
        self.journal.unlisted(now)
    }
}

impl Halting {
    /// A site with two sessions of the same person.
    async fn site() -> (Site, Arc<Self>, i64) {
        let site = site("");
        let store = Arc::new(Self {
            journal: Journal::in_memory(),
            fails: AtomicUsize::new(0),
            has_begun: AtomicUsize::new(0),
            is_stuck: Mutex::new(false),
            goes_on: Condvar::new(),
        });
        let log_ins = LogIns::new(Keys::derive([&b"secret"[..]]), Arc::clone(&store) as Arc<dyn Store>);
        let site = Site { log_ins: Arc::new(log_ins), ..site };
        for _ in 0..2 {
            site.log_in(&mut Browser::default(), "/").await;
        }
        let now = site.told("").now;
        assert_eq!(store.sessions(now).len(), 2);
        (site, store, now)
    }
}

#[tokio::test]
async fn log_out_of_the_provider_goes_on_when_its_browser_goes_away() {
    let (site, store, now) = Halting::site().await;
    let (told, site) = (site.told_log_out(), Arc::new(site));
    *store.is_stuck.lock().unwrap() = true;
    let ending = {
        let (site, told) = (Arc::clone(&site), told.clone());
        tokio::spawn(async move { site.ends(&mut Browser::default(), &told).await.location() })
    };
    while store.has_begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    ending.abort();
    assert!(ending.await.unwrap_err().is_cancelled());
    *store.is_stuck.lock().unwrap() = false;
    store.goes_on.notify_all();
    let over = async {
        while !store.sessions(now).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("both sessions end");
    let again = answered(&site.ends(&mut Browser::default(), &told).await);
    assert!(again.contains("status:Success"), "{again}");
}

#[tokio::test]
async fn log_out_of_the_provider_ends_what_it_can_and_may_come_again_for_the_rest() {
    let (site, store, now) = Halting::site().await;
    store.fails.store(1, Ordering::SeqCst);
    let told = site.told_log_out();
    let partial = answered(&site.ends(&mut Browser::default(), &told).await);
    assert!(partial.contains("PartialLogout") && store.sessions(now).len() == 1, "{partial}");
    let whole = answered(&site.ends(&mut Browser::default(), &told).await);
    assert!(whole.contains("status:Success") && store.sessions(now).is_empty(), "{whole}");
}
