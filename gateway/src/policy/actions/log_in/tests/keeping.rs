//! What keeps a session honest: refreshes, its end, accounts, and what the upstream is told.

use super::*;
use crate::login::session::COOKIE_BYTES_MAX;
use crate::login::store::ended;

/// A browser whose session is to be refreshed.
fn due(site: &Site, provider: &Provider, browser: &Browser) -> (Browser, String) {
    let purpose = format!("session\napp.example.com\n\n{}", realm(provider));
    let mut session = Session::open(&site.log_ins.keys, &purpose, &browser.cookie(SESSION).1).unwrap();
    session.asked -= 601;
    let sealed = session.seal(&site.log_ins.keys, &purpose).unwrap();
    (Browser { cookies: BTreeMap::from([(SESSION.into(), sealed)]), headers: Vec::new() }, session.id)
}

async fn refresh_token(site: &Site, session: &str) -> String {
    let kept = site.log_ins.tokens().find(session).unwrap();
    let kept = kept.lock().await;
    kept.tokens.refresh.clone()
}

fn rotated() -> Json {
    json!({"access_token": "access", "refresh_token": "rotated"})
}

#[tokio::test]
async fn visitor_who_leaves_does_not_take_the_new_refresh_token_along() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ", userinfo_refresh_interval: 10m"), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let (mut browser, session) = due(&site, &provider, &browser);
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    provider.change(|told| {
        told.held = Some((Arc::clone(&asked), Arc::clone(&go_on)));
        told.token = Some((200, rotated()));
    });
    tokio::select! {
        _ = site.ask(&mut browser, DEEP) => panic!("the provider has not answered yet"),
        () = asked.notified() => {}
    }
    go_on.notify_one();
    // The one that refreshes holds the lock until it is done.
    assert_eq!(refresh_token(&site, &session).await, "rotated");
    assert_eq!(site.ask(&mut browser, DEEP).await.user(), "ann@example.com ann");
    assert_eq!(provider.change(|told| told.asked.len()), 2, "the log-in, and one refresh");
}

#[tokio::test]
async fn refresh_token_is_kept_although_userinfo_fails() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ", userinfo_refresh_interval: 10m"), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let (mut browser, session) = due(&site, &provider, &browser);
    provider.change(|told| {
        told.token = Some((200, rotated()));
        told.userinfo = (500, json!({}));
    });
    assert_eq!(site.ask(&mut browser, DEEP).await.refused().code, 5201);
    assert_eq!(refresh_token(&site, &session).await, "rotated");
}

#[tokio::test]
async fn session_that_the_operator_ended_is_over() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let store = site.log_ins.store();
    let [session] = &store.sessions(now)[..] else { panic!("one session is listed") };
    let told = (&*session.account, &*session.host, &*session.subject, &*session.email);
    assert_eq!(told, ("main", "app.example.com", "ann", "ann@example.com"));
    assert_eq!(session.ends - session.begun, 24 * 3600);
    store.spend("main", &ended(&session.id), session.ends, now).unwrap();
    assert!(site.ask(&mut browser, DEEP).await.location().contains("/authorize?"));
    assert!(store.sessions(now).is_empty());
}

#[tokio::test]
async fn session_of_one_account_is_none_of_another_one() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    assert_eq!(site.ask_of("main", &mut browser.clone(), DEEP).await.user(), "ann@example.com ann");
    assert!(site.ask_of("other", &mut browser.clone(), DEEP).await.location().contains("/authorize?"));
    // Nor is a log-in that is under way.
    let mut browser = Browser::default();
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
    assert_eq!(site.ask_of("other", &mut browser, &back).await.refused().code, 5200);
}

#[tokio::test]
async fn callback_of_one_provider_is_none_of_another_one() {
    let (provider, evil) = (Provider::start().await, Provider::start().await);
    let (site, other, mut browser) = (Site::new(&provider, ""), Site::new(&evil, ""), Browser::default());
    let begun = other.leave(&mut browser, &evil, DEEP).await;
    let back = format!("{}?code=abc&state={}", begun["redirect_uri"], begun["state"]);
    assert_eq!(site.refusal(&mut browser.clone(), &back).await.1, 5200);
    // A state of the one with the cookie of the other.
    let mine = site.leave(&mut browser, &provider, DEEP).await;
    let (name, _) = browser.cookie(&format!("__Host-adit-login-{}", &mine["state"][..8]));
    let theirs = browser.cookie(&format!("__Host-adit-login-{}", &begun["state"][..8])).1;
    browser.cookies.insert(name, theirs);
    let back = format!("{}?code=abc&state={}", mine["redirect_uri"], mine["state"]);
    assert_eq!(site.refusal(&mut browser, &back).await.1, 5200);
    assert!(provider.change(|told| told.asked.is_empty()));
}

#[tokio::test]
async fn nonce_of_another_log_in_is_refused() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let first = site.leave(&mut browser, &provider, DEEP).await;
    let second = site.leave(&mut browser, &provider, DEEP).await;
    assert!(first["nonce"] != second["nonce"] && first["code_challenge"] != second["code_challenge"]);
    // The provider answers the first one with a token for the second one.
    let back = format!("{}?code=abc&state={}", first["redirect_uri"], first["state"]);
    let (_, code, reason) = site.refusal(&mut browser, &back).await;
    assert!(code == 5205 && reason.contains("nonce"), "{reason}");
}

#[tokio::test]
async fn address_that_the_provider_has_not_verified_is_none() {
    for (verified, more, expected) in [
        (json!(true), "", "ann@example.com ann"),
        (Json::Null, "", " ann"),
        (Json::Null, ", trust_unverified_email: true", "ann@example.com ann"),
        (json!(false), ", trust_unverified_email: true", " ann"),
    ] {
        let provider = Provider::start().await;
        provider.change(|told| merge(&mut told.userinfo.1, &json!({"email_verified": verified})));
        let (site, mut browser) = (Site::new(&provider, more), Browser::default());
        site.log_in(&mut browser, &provider, DEEP).await;
        assert_eq!(site.ask(&mut browser, DEEP).await.user(), expected, "{verified} {more}");
    }
}

#[tokio::test]
async fn nobody_but_the_log_in_sets_the_headers_of_identity() {
    let provider = Provider::start().await;
    let more =
        ", identity_headers: {x-user-id: provider_user_id, x-mail: email, x-groups: claims.groups}, claims: [groups]";
    let (site, mut browser) = (Site::new(&provider, more), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    browser.headers = vec![
        ("x-user-id", "root"),
        ("x_user_id", "root"),
        ("x-user_id", "root"),
        ("x-mail", "root@example.com"),
        ("x-other", "kept"),
    ];
    let head = site.ask(&mut browser, DEEP).await.head;
    for (name, expected) in
        [("x-user-id", "ann"), ("x-mail", "ann@example.com"), ("x-groups", "staff"), ("x-other", "kept")]
    {
        assert_eq!(head.headers.get_all(name).iter().collect::<Vec<_>>(), [expected], "{name}");
    }
    assert!(!head.headers.contains_key("x_user_id") && !head.headers.contains_key("x-user_id"));
}

#[tokio::test]
async fn forged_header_of_identity_is_gone_also_where_nobody_has_to_log_in() {
    let provider = Provider::start().await;
    let issuer = provider.change(|told| told.issuer.clone());
    let config =
        format!("{{issuer_url: '{issuer}', client_id: a, client_secret: b, identity_headers: {{x-mail: email}}}}");
    let text = format!(
        "on_http_request: [{{expressions: [\"!req.url.path.startsWith('/open')\"], actions: [{{type: openid-connect, config: \
         {config}}}]}}, {{actions: [{{type: forward-internal, config: {{url: 'https://x.internal'}}}}]}}]"
    );
    let site = Site::new(&provider, "");
    let policy = Policy::parse(&text, Place::cloud(&site.endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
    let site = Site { policy, ..site };
    let mut forger = Browser { headers: vec![("x-mail", "root@example.com")], ..Browser::default() };
    let answer = site.ask(&mut forger, "https://app.example.com/open").await;
    assert!(matches!(answer.verdict, Verdict::Forward { .. }));
    assert!(!answer.head.headers.contains_key("x-mail"));
}

#[tokio::test]
async fn second_log_in_on_the_way_of_a_request_is_refused() {
    let provider = Provider::start().await;
    let site = Site::new(&provider, "");
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.headers.insert(HOST, HeaderValue::from_static("app.example.com"));
    let (peer, local) = ("192.0.2.9:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
    let (scheme, endpoint) = (site.endpoint.scheme(), &site.endpoint);
    let tls = Tls::Begun(None);
    let connection = Connection { peer, local, scheme, endpoint, bind: None, course: None, tls };
    let tools = Tools { log_ins: Some(Arc::clone(&site.log_ins)), ..Tools::default() };
    let mut verdicts = Vec::new();
    // Two endpoints, of which each has a state of its own.
    for _ in 0..2 {
        let mut state = State::new("main".into(), tools.clone());
        let mut request = Request { connection, head: &mut head };
        verdicts.push(site.policy.on_http_request(&mut request, &mut state, Position::default()).await);
    }
    assert!(matches!(&verdicts[0], Verdict::Respond(_)), "{verdicts:?}");
    assert!(
        matches!(&verdicts[1], Verdict::Refuse(refused) if refused.reason.as_ref().unwrap().contains("a log-in already"))
    );
}

#[tokio::test]
async fn policy_that_changes_host_for_the_upstream_sends_the_visitor_nowhere_else() {
    let provider = Provider::start().await;
    let issuer = provider.change(|told| told.issuer.clone());
    let actions = format!(
        "{{type: add-headers, config: {{headers: {{host: evil.example.net}}}}}}, \
         {{type: openid-connect, config: {{issuer_url: '{issuer}', client_id: client, client_secret: hush}}}}, \
         {{type: add-headers, config: {{headers: {{x-user: ann}}}}}}, \
         {{type: forward-internal, config: {{url: 'https://x.internal'}}}}"
    );
    let site = Site::of(&actions, Keys::derive([&b"secret"[..]]));
    let mut browser = Browser::default();
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    assert_eq!(parameters["redirect_uri"], "https://app.example.com/ngrok/oauth2/callback");
    assert_eq!(site.log_in(&mut browser, &provider, DEEP).await, "/deep/link?a=b&c=%20d");
    let answer = site.ask(&mut browser, DEEP).await;
    assert_eq!((answer.user(), answer.head.headers[HOST].to_str().unwrap()), ("ann", "evil.example.net"));
}

#[tokio::test]
async fn refresh_that_fits_no_cookie_changes_nothing_and_comes_again() {
    let provider = Provider::start().await;
    let more = ", userinfo_refresh_interval: 10m, claims: [about]";
    let (site, mut browser) = (Site::new(&provider, more), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let (mut browser, session) = due(&site, &provider, &browser);
    let before = browser.cookies.clone();
    let about = |length: usize| json!({"sub": "ann", "about": "x".repeat(length)});
    for length in [COOKIE_BYTES_MAX, 10 * COOKIE_BYTES_MAX] {
        provider.change(|told| (told.token, told.userinfo) = (Some((200, rotated())), (200, about(length))));
        let refused = site.ask(&mut browser, DEEP).await.refused();
        assert_eq!((refused.code, refused.status), (2300, StatusCode::INTERNAL_SERVER_ERROR));
        assert!(refused.reason.unwrap().contains("does not fit into a cookie"));
        assert_eq!(browser.cookies, before);
    }
    assert_eq!(refresh_token(&site, &session).await, "rotated");
    provider.change(|told| told.userinfo = (200, about(10)));
    assert!(matches!(site.ask(&mut browser, DEEP).await.verdict, Verdict::Forward { .. }));
    assert_ne!(browser.cookies, before);
}
