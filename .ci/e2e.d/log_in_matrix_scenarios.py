"""What has to hold for every kind of log-in, each at a real provider: whom it lets through, over which versions of HTTP, for
how long, and what becomes of it when a provider or a gateway is down in the middle."""

import json
import subprocess
import time
from contextlib import contextmanager

from browser_scenarios import LOGIN, log_ins, restart, restart_before, shows, told
from chromium import Chromium
from clients import CUT_STATUSES, HTTP1, HTTP2, Place, curl_command, ends_with_error, fetch, read_exactly
from failure import expect, expect_equal
from files import DOMAIN
from log_in_scenarios import CALLBACK, Browser
from policed import HOST, policy, rule
from program import Program, wait_until
from scenario import scenario
from sites import DEEP, KINDS, SAML, SECOND, counted_site, log_in_rules, site

# What curl sends as a script of a page would.
SCRIPT = ("-H", "Sec-Fetch-Mode: cors")


@scenario("files")
def log_in_lets_its_own_session_through_and_nothing_else_over_all_of_http(deployment):
    for kind in KINDS:
        with counted_site(deployment, kind) as (_, place, counted):
            browser = Browser(deployment, place)
            browser.get(place.url + DEEP)
            expect_equal(browser.log_in("ann").status, 200, f"{kind}: status after the log-in")
            cookie = _cookie(browser)
            name, _, value = cookie.partition("=")
            changed = f"{name}={'B' if value[0] == 'A' else 'A'}{value[1:]}"
            before = counted.requests
            for forged in ("", changed, f"{name}=x", f"{name}=", f"x{cookie}"):
                headers = ["-H", f"Cookie: {forged}"] if forged else []
                for version in (HTTP1, HTTP2):
                    page = fetch(place, "/", *headers, "-H", "Sec-Fetch-Mode: navigate", version=version)
                    expect_equal(page.status, 302, f"{kind}: status of a page with the cookie {forged[:30]!r} over {version}")
                    for script in (SCRIPT, (*SCRIPT, "-d", "a=b")):
                        refused = fetch(place, "/", *headers, *script, version=version)
                        found = (refused.status, refused.headers.get("ngrok-error-code"))
                        expect_equal(found, (401, "ERR_NGROK_3101"), f"{kind}: {forged[:30]!r} over {version}")
                head, _ = _upgraded(place, forged)
                expect(" 401 " in head, f"{kind}: a WebSocket with the cookie {forged[:30]!r} got {head!r}")
            expect_equal(counted.requests, before, f"{kind}: requests that reached the upstream without a session")
            for version in (HTTP1, HTTP2):
                answer = fetch(place, "/", "-H", f"Cookie: {cookie}", *SCRIPT, version=version)
                expect_equal((answer.status, _said(answer)["x-user"]), (200, "ann@example.com"), f"{kind}: over {version}")
                posted = fetch(place, "/", "-H", f"Cookie: {cookie}", "-d", "a=b", version=version)
                expect_equal(posted.status, 200, f"{kind}: status of a POST over {version}")
            head, echoed = _upgraded(place, cookie, b"both ways")
            expect(" 101 " in head and echoed == b"both ways", f"{kind}: a WebSocket with a session got {head!r}")
            expect_equal(counted.requests, before + 5, f"{kind}: requests that reached the upstream")


@scenario("files")
def browser_logs_in_with_saml_at_both_providers(deployment):
    for kind in SAML:
        with site(deployment, kind) as (provider, place, browser, counted):
            page = browser.go(place.url + DEEP)
            expect(page.url.startswith(provider.url), f"{kind}: the visitor is at {page.url}")
            page = _agree(browser, place, DEEP)
            found = (page.url, page.status, told(page)["x-user"])
            expect_equal(found, (place.url + DEEP, 200, "ann@example.com"), f"{kind}: where the visitor came back to")
            [cookie] = browser.cookies()
            expect(cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax", f"{kind}: the cookie is {cookie}")
            expect_equal(browser.fetch("/data"), 200, f"{kind}: what a script of the page gets")
            expect_equal(browser.socket("/echo", "hello"), "said hello", f"{kind}: what comes back on a WebSocket")
            before = counted.requests
            browser.forget("session")
            expect_equal(browser.fetch("/data"), 401, f"{kind}: what a script gets without a session")
            expect_equal(browser.socket("/echo", "hello"), "refused", f"{kind}: what becomes of a WebSocket without one")
            expect_equal(counted.requests, before, f"{kind}: requests that reached the upstream without a session")
            browser.go(place.url + DEEP)
            _agree(browser, place, DEEP)
            page = browser.go(place.url + "/ngrok/logout")
            if kind == "pysaml2":
                expect(provider.ended.is_set(), "the provider did not hear of the log-out")
            expect("You are logged out" in page.text, f"{kind}: the page says {page.text}")
            expect_equal(browser.cookies(), [], f"{kind}: cookies after the log-out")
            page = browser.click("a")
            expect(page.url.startswith(provider.url), f"{kind}: the log-in after a log-out leads to {page.url}")


@scenario("files")
def browser_logs_in_with_saml_once_for_two_endpoints(deployment):
    more = {"auth_id": "team", "auth_cookie_domain": DOMAIN, "entity_id": "urn:example:team"}
    for kind in SAML:
        with site(deployment, kind, more) as (_, place, browser, _counted):
            browser.go(place.url + DEEP)
            expect_equal(_agree(browser, place, DEEP).status, 200, f"{kind}: status after the log-in")
            second = f"https://{SECOND}:{deployment.port}/other"
            page = browser.go(second)
            expect_equal((page.url, page.status), (second, 200), f"{kind}: the second endpoint")


@scenario("files")
def browser_is_told_what_is_wrong_with_a_log_in_with_saml(deployment):
    for kind in SAML:
        with site(deployment, kind) as (provider, place, browser, _):
            browser.go(place.url + DEEP)
            browser.forget("adit-login")
            browser.click("a")
            shows(browser, browser.arrive(place.url), f"{kind}-cookie-lost", 403, "5302")
            page = browser.click("a")
            expect(page.url.startswith(provider.url), f"{kind}: another try leads to {page.url}")
            page = _agree(browser, place, "/")
            expect_equal((page.url, page.status), (place.url + "/", 200), f"{kind}: after another try the visitor is at")
    with site(deployment, "pysaml2", {"authorized_groups": ["board"]}) as (_, place, browser, _):
        browser.go(place.url + DEEP)
        browser.click("a")
        shows(browser, browser.arrive(place.url), "group", 403, "5312")


@scenario("files")
def browser_session_of_oauth_and_saml_ends_when_it_is_idle_or_old(deployment):
    for kind in ("oauth", *SAML):
        for more in ({"idle_session_timeout": "2s"}, {"max_session_duration": "2s"}):
            with site(deployment, kind, more) as (provider, place, browser, counted):
                browser.go(place.url + "/")
                page = _agree(browser, place, "/") if kind in SAML else browser.log_in("ann")
                expect_equal(page.status, 200, f"{kind}: status after the log-in")
                before = counted.requests
                provider.stop()
                time.sleep(3)
                page = browser.go(place.url + "/data")
                expect_equal(page.status, 0, f"{kind} with {more}: what comes of the way to the provider, which is down")
                expect_equal(counted.requests, before, f"{kind} with {more}: requests that reached the upstream")


@scenario("files")
def browser_comes_back_from_saml_to_a_gateway_that_was_restarted(deployment):
    for kind in SAML:
        with site(deployment, kind) as (provider, place, browser, _):
            browser.go(place.url + DEEP)
            restart_before(deployment)
            page = _agree(browser, place, DEEP)
            expect_equal((page.url, page.status), (place.url + DEEP, 200), f"{kind}: where the visitor came back to")
            restart_before(deployment)
            provider.stop()
            expect_equal(browser.go(place.url + "/").status, 200, f"{kind}: status after a restart, without the provider")


@scenario("files")
def browser_comes_back_from_saml_by_the_callback_host_for_all_names(deployment):
    def change(document):
        document["log_ins"] = {"callback_host": f"{LOGIN}:{deployment.port}"}

    try:
        with site(deployment, "pysaml2", change=change) as (provider, place, browser, _):
            # A change of log_ins takes a restart.
            restart_before(deployment)
            metadata = fetch(place, "/ngrok/saml/metadata").body.decode()
            expect(f"https://{LOGIN}:{deployment.port}/ngrok/saml/acs/main/" in metadata, f"the metadata is {metadata}")
            provider.know(metadata)
            browser.go(place.url + DEEP)
            page = _agree(browser, place, DEEP)
            expect_equal((page.url, page.status), (place.url + DEEP, 200), "where the visitor came back to")
            second = Place("https", SECOND, deployment.port)
            browser.go(second.url + "/other")
            page = _agree(browser, second, "/other")
            expect_equal((page.url, page.status), (second.url + "/other", 200), "the name that is not registered")
            expect_equal(sorted(cookie["domain"] for cookie in browser.cookies()), sorted([HOST, SECOND]), "hosts with cookies")
    finally:
        restart(deployment)


@scenario("files")
def session_holds_at_a_second_gateway_with_the_same_key(deployment):
    for kind in KINDS:
        # With SAML, whom a session is for has the address of the endpoint in it unless it has a name of its own.
        more = {"entity_id": "urn:example:two-gateways"} if kind in SAML else {}
        with site(deployment, kind, more) as (_, place, browser, _counted):
            rules = json.loads(json.dumps(_rules_in_force(deployment)))
            with _second_gateway(deployment, rules) as second:
                browser.go(place.url + "/")
                page = _agree(browser, place, "/") if kind in SAML else browser.log_in("ann")
                expect_equal(page.status, 200, f"{kind}: status after the log-in")
                page = browser.go(second.url + "/other")
                found = (page.url, page.status, page.text)
                expect_equal(found, (second.url + "/other", 200, "the second gateway"), f"{kind}: the second gateway")
                browser.forget("session")
                page = browser.go(second.url + "/other")
                expect(not page.url.startswith(second.url), f"{kind}: without the cookie the second gateway shows {page}")


@scenario("files")
def provider_that_is_down_between_its_form_and_the_way_back_lets_nobody_in(deployment):
    with counted_site(deployment, "openid-connect") as (provider, place, counted):
        browser, before = Browser(deployment, place), counted.requests
        browser.get(place.url + DEEP)
        callback = browser.log_in("ann", stop_before=CALLBACK)
        provider.stop()
        refused = browser.get(callback)
        expect_equal((refused.status, refused.headers["ngrok-error-code"]), (502, "ERR_NGROK_5201"), "without its tokens")
        expect_equal(browser.get(place.url + "/ngrok/logout").status, 200, "status of the log-out without a session")
        expect_equal(counted.requests, before, "requests that reached the upstream")
    for kind in SAML:
        with counted_site(deployment, kind, {"end_provider_session": False}) as (provider, place, counted):
            browser = Browser(deployment, place)
            browser.get(place.url + DEEP)
            form = browser.sure()
            provider.stop()
            if kind == "samlp":
                # What the gateway knew of the provider is gone, and nobody tells it again.
                restart_before(deployment)
                before = counted.requests
                refused = browser.post(form)
                found = (refused.status, refused.headers["ngrok-error-code"])
                expect_equal(found, (502, "ERR_NGROK_5308"), f"{kind}: after a restart, without its metadata")
                expect_equal(counted.requests, before, "requests that reached the upstream")
            else:
                expect_equal(browser.post(form).status, 200, f"{kind}: its word is whole, nothing more is asked of it")


@scenario("files")
def provider_of_oauth_is_asked_again_whether_the_person_is_still_in(deployment):
    with counted_site(deployment, "oauth", {"userinfo_refresh_interval": "2s"}) as (provider, place, counted):
        browser = Browser(deployment, place)
        browser.get(place.url + "/")
        expect_equal(browser.log_in("ann").status, 200, "status after the log-in")
        time.sleep(2.5)
        answer = browser.get(place.url + "/")
        expect_equal((answer.status, _said(answer)["x-user"]), (200, "ann@example.com"), "after a refresh")
        provider.stop()
        time.sleep(2.5)
        before = counted.requests
        refused = browser.get(place.url + "/")
        expect_equal((refused.status, refused.headers["ngrok-error-code"]), (502, "ERR_NGROK_5201"), "without the provider")
        expect_equal(counted.requests, before, "requests that reached the upstream")


@scenario("files")
def browser_is_told_that_a_provider_is_down_at_each_later_step(deployment):
    # Nobody listens there.
    nobody = f"http://127.0.0.1:{deployment.scratch.port()}"
    for step in ("token_url", "userinfo_url"):
        with site(deployment, "oauth", {step: f"{nobody}/x"}) as (_, place, browser, counted):
            before = counted.requests
            browser.go(place.url + DEEP)
            shows(browser, browser.log_in("ann"), f"down-{step}", 502, "5201")
            expect_equal(counted.requests, before, f"{step}: requests that reached the upstream")
    with site(deployment, "pysaml2") as (provider, place, browser, counted):
        restart_before(deployment)
        before = counted.requests
        provider.stop()
        shows(browser, browser.go(place.url + DEEP), "down-metadata", 502, "5308")
        expect_equal(counted.requests, before, "requests that reached the upstream")


@scenario("files")
def browser_brings_a_log_out_that_begins_at_the_provider(deployment):
    with site(deployment, "pysaml2") as (provider, place, browser, counted):
        browser.go(place.url + DEEP)
        _agree(browser, place, DEEP)
        other = Browser(deployment, place)
        other.get(place.url + "/")
        expect_equal(other.log_in("ann").status, 200, "status of another browser after the log-in")
        address, number = provider.begin_log_out(f"{place.url}/ngrok/saml/metadata")
        unsigned = browser.go(address.partition("&SigAlg")[0])
        shows(browser, unsigned, "log-out-unsigned", 502, "5303")
        expect_equal(other.get(place.url + "/").status, 200, "status after a log-out that is not signed")
        before = counted.requests
        page = browser.go(address)
        expect("logged out of everything" in page.text, f"the log-out ends at {page}")
        [answer] = provider.answers
        expect("status:Success" in answer and number in answer, f"the provider is told {answer}")
        other.get(place.url + "/")
        expect(other.at.startswith(provider.url), "another session of the person goes on")
        expect(browser.go(place.url + "/").url.startswith(provider.url), "the session of the browser goes on")
        expect_equal(counted.requests, before, "requests that reached the upstream after the log-out")
        # The provider may not have got the answer: it gets another one.
        browser.go(address)
        expect_equal(len(provider.answers), 2, "answers to a log-out that comes again")
        expect("status:Success" in provider.answers[1], f"the provider is told {provider.answers[1]}")


@scenario("files")
def what_a_session_has_open_ends_with_it(deployment):
    for kind in ("openid-connect", "pysaml2"):
        with counted_site(deployment, kind, {"end_provider_session": False}) as (_, place, counted):
            for end in ("operator", "person"):
                browser = Browser(deployment, place)
                browser.get(place.url + "/")
                browser.log_in("ann")
                with _open(place, _cookie(browser), counted) as all_open:
                    start = time.monotonic()
                    if end == "operator":
                        log_ins(deployment, "end", "--person", "ann@example.com")
                    else:
                        browser.get(place.url + "/ngrok/logout")
                    _all_break_off(all_open, start, 9, f"{kind}, ended by the {end}")
        with counted_site(deployment, kind, {"max_session_duration": "6s"}) as (_, place, counted):
            browser, start = Browser(deployment, place), time.monotonic()
            browser.get(place.url + "/")
            browser.log_in("ann")
            with _open(place, _cookie(browser), counted) as all_open:
                _all_break_off(all_open, start, 12, f"{kind}, over by its time")


@contextmanager
def _open(place, cookie, counted):
    """A tunnel, a response without an end over HTTP/1.1, and one over HTTP/2."""
    head = f"Host: {place.host}:{place.port}\r\nCookie: {cookie}\r\n"
    with place.tls() as tunnel, place.tls() as events:
        tunnel.sendall(f"GET /upgrade HTTP/1.1\r\n{head}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nping".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\nping"):
            answer += read_exactly(tunnel, 1)
        expect(b" 101 " in answer, f"the tunnel began with {answer}")
        events.sendall(f"GET /events HTTP/1.1\r\n{head}\r\n".encode())
        counted.events.put(b"data: 1\n\n")
        answer = b""
        while not answer.endswith(b"data: 1\n\n"):
            answer += read_exactly(events, 1)
        command = curl_command(place, HTTP2, "-N", "-H", f"Cookie: {cookie}", f"{place.url}/text?endless", seconds=30)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:
            expect(curl.stdout.read(8), "the response over HTTP/2 has not begun")
            try:
                yield tunnel, events, curl
            finally:
                counted.events.put(None)
                curl.kill()


def _all_break_off(all_open, start, seconds, what):
    tunnel, events, curl = all_open
    expect(ends_with_error(tunnel), f"{what}: the tunnel ended as if it were whole")
    expect(ends_with_error(events), f"{what}: the response ended as if it were whole")
    curl.stdout.read()
    expect(curl.wait(20) in CUT_STATUSES, f"{what}: curl ended with {curl.returncode}")
    took = time.monotonic() - start
    expect(took < seconds, f"{what}: it took {took:.1f} s")


def _agree(browser, place, path):
    """Says yes at a provider of SAML, whose form sends itself."""
    browser.click("a")
    return browser.arrive(place.url + path)


def _said(answer):
    return json.loads(answer.body)["headers"]


def _cookie(browser):
    """The session's cookie in a jar of curl's, as a line."""
    lines = [line.split("\t") for line in browser.jar.read_text().splitlines() if "adit-session" in line]
    [(*_, name, value)] = lines
    return f"{name}={value}"


def _upgraded(place, cookie, data=None):
    """The head of the answer to a WebSocket's request, and what comes back if it is one of the service's."""
    request = f"GET /upgrade HTTP/1.1\r\nHost: {place.host}:{place.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    if cookie:
        request += f"Cookie: {cookie}\r\n"
    with place.tls() as connection:
        connection.sendall(f"{request}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += read_exactly(connection, 1)
        if not data or b" 101 " not in head:
            return head.decode(), b""
        connection.sendall(data)
        return head.decode(), read_exactly(connection, len(data))


def _rules_in_force(deployment):
    """The log-in of the policy that the gateway's file has now."""
    text = deployment.gateway_file.read_text()
    [line] = [line for line in text.splitlines() if line.startswith("cloud_endpoints: ")]
    [endpoint] = [one for one in json.loads(line.partition(": ")[2]) if one["url"] == f"https://{HOST}"]
    kinds = {"openid-connect", "oauth", "saml"}
    return [one for one in endpoint["traffic_policy"]["on_http_request"] if one["name"] in kinds]


@contextmanager
def _second_gateway(deployment, rules):
    """Another gateway with the key of the first, at another port of the same name; it needs no agent."""
    port, folder = deployment.scratch.port(), deployment.scratch.path("second", "x").parent
    answer = rule("custom-response", {"body": "the second gateway"})
    document = deployment.gateway_document()
    document |= {
        "listeners": {"agents": f"127.0.0.1:{port}", "https": f"127.0.0.1:{port}"},
        "cloud_endpoints": [{"url": f"https://{HOST}", "traffic_policy": {"on_http_request": [*rules, answer]}}],
        "key_file": str(deployment.gateway_file.parent / "identity.key"),
        "log_ins": {"spent_file": str(folder / "spent")},
    }
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in document.items()]
    file = deployment.scratch.write("second/gateway.yml", "".join(lines) + "credentials:\n" + deployment.credential, 0o600)
    program = Program("second-gateway", [deployment.binaries["adit-gateway"], "run", "--config", file], deployment.scratch)
    place = Place("https", HOST, port, deployment.ca_file)
    try:
        wait_until(lambda: "is ready" in program.logged(), "the second gateway", 20, program)
        yield place
    finally:
        program.stop()
