"""Raw TCP upstreams of the scenarios."""

import socket
import struct
import threading

import stream


# Of version 1, a line of text, and of version 2, binary.
PROXY_HEADER_BEGINS = (b"P", b"\r")


class Raw:
    """Serves one connection per thread on a free port: the first byte that a client sends says what it gets.

    `E` everything is echoed until the client's end; `A` the whole request is read to its end and only then
    answered, which needs half-close; `D` eight bytes of length, then that much of the stream; `R` a mebibyte and
    then a reset; `H` a mebibyte, then silence until the connection ends. What begins like a PROXY header is echoed with
    its first byte.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._holds = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._stopped.set()
        # Wakes the accepting thread, which a mere close would leave in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        kinds = {b"E": _echo, b"A": _answer_at_end, b"D": _send, b"R": _reset, b"H": self._hold, b"S": self._stall}
        with connection:
            try:
                first = connection.recv(1)
                if first in PROXY_HEADER_BEGINS:
                    connection.sendall(first)
                    kinds[first] = _echo
                kinds.get(first, lambda _: None)(connection)
            except OSError:
                pass

    def open_holds(self):
        """How many `H` connections are open now."""
        with self._lock:
            return self._holds

    def _hold(self, connection):
        with self._lock:
            self._holds += 1
        try:
            connection.sendall(next(stream.blocks(1 << 20)))
            connection.recv(1)
        finally:
            with self._lock:
                self._holds -= 1

    def _stall(self, connection):
        # What the kernel takes in its place is little.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._stopped.wait()


def _echo(connection):
    while block := connection.recv(1 << 18):
        connection.sendall(block)


def _answer_at_end(connection):
    count = 0
    while block := connection.recv(1 << 18):
        count += len(block)
    connection.sendall(b"%d bytes" % count)


def _send(connection):
    (length,) = struct.unpack("<Q", _exactly(connection, 8))
    for block in stream.blocks(length):
        connection.sendall(block)


def _reset(connection):
    connection.sendall(next(stream.blocks(1 << 20)))
    # Waits for the reader, so that the reset cannot overtake data that is still in a buffer here.
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _exactly(connection, count):
    data = b""
    while len(data) < count:
        block = connection.recv(count - len(data))
        if not block:
            raise ConnectionError("the request ended early")
        data += block
    return data
