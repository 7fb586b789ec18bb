"""Behind a load balancer: haproxy says in PROXY headers whom its connections are from, and the gateway believes only it."""

import json
import socket

from clients import Place, curl_status, fetch, read_exactly, request_stream
from failure import expect, expect_equal
from files import DOMAIN
from haproxy import SOURCE, Haproxy
from policed import HOST, policy, rule
from program import Program, wait_until
from scenario import scenario

OFFICE, HOME = "127.0.0.9", "127.0.0.8"


@scenario("files")
def haproxy_says_whom_visitors_are_and_nobody_else_can(deployment):
    rules = [
        rule("restrict-ips", {"allow": [OFFICE]}, "req.url.path == '/office'"),
        rule("add-headers", {"headers": {"x-ip": "${conn.client_ip}"}}),
    ]
    with policy(deployment, rules, change=_trusting(deployment)) as (direct, counted), _haproxy(deployment) as haproxy:
        for version in ("v2", "v1"):
            place = Place("https", HOST, haproxy.ports[version], deployment.ca_file)
            answer = fetch(place, "/office", "--interface", OFFICE, "-H", "X-Forwarded-For: 192.0.2.66")
            expect_equal(answer.status, 200, f"status for who may, behind {version}")
            seen = json.loads(answer.body)["headers"]
            expect_equal(seen["x-ip"], OFFICE, "conn.client_ip")
            expect(seen["x-forwarded-for"].endswith(OFFICE), f"X-Forwarded-For is {seen['x-forwarded-for']}")
            before = counted.requests
            refused = fetch(place, "/office", "--interface", HOME)
            expect_equal((refused.status, refused.headers["adit-error-code"]), (403, "ERR_NGROK_3203"), "who may not")
            expect_equal(counted.requests, before, "requests that reached the upstream")
        # Beside it: the address of the socket counts, and a header is what it looks like.
        expect_equal(fetch(direct, "/office", "--interface", OFFICE).status, 200, "status without haproxy")
        expect_equal(fetch(direct, "/office", "--interface", HOME).status, 403, "status without haproxy")
        expect(curl_status(direct, "/office", "--haproxy-protocol") != 0, "the header of a stranger is taken")
        expect(curl_status(direct, "/office", "--interface", SOURCE) != 0, "a connection of haproxy's has no header")
        plain = Place("http", f"plain.{DOMAIN}", haproxy.ports["http"])
        expect_equal(fetch(plain, "/hello", "--interface", HOME).status, 200, "status of HTTP without TLS")
        log = deployment.gateway_logged(0)
        expect(f"visitor={HOME}" in log, "the refused visitor's own address is not in the log")
        expect(f"visitor={SOURCE}" not in log, "haproxy is taken for a visitor")
        expect("listeners.trusted_proxies" in log, "the connection without a header is not told of")


@scenario("files")
def haproxy_says_whom_tcp_visitors_and_agents_are(deployment):
    office, office_entry = deployment.new_token("from-here")
    proxy, proxy_entry = deployment.new_token("from-haproxy")
    credentials = f"{deployment.credential.rstrip()}\n"
    # Agents come from 127.0.0.1; haproxy's own address must help nobody.
    for entry, network in ((office_entry, "127.0.0.1"), (proxy_entry, SOURCE)):
        credentials += f"{entry.rstrip()}\n    allowed_networks: [{network}]\n"
    change = _trusting(deployment, tcp_allow=[OFFICE])
    with policy(deployment, [], change=change, credentials=credentials), _haproxy(deployment) as haproxy:
        for source, is_served in ((OFFICE, True), (HOME, False)):
            expect_equal(bool(_tcp_answer(haproxy.ports["tcp"], source)), is_served, f"whether {source} is served")
        for name, token, is_admitted in (("behind", office, True), ("turned-away", proxy, False)):
            document = json.loads(deployment.agent_file.read_text())
            document["agent"] |= {"authtoken": token, "connect_url": f"localhost:{haproxy.ports['v2']}"}
            document["endpoints"] = [{"name": name, "url": f"https://{name}.internal", "upstream": {"url": "9"}}]
            file = deployment.scratch.write(f"files/{name}.json", json.dumps(document), 0o600)
            since = deployment.gateway_log_size()
            program = Program(name, [deployment.binaries["adit"], "run", "--config", file], deployment.scratch)
            try:
                words = "session up" if is_admitted else "log-in refused"
                log = wait_until(lambda: _line(deployment.gateway_logged(since), words), f"{name}: {words}", 20, program)
            finally:
                program.stop()
            expect("=127.0.0.1:" in log and SOURCE not in log, f"the agent's own address is not in the log: {log}")
            expect(is_admitted or "116" in log, f"another reason: {log}")


def _tcp_answer(port, source):
    """The first bytes that the raw upstream sends to a visitor from this address; nothing if the connection is cut."""
    try:
        with socket.create_connection(("127.0.0.1", port), 15, source_address=(source, 0)) as connection:
            request_stream(connection, 4096)
            return read_exactly(connection, 4096)
    except Exception:
        return b""


def _line(log, words):
    """The first line with these words."""
    return next((line for line in log.splitlines() if words in line), None)


def _trusting(deployment, tcp_allow=None):
    """Makes the gateway believe haproxy's headers."""

    def change(document):
        document["listeners"]["trusted_proxies"] = {"networks": [SOURCE]}
        if tcp_allow:
            raw = next(entry for entry in document["cloud_endpoints"] if entry["url"] == _raw_url(deployment))
            raw["traffic_policy"]["on_tcp_connect"].insert(0, rule("restrict-ips", {"allow": tcp_allow}))

    return change


def _raw_url(deployment):
    return deployment.place("raw").url


def _haproxy(deployment):
    tcp_port = deployment.place("raw").port
    return Haproxy(deployment.scratch, deployment.port, deployment.http_port, f"plain.{DOMAIN}", tcp_port)
