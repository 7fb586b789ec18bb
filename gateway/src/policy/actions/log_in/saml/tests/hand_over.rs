//! One address of the callback host takes the responses for all names of an account.

use super::*;
use crate::login::hand_over::CallbackHost;

fn site(provider: Provider) -> Site {
    let site = Site::with(provider, "", Arc::new(Journal::in_memory()));
    let log_ins = LogIns::new(Keys::derive([&b"secret"[..]]), Arc::new(Journal::in_memory()));
    let log_ins = log_ins.with_callback_host(CallbackHost::parse("login.example.com").ok());
    Site { log_ins: Arc::new(log_ins), ..site }
}

/// The address that the provider is told, and our name there.
async fn places(site: &Site) -> (String, String) {
    let metadata = site.get(&mut Browser::default(), "/ngrok/saml/metadata").await;
    let text = String::from_utf8_lossy(&metadata.response().body).into_owned();
    let acs = text.split_once("<md:AssertionConsumerService").unwrap().1;
    (attribute(acs, "Location"), attribute(&text, "entityID"))
}

#[tokio::test]
async fn response_that_came_to_the_callback_host_counts_at_the_endpoint_that_began() {
    let (site, mut browser) = (site(Provider::new()), Browser::default());
    let (acs, audience) = places(&site).await;
    assert!(acs.starts_with("https://login.example.com/ngrok/saml/acs/main/"), "{acs}");
    assert!(audience.starts_with("https://login.example.com/ngrok/saml/metadata/main/"), "{audience}");
    let (id, relay) = site.leave(&mut browser, DEEP).await;
    let told = Told { acs: acs.clone(), destination: acs, audience, ..site.told(&id) };
    let response = site.provider.response(&told);
    // To the endpoint itself.
    let direct = site.provider.response(&Told { acs: ACS.into(), destination: ACS.into(), ..told.clone() });
    assert_eq!(site.post(&mut browser.clone(), &direct, &relay).await.code(), 5304);
    let (_, others) = site.leave(&mut browser.clone(), "/").await;
    for relay in [&*others, id.trim_start_matches('_'), "", "https://app.example.com/x"] {
        assert_eq!(site.post(&mut browser.clone(), &response, relay).await.code(), 5300, "{relay}");
    }
    assert_eq!(site.post(&mut Browser::default(), &response, &relay).await.code(), 5302);
    assert_eq!(site.post(&mut browser, &response, &relay).await.location(), DEEP);
    assert_eq!(site.get(&mut browser, DEEP).await.user(), "ann@example.com ann ");
}

#[tokio::test]
async fn address_is_another_one_for_another_provider_or_name() {
    let (one, other) = (site(Provider::new()), site(Provider::new()));
    assert_eq!(places(&one).await, places(&other).await, "keys may change");
    let named = Site::with(Provider::new(), ", entity_id: 'urn:x'", Arc::new(Journal::in_memory()));
    let named = Site { log_ins: Arc::clone(&one.log_ins), ..named };
    let (acs, entity_id) = places(&named).await;
    assert_eq!(entity_id, "urn:x");
    assert_ne!(acs, places(&one).await.0);
}

#[tokio::test]
async fn log_in_cannot_begin_at_the_provider_where_one_address_takes_the_responses_of_all_names() {
    let site = site(Provider::new());
    let allowing = Site::with(Provider::new(), ", allow_idp_initiated: true", Arc::new(Journal::in_memory()));
    let site = Site { log_ins: site.log_ins, ..allowing };
    let (acs, audience) = places(&site).await;
    let told = Told { acs: acs.clone(), destination: acs, audience, in_response_to: None, ..site.told("") };
    let response = site.provider.response(&told);
    assert_eq!(site.post(&mut Browser::default(), &response, "").await.code(), 5302);
}
