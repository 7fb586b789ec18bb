"""A WebSocket upstream that sends every message back."""

import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


class WebSocketEcho:
    def __init__(self):
        self._server = serve(_echo, "127.0.0.1", 0, max_size=1 << 26)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()


def _echo(connection):
    try:
        for message in connection:
            connection.send(message)
    except ConnectionClosed:
        # The other end left without a closing handshake, as some scenarios do on purpose.
        pass
