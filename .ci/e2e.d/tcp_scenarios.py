"""Raw TCP and TLS through the tunnel: databases, pass-through, half-close, and ends that must not look clean."""

import hashlib
import socket
import ssl
import struct
import subprocess
import threading
import time

import stream
from clients import (
    HTTP1,
    HTTP2,
    Place,
    curl_status,
    download_digest,
    ends_with_error,
    fetch,
    first_bytes,
    read_exactly,
    read_to_end,
    request_stream,
)
from failure import expect, expect_equal
from nginx import FILE_BYTES
from program import wait_until
from scenario import scenario

EVERYWHERE = ("dev", "files")
COPY_BYTES = 100_000_000
ROW_BYTES = 100


@scenario(*EVERYWHERE)
def psql_session(deployment):
    database, place = deployment.upstreams.postgres, deployment.place("postgres")
    expect_equal(database.query("127.0.0.1", place.port, "SELECT 6 * 7"), "42", "an answer")
    port = database.query("127.0.0.1", place.port, "SHOW port")
    expect_equal(port, str(database.port), "the server that answered")


@scenario(*EVERYWHERE)
def psql_copies_100_mb_each_way(deployment):
    database, place = deployment.upstreams.postgres, deployment.place("postgres")
    table = f"copy_{deployment.name}"
    # The table is made, and what arrived in it is checked, past the tunnel.
    database.query("127.0.0.1", database.port, f"CREATE TABLE {table} (number integer, filling text)")
    sent = hashlib.sha256()
    child = database.psql("127.0.0.1", place.port, f"COPY {table} FROM STDIN", stdin=subprocess.PIPE)
    for block in rows():
        sent.update(block)
        child.stdin.write(block)
    _, errors = child.communicate(timeout=120)
    expect_equal(child.returncode, 0, f"psql's status ({errors[-300:]})")

    query = f"SELECT number, filling FROM {table} ORDER BY number"
    check = f"COPY ({query}) TO PROGRAM 'sha256sum > sum_{table}'"
    database.query("127.0.0.1", database.port, check)
    arrived = database.query("127.0.0.1", database.port, f"SELECT pg_read_file('sum_{table}')").split()[0]
    expect_equal(arrived, sent.hexdigest(), "SHA-256 of the rows in the database")

    child = database.psql("127.0.0.1", place.port, f"COPY ({query}) TO STDOUT")
    returned = hashlib.file_digest(child.stdout, "sha256").hexdigest()
    _, errors = child.communicate(timeout=120)
    expect_equal(child.returncode, 0, f"psql's status ({errors[-300:]})")
    expect_equal(returned, sent.hexdigest(), "SHA-256 of the rows that came back")


def rows():
    """100 MB of rows in COPY's text form, in blocks of about 1 MB."""
    per_block = 10_000
    for first in range(0, COPY_BYTES // ROW_BYTES, per_block):
        numbers = range(first, first + per_block)
        yield b"".join(b"%d\t%b\n" % (number, b"%07d" % (number * 7919 % 9_999_991) * 13) for number in numbers)


@scenario(*EVERYWHERE)
def raw_bytes_are_echoed_whole(deployment):
    """64 MiB there and back on one connection, both directions busy at once."""
    length = 64 << 20
    with deployment.place("raw").socket() as connection:
        connection.sendall(b"E")
        sender = threading.Thread(target=_send_and_finish, args=(connection, length))
        sender.start()
        count, digest = read_to_end(connection)
        sender.join()
    expect_equal((count, digest), (length, stream.digest(length)), "what came back")


def _send_and_finish(connection, length):
    for block in stream.blocks(length):
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)


@scenario(*EVERYWHERE)
def half_close_passes_and_the_answer_still_comes(deployment):
    with deployment.place("raw").socket() as connection:
        connection.sendall(b"A" + bytes(100_000))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while block := connection.recv(4096):
            answer += block
    expect_equal(answer, b"100000 bytes", "the answer after the client's end")


@scenario(*EVERYWHERE)
def download_that_the_upstream_resets_is_an_error(deployment):
    with deployment.place("raw").socket() as connection:
        connection.sendall(b"R")
        read_exactly(connection, 1 << 20)
        connection.sendall(b"!")
        expect(ends_with_error(connection), "the client saw a clean end of a download that its server had reset")


@scenario(*EVERYWHERE)
def client_that_resets_ends_the_upstream_connection(deployment):
    raw = deployment.upstreams.raw
    connection = deployment.place("raw").socket()
    connection.sendall(b"H")
    read_exactly(connection, 1 << 20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_until(lambda: raw.open_holds() == 0, "the upstream's connection to end after its client's", 10)


@scenario(*EVERYWHERE)
def tcp_upstream_that_is_down_closes_at_once(deployment):
    start = time.monotonic()
    expect_equal(first_bytes(deployment.place("rawdown")), b"", "data from an upstream that is down")
    expect(time.monotonic() - start < 10, "the connection stayed open for 10 s")


@scenario(*EVERYWHERE)
def sealed_upstream_is_verified_by_the_client(deployment):
    """TLS passes through: the certificate that the client verifies is the upstream's own."""
    place, authority = deployment.place("sealed"), deployment.upstreams.authority.certificate
    sealed = Place("https", place.host, place.port, authority)
    for version in (HTTP1, HTTP2):
        response = fetch(sealed, "/hello", version=version)
        expect_equal(response.body, b"hello from nginx over https\n", f"body with {version}")
        expect_equal(download_digest(sealed, "/file", version), stream.digest(FILE_BYTES), f"SHA-256 with {version}")
    # 60: the certificate is not known to the gateway's authority, which proves whose it is.
    expect_equal(curl_status(Place("https", place.host, place.port, deployment.ca_file), "/hello"), 60, "curl's status")


@scenario(*EVERYWHERE)
def agent_verifies_an_https_upstream(deployment):
    response = fetch(deployment.place("secure"), "/hello", version=HTTP2)
    expect_equal(response.body, b"hello from nginx over https\n", "body")
    expect_equal(download_digest(deployment.place("secure"), "/file", HTTP1), stream.digest(FILE_BYTES), "SHA-256")


@scenario("files")
def agent_wraps_a_tcp_endpoint_in_tls(deployment):
    """The client speaks plain text, the upstream TLS: what a printer's or a camera's client may need."""
    with deployment.place("wrapped").socket() as connection:
        connection.sendall(b"GET /hello HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while block := connection.recv(4096):
            answer += block
    expect(answer.endswith(b"hello from nginx over https\n"), f"answer {answer[-200:]!r}")


@scenario(*EVERYWHERE)
def openssl_verifies_the_sealed_upstream(deployment):
    place, authority = deployment.place("sealed"), deployment.upstreams.authority.certificate
    request = f"GET /hello HTTP/1.0\r\nHost: {place.host}\r\n\r\n".encode()
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", "-servername", place.host, "-quiet"]
    command += ["-verify_return_error", "-verify_hostname", place.host, "-CAfile", str(authority)]
    done = subprocess.run(command, input=request, capture_output=True, timeout=30)
    expect(b"hello from nginx over https" in done.stdout, f"openssl s_client: {done.stderr[-500:]!r}")


@scenario(*EVERYWHERE)
def client_hello_in_pieces_is_routed(deployment):
    """The first bytes of a TLS connection may come one by one."""
    place, authority = deployment.place("sealed"), deployment.upstreams.authority.certificate
    context = ssl.create_default_context(cafile=authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=place.host)
    with place.socket() as connection:
        first = True
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                for piece in [data[i : i + 1] for i in range(len(data))] if first else [data]:
                    connection.sendall(piece)
                first = False
                incoming.write(connection.recv(1 << 16))
        connection.sendall(outgoing.read())
    expect_equal(session.getpeercert()["subject"][0][0], ("commonName", "adit e2e"), "the upstream's certificate")


@scenario(*EVERYWHERE)
def long_raw_download_is_whole(deployment):
    length = 256 << 20
    with deployment.place("raw").socket() as connection:
        request_stream(connection, length)
        expect_equal(read_to_end(connection), (length, stream.digest(length)), "what arrived")
