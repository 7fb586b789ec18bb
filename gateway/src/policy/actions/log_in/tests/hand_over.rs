//! Log-ins that come back by way of the gateway's own callback host.

use super::*;
use crate::login::hand_over::{self, CallbackHost, HandOverError, Party, pass_on};

const CALLBACK: &str = "https://login.example.com/ngrok/oauth2/callback/main/";

fn site(provider: &Provider) -> Site {
    let site = Site::new(provider, "");
    let callback_host = CallbackHost::parse("login.example.com").ok();
    let log_ins = LogIns::new(Keys::derive([&b"secret"[..]]), Arc::new(Journal::in_memory()));
    let log_ins = log_ins.with_callback_host(callback_host);
    Site { log_ins: Arc::new(log_ins), ..site }
}

/// Where the callback host sends a browser.
fn passed(site: &Site, provider: &Provider, account: &str, query: &str) -> Result<String, HandOverError> {
    let party = Party { account, client: &mark(provider) };
    pass_on(&site.log_ins.keys, party, query, OffsetDateTime::now_utc().unix_timestamp())
}

fn mark(provider: &Provider) -> String {
    hand_over::mark(&format!("openid {}", provider.change(|told| told.issuer.clone())), "client")
}

#[tokio::test]
async fn one_address_at_the_provider_serves_every_host() {
    let provider = Provider::start().await;
    let (site, mut browser) = (site(&provider), Browser::default());
    for host in ["app.example.com", "other.example.net:8443"] {
        let parameters = site.leave(&mut browser, &provider, &format!("https://{host}/deep?a=b")).await;
        assert_eq!(parameters["redirect_uri"], format!("{CALLBACK}{}", mark(&provider)));
        let location = passed(&site, &provider, "main", &format!("code=abc&state={}", parameters["state"])).unwrap();
        assert!(location.starts_with(&format!("https://{host}/ngrok/oauth2/callback?state=")), "{location}");
        assert_eq!(site.ask(&mut browser, &location).await.location(), "/deep?a=b");
        assert_eq!(site.ask(&mut browser, &format!("https://{host}/")).await.user(), "ann@example.com ann");
        browser.cookies.clear();
    }
    let asked = provider.change(|told| told.asked.concat());
    assert!(
        asked.contains("redirect_uri=https%3A%2F%2Flogin.example.com%2Fngrok%2Foauth2%2Fcallback%2Fmain"),
        "{asked}"
    );
}

#[tokio::test]
async fn ticket_counts_once_in_the_browser_that_began_at_the_host_that_it_is_for() {
    let provider = Provider::start().await;
    let (site, mut browser) = (site(&provider), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let location = passed(&site, &provider, "main", &format!("code=abc&state={}", parameters["state"])).unwrap();
    // The attacker's log-in in the victim's browser, which has begun one of its own.
    assert_eq!(site.refusal(&mut Browser::default(), &location).await.1, 5200);
    let mut victim = Browser::default();
    let theirs = site.leave(&mut victim, &provider, DEEP).await;
    assert_eq!(site.refusal(&mut victim, &location).await.1, 5200);
    // The attacker's ticket with the state of the victim's log-in.
    let mine = location.split_once("&ticket=").unwrap().1;
    let own = passed(&site, &provider, "main", &format!("code=abc&state={}", theirs["state"])).unwrap();
    let (own, _) = own.split_once("&ticket=").unwrap();
    let (_, code, reason) = site.refusal(&mut victim, &format!("{own}&ticket={mine}")).await;
    assert!(code == 5200 && reason.contains("ticket"), "{reason}");
    // At another host that browsers would send the same cookies to, if there were one.
    let elsewhere = location.replace("app.example.com", "other.example.com");
    assert_eq!(site.refusal(&mut browser, &elsewhere).await.1, 5200);
    provider.change(|told| told.nonce = parameters["nonce"].clone());
    let before = browser.clone();
    assert_eq!(site.ask(&mut browser, &location).await.location(), "/deep/link?a=b&c=%20d");
    assert_eq!(site.refusal(&mut before.clone(), &location).await.1, 3123);
}

#[tokio::test]
async fn code_that_did_not_come_by_the_callback_host_is_refused() {
    let provider = Provider::start().await;
    let (site, mut browser) = (site(&provider), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let location = passed(&site, &provider, "main", &format!("code=abc&state={}", parameters["state"])).unwrap();
    let (bare, _) = location.split_once("&ticket=").unwrap();
    for more in ["&code=abc", "&code=abc&ticket=", "&code=abc&ticket=x"] {
        let (_, code, reason) = site.refusal(&mut browser, &format!("{bare}{more}")).await;
        assert_eq!(code, 5200, "{more} {reason}");
    }
    // And the account in the address is that of the endpoint.
    let query = format!("code=abc&state={}", parameters["state"]);
    assert_eq!(passed(&site, &provider, "other", &query), Err(HandOverError::State));
    // And so are the provider and the client.
    for (issuer, client) in [("https://evil.example", "client"), ("ISSUER", "another")] {
        let issuer = issuer.replace("ISSUER", &provider.change(|told| told.issuer.clone()));
        let party = Party { account: "main", client: &hand_over::mark(&format!("openid {issuer}"), client) };
        assert_eq!(pass_on(&site.log_ins.keys, party, &query, 0), Err(HandOverError::State), "{issuer} {client}");
    }
    assert!(provider.change(|told| told.asked.is_empty()), "no code has gone to the provider");
}

#[tokio::test]
async fn what_the_provider_refuses_is_told_at_the_endpoint() {
    let provider = Provider::start().await;
    let (site, mut browser) = (site(&provider), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let query = format!("error=access_denied&error_description=no&state={}", parameters["state"]);
    let location = passed(&site, &provider, "main", &query).unwrap();
    let refused = site.ask(&mut browser, &location).await.refused();
    assert_eq!((refused.code, refused.retry.as_deref()), (5208, Some("/ngrok/login")));
    assert!(refused.reason.unwrap().contains("access_denied no"));
}
