"""TLS that ends at the gateway as an endpoint asks for it (`terminate-tls`), for every kind of client and certificate."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager

from clients import HTTP1, HTTP2, Place, curl_status, ends_with_error, fetch, read_exactly, read_to_end
from cryptography.x509.oid import ExtendedKeyUsageOID
from failure import expect, expect_equal
from files import DOMAIN
from post_quantum import GROUP, Client
from program import Program, wait_until
from scenario import scenario
from visitor_certificates import VisitorAuthority

PAGE = b"hello from the upstream\n"
TLS_VERSIONS = ("-tls1_2", "-tls1_3")
# Alerts (RFC 8446, 6.2).
HANDSHAKE_FAILURE, UNSUPPORTED_CERTIFICATE, CERTIFICATE_EXPIRED, UNKNOWN_CA, PROTOCOL_VERSION = 40, 43, 45, 48, 70
CERTIFICATE_REQUIRED = 116
REFUSED = "client refused by its certificate"
# Two looks at the files, and a slow machine.
RENEWAL_SECONDS = 30


class Terminated:
    """Endpoints whose TLS ends at the gateway, beside those that every scenario has."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.visitors = VisitorAuthority("visitors", deployment.scratch)
        self.strangers = VisitorAuthority("strangers", deployment.scratch)
        self.tcp_port = deployment.scratch.port()

    def place(self, name, scheme="tls"):
        port = self.tcp_port if scheme == "tcp" else self.deployment.port
        return Place(scheme, f"{name}.{DOMAIN}", port, self.deployment.ca_file)

    def document(self):
        document = self.deployment.gateway_document()
        mutual = {"mutual_tls_certificate_authorities": [str(self.visitors.certificate)]}
        asked = mutual | {"mutual_tls_verification_strategy": "request"}
        raw = {
            "tls://page": ({}, "tls://page.internal"),
            "tls://opened": ({}, "tls://echo.internal"),
            "tls://mutual-page": (mutual, "tls://page.internal"),
            "tls://old": ({"max_version": "1.2"}, "tls://page.internal"),
            "tls://new": ({"min_version": "1.3"}, "tls://page.internal"),
            "tcp://page": ({}, "tcp://page.internal:7000"),
        }
        for url, (config, target) in raw.items():
            port = f":{self.tcp_port}" if url.startswith("tcp") else ""
            rules = [rule("terminate-tls", config), rule("forward-internal", {"url": target})]
            document["cloud_endpoints"].append(
                {"url": f"{url}.{DOMAIN}{port}", "traffic_policy": {"on_tcp_connect": rules}}
            )
        who = "${conn.tls.client.subject} ${conn.tls.client.verified} ${conn.tls.version}"
        forward = [
            rule("custom-response", {"body": who}, "req.url.path == '/who'"),
            rule("forward-internal", {"url": "https://web.internal"}),
        ]
        for name, config in (("mutual", mutual), ("asked", asked)):
            policy = {"on_tcp_connect": [rule("terminate-tls", config)], "on_http_request": forward}
            document["cloud_endpoints"].append({"url": f"https://{name}.{DOMAIN}", "traffic_policy": policy})
        return document

    def start_agent(self):
        deployment, upstreams = self.deployment, self.deployment.upstreams
        document = json.loads(deployment.agent_file.read_text())
        # Beside the agent of the same credential.
        document["agent"]["instance_id"] = "opened"
        web, raw = (f"tcp://127.0.0.1:{upstream.port}" for upstream in (upstreams.web, upstreams.raw))
        urls = {"tls://page.internal": web, "tls://echo.internal": raw, "tcp://page.internal:7000": web}
        document["endpoints"] = [
            {"name": f"opened-{number}", "url": url, "upstream": {"url": upstream}}
            for number, (url, upstream) in enumerate(urls.items())
        ]
        file = deployment.scratch.write("files/opened.json", json.dumps(document), 0o600)
        self.agent = Program("opened-agent", [deployment.binaries["adit"], "run", "--config", file], deployment.scratch)

    def wait(self, seconds=40):
        wait_until(
            lambda: s_client(self.place("page"), "-tls1_3")[0].endswith(PAGE), "the endpoint to answer", seconds, self.agent
        )


def is_reset(connection):
    """Whether the socket below TLS is reset; `ssl` itself takes that for an end."""
    with socket.socket(fileno=os.dup(connection.fileno())) as below:
        below.settimeout(15)
        return ends_with_error(below)


def rule(action, config, expression=None):
    condition = {"expressions": [expression]} if expression else {}
    return {**condition, "actions": [{"type": action, "config": config}]}


@contextmanager
def terminated(deployment):
    made = Terminated(deployment)
    deployment.write_gateway(made.document())
    deployment.programs["gateway"].signal(signal.SIGHUP)
    made.start_agent()
    try:
        made.wait()
        yield made
    finally:
        made.agent.stop()
        deployment.write_gateway()
        deployment.programs["gateway"].signal(signal.SIGHUP)


def s_client(place, *options, name=True, host=None):
    """One request with `openssl s_client`, which verifies the certificate: (answer, what it said)."""
    naming = ["-servername", place.host] if name else ["-noservername"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", *naming, "-quiet", *options]
    command += ["-verify_return_error", "-verify_hostname", place.host, "-CAfile", str(place.ca_file)]
    request = f"GET /hello HTTP/1.0\r\nHost: {host or place.host}\r\n\r\n".encode()
    done = subprocess.run(command, input=request, capture_output=True, timeout=30)
    return done.stdout, done.stderr.decode(errors="replace")


def alert_in(said):
    """The number of the alert that openssl got."""
    _, found, rest = said.partition("SSL alert number ")
    return int(rest.split()[0]) if found else said


def shown(papers):
    return ("-cert", str(papers[0]), "-key", str(papers[1])) if papers else ()


@scenario("files")
def openssl_reaches_plain_upstreams_with_both_versions(deployment):
    with terminated(deployment) as made:
        for place in (made.place("page"), made.place("page", "tcp")):
            for version in TLS_VERSIONS:
                answer, said = s_client(place, version)
                expect(answer.endswith(PAGE), f"{place.scheme} {version}: {answer!r} {said}")
        for name, version, alert in (
            ("old", "-tls1_2", None),
            ("old", "-tls1_3", PROTOCOL_VERSION),
            ("new", "-tls1_2", PROTOCOL_VERSION),
            ("new", "-tls1_3", None),
        ):
            answer, said = s_client(made.place(name), version)
            if alert:
                expect_equal((answer, alert_in(said)), (b"", alert), f"{name} {version}")
            else:
                expect(answer.endswith(PAGE), f"{name} {version}: {answer!r} {said}")


@scenario("files")
def post_quantum_hello_ends_at_the_gateway_whole_and_byte_by_byte(deployment):
    with terminated(deployment) as made:
        for place in (made.place("page"), made.place("page", "tcp")):
            for piece in (1 << 16, 1):
                with place.socket() as connection:
                    client = Client(place, connection)
                    hello = client.hello()
                    expect(GROUP in hello and len(hello) > 2048, f"a first message of {len(hello)} bytes")
                    for begin in range(0, len(hello), piece):
                        connection.sendall(hello[begin : begin + piece])
                    answer = client.ask(f"GET /hello HTTP/1.0\r\nHost: {place.host}\r\n\r\n".encode())
                expect(answer.endswith(PAGE), f"{place.scheme} in pieces of {piece}: {answer!r}")


@scenario("files")
def opened_bytes_pass_whole_and_half_closed_and_their_ends_are_told_apart(deployment):
    with terminated(deployment) as made:
        with made.place("opened").tls(alpn=("raw",)) as connection:
            expect_equal(connection.selected_alpn_protocol(), "raw", "the one protocol that was offered")
            connection.sendall(b"E" + bytes(1 << 20))
            expect_equal(read_exactly(connection, 1 << 20), bytes(1 << 20), "what came back")
            deployment.programs["gateway"].signal(signal.SIGHUP)
            connection.sendall(b"after the reload")
            expect_equal(read_exactly(connection, 16), b"after the reload", "what came back after a reload")
        with made.place("opened").tls() as connection:
            connection.sendall(b"R")
            read_exactly(connection, 1 << 20)
            connection.sendall(b"!")
            expect(is_reset(connection), "the client saw a clean end of what its server had reset")
        with made.place("page").tls() as connection:
            connection.sendall(f"GET /hello HTTP/1.0\r\nHost: page.{DOMAIN}\r\n\r\n".encode())
            expect(read_to_end(connection)[0] > len(PAGE), "the answer up to a clean end")
        raw = deployment.upstreams.raw
        connection = made.place("opened").tls()
        connection.sendall(b"H")
        wait_until(lambda: raw.open_holds() == 1, "the upstream to be reached", 10)
        # Gone without a word in TLS.
        connection.close()
        wait_until(lambda: raw.open_holds() == 0, "the upstream's connection to end", 15)


@scenario("files")
def name_that_is_not_asked_for_in_tls_opens_nothing(deployment):
    with terminated(deployment) as made:
        mutual, web = made.place("mutual"), made.place("web")
        answer, said = s_client(web, "-alpn", "http/1.1", host=mutual.host)
        expect(b" 421 " in answer[:13], f"with another name: {answer!r} {said}")
        nameless = Place("tls", "localhost", web.port, web.ca_file)
        answer, said = s_client(nameless, "-alpn", "http/1.1", name=False, host=mutual.host)
        expect(b" 421 " in answer[:13], f"without a name: {answer!r} {said}")
        answer, said = s_client(web, "-alpn", "http/1.1")
        expect(answer.endswith(PAGE), f"with the right name: {answer!r} {said}")


@scenario("files")
def curl_shows_its_certificate_to_the_gateway(deployment):
    with terminated(deployment) as made:
        certificate, key = made.visitors.issue("curl")
        stranger = made.strangers.issue("curl")
        papers = ("--cert", str(certificate), "--key", str(key))
        for version in (HTTP1, HTTP2):
            mutual = made.place("mutual", "https")
            expect_equal(fetch(mutual, "/hello", *papers, version=version).body, PAGE, "body with a certificate")
            who = fetch(mutual, "/who", *papers, version=version).body
            expect_equal(who, b"CN=curl true 1.3", "what the policy knows")
            asked = made.place("asked", "https")
            expect_equal(fetch(asked, "/who", version=version).body, b" false 1.3", "without a certificate")
            others = ("--cert", str(stranger[0]), "--key", str(stranger[1]))
            expect_equal(fetch(asked, "/who", *others, version=version).body, b"CN=curl false 1.3", "of a stranger")
        # 56: an alert when the request is on its way already; 35: one before that, or 98: that a certificate is needed.
        for version, statuses in ((("--tlsv1.3",), (56, 98)), (("--tls-max", "1.2"), (35, 98))):
            status = curl_status(mutual, "/hello", *version)
            expect(status in statuses, f"curl's status without a certificate, {version}: {status}")


@scenario("files")
def wrong_certificates_are_refused_at_the_gateway_also_after_reload_reconnect_and_restart(deployment):
    gateway = deployment.programs["gateway"]
    with terminated(deployment) as made:
        assert_lets_in_only_whom_it_should(made, "at first")

        mark = gateway.log_size()
        gateway.signal(signal.SIGHUP)
        gateway.wait_for_log("is in force", since=mark)
        assert_lets_in_only_whom_it_should(made, "after a reload")

        mark = made.agent.log_size()
        made.agent.signal(signal.SIGUSR1)
        made.agent.wait_for_log("online", since=mark)
        made.wait()
        assert_lets_in_only_whom_it_should(made, "after a reconnect of the agent")

        gateway.signal(signal.SIGKILL)
        gateway.wait(10)
        deployment.start_gateway()
        made.wait()
        deployment.wait_until_reachable()
        assert_lets_in_only_whom_it_should(made, "after a restart of the gateway")


def assert_lets_in_only_whom_it_should(made, when):
    """Tries everybody who must not get in, and somebody who must. Each refusal is one line in the gateway's log."""
    visitors, gateway = made.visitors, made.deployment.programs["gateway"]
    refused = {
        "no certificate": (None, (HANDSHAKE_FAILURE, CERTIFICATE_REQUIRED), "it has none"),
        "of a stranger": (made.strangers.issue("stranger"), (UNKNOWN_CA,), "from none of the endpoint's authorities"),
        "expired": (visitors.issue("expired", first_day=-10), (CERTIFICATE_EXPIRED,), "it has expired"),
        "not for visitors": (
            visitors.issue("server", usage=ExtendedKeyUsageOID.SERVER_AUTH),
            (UNSUPPORTED_CERTIFICATE,),
            "lacks client authentication",
        ),
    }
    good = visitors.issue("good")
    for place in (made.place("mutual"), made.place("mutual-page")):
        for version in TLS_VERSIONS:
            for who, (papers, alerts, reason) in refused.items():
                what = f"{when}, {who}, {place.host}, {version}"
                mark = gateway.log_size()
                answer, said = s_client(place, version, *shown(papers))
                expect_equal(answer, b"", f"answer, {what}")
                expect(alert_in(said) in alerts, f"alert, {what}: {said}")
                gateway.wait_for_log(REFUSED, since=mark)
                lines = [line for line in gateway.logged(mark).splitlines() if REFUSED in line]
                expect(len(lines) == 1 and reason in lines[0], f"the log, {what}: {lines}")
            answer, said = s_client(place, version, *shown(good))
            expect(answer.endswith(PAGE), f"{when}, with the right certificate, {place.host}, {version}: {answer!r} {said}")


@scenario("files")
def saved_session_does_not_stand_in_for_a_certificate(deployment):
    with terminated(deployment) as made:
        place, saved = made.place("mutual"), deployment.scratch.path("session.pem")
        good = made.visitors.issue("resumed")
        for version in TLS_VERSIONS:
            saved.unlink(missing_ok=True)
            answer, said = s_client(place, version, *shown(good), "-sess_out", str(saved))
            expect(answer.endswith(PAGE), f"with the right certificate, {version}: {answer!r} {said}")
            if saved.exists():
                answer, said = s_client(place, version, "-sess_in", str(saved))
                expect_equal(answer, b"", f"with a session of before, {version}")
            # One that was made where no certificate is asked for, under a name that the gateway did not check.
            s_client(made.place("web"), version, "-sess_out", str(saved))
            expect(saved.exists(), f"the gateway gives no sessions at all, {version}")
            answer, said = s_client(place, version, "-sess_in", str(saved))
            expect_equal(answer, b"", f"with a session of another endpoint, {version}")


@scenario("files")
def renewed_certificate_is_shown_without_a_signal_and_a_broken_one_is_not(deployment):
    gateway = deployment.programs["gateway"]
    certificate, key = deployment.certificate_files()
    kept = [shutil.copy(file, deployment.scratch.path(f"kept-{file.name}")) for file in (certificate, key)]
    place = deployment.place("raw")
    web = deployment.place("web")
    before = serial(web)
    with place.socket() as connection:
        connection.sendall(b"E1234")
        expect_equal(read_exactly(connection, 4), b"1234", "echo")
        try:
            deployment.renew_certificate()
            wait_until(lambda: serial(web) != before, "the new certificate to be shown", RENEWAL_SECONDS, gateway)
            renewed, mark = serial(web), gateway.log_size()
            certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            gateway.wait_for_log("the certificate of before stays in use", since=mark, seconds=RENEWAL_SECONDS)
            time.sleep(11)
            expect_equal(gateway.logged(mark).count("the certificate of before"), 1, "lines about it")
            expect_equal(serial(web), renewed, "serial number that is shown")
        finally:
            for copy, file in zip(kept, (certificate, key), strict=True):
                shutil.copy(copy, file)
        wait_until(lambda: serial(web) == before, "the certificate of before", RENEWAL_SECONDS, gateway)
        connection.sendall(b"5678")
        expect_equal(read_exactly(connection, 4), b"5678", "echo after all this")


@scenario("files")
def word_of_the_authority_is_shown_and_one_about_another_certificate_is_not(deployment):
    gateway, web = deployment.programs["gateway"], deployment.place("web")
    document = deployment.gateway_document()
    document["certificates"][0]["ocsp_file"] = str(deployment.vouch())
    try:
        reload(deployment, document)
        for version in TLS_VERSIONS:
            expect("OCSP Response Status: successful" in status(web, version), f"no word is shown, {version}")
        mark = gateway.log_size()
        deployment.renew_certificate()
        gateway.wait_for_log("is about another certificate; it is not shown", since=mark, seconds=RENEWAL_SECONDS)
        expect("no response sent" in status(web, "-tls1_3"), "an old word is shown with a new certificate")
        deployment.vouch()
        gateway.wait_for_log("read again", since=gateway.log_size(), seconds=RENEWAL_SECONDS)
        expect("OCSP Response Status: successful" in status(web, "-tls1_3"), "the new word is not shown")
    finally:
        reload(deployment, deployment.gateway_document())


def reload(deployment, document):
    gateway = deployment.programs["gateway"]
    mark = gateway.log_size()
    deployment.write_gateway(document)
    gateway.signal(signal.SIGHUP)
    gateway.wait_for_log("is in force", since=mark)


def status(place, version):
    """What `openssl s_client` says when it asks for the authority's word."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", "-servername", place.host, "-status", version]
    done = subprocess.run([*command, "-CAfile", str(place.ca_file)], input=b"", capture_output=True, timeout=30)
    return done.stdout.decode(errors="replace")


def serial(place):
    """The serial number of the certificate that is shown."""
    with place.tls() as connection:
        return ssl.SSLSocket.getpeercert(connection)["serialNumber"]
