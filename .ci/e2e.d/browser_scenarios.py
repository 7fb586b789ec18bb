"""People who log in with a real browser, and what they see when it does not work."""

import base64
import hashlib
import json
import subprocess
import time

from clients import Place, fetch
from failure import expect, expect_equal
from files import DOMAIN
from log_in_scenarios import CALLBACK
from policed import HOST
from program import wait_until
from scenario import scenario
from sites import DEEP, SECOND, site

LOGIN = f"login.{DOMAIN}"


@scenario("files")
def browser_logs_in_once_for_two_endpoints_and_out_again(deployment):
    more = {"auth_id": "team", "auth_cookie_domain": DOMAIN, "identity_headers": {"x-mail": "email"}}
    for kind in ("openid-connect", "oauth"):
        with site(deployment, kind, more) as (provider, place, browser, _):
            form = browser.go(place.url + DEEP)
            expect(form.url.startswith(provider.issuer), f"the visitor is at {form.url}")
            page = browser.log_in("ann")
            expect_equal((page.url, page.status), (place.url + DEEP, 200), "where the visitor came back to")
            expect_equal(told(page)["x-mail"], "ann@example.com", "who the upstream is told that it is")
            expect("adit-session" not in told(page).get("cookie", ""), "the upstream got the session's cookie")
            [cookie] = browser.cookies()
            expected = {"name": "__Secure-adit-session-team", "domain": f".{DOMAIN}"}
            expect_equal({key: cookie[key] for key in expected}, expected, "the session's cookie")
            expect(cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax", f"the cookie is {cookie}")

            second = f"https://{SECOND}:{deployment.port}/other"
            page = browser.go(second)
            expect_equal((page.url, page.status), (second, 200), "the second endpoint")

            page = browser.go(place.url + "/ngrok/logout?auth_id=team")
            browser.picture("logged-out")
            expect("You are logged out" in page.text, f"the page says {page.text}")
            expect_equal(browser.cookies(), [], "cookies after the log-out")
            page = browser.click("a")
            expect(page.url.startswith(provider.issuer), f"the log-in after a log-out leads to {page.url}")


@scenario("files")
def browser_logs_in_by_oauth_and_scripts_of_the_page_follow(deployment):
    with site(deployment, "oauth") as (_, place, browser, counted):
        browser.go(place.url + DEEP)
        page = browser.log_in("bob")
        expect_equal((page.url, told(page)["x-user"]), (place.url + DEEP, "bob@example.com"), "page and person")
        expect_equal(browser.fetch("/data"), 200, "what a script of the page gets")
        expect_equal(browser.socket("/echo", "hello"), "said hello", "what comes back on a WebSocket")
        before = counted.requests
        browser.forget("session")
        expect_equal(browser.fetch("/data"), 401, "what a script gets without a session")
        expect_equal(browser.socket("/echo", "hello"), "refused", "what becomes of a WebSocket without a session")
        expect_equal(counted.requests, before, "requests that reached the upstream without a session")


@scenario("files")
def browser_session_ends_when_it_is_idle_or_old(deployment):
    for more, seconds in (({"idle_session_duration": "2s"}, 3), ({"max_session_duration": "2s"}, 3)):
        with site(deployment, "openid-connect", more) as (provider, place, browser, _):
            browser.go(place.url + "/")
            expect_equal(browser.log_in("ann").status, 200, "status after the log-in")
            provider.stop()
            time.sleep(seconds)
            page = browser.go(place.url + "/")
            expect_equal(page.status, 0, f"{more}: what comes of the way to the provider, which is down")


@scenario("files")
def browser_is_told_what_happened_when_the_provider_is_down(deployment):
    with site(deployment, "openid-connect", {"userinfo_refresh_interval": "2s"}) as (provider, place, browser, _):
        redirect = place.url + CALLBACK
        provider.stop()
        shows(browser, browser.go(place.url + DEEP), "down-before", 502, "5201")
        provider.start("one", redirect=redirect)
        time.sleep(5.5)
        browser.go(place.url + DEEP)
        page = browser.log_in("ann")
        expect_equal((page.url, page.status), (place.url + DEEP, 200), "the log-in once it is there again")
        time.sleep(2.5)
        expect_equal(browser.go(place.url + DEEP).status, 200, "status with a refresh")
        provider.stop()
        time.sleep(2.5)
        shows(browser, browser.go(place.url + DEEP), "down-at-refresh", 502, "5201")
        provider.start("one", redirect=redirect)
        # It has forgotten everybody, and says so.
        page = browser.go(place.url + DEEP)
        expect(page.url.startswith(provider.issuer), f"after it is there again the visitor sees {page}")


@scenario("files")
def browser_is_told_what_is_wrong_with_a_log_in(deployment):
    with site(deployment, "openid-connect") as (_, place, browser, _):
        browser.go(place.url + DEEP)
        browser.forget("adit-login")
        page = browser.log_in("ann")
        shows(browser, page, "cookie-lost", 400, "5200")
        shows(browser, browser.go(page.url), "again", 400, "5200")
        browser.click("a")
        page = browser.log_in("ann")
        expect_equal((page.url, page.status), (place.url + "/", 200), "after another try the visitor is at")
        browser.go(place.url + "/ngrok/login")
        # "Cancel" at the provider.
        shows(browser, browser.click("a"), "declined", 403, "5208")


@scenario("files")
def browser_comes_back_by_the_callback_host_also_to_a_gateway_that_was_restarted(deployment):
    def change(document):
        document["log_ins"] = {"callback_host": f"{LOGIN}:{deployment.port}"}

    def redirect(provider):
        # The mark of this client at this provider.
        digest = hashlib.sha256(f"openid {provider.issuer}\npeople".encode()).digest()
        mark = base64.urlsafe_b64encode(digest).decode()[:12]
        return f"https://{LOGIN}:{deployment.port}{CALLBACK}/main/{mark}"

    try:
        with site(deployment, "openid-connect", change=change, redirect=redirect) as (provider, place, browser, _):
            log_ins(deployment, "end", "--all")
            restart_before(deployment)
            browser.go(place.url + DEEP)
            # In the middle of the log-in.
            restart_before(deployment)
            page = browser.log_in("ann")
            expect_equal((page.url, page.status), (place.url + DEEP, 200), "where the visitor came back to")
            second = f"https://{SECOND}:{deployment.port}/other"
            page = browser.go(second)
            expect_equal((page.url, page.status), (second, 200), "the second endpoint, without another address at the provider")
            expect_equal(sorted(cookie["domain"] for cookie in browser.cookies()), sorted([HOST, SECOND]), "hosts with cookies")
            shows(browser, browser.go(f"{redirect(provider)}?code=a&state=x"), "callback-host", 400, "5200")
            expect_equal(browser.go(f"https://{LOGIN}:{deployment.port}/").status, 404, "nothing else is at the callback host")

            # Whoever runs the gateway ends the session, for good.
            listed = log_ins(deployment, "list", "--json")
            people = {(session["host"], session["email"]) for session in json.loads(listed)["log_ins"]}
            expect_equal(people, {(HOST, "ann@example.com"), (SECOND, "ann@example.com")}, "the sessions that are listed")
            said = log_ins(deployment, "end", "--person", "ann@example.com")
            expect("2 log-ins have ended" in said, f"the command says {said}")
            provider.stop()
            expect(browser.go(place.url + "/").status != 200, "an ended session goes on")
            restart_before(deployment)
            expect(browser.go(place.url + "/").status != 200, "an ended session goes on after a restart")
            expect_equal(json.loads(log_ins(deployment, "list", "--json"))["log_ins"], [], "sessions that are left")
    finally:
        # A change of log_ins takes a restart.
        restart(deployment)


def restart(deployment):
    expect_equal(deployment.stop_gateway(), 0, "exit status of the gateway")
    deployment.start_gateway()
    deployment.wait_until_reachable()


def restart_before(deployment):
    """Restarts the gateway in front of a site, whose agent comes back as well."""
    restart(deployment)
    beside = Place("https", f"open.{DOMAIN}", deployment.port, deployment.ca_file)
    wait_until(lambda: fetch(beside, "/").status == 200, "the site's agent to be online", 40)


def log_ins(deployment, *arguments):
    command = [deployment.binaries["adit-gateway"], "log-ins", *arguments, "--config", deployment.gateway_file]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def shows(browser, page, name, status, code):
    browser.picture(name)
    expect_equal(page.status, status, f"status of {name}: {page.text}")
    expect(f"ERR_NGROK_{code}" in page.text, f"{name} shows {page.text}")


def told(page):
    return json.loads(page.text)["headers"]
