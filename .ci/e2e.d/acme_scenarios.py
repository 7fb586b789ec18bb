"""Certificates from an ACME authority, with pebble as the authority and a gateway of each scenario's own."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager

from clients import Place, curl_status, fetch
from failure import expect, expect_equal
from grumpy import Grumpy
from pebble import Pebble
from program import Program, wait_until
from scenario import scenario

SHOP, CONNECT = "shop.acme.test", "connect.acme.test"
PAGE = b"the shop is open"


class Site:
    """A gateway whose only certificates are those of an authority; its cloud endpoints answer by themselves."""

    def __init__(self, deployment, label, challenge):
        self.scratch, self._binaries, self._label = deployment.scratch, deployment.binaries, label
        self.port, self.http_port, self._agents_port = (self.scratch.port() for _ in range(3))
        self._challenge = challenge
        self.pebble = Pebble(label, self.scratch, self.http_port, self.port)
        self.state = self.scratch.path("acme", label, "state")
        self.gateway = None

    def write(self, **acme):
        command = [self._binaries["adit-gateway"], "token", "new", "--id", "acme", "--account", "main", "--allow-any"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        self.authtoken, _, credential = done.stdout.partition("\n")
        shared = f"127.0.0.1:{self.port}"
        # The name of agents needs a certificate, too, unless they have a socket of their own.
        connect = {} if "names" in acme else {"connect": {"names": [CONNECT]}}
        agents = f"127.0.0.1:{self._agents_port}" if "names" in acme else shared
        document = {
            **connect,
            "listeners": {"agents": agents, "https": shared, "tls": shared, "http": f"127.0.0.1:{self.http_port}"},
            "acme": {
                "directory_url": self.pebble.directory_url,
                "directory_ca_file": str(self.pebble.directory_ca),
                "contact": ["ops@acme.test"],
                "accept_terms": True,
                "challenge": self._challenge,
                "state": str(self.state),
                **acme,
            },
            "cloud_endpoints": [
                {"url": f"https://{SHOP}", "traffic_policy": _always("custom-response", {"body": PAGE.decode()})},
                {"url": f"http://{SHOP}", "traffic_policy": _always("deny", {"status_code": 404})},
            ],
        }
        text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items())
        return self.scratch.write(f"acme/{self._label}/gateway.yml", text + "credentials:\n" + credential, 0o600)

    def start(self, **acme):
        self._acme = acme
        file = self.write(**acme)
        command = [self._binaries["adit-gateway"], "run", "--config", file]
        self.gateway = Program(f"acme-{self._label}", command, self.scratch)
        self.gateway.wait_for_log("the gateway is ready")

    def restart(self):
        self.gateway.signal(signal.SIGTERM)
        expect_equal(self.gateway.wait(30), 0, "the gateway's exit status")
        mark = self.gateway.log_size()
        self.start(**self._acme)
        return mark

    def reload(self):
        self.gateway.signal(signal.SIGHUP)

    def obtained(self, name, since=0, seconds=60):
        self.gateway.wait_for_log(f"a certificate was obtained name={name}", seconds, since)

    def place(self, host=SHOP):
        return Place("https", host, self.port, self.pebble.root())

    def certificate(self, host=SHOP):
        """What is shown for a name, verified or not."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port), 10) as tcp:
            with context.wrap_socket(tcp, server_hostname=host) as tls:
                return tls.getpeercert(binary_form=True)

    def stop(self):
        if self.gateway:
            self.gateway.stop()
        self.pebble.stop_all()


@contextmanager
def _site(deployment, label, challenge="tls-alpn-01"):
    site = Site(deployment, label, challenge)
    try:
        yield site
    except Exception:
        if site.gateway:
            print(f"--- log of {site.gateway.name}\n{site.gateway.logged()[-6000:]}", flush=True)
        raise
    finally:
        site.stop()


def _always(kind, config):
    return {"on_http_request": [{"actions": [{"type": kind, "config": config}]}]}


@scenario("files")
def acme_certificates_by_tls_alpn_serve_visitors_and_agents(deployment):
    """Nobody waits for the authority; state is the owner's alone; and the proof is shown to authorities only."""
    with _site(deployment, "tls") as site:
        site.start()
        place = Place("https", SHOP, site.port)
        expect_equal(curl_status(place, "/", "--insecure"), 35, "curl's status while there is no certificate")
        site.gateway.wait_for_log("no connection")
        site.pebble.start(nonce_reject=5)
        _tried_again(site)
        for name in (SHOP, CONNECT):
            site.obtained(name)
        expect_equal(fetch(site.place(), "/").body, PAGE, "page over a certificate that curl trusts")
        expect_equal(site.pebble.orders(), 2, "orders for two names")
        _agent_connects(deployment, site)
        expect(_offer(site, "acme-tls/1") is None, "somebody got a proof that nobody asked for")
        expect(_offer(site, "http/1.1") == "http/1.1", "an ordinary visitor is not served")
        _state_is_private(site)
        leak = any("PRIVATE" in log or "key_pkcs8" in log for log in [site.gateway.logged()])
        expect(not leak, "a key is in the log")


def _tried_again(site):
    """Lets the tries begin again: a reload is an occasion, ten seconds after the last try."""
    time.sleep(10)
    site.reload()


def _agent_connects(deployment, site):
    agent = {"connect_url": f"{CONNECT}:{site.port}", "connect_cas": str(site.pebble.root())}
    agent |= {"authtoken": site.authtoken, "dns_resolver_ips": [site.pebble.name_server]}
    document = {"version": 3, "agent": agent, "endpoints": []}
    endpoint = {"name": "x", "url": "https://x.internal", "upstream": {"url": "9"}}
    document["endpoints"].append(endpoint)
    file = deployment.scratch.write("acme/agent.json", json.dumps(document), 0o600)
    program = Program("acme-agent", [deployment.binaries["adit"], "run", "--config", file], deployment.scratch)
    try:
        program.wait_for_log("https://x.internal")
    finally:
        program.stop()


def _offer(site, protocol):
    """What is agreed on with a client that offers one protocol; None when the handshake is refused."""
    context = ssl.create_default_context(cafile=site.pebble.root())
    context.set_alpn_protocols([protocol])
    try:
        with socket.create_connection(("127.0.0.1", site.port), 10) as tcp:
            with context.wrap_socket(tcp, server_hostname=SHOP) as tls:
                return tls.selected_alpn_protocol()
    except (ssl.SSLError, ConnectionResetError):
        return None


def _state_is_private(site):
    found = []
    for folder, folders, files in os.walk(site.state):
        found += [os.path.join(folder, name) for name in files]
        expect_equal(os.stat(folder).st_mode & 0o777, 0o700, f"mode of {folder}")
    names = sorted(os.path.basename(file) for file in found)
    expect_equal(names, ["account.json", f"{CONNECT}.pem", f"{SHOP}.pem"], "files that are kept")
    for file in found:
        expect_equal(os.stat(file).st_mode & 0o777, 0o600, f"mode of {file}")


@scenario("files")
def acme_certificates_by_http_are_proved_before_any_policy(deployment):
    with _site(deployment, "http", "http-01") as site:
        site.pebble.start()
        site.start(names=[SHOP])
        site.obtained(SHOP)
        expect_equal(fetch(site.place(), "/").body, PAGE, "page over a certificate that curl trusts")
        plain = Place("http", SHOP, site.http_port)
        for path in ("/", "/.well-known/acme-challenge/nobody-asked-for-this"):
            expect_equal(fetch(plain, path).status, 404, f"the policy's answer for {path}")
        expect_equal(site.pebble.orders(), 1, "orders for one name")


@scenario("files")
def acme_restart_uses_what_is_kept_and_mends_what_is_broken(deployment):
    with _site(deployment, "kept") as site:
        site.pebble.start()
        site.start(names=[SHOP])
        site.obtained(SHOP)
        before = site.certificate()
        mark = site.restart()
        site.gateway.wait_for_log(f"a kept certificate is used name={SHOP}", since=mark)
        expect_equal(fetch(site.place(), "/").body, PAGE, "page after the restart")
        expect(site.certificate() == before, "another certificate is shown after the restart")
        expect_equal(site.pebble.orders(), 1, "orders after a restart")
        (file,) = site.state.glob(f"*/{SHOP}.pem")
        file.write_bytes(file.read_bytes()[:400])
        mark = site.restart()
        site.obtained(SHOP, mark)
        expect("the kept certificate is not usable" in site.gateway.logged(mark), "no line tells of the broken file")
        expect_equal(fetch(site.place(), "/").body, PAGE, "page after the file was broken")
        expect_equal(site.pebble.orders(), 2, "orders after the file was broken")


@scenario("files")
def acme_renews_in_time_and_cuts_no_connection(deployment):
    with _site(deployment, "renewed") as site:
        site.pebble.start(seconds=30)
        site.start(names=[SHOP])
        site.obtained(SHOP)
        first, mark = site.certificate(), site.gateway.log_size()
        with site.place().tls() as connection:
            expect(_asks(connection), "the open connection is not served")
            site.obtained(SHOP, mark, 40)
            wait_until(lambda: site.certificate() != first, "the new certificate to be shown", 5)
            expect(_asks(connection), "the open connection was cut by the renewal")
        expect_equal(fetch(site.place(), "/").body, PAGE, "page after the renewal")
        expect_equal(site.pebble.orders(), 2, "orders after one renewal")


def _asks(connection):
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {SHOP}\r\n\r\n".encode())
    answer = b""
    while PAGE not in answer:
        block = connection.recv(4096)
        if not block:
            return False
        answer += block
    return answer.startswith(b"HTTP/1.1 200")


@scenario("files")
def acme_authority_that_is_down_leaves_the_old_certificate(deployment):
    """It is said when it is tried again, that the end is near, and that it has come; then a new authority is used."""
    with _site(deployment, "down") as site:
        site.pebble.start(seconds=30)
        site.start(names=[SHOP])
        site.obtained(SHOP)
        place, before = site.place(), site.certificate()
        site.pebble.stop()
        site.gateway.wait_for_log("no new certificate, the present one stays", 40)
        expect_equal(fetch(place, "/").body, PAGE, "page while the authority is down")
        line = next(line for line in site.gateway.logged().splitlines() if "no new certificate" in line)
        for word in ("WARN", f"name={SHOP}", "next_try=", "lasts=", "no connection"):
            expect(word in line, f"{word!r} is not in the line {line!r}")
        site.gateway.wait_for_log("the certificate ends soon and was not renewed yet", 30)
        site.gateway.wait_for_log("the certificate has ended and was not renewed", 30)
        expect(site.certificate() == before, "the certificate is not shown any more after its end")
        mark = site.gateway.log_size()
        # It knows neither the account nor its own keys of before.
        site.pebble.start()
        _tried_again(site)
        site.gateway.wait_for_log("accountDoesNotExist", 60, mark)
        _tried_again(site)
        site.obtained(SHOP, mark)
        expect_equal(fetch(site.place(), "/").body, PAGE, "page with the new authority")


@scenario("files")
def acme_challenge_that_fails_is_a_line_and_no_loop(deployment):
    with _site(deployment, "wrong") as site:
        # Nobody listens where the authority looks.
        site.pebble.settings["tlsPort"] = site.scratch.port()
        site.pebble.start()
        site.start(names=[SHOP])
        site.gateway.wait_for_log("the authority refuses the name", 60)
        time.sleep(5)
        lines = [line for line in site.gateway.logged().splitlines() if "the authority refuses the name" in line]
        expect_equal(len(lines), 1, "lines that tell of the failure")
        for word in ("ERROR", f"name={SHOP}", "next_try=", "urn:ietf:params:acme:error:"):
            expect(word in lines[0], f"{word!r} is not in the line {lines[0]!r}")
        expect_equal(site.pebble.orders(), 1, "orders for a name that fails")
        expect(site.gateway.is_running(), "the gateway ended")


@scenario("files")
def acme_authority_that_refuses_is_left_in_peace(deployment):
    """What `Retry-After` asks for is kept, a reload notwithstanding; what is no ACME at all is explained."""
    with _site(deployment, "grumpy") as site:
        grumpy = Grumpy("acme", deployment.scratch)
        try:
            grumpy.answer(503, b"<html>\r\nback soon</html>")
            to_grumpy = {"directory_url": grumpy.directory_url, "directory_ca_file": str(grumpy.directory_ca)}
            site.start(names=[SHOP], **to_grumpy)
            site.gateway.wait_for_log("its answer cannot be read")
            grumpy.refuse(429, "rateLimited", Retry_After="7200")
            _tried_again(site)
            site.gateway.wait_for_log("urn:ietf:params:acme:error:rateLimited")
            line = next(line for line in site.gateway.logged().splitlines() if "rateLimited" in line)
            expect('next_try="2h0m"' in line and f"name={SHOP}" in line, f"the line does not say when: {line!r}")
            _tried_again(site)
            time.sleep(2)
            expect_equal(grumpy.orders, 2, "orders after the authority said when to come back")
        finally:
            grumpy.stop()
