"""The status page of the gateway, as scripts and browsers see it. `ADIT_RIG` has the simulated agents."""

import json
import os
import re
import signal
import time
import urllib.request
from contextlib import contextmanager

from chromium import Chromium
from failure import expect, expect_equal
from program import Program
from scenario import scenario

DESKTOP, PHONE = (1280, 900), (360, 740)
# A vendor's fleet, in one process, beside the deployment's own agent.
SITES, ENDPOINTS = 500, 2
# What a page of that fleet may have: it has 480 to 590 kB.
PAGE_BYTES_MAX = 700_000


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
        for name, size in {"desktop": DESKTOP, "phone": PHONE}.items():
            for scheme in ("light", "dark"):
                _is_fine(browser, name, size, scheme)
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


@scenario("files")
def status_page_of_500_sites_is_whole_light_and_usable_in_a_browser(deployment):
    limits = {"logins_per_second_max": 1_000}
    with _page(deployment, limits=limits) as url, _fleet(deployment) as fleet, Chromium(deployment.scratch) as browser:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read()
        expect_equal(text.count(b">online</span></td><td class=\"number\">"), SITES + 1, "sites without a script")
        expect(len(text) < PAGE_BYTES_MAX, f"the page has {len(text)} bytes")
        expect_equal(browser.go(url).status, 200, "status of the page")
        expect_equal(browser.count("#site-rows > tr"), SITES + 1, "sites in the browser")
        load_ms = browser.load_ms()
        _is_fine(browser, "fleet-desktop", DESKTOP, "light")
        # Whoever reads in the middle of the table is left there by what comes.
        browser.scroll("section:has(#site-rows) .scroll", 5_000)
        busy_ms = browser.changes("#now", 15)
        expect_equal(browser.scrolled("section:has(#site-rows) .scroll"), 5_000, "place in the table after it changed")
        start = time.monotonic()
        browser.type("#q", "box-77")
        browser.shows("#sites-count", f"1 of {SITES + 1}", 10)
        found = time.monotonic() - start
        expect_equal(browser.count("#site-rows > tr"), 1, "sites that the search finds")
        browser.type("#q", "")
        browser.shows("#sites-count", f"{SITES + 1}.", 10)
        # All of them at once, as when a provider's network is down: what can be longest is in every row.
        fleet.stop()
        browser.shows("#summary", f"1 online, {SITES} offline", 30)
        browser.shows("#event-rows", "site.down", 20)
        expect_equal(browser.count("#site-rows > tr"), SITES + 1, "sites when most are offline")
        _is_fine(browser, "outage-phone", PHONE, "dark")
        with urllib.request.urlopen(url, timeout=10) as answer:
            most = len(answer.read())
        expect(most < PAGE_BYTES_MAX, f"the page has {most} bytes when most sites are offline")
        print(f"{SITES + 1} sites: {len(text)} bytes ({most} offline), load {load_ms:.0f} ms, longest task {busy_ms:.0f} ms,"
              f" search {found * 1000:.0f} ms")


def _is_fine(browser, name, size, scheme):
    """Nothing that axe finds, nothing wider than the window."""
    found, is_too_wide = browser.judge(*size, scheme)
    for part in ("body", "#sites", "#endpoints", "#events"):
        browser.picture(f"status-{name}-{scheme}-{part.strip('#')}", part)
    expect_equal(found, [], f"what axe finds, {name}")
    expect(not is_too_wide, f"the page is wider than a window of {size[0]} points")


@contextmanager
def _fleet(deployment):
    """Five hundred sites, all of them online."""
    file = json.loads(deployment.agent_file.read_text()) | {"endpoints": []}
    file = deployment.scratch.write("files/rig.json", json.dumps(file), 0o600)
    command = [os.environ["ADIT_RIG"], "agents", file, SITES, "--endpoints", ENDPOINTS, "--seconds", 600]
    rig = Program("rig", [*command, "--address", f"127.0.0.1:{deployment.port}"], deployment.scratch)
    try:
        rig.wait_for_log('"up"', 60)
        yield rig
    finally:
        rig.stop()


@contextmanager
def _page(deployment, **more):
    """A gateway that was started anew with an admin listener; the address of the page."""
    address = f"127.0.0.1:{deployment.scratch.port()}"
    deployment.stop_gateway()
    more |= {"admin": {"listen": address}, "events": {"settle": "1s"}}
    deployment.write_gateway(deployment.gateway_document() | more)
    deployment.start_gateway()
    deployment.wait_until_reachable()
    try:
        yield f"http://{address}/"
    finally:
        deployment.write_gateway()
        deployment.stop_gateway()
        deployment.start_gateway()
        deployment.wait_until_reachable()
