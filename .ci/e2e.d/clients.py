"""The clients of the scenarios: curl, and TCP or TLS sockets."""

import hashlib
import socket
import ssl
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from failure import Failure, expect_equal

HTTP1, HTTP2 = "--http1.1", "--http2"
# curl's exit statuses for a body that ended early: partial file, HTTP/2 stream or receive error.
CUT_STATUSES = (18, 56, 92)


@dataclass(frozen=True)
class Place:
    """Where a client reaches an endpoint: the name it asks for, and the socket behind it."""

    scheme: str
    host: str
    port: int
    ca_file: Path | None = None

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self.port}"

    def socket(self, timeout=30, source=None):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout, (source, 0) if source else None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def tls(self, timeout=30, alpn=("http/1.1",)):
        """A verified TLS connection: certificate and name must be right, and only a close_notify is a clean end.

        Without the last, Python takes a reset for one, too.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(self.socket(timeout), server_hostname=self.host, suppress_ragged_eofs=False)


@dataclass
class Response:
    status: int
    version: str
    headers: dict[str, str]
    body: bytes


def curl_command(place, *arguments, seconds=120):
    """The beginning of every curl command: quiet, bounded, and connected to the place by its name."""
    trust = ["--cacert", str(place.ca_file)] if place.ca_file else []
    limits = ["--max-time", str(seconds), "--connect-timeout", "10"]
    return ["curl", "-sS", *limits, *trust, "--resolve", f"{place.host}:{place.port}:127.0.0.1", *arguments]


def fetch(place, path, *arguments, version=HTTP1, seconds=30):
    """One request with curl; a transport error is a failure, an HTTP error is a response."""
    command = curl_command(place, version, "-D", "/dev/stderr", *arguments, place.url + path, seconds=seconds)
    done = subprocess.run(command, capture_output=True, timeout=seconds + 10)
    if done.returncode != 0:
        text = done.stderr.decode(errors="replace")
        raise Failure(f"curl {place.url}{path} failed with status {done.returncode}: {text}")
    # An upgrade or a 100 Continue puts a head before the one that counts.
    head = done.stderr.decode().strip().split("\r\n\r\n")[-1].splitlines()
    protocol, status = head[0].split()[:2]
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Response(int(status), protocol, headers, done.stdout)


def curl_status(place, path, *arguments, seconds=60):
    """curl's exit status of a request whose body goes nowhere."""
    command = curl_command(place, *arguments, "-o", "/dev/null", place.url + path, seconds=seconds)
    return subprocess.run(command, capture_output=True, timeout=seconds + 10).returncode


def download_digest(place, path, version, seconds=300):
    """The SHA-256 of a body that is hashed as it arrives."""
    command = curl_command(place, version, "--fail", place.url + path, seconds=seconds)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        digest = hashlib.file_digest(child.stdout, "sha256").hexdigest()
        errors = child.stderr.read().decode(errors="replace")
    expect_equal(child.returncode, 0, f"curl's status of {path} ({errors.strip()})")
    return digest


def upload(place, path, version, blocks, length=None, seconds=300):
    """The response body to a PUT whose body comes from memory: counted when `length` is known, else chunked."""
    counted = ["-H", f"Content-Length: {length}"] if length is not None else []
    command = curl_command(
        place, version, "--fail", "-T", "-", *counted, "-H", "Expect:", place.url + path, seconds=seconds
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        feeder = threading.Thread(target=_feed, args=(child.stdin, blocks))
        feeder.start()
        answer = child.stdout.read()
        errors = child.stderr.read().decode(errors="replace")
        feeder.join()
    expect_equal(child.returncode, 0, f"curl's status of the upload to {path} ({errors.strip()})")
    return answer


def _feed(pipe, blocks):
    try:
        for block in blocks:
            pipe.write(block)
        pipe.close()
    except BrokenPipeError:
        # curl has ended; its status and its message say why.
        pass


def read_to_end(connection):
    """Count and SHA-256 of everything up to the peer's clean end; a reset raises ConnectionResetError."""
    sha, count = hashlib.sha256(), 0
    while block := connection.recv(1 << 18):
        sha.update(block)
        count += len(block)
    return count, sha.hexdigest()


def read_exactly(connection, count):
    data = bytearray()
    while len(data) < count:
        block = connection.recv(min(count - len(data), 1 << 18))
        if not block:
            raise Failure(f"the stream ended after {len(data)} of {count} bytes")
        data += block
    return bytes(data)


def request_stream(connection, length):
    """Asks a raw upstream for `length` bytes."""
    connection.sendall(b"D" + struct.pack("<Q", length))


def first_bytes(place, seconds=15):
    """What a TCP endpoint sends before the client has said anything; nothing when it only closes, in whatever way."""
    try:
        with place.socket(timeout=seconds) as connection:
            return connection.recv(4096)
    except (ConnectionResetError, BrokenPipeError):
        return b""


def ends_with_error(connection):
    """Whether the connection ends by an error rather than a clean end; what arrives before is thrown away."""
    try:
        read_to_end(connection)
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        return True
    return False
