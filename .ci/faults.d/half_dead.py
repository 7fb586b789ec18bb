"""A gateway that stops answering at one step of a log-in, and keeps the connection open."""

import json
import socket
import ssl
import threading
import time

# The step that gets no answer; everything before it is served.
TLS, AUTH, BIND = "tls", "auth", "bind"
STREAM_AUTH, STREAM_BIND, STREAM_HEARTBEAT = 0, 1, 0xFFFF_FFFF
DATA, WNDINC = 1, 2
FIN, SYN = 1, 2


class HalfDead:
    """Listens on a free port; `lives` has how long, in seconds, each connection lasted until the agent ended it."""

    def __init__(self, silent_at, certificate, key):
        self._silent_at = silent_at
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self._listener.getsockname()
        self.lives = []
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
            threading.Thread(target=self._live, args=(connection,), daemon=True).start()

    def _live(self, connection):
        start = time.monotonic()
        try:
            with connection:
                self._serve(connection)
        except (OSError, EOFError):
            # The agent left.
            pass
        self.lives.append(time.monotonic() - start)

    def _serve(self, connection):
        if self._silent_at == TLS:
            while connection.recv(1 << 16):
                pass
            return
        with self._context.wrap_socket(connection, server_side=True) as link:
            streams = {}
            while True:
                self._on_frame(link, streams, *_read_frame(link))

    def _on_frame(self, link, streams, kind, flags, stream, body):
        if kind != DATA:
            return
        if flags & SYN:
            streams[stream] = bytearray()
        received = streams.setdefault(stream, bytearray())
        received += body
        if body:
            _write_frame(link, WNDINC, 0, stream, len(body).to_bytes(4, "big"))
        if len(received) < 4:
            return
        call = int.from_bytes(received[:4], "big")
        if call == STREAM_HEARTBEAT:
            for beat in range(4, len(received), 4):
                _write_frame(link, DATA, 0, stream, received[beat : beat + 4])
            del received[4:]
        elif call == STREAM_AUTH and self._silent_at != AUTH and _is_json(received[4:]):
            _write_frame(link, DATA, FIN, stream, json.dumps(AUTH_REPLY).encode())
        # Every other call, a bind above all, gets no answer.


def _is_json(data):
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _read_frame(link):
    """Type, flags, stream and body."""
    header = _exactly(link, 8)
    body = _exactly(link, int.from_bytes(header[:3], "big"))
    return header[3] >> 4, header[3] & 0xF, int.from_bytes(header[4:], "big"), body


def _write_frame(link, kind, flags, stream, body):
    link.sendall(len(body).to_bytes(3, "big") + bytes([kind << 4 | flags]) + stream.to_bytes(4, "big") + bytes(body))


def _exactly(link, count):
    data = b""
    while len(data) < count:
        block = link.recv(count - len(data))
        if not block:
            raise EOFError
        data += block
    return data


AUTH_REPLY = {
    "Version": "3",
    "ClientId": "half-dead",
    "Error": "",
    "Extra": {
        "Version": "1",
        "Region": "nowhere",
        "Cookie": "",
        "AccountName": "nobody",
        "SessionDuration": 0,
        "PlanName": "",
        "Banner": "",
        "AgentSessionID": "",
    },
}
