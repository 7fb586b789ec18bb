"""TLS that the gateway passes unopened: it ends in the agent or at the upstream, for every kind of client."""

import signal
import struct
import subprocess

import psycopg
from authority import RSA_2048
from clients import HTTP1, HTTP2, curl_status, fetch, read_exactly
from cryptography.x509.oid import ExtendedKeyUsageOID
from failure import expect, expect_equal
from post_quantum import GROUP, KEY_SHARE_BYTES, Client
from private import VERSIONS
from program import wait_until
from scenario import scenario

TLS_VERSIONS = ("-tls1_2", "-tls1_3")
# Who ends the TLS of an endpoint, told by the page behind it.
PAGES = {
    "ended": b"hello from the upstream\n",
    "again": b"hello from nginx over https\n",
    "sealed": b"hello from nginx over https\n",
}
# Alerts (RFC 8446, 6.2).
HANDSHAKE_FAILURE, UNSUPPORTED_CERTIFICATE, CERTIFICATE_EXPIRED, UNKNOWN_CA = 40, 43, 45, 48
MISSING_EXTENSION, UNRECOGNIZED_NAME, CERTIFICATE_REQUIRED = 109, 112, 116
TURNED_AWAY = "a visitor is turned away"
# libpq's own number of the first version that begins with TLS at once.
DIRECT_SINCE = 170_000


def s_client(deployment, place, *options, port=None, name=True):
    """One request with `openssl s_client`, which verifies the certificate: (answer, what it said)."""
    naming = ["-servername", place.host] if name else ["-noservername"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port or place.port}", *naming, "-quiet", *options]
    command += ["-bind", f"{deployment.source()}:0"]
    command += ["-verify_return_error", "-verify_hostname", place.host, "-CAfile", str(place.ca_file)]
    request = f"GET /hello HTTP/1.0\r\nHost: {place.host}\r\n\r\n".encode()
    done = subprocess.run(command, input=request, capture_output=True, timeout=30)
    return done.stdout, done.stderr.decode(errors="replace")


@scenario("private")
def openssl_gets_through_with_both_versions(deployment):
    for name, page in PAGES.items():
        for version in TLS_VERSIONS:
            answer, said = s_client(deployment, deployment.place(name), version)
            expect(answer.endswith(page), f"{name} {version}: {answer!r} {said}")


@scenario("private")
def post_quantum_hello_is_routed_whole_and_byte_by_byte(deployment):
    for name, page in PAGES.items():
        for piece in (1 << 16, 1):
            place = deployment.place(name)
            with place.socket(source=deployment.source()) as connection:
                client = Client(place, connection)
                hello = client.hello()
                expect(GROUP in hello, "the client offers no post-quantum group")
                expect(len(hello) > max(KEY_SHARE_BYTES, 2048), f"the first message has only {len(hello)} bytes")
                for begin in range(0, len(hello), piece):
                    connection.sendall(hello[begin : begin + piece])
                answer = client.ask(f"GET /hello HTTP/1.0\r\nHost: {place.host}\r\n\r\n".encode())
            expect(answer.endswith(page), f"{name} in pieces of {piece}: {answer!r}")


@scenario("private")
def visitor_without_a_name_or_with_an_unknown_one_gets_an_alert(deployment):
    """On a port for pass-through alone."""
    place, gateway = deployment.place("ended"), deployment.programs["gateway"]
    nobody = deployment.place_of_nobody()
    for version in TLS_VERSIONS:
        mark = gateway.log_size()
        answer, said = s_client(deployment, place, version, port=deployment.tls_port, name=False)
        expect_equal((answer, alert_in(said)), (b"", MISSING_EXTENSION), f"without a name, {version}")
        gateway.wait_for_log("TLS connection refused: the client named no server (SNI)", since=mark)
        answer, said = s_client(deployment, nobody, version, port=deployment.tls_port)
        expect_equal((answer, alert_in(said)), (b"", UNRECOGNIZED_NAME), f"with an unknown name, {version}")
        gateway.wait_for_log("TLS connection refused: no endpoint has this name", since=mark)


@scenario("private")
def visitor_without_the_right_name_meets_the_gateway_itself_on_the_shared_port(deployment):
    """Who names nobody is taken for an agent there, who names an unknown host for a visitor of web pages: both see the
    gateway's certificate, and what they send reaches no upstream."""
    place, nobody = deployment.place("ended"), deployment.place_of_nobody()
    answer, said = s_client(deployment, place, name=False)
    expect(answer == b"" and "verify error" in said, f"without a name: {answer!r} {said}")
    trusting = type(place)("tls", "localhost", place.port, deployment.ca_file)
    answer, said = s_client(deployment, trusting, name=False)
    # The gateway's goodbye to an agent that makes no sense.
    is_goodbye = b"frame has" in answer and b"hello" not in answer
    expect(is_goodbye, f"without a name, trusting the gateway: {answer!r} {said}")
    answer, said = s_client(deployment, type(place)("tls", nobody.host, place.port, place.ca_file))
    expect(answer == b"" and "verify error" in said, f"with an unknown name: {answer!r} {said}")
    answer, said = s_client(deployment, nobody)
    expect(b"ERR_NGROK_3200" in answer, f"with an unknown name, trusting the gateway: {answer!r} {said}")


@scenario("private")
def curl_shows_its_certificate_to_the_agent(deployment):
    place = deployment.web_place("mutual")
    certificate, key = deployment.visitors.issue("curl")
    options = ("--interface", deployment.source(), "--cert", str(certificate), "--key", str(key))
    expect_equal(fetch(place, "/hello", *options).body, PAGES["ended"], "body with a certificate")
    # 56: an alert when the request is on its way already; 35: one before that, or 98: that a certificate is needed.
    for version, statuses in ((("--tlsv1.3",), (56,)), (("--tls-max", "1.2"), (35, 98))):
        status = curl_status(place, "/hello", "--interface", deployment.source(), *version)
        expect(status in statuses, f"curl's status without a certificate, {version}: {status}")


@scenario("private")
def wrong_certificates_are_refused_also_after_reload_reconnect_and_restart(deployment):
    agent, gateway = deployment.programs["agent"], deployment.programs["gateway"]
    assert_lets_in_only_whom_it_should(deployment, "at first")

    deployment.reload_agent()
    # The same lines within a minute are counted instead of written.
    assert_lets_in_only_whom_it_should(deployment, "after a reload", writes=False)

    mark = agent.log_size()
    agent.signal(signal.SIGUSR1)
    agent.wait_for_log("endpoint=mutual online", since=mark)
    assert_lets_in_only_whom_it_should(deployment, "after a reconnect")

    mark = agent.log_size()
    gateway.signal(signal.SIGKILL)
    gateway.wait(10)
    deployment.start_gateway()
    agent.wait_for_log("endpoint=mutual online", since=mark, seconds=40)
    deployment.wait_until_reachable()
    assert_lets_in_only_whom_it_should(deployment, "after a restart of the gateway")


def assert_lets_in_only_whom_it_should(deployment, when, writes=True):
    """Tries everybody who must not get in, and somebody who must. Each refusal is a line of its own in the agent's log."""
    visitors, place, agent = deployment.visitors, deployment.place("mutual"), deployment.programs["agent"]
    refused = {
        "no certificate": (None, (HANDSHAKE_FAILURE, CERTIFICATE_REQUIRED)),
        "of a stranger": (deployment.strangers.issue("stranger"), (UNKNOWN_CA,)),
        "expired": (visitors.issue("expired", first_day=-10), (CERTIFICATE_EXPIRED,)),
        "not for visitors": (
            visitors.issue("server", usage=ExtendedKeyUsageOID.SERVER_AUTH),
            (UNSUPPORTED_CERTIFICATE,),
        ),
    }
    mark = agent.log_size()
    for version in reversed(TLS_VERSIONS):
        for who, (papers, alerts) in refused.items():
            answer, said = s_client(deployment, place, version, *shown(papers))
            expect_equal(answer, b"", f"answer, {when}, {who}, {version}")
            expect(alert_in(said) in alerts, f"alert, {when}, {who}, {version}: {said}")
        answer, said = s_client(deployment, place, version, *shown(visitors.issue("good")))
        expect(answer.endswith(PAGES["ended"]), f"{when}, with the right certificate, {version}: {answer!r} {said}")
    if writes:
        # One line for each reason; the same reason with another version of TLS is counted.
        wait_until(lambda: len(refusals(agent, mark)) >= len(refused), f"a line for each refusal, {when}", 10, agent)
        expect_equal(len(refusals(agent, mark)), len(refused), f"lines of refusals, {when}")


def shown(papers):
    return ("-cert", str(papers[0]), "-key", str(papers[1])) if papers else ()


def refusals(agent, since):
    return [line for line in agent.logged(since).splitlines() if "endpoint=mutual" in line and TURNED_AWAY in line]


def alert_in(said):
    """The number of the alert that openssl got."""
    _, found, rest = said.partition("SSL alert number ")
    return int(rest.split()[0]) if found else said


@scenario("private")
def psql_verifies_the_database_through_its_own_negotiation(deployment):
    """PostgreSQL begins in clear and asks for TLS: only a `tcp` endpoint carries that."""
    database, place = deployment.upstreams.postgres, deployment.place("postgres")
    query = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    done = database.verified(place, query)
    expect_equal((done.returncode, done.stdout.strip()), (0, "t|TLSv1.3"), f"what the server says ({done.stderr})")
    stranger = type(place)(place.scheme, place.host, place.port, deployment.ca_file)
    done = database.verified(stranger, query)
    expect("certificate verify failed" in done.stderr, f"psql trusts another authority: {done.stdout} {done.stderr}")


@scenario("private")
def libpq_begins_with_tls_that_the_agent_ends(deployment):
    """Direct negotiation (libpq 17): TLS at once, with the protocol `postgresql`, for a server that knows neither."""
    expect(psycopg.pq.version() >= DIRECT_SINCE, f"libpq is too old: {psycopg.pq.version()}")
    with psycopg.connect(direct(deployment.place("database")), autocommit=True) as connection:
        expect(connection.pgconn.ssl_in_use, "the client's connection has no TLS")
        row = connection.execute("SELECT ssl, 6 * 7 FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    expect_equal(row, (False, 42), "what the server says: it gets plain bytes")
    try:
        psycopg.connect(direct(deployment.place("unnamed"))).close()
    except psycopg.OperationalError as error:
        expect("ALPN" in str(error), f"error where the agent chooses no protocol: {error}")
    else:
        expect(False, "libpq took TLS without the protocol for it")


def direct(place):
    return (
        f"host={place.host} hostaddr=127.0.0.1 port={place.port} user=postgres dbname=postgres connect_timeout=20 "
        f"sslnegotiation=direct sslmode=verify-full sslrootcert={place.ca_file}"
    )


@scenario("private")
def proxy_header_comes_before_all_tls_to_the_upstream(deployment):
    """nginx reads it before anything else, and answers with the visitor's address in it."""
    for number in VERSIONS:
        for kind, scheme in (
            ("open", "http"),
            ("reopened", "https"),
            ("ended", "http"),
            ("again", "https"),
            ("sealed", "https"),
        ):
            place = deployment.web_place(f"{kind}-proxy{number}")
            # Where the agent ends TLS, nobody chooses HTTP/2.
            for version in (HTTP1,) if kind in ("ended", "again") else (HTTP1, HTTP2):
                options = ("--interface", deployment.source(), "-w", "\n%{local_ip}:%{local_port}")
                answer = fetch(place, "/visitor", *options, version=version)
                seen, _, visitor = answer.body.decode().partition("\n")
                expect_equal(seen, f"{visitor} over {scheme}", f"{kind}, PROXY {number}, {version}")


@scenario("private")
def proxy_header_comes_first_on_tcp_endpoints(deployment):
    for number in VERSIONS:
        place = deployment.place(f"raw-proxy{number}")
        with place.socket() as connection:
            port = connection.getsockname()[1]
            text = f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {place.port}\r\n".encode()
            address = bytes([127, 0, 0, 1])
            binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 12, address, address, port, place.port)
            expected = (text if number == 1 else binary) + b"hello"
            connection.sendall(b"hello")
            expect_equal(read_exactly(connection, len(expected)), expected, f"what the upstream got, PROXY {number}")


@scenario("private")
def commands_of_the_guide_show_the_agents_connection_and_certificate(deployment):
    """What docs/end-customer.md tells people to try."""

    def only_the_gateway():
        pid = deployment.programs["agent"].pid
        lines = _output("ss", "-Htnp", "state", "established").splitlines()
        peers = [line.split()[3] for line in lines if f'"adit",pid={pid},' in line]
        return peers == [f"127.0.0.1:{deployment.port}"]

    wait_until(only_the_gateway, "the agent to have one connection, to the gateway", 20)
    place = deployment.place("ended")
    fingerprint = ("openssl", "x509", "-noout", "-fingerprint", "-sha256")
    chain = _output("openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", "-servername", place.host)
    shown, own = _output(*fingerprint, stdin=chain), _output(*fingerprint, "-in", deployment.agent_certificate)
    expect(own and shown == own, f"visitors get another certificate than the agent's: {shown} {own}")


def _output(*command, stdin=""):
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, text=True, timeout=30)
    expect_equal(done.returncode, 0, f"status of {command[0]} ({done.stderr})")
    return done.stdout


@scenario("private")
def key_of_rsa_draws_a_warning(deployment):
    certificate, key = deployment.agent_authority.issue("rsa.example.test", algorithm=RSA_2048)
    file = deployment.agent_file_with_key(certificate, key)
    done = subprocess.run(
        [deployment.binaries["adit"], "check", "--config", file], capture_output=True, text=True, timeout=20
    )
    expect_equal(done.returncode, 0, "the status of adit check")
    expect("RSA key" in done.stderr and "P-256" in done.stderr, f"no warning: {done.stderr}")
