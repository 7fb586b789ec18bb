"""People who log in at real identity providers of SAML (pysaml2 and npm's samlp) before the gateway lets them through."""

import base64
import json
import re
from contextlib import contextmanager

from clients import fetch
from failure import expect, expect_equal
from log_in_scenarios import Browser, Form
from policed import HOST, policy, rule
from saml import Pysaml, Samlp, key_pair
from scenario import scenario

DEEP = "/deep/link?a=b&c=%20d"
ACS = "/ngrok/saml/acs"


@scenario("files")
def person_logs_in_at_pysaml2_until_the_log_out(deployment):
    with _site(deployment, Pysaml) as (provider, place, counted):
        _logs_in(deployment, place, counted)
        browser = Browser(deployment, place)
        browser.get(place.url + DEEP)
        browser.log_in("ann")
        thief = Browser(deployment, place, browser.jar.read_text())
        expect_equal(thief.get(place.url + "/").status, 200, "status of a copy of the cookie before the log-out")
        page = browser.get(place.url + "/ngrok/logout")
        expect("You are logged out" in page.body.decode(), f"the last page of the log-out: {page.body}")
        expect(provider.ended.is_set(), "the provider did not hear of the log-out")
        thief.get(place.url + "/")
        expect(thief.at.startswith(provider.url), "an ended session was used again")


@scenario("files")
def person_logs_in_at_samlp_with_an_encrypted_assertion(deployment):
    with _site(deployment, Samlp) as (_, place, counted):
        _logs_in(deployment, place, counted)
    log = deployment.gateway_logged(0)
    expect("logged in" in log, "the log-in is not in the log")


@scenario("files")
def changed_response_of_pysaml2_gets_nobody_in(deployment):
    _refuses(deployment, Pysaml, "ann@example.com", "eve@example.com")


@scenario("files")
def changed_response_of_samlp_gets_nobody_in(deployment):
    # The assertion cannot be read on its way.
    _refuses(deployment, Samlp)


def _logs_in(deployment, place, counted):
    browser, before = Browser(deployment, place), counted.requests
    page = browser.get(place.url + DEEP)
    expect_equal(page.status, 200, f"status of the provider's page: {page.body}")
    expect_equal(counted.requests, before, "requests that reached the upstream without a log-in")
    page = browser.log_in("ann")
    expect_equal((page.status, browser.at), (200, place.url + DEEP), f"where the visitor came back to: {page.body}")
    told = json.loads(page.body)["headers"]
    expect_equal(told["x-user"], "ann@example.com", "who the upstream is told that it is")
    expect("adit-session" not in told.get("cookie", ""), "the upstream got the session's cookie")


def _refuses(deployment, kind, old=None, new=None):
    with _site(deployment, kind) as (_, place, counted):
        mine = Browser(deployment, place)
        page = mine.get(place.url + DEEP)
        form, before = Form.of(page.body.decode()), counted.requests
        good = base64.b64decode(form.fields["SAMLResponse"]).decode()
        if old:
            expect(old in good, f"{old!r} is not in {good}")
            _post(place, mine, form, good.replace(old, new), 502, 5303)
            _post(place, mine, form, _unsigned(good), 502, 5303)
        _post(place, Browser(deployment, place), form, good, 403, 5302)
        head, end = good.rsplit("</", 1)
        _post(place, mine, form, f"{head}<!-- --></{end}", 400, 5301)
        expect_equal(counted.requests, before, "requests that reached the upstream")
        expect_equal(_post(place, mine, form, good, 303, None).headers["location"], DEEP, "where the good one leads")
        _post(place, mine, form, good, 400, 5305)
        expect_equal(counted.requests, before, "requests that reached the upstream")


def _post(place, browser, form, message, status, code):
    """Posts a response as this browser; its cookies stay as they are."""
    fields = form.fields | {"SAMLResponse": base64.b64encode(message.encode()).decode()}
    data = [part for pair in fields.items() for part in ("--data-urlencode", "=".join(pair))]
    answer = fetch(place, ACS, "-b", browser.jar, *data)
    found = (answer.status, answer.headers.get("ngrok-error-code"))
    expect_equal(found, (status, code and f"ERR_NGROK_{code}"), "answer to a response")
    return answer


def _unsigned(text):
    """The text without its signatures, whatever their prefix."""
    return re.sub(r"<(\w+:|)Signature[ >].*?</\1Signature>", "", text, flags=re.DOTALL)


@contextmanager
def _site(deployment, kind):
    """A cloud endpoint behind a log-in at a provider that runs."""
    key, certificate = key_pair(deployment.scratch, "service")
    provider = kind(deployment.scratch, f"https://{HOST}:{deployment.port}{ACS}", service=(key, certificate))
    config = {
        "idp_metadata_url": f"{provider.url}/metadata",
        "private_key": str(key),
        "certificate": str(certificate),
        "end_provider_session": True,
    }
    rules = [rule("saml", config), rule("add-headers", {"headers": {"x-user": "${actions.ngrok.saml.identity.email}"}})]
    try:
        with policy(deployment, rules) as (place, counted):
            provider.know(fetch(place, "/ngrok/saml/metadata").body.decode())
            yield provider, place, counted
    finally:
        provider.stop()
