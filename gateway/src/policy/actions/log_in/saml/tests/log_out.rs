//! Log-outs that begin at the provider, and what the upstream is told of a person.

use super::super::flow::ENDED_MAX;
use super::*;
use crate::login::saml::pretend::ToldLogOut;
use crate::login::store::Noted;

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
    // The same message must not end what begins later.
    site.log_in(&mut browser, "/").await;
    assert_eq!(site.ends(&mut Browser::default(), &told).await.code(), 5305);
    assert!(site.is_in(&browser).await);
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
        site.ends(&mut browser.clone(), &told).await.location();
        assert!(site.is_in(&browser).await);
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
        let location = site.ends(&mut Browser::default(), &told).await.location();
        let packed = location.split_once("SAMLResponse=").unwrap().1.split_once('&').unwrap().0;
        unpacked(&percent_decode_str(packed).decode_utf8().unwrap())
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
