"""The load of a soak run: visitors of every kind, who check each byte as it comes.

A fault may cut whatever it likes, as long as the visitor is told: what came before has to be right, and a cut transfer
must not look like a whole one. Nobody may be left waiting. One thing is excused: the system ends the connections of a
process that is killed like those of one that has closed them, so an end without a length proves nothing then.
"""

import http.client
import json
import random
import ssl
import struct
import threading
import time
from collections import Counter

import stream

# Nobody waits longer than this for a byte: faults are shorter, and a lost session is noticed after 6 s.
STUCK_SECONDS = 60
PAUSE_AFTER_CUT_SECONDS = 0.2
IDLE_STREAMS = 20
CUT = (ConnectionError, http.client.HTTPException, ssl.SSLError, OSError)


class Wrong(Exception):
    """A byte that was not sent, an end that was none, or none at all."""


class Tally:
    """What the visitors have seen so far."""

    def __init__(self):
        self.wrong = []
        self.gateway_kills = Kills()
        self.upstream_kills = Kills()
        self._lock = threading.Lock()
        self._counts = Counter()

    def add(self, name, count=1):
        with self._lock:
            self._counts[name] += count

    def wrong_thing(self, what):
        print(f"soak: WRONG: {what}", flush=True)
        with self._lock:
            self.wrong.append(what)

    def raw_excuses(self):
        """What makes a raw connection's clean end prove nothing. Upstreams reset theirs."""
        return Excuses(self.gateway_kills)

    def upgraded_excuses(self):
        """The same for upgraded connections, of which nobody knows the length."""
        return Excuses(self.gateway_kills, self.upstream_kills)

    def line(self):
        done, cut = (sum(n for name, n in self._counts.items() if name.endswith(end)) for end in (" whole", " cut"))
        return f"{self._counts['bytes'] >> 20} MiB checked, {done} transfers whole, {cut} cut, {len(self.wrong)} wrong"

    def details(self):
        return ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()) if name != "bytes")


class Kills:
    """Used with `with` around each kill of a program. It is under way while the count is odd."""

    def __init__(self):
        self.count = 0

    def __enter__(self):
        self.count += 1

    def __exit__(self, *_):
        self.count += 1


class Excuses:
    """Of a transfer that begins now: a kill in its time, also one that has begun and is not done."""

    def __init__(self, *kills):
        self._kills = kills
        self._before = [kill.count for kill in kills]

    def hold(self):
        return any(kill.count != before or before % 2 for kill, before in zip(self._kills, self._before, strict=True))


class Load:
    """Visitors that go on until they are stopped, and then end what they have begun."""

    def __init__(self, site, tally, seed):
        self._site, self._tally = site, tally
        self._stopping = threading.Event()
        visitors = [keep_alive, keep_alive, http_upload, bulk_down, bulk_up, echo, echo, idle, websocket]
        self._threads = [
            threading.Thread(target=self._visit, args=(visitor, random.Random(seed * 100 + number)), daemon=True)
            for number, visitor in enumerate(visitors)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(4 * STUCK_SECONDS)
            if thread.is_alive():
                self._tally.wrong_thing("a visitor does not come to an end")

    def _visit(self, visitor, chance):
        name = visitor.__name__.replace("_", " ")
        while not self._stopping.is_set():
            try:
                visitor(self._site, chance, self._tally, self._stopping)
            except Wrong as wrong:
                self._tally.wrong_thing(f"{name}: {wrong}")
                return
            except TimeoutError:
                self._tally.wrong_thing(f"{name}: no byte for {STUCK_SECONDS} s")
                return
            except CUT:
                self._tally.add(f"{name} cut")
                self._stopping.wait(PAUSE_AFTER_CUT_SECONDS)


class Expected:
    """Compares what comes, in pieces of any length, with the stream."""

    def __init__(self, length, tally):
        self.left = length
        self._length, self._tally, self._excuses = length, tally, tally.raw_excuses()
        self._blocks = stream.blocks(length)
        self._block = memoryview(b"")

    def take(self, data):
        self._tally.add("bytes", len(data))
        data = memoryview(data)
        while data:
            if not self._block:
                self._block = memoryview(next(self._blocks, b""))
            count = min(len(data), len(self._block))
            if not count:
                raise Wrong(f"more than {self._length} bytes")
            if data[:count] != self._block[:count]:
                raise Wrong(f"wrong bytes between {self._length - self.left} and {self._length - self.left + count}")
            data, self._block = data[count:], self._block[count:]
            self.left -= count

    def end(self):
        """Called at a clean end: all, or nothing because nobody is there."""
        if self.left == self._length or (self.left and self._excuses.hold()):
            raise ConnectionResetError
        if self.left:
            raise Wrong(f"a clean end with {self.left} of {self._length} bytes missing")


def connection_to(site):
    """A kept-alive HTTPS connection."""
    place = site.place("web")
    connection = http.client.HTTPConnection(place.host, place.port, timeout=STUCK_SECONDS)
    connection.sock = place.tls(timeout=STUCK_SECONDS)
    return connection


def keep_alive(site, chance, tally, stopping):
    """Requests one after the other on one connection."""
    connection = connection_to(site)
    try:
        while not stopping.is_set():
            length = chance.choice((0, 100, 10_000, 300_000, 5_000_000))
            connection.request("GET", f"/stream?bytes={length}")
            response = connection.getresponse()
            if not is_served(response):
                return
            expected = Expected(length, tally)
            while data := response.read(1 << 16):
                expected.take(data)
            if expected.left:
                # The length in the head says that it is not the whole; reading in pieces raises nothing then.
                raise http.client.IncompleteRead(b"", expected.left)
            tally.add("keep alive whole")
            stopping.wait(chance.random() * 0.05)
    finally:
        connection.close()


def http_upload(site, chance, tally, stopping):
    connection = connection_to(site)
    try:
        while not stopping.is_set():
            length = chance.choice((1, 100_000, 8_000_000))
            headers = {"Content-Length": str(length)}
            connection.request("PUT", "/upload", body=stream.blocks(length), headers=headers)
            response = connection.getresponse()
            if not is_served(response):
                return
            answer = json.loads(response.read())
            if answer != {"sha256": stream.digest(length), "bytes": length}:
                raise Wrong(f"an upload of {length} bytes arrived as {answer}")
            tally.add("bytes", length)
            tally.add("http upload whole")
            stopping.wait(chance.random() * 0.2)
    finally:
        connection.close()


def is_served(response):
    """Whether the upstream answered; else the gateway has to have said so."""
    if response.status == 200:
        return True
    if not response.headers.get("adit-error-code"):
        raise Wrong(f"status {response.status} that is not the gateway's")
    time.sleep(PAUSE_AFTER_CUT_SECONDS)
    return False


def bulk_down(site, chance, tally, stopping):
    length = chance.choice((1 << 20, 16 << 20, 48 << 20))
    expected = Expected(length, tally)
    with site.place("raw").socket(timeout=STUCK_SECONDS) as connection:
        connection.sendall(b"D" + struct.pack("<Q", length))
        while data := connection.recv(1 << 17):
            expected.take(data)
    expected.end()
    tally.add("bulk down whole")
    stopping.wait(chance.random())


def bulk_up(site, chance, tally, stopping):
    """The upstream checks what comes, and says at the end that it has seen all of it."""
    length = chance.choice((1 << 20, 16 << 20, 48 << 20))
    with site.place("raw").socket(timeout=STUCK_SECONDS) as connection:
        connection.sendall(b"U" + struct.pack("<Q", length))
        for block in stream.blocks(length):
            connection.sendall(block)
        connection.shutdown(1)
        answer = b""
        while data := connection.recv(100):
            answer += data
    if not answer:
        raise ConnectionRefusedError
    if answer != b"%d" % length:
        raise Wrong(f"an upload of {length} bytes was answered by {answer!r}")
    tally.add("bytes", length)
    tally.add("bulk up whole")
    stopping.wait(chance.random())


def echo(site, chance, tally, stopping):
    """Small messages there and back, as in a terminal."""
    with site.place("raw").socket(timeout=STUCK_SECONDS) as connection:
        connection.sendall(b"E")
        while not stopping.is_set():
            message = chance.randbytes(chance.choice((1, 40, 1500, 40_000)))
            there_and_back(connection, message, tally, tally.raw_excuses())
            tally.add("echo whole")
            stopping.wait(chance.random() * 0.1)


def there_and_back(connection, message, tally, excuses):
    connection.sendall(message)
    back = b""
    while len(back) < len(message):
        data = connection.recv(len(message) - len(back))
        if not data:
            # The upstream does not end an echo before its client does.
            if back and not excuses.hold():
                raise Wrong(f"a clean end after {len(back)} of {len(message)} bytes of an echo")
            raise ConnectionRefusedError
        back += data
        if not message.startswith(back):
            raise Wrong(f"an echo of {len(message)} bytes came back wrong")
    tally.add("bytes", len(back))


def idle(site, chance, tally, stopping):
    """Connections that say something once in a while: those of a database pool."""
    connections = []
    try:
        for _ in range(IDLE_STREAMS):
            connections.append(site.place("raw").socket(timeout=STUCK_SECONDS))
            connections[-1].sendall(b"E")
        while not stopping.wait(chance.uniform(5, 20)):
            for connection in connections:
                there_and_back(connection, b"still there?", tally, tally.raw_excuses())
                tally.add("idle whole")
    finally:
        for connection in connections:
            connection.close()


def websocket(site, chance, tally, stopping):
    """An upgraded connection: the gateway passes it on as it is, so frames need no more than an echo behind it."""
    place = site.place("web")
    with place.tls(timeout=STUCK_SECONDS) as connection:
        head = f"GET /upgrade HTTP/1.1\r\nHost: {place.host}:{place.port}\r\nConnection: Upgrade\r\n"
        connection.sendall((head + "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            data = connection.recv(1)
            if not data:
                raise ConnectionRefusedError
            answer += data
        if not answer.startswith(b"HTTP/1.1 101 "):
            if b"adit-error-code" not in answer.lower():
                raise Wrong(f"an upgrade was answered by {answer[:100]!r}")
            stopping.wait(PAUSE_AFTER_CUT_SECONDS)
            return
        while not stopping.is_set():
            message = chance.randbytes(chance.choice((10, 3000, 70_000)))
            there_and_back(connection, message, tally, tally.upgraded_excuses())
            tally.add("websocket whole")
            stopping.wait(chance.random() * 0.2)
