"""Upstream and clients of the benchmark: bytes that nobody looks at, moved as cheaply as Python can.

A client's first byte says what it wants: `D` eight bytes of length, then that many bytes come down; `U` the same, that
many bytes go up and one byte answers; `I` one byte answers, then nothing more until the client leaves.
"""

import os
import socket
import struct
import threading
import time

PIECE = 1 << 20


class Upstream:
    """Serves on a free port of 127.0.0.1, one thread per connection."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._source = os.memfd_create("load")
        os.write(self._source, os.urandom(PIECE))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                kind = connection.recv(1)
                if kind == b"I":
                    connection.sendall(b"k")
                    connection.recv(1)
                    return
                (length,) = struct.unpack("<Q", exactly(connection, 8)) if kind else (0,)
                if kind == b"D":
                    send(connection, self._source, length)
                elif kind == b"U":
                    discard(connection, length)
                    connection.sendall(b"k")
            except OSError:
                # The client or the tunnel has gone: the measurement shows it at the client.
                pass


def down(port, length):
    """Seconds to receive `length` bytes on one connection."""
    with dial(port) as connection:
        start = time.monotonic()
        connection.sendall(b"D" + struct.pack("<Q", length))
        discard(connection, length)
        return time.monotonic() - start


def up(port, length):
    """Seconds to send `length` bytes on one connection and see them acknowledged by the upstream."""
    source = os.memfd_create("load")
    os.write(source, os.urandom(PIECE))
    with dial(port) as connection:
        start = time.monotonic()
        connection.sendall(b"U" + struct.pack("<Q", length))
        send(connection, source, length)
        exactly(connection, 1)
        seconds = time.monotonic() - start
    os.close(source)
    return seconds


def idle(port, count):
    """`count` connections that have been answered and then say nothing."""
    connections = [dial(port) for _ in range(count)]
    for connection in connections:
        connection.sendall(b"I")
    for connection in connections:
        exactly(connection, 1)
    return connections


def answers(port):
    """Whether a whole exchange with the upstream works."""
    try:
        with dial(port, 2) as connection:
            connection.sendall(b"I")
            return connection.recv(1) == b"k"
    except OSError:
        return False


def dial(port, timeout=120):
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    # Python's own timeout would make the descriptor non-blocking, which sendfile does not expect.
    connection.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", timeout, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection, source, length):
    sent = 0
    while sent < length:
        at = sent % PIECE
        sent += os.sendfile(connection.fileno(), source, at, min(PIECE - at, length - sent))


def discard(connection, length):
    while length:
        # The kernel drops the bytes: copying them here would be measured as well.
        count = connection.recv_into(_room, min(length, PIECE), socket.MSG_TRUNC)
        if not count:
            raise ConnectionError(f"the stream ended {length} bytes early")
        length -= count


def exactly(connection, count):
    data = b""
    while len(data) < count:
        block = connection.recv(count - len(data))
        if not block:
            raise ConnectionError("the stream ended early")
        data += block
    return data


_room = bytearray(PIECE)
