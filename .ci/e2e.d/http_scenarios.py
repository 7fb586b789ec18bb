"""HTTP through the tunnel: both versions, long bodies, upgrades, events, many at once, and failures."""

import json
import os
import socket
import ssl
import subprocess
import threading

from websockets.sync.client import connect

import stream
from clients import CUT_STATUSES, HTTP1, HTTP2, curl_command, curl_status, download_digest, fetch, upload
from failure import expect, expect_equal
from nginx import FILE_BYTES
from scenario import scenario

GIB = 1 << 30
EVERYWHERE = ("dev", "files")


@scenario(*EVERYWHERE)
def curl_speaks_http_1_1_and_http_2(deployment):
    place = deployment.place("web")
    for version, protocol in ((HTTP1, "HTTP/1.1"), (HTTP2, "HTTP/2")):
        response = fetch(place, "/hello", version=version)
        expect_equal(response.status, 200, "status")
        expect_equal(response.version, protocol, "protocol")
        expect_equal(response.body, b"hello from the upstream\n", "body")


@scenario(*EVERYWHERE)
def upstream_learns_who_asked(deployment):
    place = deployment.place("web")
    claimed = (
        "-H",
        "X-Forwarded-Proto: gopher",
        "-H",
        "X-Forwarded-For: 192.0.2.1",
        "-H",
        "Connection: X-Hop",
        "-H",
        "X-Hop: 1",
    )
    for version in (HTTP1, HTTP2):
        answer = json.loads(fetch(place, "/headers", *claimed, version=version).body)
        headers = {}
        for name, value in answer["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        expect_equal(answer["version"], "HTTP/1.1", "version at the upstream")
        # What a client claims stays in front of what the gateway knows.
        expect_equal(headers["x-forwarded-proto"], ["gopher, https"], "X-Forwarded-Proto")
        expect_equal(headers["x-forwarded-for"], ["192.0.2.1, 127.0.0.1"], "X-Forwarded-For")
        expect_equal(headers["x-forwarded-host"], headers["host"], "X-Forwarded-Host")
        # curl sends no Connection header over HTTP/2, and then X-Hop is a header like others.
        expect_equal("x-hop" in headers, version == HTTP2, f"X-Hop at the upstream with {version}")


@scenario(*EVERYWHERE)
def a_gibibyte_comes_down(deployment):
    place = deployment.place("web")
    for version in (HTTP1, HTTP2):
        digest = download_digest(place, f"/stream?bytes={GIB}", version)
        expect_equal(digest, stream.digest(GIB), f"SHA-256 of the download with {version}")


@scenario(*EVERYWHERE)
def a_gibibyte_goes_up(deployment):
    place = deployment.place("web")
    for version, length in ((HTTP1, None), (HTTP2, GIB)):
        answer = json.loads(upload(place, "/", version, stream.blocks(GIB), length))
        expect_equal(answer, {"sha256": stream.digest(GIB), "bytes": GIB}, f"what arrived with {version}")


@scenario(*EVERYWHERE)
def websocket_messages_are_echoed(deployment):
    place = deployment.place("echo")
    url = f"wss://{place.host}:{place.port}/"
    with (
        place.socket() as connection,
        connect(
            url, sock=connection, ssl=ssl.create_default_context(cafile=place.ca_file), max_size=1 << 26
        ) as websocket,
    ):
        for message in ("text", b"", os.urandom(100), os.urandom(3 << 20)):
            websocket.send(message)
            expect(websocket.recv(timeout=20) == message, f"a message of {len(message)} bytes came back changed")
        for number in range(200):
            websocket.send(str(number))
        expect_equal([websocket.recv(timeout=20) for _ in range(200)], [str(number) for number in range(200)], "echoes")


@scenario(*EVERYWHERE)
def events_arrive_one_by_one(deployment):
    """The upstream sends event n + 1 only after the client has reported event n on a way of its own."""
    place, events = deployment.place("web"), deployment.upstreams.web.events
    count = 20
    for version in (HTTP1, HTTP2):
        events.begin()
        command = curl_command(place, version, "-N", f"{place.url}/events?count={count}", seconds=60)
        seen = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                if line.startswith("id: "):
                    seen.append(int(line[4:]))
                elif not line.strip() and seen:
                    events.report(seen[-1])
        expect_equal(seen, list(range(1, count + 1)), f"events with {version}")
        expect_equal(child.returncode, 0, "curl's status")


@scenario(*EVERYWHERE)
def two_hundred_requests_at_once(deployment):
    """Every request is held at the upstream until all of them are there."""
    place = deployment.place("web")
    size = 200
    # Without it curl waits for the first connection and shares it, as far as the server admits.
    for version, immediate in ((HTTP1, ["--parallel-immediate"]), (HTTP2, [])):
        name = f"{deployment.name}{version}"
        urls = f"{place.url}/gather?name={name}&size={size}&number=[1-{size}]"
        command = curl_command(place, version, "--fail", "-Z", *immediate, "--parallel-max", "200", urls)
        done = subprocess.run(command, capture_output=True, timeout=130)
        expect_equal(done.returncode, 0, f"curl's status ({done.stderr[-300:]})")
        expect_equal(done.stdout.count(b"together\n"), size, f"answers with {version}")


@scenario(*EVERYWHERE)
def nginx_serves_a_file(deployment):
    place = deployment.place("nginx")
    expect_equal(fetch(place, "/hello").body, b"hello from nginx over http\n", "body")
    for version in (HTTP1, HTTP2):
        expect_equal(download_digest(place, "/file", version), stream.digest(FILE_BYTES), f"SHA-256 with {version}")
    part = fetch(place, "/file", "-r", "1048576-1048583", version=HTTP2)
    expect_equal((part.status, part.body), (206, (1).to_bytes(8, "big")), "a range of the file")


@scenario(*EVERYWHERE)
def head_and_not_modified_have_no_body(deployment):
    place = deployment.place("nginx")
    for version in (HTTP1, HTTP2):
        head = fetch(place, "/file", "-I", version=version)
        expect_equal((head.status, head.headers["content-length"]), (200, str(FILE_BYTES)), "HEAD")
        again = fetch(place, "/file", "-H", f"If-None-Match: {head.headers['etag']}", version=version)
        expect_equal((again.status, again.body), (304, b""), "conditional GET")


@scenario(*EVERYWHERE)
def upstream_that_is_down_gives_502(deployment):
    place = deployment.place("down")
    for version in (HTTP1, HTTP2):
        response = fetch(place, "/hello", version=version)
        expect_equal(response.status, 502, "status")
        expect("adit-error-code" in response.headers, f"no adit-error-code in {response.headers}")
        expect_equal(response.headers.get("ngrok-error-code"), "ERR_NGROK_8012", "ngrok-error-code")


@scenario(*EVERYWHERE)
def name_that_nobody_serves_gives_404_or_502_with_a_code(deployment):
    place = deployment.place_of_nobody()
    response = fetch(place, "/hello")
    expect(response.status in (404, 502, 503), f"status {response.status}")
    expect("adit-error-code" in response.headers, f"no adit-error-code in {response.headers}")
    expect_equal(response.headers.get("ngrok-error-code"), "ERR_NGROK_3200", "ngrok-error-code")


@scenario(*EVERYWHERE)
def upstream_cannot_forge_error_codes(deployment):
    for version in (HTTP1, HTTP2):
        response = fetch(deployment.place("web"), "/forged", version=version)
        expect_equal(response.body, b"forged\n", "body")
        forged = [name for name in ("adit-error-code", "ngrok-error-code") if name in response.headers]
        expect_equal(forged, [], "error headers of the upstream that came through")


@scenario(*EVERYWHERE)
def body_without_length_keeps_its_end(deployment):
    place, length = deployment.place("web"), 3_000_001
    for version in (HTTP1, HTTP2):
        expect_equal(download_digest(place, f"/chunked?bytes={length}", version), stream.digest(length), "SHA-256")
        status = curl_status(place, f"/chunked?bytes={length}&cut=1", version)
        expect(status in CUT_STATUSES, f"curl took a body that was cut for a whole one ({version}: status {status})")


@scenario(*EVERYWHERE)
def one_connection_carries_requests_in_turn(deployment):
    place = deployment.place("web")
    command = curl_command(place, HTTP1, "-w", "%{num_connects} ", *[f"{place.url}/hello"] * 50)
    done = subprocess.run(command, capture_output=True, text=True, timeout=130)
    connects = [int(word) for word in done.stdout.split() if word.isdigit()]
    expect_equal(connects, [1] + [0] * 49, "connections made per request")


@scenario(*EVERYWHERE)
def plain_http_works_too(deployment):
    place = deployment.plain_place("plain")
    expect_equal(fetch(place, "/hello").body, b"hello from the upstream\n", "body")


@scenario(*EVERYWHERE)
def smuggled_requests_are_refused(deployment):
    place = deployment.place("web")
    heads = {
        "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "obsolete folding": b"X-Fold: a\r\n b\r\n\r\n",
        "space before the colon": b"X-Space : a\r\n\r\n",
        "chunked is not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    }
    for what, rest in heads.items():
        with place.tls() as connection:
            host = f"{place.host}:{place.port}".encode()
            connection.sendall(b"POST / HTTP/1.1\r\nHost: " + host + b"\r\n" + rest)
            answer = connection.recv(4096)
        expect(answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 501", b""), f"{what}: {answer[:80]!r}")


@scenario(*EVERYWHERE)
def slow_reader_leaves_the_others_flowing(deployment):
    place = deployment.place("web")
    with place.tls() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        host = f"{place.host}:{place.port}"
        stalled.sendall(f"GET /stream?bytes={GIB} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        expect(stalled.recv(64).startswith(b"HTTP/1.1 200"), "the slow reader got no answer")
        digest = download_digest(place, f"/stream?bytes={64 << 20}", HTTP1, seconds=60)
        expect_equal(digest, stream.digest(64 << 20), "SHA-256 beside a reader that has stopped")


@scenario(*EVERYWHERE)
def many_downloads_at_once_are_all_whole(deployment):
    place, length, results = deployment.place("web"), 8 << 20, []

    def one(version):
        results.append(download_digest(place, f"/stream?bytes={length}", version))

    threads = [threading.Thread(target=one, args=((HTTP1, HTTP2)[number % 2],)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect_equal(results, [stream.digest(length)] * len(threads), "SHA-256 of all downloads")
