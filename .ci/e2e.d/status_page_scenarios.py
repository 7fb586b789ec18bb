"""The status page of the gateway, as scripts and browsers see it."""

import re
import signal
import urllib.request
from contextlib import contextmanager

from chromium import Chromium
from failure import expect, expect_equal
from scenario import scenario

DESKTOP, PHONE = (1280, 900), (360, 740)


@scenario("files")
def status_page_has_its_tables_without_scripts_and_loads_nothing_from_elsewhere(deployment):
    with _page(deployment) as url, urllib.request.urlopen(url, timeout=10) as answer:
        policy, text = answer.headers["content-security-policy"], answer.read().decode()
        expect(policy.startswith("default-src 'none'") and "unsafe" not in policy, f"the policy is {policy}")
        for words in ("main / ", "https://web.internal", "site-rows", ">online<"):
            expect(words in text, f"the page has no {words!r}: {text[:2000]}")
        loaded = re.findall(r'(?:src|href|action)="([^"]*)"', text)
        expect(loaded and not [url for url in loaded if ":" in url], f"the page leads elsewhere: {loaded}")
        with urllib.request.urlopen(f"{url}?q=no-such-site", timeout=10) as found:
            expect("https://web.internal" not in found.read().decode(), "the search finds what does not fit")


@scenario("files")
def status_page_is_accessible_and_follows_along_in_a_browser(deployment):
    with _page(deployment) as url, Chromium(deployment.scratch) as browser:
        page = browser.go(url)
        expect_equal(page.status, 200, "status of the page")
        for name, (width, height) in {"desktop": DESKTOP, "phone": PHONE}.items():
            for scheme in ("light", "dark"):
                found, is_too_wide = browser.judge(width, height, scheme)
                browser.picture(f"status-{name}-{scheme}")
                expect_equal(found, [], f"what axe finds, {name}, {scheme}")
                expect(not is_too_wide, f"the page is wider than a window of {width} points")
        browser.shows("#site-rows", "online", 5)
        agent = deployment.programs["agent"]
        agent.signal(signal.SIGKILL)
        agent.wait(10)
        browser.shows("#site-rows", "offline", 20)
        browser.shows("#event-rows", "site.down", 20)
        browser.type("#q", "no-such-site")
        browser.shows("#sites-count", "0 of 1", 10)
        browser.type("#q", "")
        deployment.start_agent()
        browser.shows("#summary", "1 online", 20)
        deployment.programs["gateway"].signal(signal.SIGKILL)
        deployment.programs["gateway"].wait(10)
        browser.shows("#live-state", "does not answer", 30)
        deployment.start_gateway()
        deployment.wait_until_reachable()
        browser.shows("#live-state", "Follows along", 30)


@contextmanager
def _page(deployment):
    """A gateway that was started anew with an admin listener; the address of the page."""
    address = f"127.0.0.1:{deployment.scratch.port()}"
    deployment.stop_gateway()
    deployment.write_gateway(deployment.gateway_document() | {"admin": {"listen": address}, "events": {"settle": "1s"}})
    deployment.start_gateway()
    deployment.wait_until_reachable()
    try:
        yield f"http://{address}/"
    finally:
        deployment.write_gateway()
        deployment.stop_gateway()
        deployment.start_gateway()
        deployment.wait_until_reachable()
