"""Random marks, a visitor who sends one, and a service that answers with another; then both keep their connection open."""

import secrets
import socket
import ssl
import threading

from clients import read_exactly
from failure import Failure

# A mark is repeated over this many bytes: what a buffer was overwritten with later does not matter.
BODY_BYTES = 64 << 10
HEAD_END = b"\r\n\r\n"


def mark():
    """A word that nothing else has in it."""
    return f"mark{secrets.token_hex(16)}"


def body(word):
    return (word.encode() * (BODY_BYTES // len(word) + 1))[:BODY_BYTES]


class Service:
    """Answers each request of one visitor with `word`, in TLS if it has a certificate, and leaves the answer unfinished."""

    def __init__(self, word, certificate=None, key=None):
        self._word = word
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            read_head(connection)
            read_exactly(connection, BODY_BYTES)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {2 * BODY_BYTES}\r\n\r\n".encode()
            connection.sendall(head + body(self._word))
            connection.recv(1)
        except (OSError, Failure):
            # Whoever tried whether it is there has left again.
            pass
        finally:
            connection.close()


class Visit:
    """Has sent `word` and got the service's answer; the connection stays open."""

    def __init__(self, connection, host, word, expected):
        self._connection = connection
        self.address = "{}:{}".format(*connection.getsockname())
        head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode()
        connection.sendall(head + body(word))
        read_head(connection)
        if read_exactly(connection, BODY_BYTES) != body(expected):
            raise Failure("the answer is not that of the service")

    def close(self):
        self._connection.close()


def read_head(connection):
    head = b""
    while not head.endswith(HEAD_END):
        head += read_exactly(connection, 1)
