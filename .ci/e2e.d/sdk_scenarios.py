"""The official SDKs, unmodified: what their users do, against this gateway."""

import gzip
import json
import time
import urllib.parse
from contextlib import contextmanager

import stream
from clients import (
    HTTP1,
    HTTP2,
    Place,
    download_digest,
    ends_with_error,
    fetch,
    first_bytes,
    read_exactly,
    read_to_end,
    request_stream,
    upload,
)
from failure import expect, expect_equal
from nginx import FILE_BYTES
from program import wait_until
from scenario import scenario
from sdk_session import COMMANDS, SdkSession

EVERYWHERE = ("dev", "files")
LENGTH = 64 << 20


@contextmanager
def sessions(deployment):
    """Connected sessions, one of each language."""
    opened = []
    try:
        for language in COMMANDS:
            session = SdkSession(language, deployment.scratch)
            opened.append(session)
            session.connect(deployment.connect_url, deployment.ca_file, deployment.authtoken)
        yield opened
    finally:
        for session in opened:
            session.__exit__()


def web_url(deployment):
    return f"http://127.0.0.1:{deployment.upstreams.web.port}"


def raw_url(deployment):
    return f"tcp://127.0.0.1:{deployment.upstreams.raw.port}"


@scenario(*EVERYWHERE)
def sdk_https_endpoint_carries_traffic_both_ways(deployment):
    with sessions(deployment) as opened:
        for session in opened:
            spot = deployment.sdk_place("https", f"{session.language}-web")
            bound = session.listen("web", "https", spot.bound, web_url(deployment))
            expect_equal(bound["url"], f"https://{spot.bound}", f"{session.language}: URL")
            for version in (HTTP1, HTTP2):
                expect_equal(fetch(spot.place, "/hello", version=version).body, b"hello from the upstream\n", "body")
                digest = download_digest(spot.place, f"/stream?bytes={LENGTH}", version)
                expect_equal(digest, stream.digest(LENGTH), f"{session.language}: SHA-256 of a download")
            upload_is_whole(spot.place)


def upload_is_whole(place):
    answer = json.loads(upload(place, "/", HTTP1, stream.blocks(LENGTH)))
    expect_equal(answer["sha256"], stream.digest(LENGTH), "SHA-256 of an upload")


@scenario(*EVERYWHERE)
def sdk_modules_do_what_their_names_say(deployment):
    secret = "hush-hush"
    modules = {"compression": True, "circuit_breaker": 0.5, "webhook_verification": ["gitlab", secret]}
    with sessions(deployment) as opened:
        for session in opened:
            spot = deployment.sdk_place("https", f"{session.language}-web")
            session.listen("modules", "https", spot.bound, web_url(deployment), **modules)
            refused = fetch(spot.place, "/hello")
            code = (refused.status, refused.headers["ngrok-error-code"])
            expect_equal(code, (403, "ERR_NGROK_3204"), f"{session.language}: without the token")
            for version in (HTTP1, HTTP2):
                token = ("-H", f"X-Gitlab-Token: {secret}")
                plain = fetch(spot.place, "/hello", *token, version=version)
                expect_equal(plain.body, b"hello from the upstream\n", f"{session.language}: body")
                packed = fetch(spot.place, "/hello", *token, "-H", "Accept-Encoding: gzip", version=version)
                expect_equal(packed.headers["content-encoding"], "gzip", f"{session.language}: coding")
                expect_equal(gzip.decompress(packed.body), plain.body, f"{session.language}: unpacked body")
            text = session.refusal(session.listen, "nobody", "https", f"x{spot.bound}", web_url(deployment), **_UNKNOWN)
            expect("WebhookVerification" in text and secret not in text, f"the refusal says {text}")


@scenario("files")
def sdk_modules_send_people_to_their_provider(deployment):
    client = {"client_id": "site", "client_secret": "hush-hush"}
    oauth = {"provider": "google", "allow_emails": ["ann@example.com"], "allow_domains": ["example.org"]}
    oidc = {"issuer_url": "https://idp.invalid"}
    with sessions(deployment) as opened:
        for session in opened:
            spot = deployment.sdk_place("https", f"{session.language}-web")
            session.listen("people", "https", spot.bound, web_url(deployment), oauth=oauth | client)
            answer = fetch(spot.place, "/hello")
            expect_equal(answer.status, 302, f"{session.language}: status without a log-in")
            at, _, query = answer.headers["location"].partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            expect_equal(at, "https://accounts.google.com/o/oauth2/v2/auth", f"{session.language}: the provider")
            expect_equal(asked["client_id"], "site", f"{session.language}: the client")
            expect_equal(asked["redirect_uri"], f"{spot.place.url}/ngrok/oauth2/callback", f"{session.language}: the way back")
            forged = fetch(spot.place, "/hello", "-H", "Cookie: __Host-adit-session=x")
            expect_equal(forged.status, 302, f"{session.language}: status with a cookie that nobody sealed")
            session.unbind("people")

            session.listen("people", "https", spot.bound, web_url(deployment), oidc=oidc | client)
            refused = fetch(spot.place, "/hello")
            code = (refused.status, refused.headers["ngrok-error-code"])
            expect_equal(code, (502, "ERR_NGROK_5201"), f"{session.language}: while the provider cannot be found")
            session.unbind("people")

            text = session.refusal(session.listen, "nobody", "https", spot.bound, web_url(deployment), oauth=oauth)
            expect("OAuth has no client_id" in text, f"{session.language}: the refusal says {text}")
        expect("hush-hush" not in deployment.gateway_logged(0), "the client's secret is in the log")


_UNKNOWN = {"webhook_verification": ["nobody", "hush-hush"]}


@scenario(*EVERYWHERE)
def sdk_tcp_endpoint_carries_traffic_both_ways(deployment):
    with sessions(deployment) as opened:
        for session in opened:
            spot = deployment.sdk_place("tcp", f"{session.language}-raw")
            bound = session.listen("raw", "tcp", spot.bound, raw_url(deployment))
            place = spot.resolve(bound["url"])
            with place.socket() as connection:
                request_stream(connection, LENGTH)
                expect_equal(read_to_end(connection), (LENGTH, stream.digest(LENGTH)), f"{session.language}: download")
            with place.socket() as connection:
                connection.sendall(b"E" + bytes(1 << 20))
                expect(read_exactly(connection, 1 << 20) == bytes(1 << 20), f"{session.language}: echo changed")


@scenario(*EVERYWHERE)
def sdk_tls_endpoint_passes_the_upstreams_certificate(deployment):
    authority, port = deployment.upstreams.authority.certificate, deployment.upstreams.nginx.tls_port
    with sessions(deployment) as opened:
        for session in opened:
            spot = deployment.sdk_place("tls", f"{session.language}-sealed")
            session.listen("sealed", "tls", spot.bound, f"tcp://127.0.0.1:{port}")
            sealed = Place("https", spot.place.host, spot.place.port, authority)
            for version in (HTTP1, HTTP2):
                digest = download_digest(sealed, "/file", version)
                expect_equal(digest, stream.digest(FILE_BYTES), f"{session.language}: SHA-256 with {version}")


@scenario(*EVERYWHERE)
def sdk_upstream_that_is_down(deployment):
    with sessions(deployment) as opened:
        for session in opened:
            closed = deployment.upstreams.closed_port
            spot = deployment.sdk_place("https", f"{session.language}-web")
            session.listen("web", "https", spot.bound, f"http://127.0.0.1:{closed}")
            expect_equal(fetch(spot.place, "/hello").status, 502, f"{session.language}: status")

            spot = deployment.sdk_place("tcp", f"{session.language}-raw")
            bound = session.listen("raw", "tcp", spot.bound, f"tcp://127.0.0.1:{closed}")
            data = first_bytes(spot.resolve(bound["url"]))
            expect_equal(data, b"", f"{session.language}: data from an upstream that is down")


@scenario(*EVERYWHERE)
def sdk_unbind_takes_one_endpoint_of_two(deployment):
    with sessions(deployment) as opened:
        for session in opened:
            web = deployment.sdk_place("https", f"{session.language}-web")
            raw = deployment.sdk_place("tcp", f"{session.language}-raw")
            session.listen("web", "https", web.bound, web_url(deployment))
            bound = session.listen("raw", "tcp", raw.bound, raw_url(deployment))
            with raw.resolve(bound["url"]).socket() as connection:
                connection.sendall(b"E1234")
                expect_equal(read_exactly(connection, 4), b"1234", "echo")
                session.unbind("web")
                gone = fetch(web.place, "/hello")
                expect_equal(gone.headers.get("ngrok-error-code"), "ERR_NGROK_3200", "answer after Unbind")
                # The other endpoint, and its open connection, know nothing of it.
                connection.sendall(b"5678")
                expect_equal(read_exactly(connection, 4), b"5678", "echo after Unbind")
            session.listen("web", "https", web.bound, web_url(deployment))
            expect_equal(fetch(web.place, "/hello").status, 200, "status after binding anew")


@scenario(*EVERYWHERE)
def sdk_with_a_bad_token_is_refused(deployment):
    for language in COMMANDS:
        with SdkSession(language, deployment.scratch) as session:
            wrong = deployment.wrong_token()
            refusal = session.refusal(session.connect, deployment.connect_url, deployment.ca_file, wrong)
            expect("ERR_NGROK_107" in refusal, f"{language}: {refusal}")
            expect(wrong not in refusal, f"{language}: the refusal repeats the token")


@scenario(*EVERYWHERE)
def sdk_with_the_wrong_authority_does_not_connect(deployment):
    foreign = deployment.upstreams.authority.certificate
    for language in COMMANDS:
        with SdkSession(language, deployment.scratch) as session:
            session.refusal(session.connect, deployment.connect_url, foreign, deployment.authtoken)


@scenario("files")
def sdk_survives_a_gateway_restart_behind_a_held_socket(deployment):
    """The sockets stay open between the two processes, so that no attempt of the SDKs is refused meanwhile."""
    with sessions(deployment) as opened:
        before, spots = {}, {}
        for session in opened:
            web = deployment.sdk_place("https", f"{session.language}-web")
            raw = deployment.sdk_place("tcp", f"{session.language}-raw")
            bound = session.listen("web", "https", web.bound, web_url(deployment))
            session.listen("raw", "tcp", raw.bound, raw_url(deployment))
            before[session.language], spots[session.language] = bound["id"], (web, raw)
            expect_equal(fetch(web.place, "/hello").status, 200, f"{session.language}: status before the restart")
        deployment.stop_gateway()
        # Long enough for an SDK to have tried, and to wait in the queue of a socket that nobody accepts from.
        time.sleep(2)
        mark = deployment.gateway_log_size()
        deployment.start_gateway()
        for session in opened:
            web, raw = spots[session.language]
            wait_until(lambda: fetch(web.place, "/hello").status == 200, f"{session.language} to be back", 20)
            with raw.place.socket() as connection:
                connection.sendall(b"Eback")
                expect_equal(read_exactly(connection, 4), b"back", f"{session.language}: echo after the restart")
            logged = deployment.gateway_logged(mark)
            expect(before[session.language] in logged, f"{session.language}: the endpoint came back under another id")


@scenario("files")
def sdk_that_is_killed_resets_its_connections(deployment):
    for language in COMMANDS:
        with SdkSession(language, deployment.scratch) as session:
            session.connect(deployment.connect_url, deployment.ca_file, deployment.authtoken)
            raw = deployment.sdk_place("tcp", f"{language}-raw")
            session.listen("raw", "tcp", raw.bound, raw_url(deployment))
            with raw.place.socket() as connection:
                connection.sendall(b"H")
                read_exactly(connection, 1 << 20)
                session.kill()
                expect(ends_with_error(connection), f"{language}: a clean end although the agent was killed")
