"""People who log in at a real OpenID provider (npm's oidc-provider) before the gateway lets them through."""

import html
import html.parser
import itertools
import json
import re
import urllib.parse
from contextlib import contextmanager

from clients import Place, fetch
from failure import Failure, expect, expect_equal
from oidc import Provider
from policed import HOST, policy, rule
from scenario import scenario

DEEP = "/deep/link?a=b&c=%20d"
CALLBACK = "/ngrok/oauth2/callback"


@scenario("files")
def person_logs_in_at_an_openid_provider_until_the_log_out(deployment):
    with _site(deployment, "openid-connect") as (provider, place, counted):
        browser, before = Browser(deployment, place), counted.requests
        expect_equal(browser.get(place.url + DEEP).status, 200, "status of the provider's page")
        expect_equal(counted.requests, before, "requests that reached the upstream without a log-in")
        page = browser.log_in("ann")
        expect_equal((page.status, browser.at), (200, place.url + DEEP), "where the visitor came back to")
        told = json.loads(page.body)["headers"]
        expect_equal(told["x-user"], "ann@example.com", "who the upstream is told that it is")
        expect("adit-session" not in told.get("cookie", ""), "the upstream got the session's cookie")

        provider.stop()
        expect_equal(browser.get(place.url + "/").status, 200, "status while the provider is down")
        provider.start("one", redirect=place.url + CALLBACK)

        thief = Browser(deployment, place, browser.jar.read_text())
        expect_equal(thief.get(place.url + "/").status, 200, "status of a copy of the cookie before the log-out")
        expect_equal(browser.get(place.url + "/ngrok/logout").status, 200, "status of the log-out")
        thief.get(place.url + "/")
        expect(thief.at.startswith(provider.issuer), "an ended session was used again")
        log = deployment.gateway_logged(0)
        expect("logged in" in log and "logged out" in log, "the log-in or the log-out is not in the log")
        expect("site-secret" not in log, "the client's secret is in the log")


@scenario("files")
def person_logs_in_by_oauth_at_addresses_of_ones_own(deployment):
    with _site(deployment, "oauth") as (_, place, _):
        browser = Browser(deployment, place)
        browser.get(place.url + DEEP)
        page = browser.log_in("bob")
        expect_equal(json.loads(page.body)["headers"]["x-user"], "bob@example.com", "who the upstream is told that it is")


@scenario("files")
def callback_counts_once_and_in_the_browser_that_began(deployment):
    with _site(deployment, "openid-connect") as (_, place, counted):
        mine, theirs = Browser(deployment, place), Browser(deployment, place)
        mine.get(place.url + DEEP)
        callback = mine.log_in("ann", stop_before=CALLBACK)
        theirs.get(place.url + "/")
        before = counted.requests
        for browser in (theirs, Browser(deployment, place)):
            refused = browser.get(callback)
            expect_equal((refused.status, refused.headers["ngrok-error-code"]), (400, "ERR_NGROK_5200"), "the refusal")
        kept = mine.jar.read_text()
        expect_equal(mine.get(callback).status, 200, "status in the browser that began")
        again = Browser(deployment, place, kept).get(callback)
        expect_equal((again.status, again.headers["ngrok-error-code"]), (400, "ERR_NGROK_3123"), "the same once more")
        expect_equal(counted.requests, before + 1, "requests that reached the upstream")


@contextmanager
def _site(deployment, kind):
    """A cloud endpoint behind a log-in at a provider that runs."""
    provider = Provider(deployment.scratch)
    provider.start("one", redirect=f"https://{HOST}:{deployment.port}{CALLBACK}")
    config = {"client_id": "people", "client_secret": "site-secret"}
    if kind == "oauth":
        at = provider.issuer
        urls = {"authorize_url": f"{at}/auth", "token_url": f"{at}/token", "userinfo_url": f"{at}/me"}
        config |= {"provider": "custom"} | urls
    else:
        config |= {"issuer_url": provider.issuer}
    name = {"openid-connect": "oidc", "oauth": "oauth"}[kind]
    rules = [rule(kind, config), rule("add-headers", {"headers": {"x-user": f"${{actions.ngrok.{name}.identity.email}}"}})]
    try:
        with policy(deployment, rules) as (place, counted):
            yield provider, place, counted
    finally:
        provider.stop()


class Browser:
    """curl with its cookies, which follows redirects and fills in forms."""

    _numbers = itertools.count()

    def __init__(self, deployment, place, cookies=""):
        self.place, self.at, self.page = place, None, None
        self.jar = deployment.scratch.write(f"browsers/{next(self._numbers)}", cookies, 0o600)

    def get(self, url):
        return self._go(url, [], None)

    def log_in(self, name, stop_before=None):
        """Fills in the provider's forms until it sends the visitor back; gives the last page, or the address to stop at."""
        answer = self.page
        if b">Log in as ann</a>" in answer.body:
            answer = self.post(self.sure())
        while not isinstance(answer, str) and (form := Form.of(answer.body.decode())):
            fields = form.fields | ({"login": name, "password": "x"} if "login" in form.wanted else {})
            data = [part for pair in fields.items() for part in ("--data-urlencode", "=".join(pair))]
            answer = self._go(urllib.parse.urljoin(self.at, form.action), data, stop_before)
        return answer

    def sure(self):
        """Follows the link of a page on which a provider asks whether to go on; gives the form that leads back."""
        link = re.search(r'<a href="([^"]+)">', self.page.body.decode())
        return Form.of(self.get(urllib.parse.urljoin(self.at, html.unescape(link[1]))).body.decode())

    def post(self, form):
        """Sends a form as it is."""
        data = [part for pair in form.fields.items() for part in ("--data-urlencode", "=".join(pair))]
        return self._go(urllib.parse.urljoin(self.at, form.action), data, None)

    def _go(self, url, data, stop_before):
        for _ in range(20):
            parts = urllib.parse.urlsplit(url)
            if stop_before == parts.path:
                return url
            is_site = parts.hostname == self.place.host
            place = self.place if is_site else Place("http", parts.hostname, parts.port)
            path = url.split(parts.netloc, 1)[1] or "/"
            cookies = ["-b", self.jar, "-c", self.jar, "-H", "Accept: text/html"]
            answer = fetch(place, path, *cookies, *data)
            self.at, self.page = url, answer
            if answer.status not in (301, 302, 303, 307):
                return answer
            data, url = [], urllib.parse.urljoin(url, answer.headers["location"])
        raise Failure("redirects without end")


class Form(html.parser.HTMLParser):
    """The first form of a page."""

    def __init__(self):
        super().__init__()
        self.action, self.fields, self.wanted = None, {}, set()

    @classmethod
    def of(cls, text):
        form = cls()
        form.feed(text)
        return form if form.action else None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form" and self.action is None:
            self.action = attributes["action"]
        if tag == "input" and attributes.get("name"):
            self.wanted.add(attributes["name"])
            if attributes.get("type") == "hidden":
                self.fields[attributes["name"]] = attributes.get("value", "")
