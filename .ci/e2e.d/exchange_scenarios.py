"""Actions of Traffic Policy that take part in the exchange: what becomes of bodies, and what a service's failures do."""

import gzip
import hashlib
import hmac
import http.client
import json
import time
import zlib

from clients import HTTP1, HTTP2, fetch
from failure import expect, expect_equal
from policed import TARGET, policy, rule
from program import wait_until
from scenario import scenario


@scenario("files")
def policy_keeps_requests_from_a_service_that_fails(deployment):
    config = {"error_threshold": 1, "volume_threshold": 3, "tripped_duration": "2s"}
    for version in (HTTP1, HTTP2):
        # Another one for each: what is counted ends with the policy.
        with policy(deployment, [rule("circuit-breaker", config)]) as (place, counted):
            statuses = [fetch(place, "/status/500", version=version).status for _ in range(3)]
            expect_equal(statuses, [500] * 3, "statuses of the service")
            before = counted.requests
            tripped = fetch(place, "/", version=version)
            expect_equal((tripped.status, tripped.headers["ngrok-error-code"]), (503, "ERR_NGROK_3202"), "tripped")
            expect(1 <= int(tripped.headers["retry-after"]) <= 2, "Retry-After is not within the time")
            expect_equal(counted.requests, before, "requests that reached the upstream")
            wait_until(lambda at=place, how=version: fetch(at, "/", version=how).status == 200, "recovery", 20)
            expect_equal(fetch(place, "/", version=version).status, 200, "status after recovery")


@scenario("files")
def policy_compresses_what_the_visitor_can_read(deployment):
    with policy(deployment, [], [rule("compress-response")]) as (place, _):
        for version in (HTTP1, HTTP2):
            text = fetch(place, "/text", version=version)
            expect("content-encoding" not in text.headers, "a body was compressed that nobody asked for")
            expect_equal(text.headers["vary"], "Accept-Encoding", "Vary")
            for coding in ("gzip", "deflate", "br"):
                # With --compressed curl unpacks what it gets.
                packed = fetch(place, "/text", "--compressed", "-H", f"Accept-Encoding: {coding}", version=version)
                expect_equal(packed.headers["content-encoding"], coding, "Content-Encoding")
                expect_equal(packed.headers["etag"], 'W/"text"', "ETag")
                expect("content-length" not in packed.headers, "the length of the body before compression is told")
                expect_equal(packed.body, text.body, f"unpacked {coding}")
            head = fetch(place, "/text", "-I", "-H", "Accept-Encoding: gzip", version=version)
            expect_equal(head.headers["content-encoding"], "gzip", "Content-Encoding of HEAD")
        raw = fetch(place, "/text", "-H", "Accept-Encoding: gzip")
        expect(len(raw.body) < len(text.body) // 10, f"{len(raw.body)} bytes of {len(text.body)}")
        expect_equal(gzip.decompress(raw.body), text.body, "body unpacked by gzip")


@scenario("files")
def policy_compresses_events_without_holding_them_back(deployment):
    with policy(deployment, [], [rule("compress-response")]) as (place, counted), place.tls() as connection:
        request = f"GET /events HTTP/1.1\r\nHost: {place.host}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        expect_equal(response.getheader("content-encoding"), "gzip", "Content-Encoding of events")
        unpacker, seen = zlib.decompressobj(wbits=31), b""
        for number in range(5):
            # The next event is made only after this one has arrived.
            counted.events.put(f"data: {number}\n\n".encode())
            while not seen.endswith(f"data: {number}\n\n".encode()):
                piece = response.read1(4096)
                expect(piece, f"the events ended after {seen}")
                seen += unpacker.decompress(piece)
        counted.events.put(None)
        unpacker.decompress(response.read())
        expect(unpacker.eof, "the compressed body has no end")


@scenario("files")
def policy_asks_another_service_first(deployment):
    ask = {"url": TARGET + "/${req.url.query}", "headers": {"x-asked-for": "${req.method}"}, "max_redirects": 0}
    refuse = rule("deny", {"status_code": 418}, "actions.ngrok.http_request.res.status_code != 200")
    tell = rule("add-headers", {"headers": {"x-told": "${actions.ngrok.http_request.res.body}"}})
    with policy(deployment, [rule("http-request", ask), refuse, tell]) as (place, counted):
        for version in (HTTP1, HTTP2):
            before = counted.requests
            allowed = fetch(place, "/a?check", version=version)
            expect_equal((allowed.status, counted.requests), (200, before + 2), "status and requests")
            told = json.loads(json.loads(allowed.body)["headers"]["x-told"])
            expect_equal((told["path"], told["headers"]["x-asked-for"]), ("/check", "GET"), "what was asked")
            expect_equal(fetch(place, "/a?status/403", version=version).status, 418, "status of what is refused")
            expect_equal(counted.requests, before + 3, "requests that reached the upstream")
    gone = {"url": "https://gone.internal/", "on_error": "halt"}
    with policy(deployment, [rule("http-request", gone, "req.url.path == '/gone'")]) as (place, _):
        halted = fetch(place, "/gone")
        expect_equal((halted.status, halted.headers["ngrok-error-code"]), (502, "ERR_NGROK_3200"), "halted")


@scenario("files")
def policy_lets_through_only_signed_webhooks(deployment):
    secret, other = "hush-hush", "whisper"
    rules = [
        rule("verify-webhook", {"provider": "github", "secret": secret}, "req.url.path == '/github'"),
        rule("verify-webhook", {"provider": "stripe", "secret": secret}, "req.url.path == '/stripe'"),
    ]
    body = deployment.scratch.write("hook.json", json.dumps({"text": "ä" * 100_000}))
    data = body.read_bytes()
    with policy(deployment, rules) as (place, counted):
        for version in (HTTP1, HTTP2):
            before, now = counted.requests, int(time.time())
            for path, good, key, shift in (
                ("/github", True, secret, 0),
                ("/github", False, other, 0),
                ("/stripe", True, secret, 0),
                ("/stripe", False, other, 0),
                ("/stripe", False, secret, -400),
            ):
                if shift and version == HTTP2:
                    # Refused before the body is read, which this curl takes for a broken stream.
                    continue
                time_of_signing = now + shift
                signed = data if path == "/github" else f"{time_of_signing}.".encode() + data
                signature = hmac.new(key.encode(), signed, "sha256").hexdigest()
                header = {
                    "/github": f"X-Hub-Signature-256: sha256={signature}",
                    "/stripe": f"Stripe-Signature: t={time_of_signing},v1={signature}",
                }[path]
                answer = fetch(place, path, "-H", header, "--data-binary", f"@{body}", version=version)
                expect_equal(answer.status, 200 if good else 403, f"{path} signed with {key} {shift}")
                if good:
                    expect_equal(json.loads(answer.body)["sha256"], hashlib.sha256(data).hexdigest(), "body upstream")
            expect_equal(counted.requests, before + 2, "requests that reached the upstream")
        log = deployment.gateway_logged(0)
        expect("code=3204" in log, "no line tells of the refusal")
        expect(secret not in log and other not in log, "a secret is in the log")
