"""Stands between agent and gateway, ends the TLS of both, and writes down the keys of the gateway's connection.

So the programs under test need no way to give their keys away, and what tshark opens is what the gateway itself got.
"""

import select
import socket
import ssl
import threading

BLOCK = 1 << 16


class Relay:
    """Listens on a free port of 127.0.0.1. The agent has to trust `certificate`."""

    def __init__(self, gateway, authority, certificate, key, key_log):
        self._gateway = gateway
        self._towards_agents = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._towards_agents.load_cert_chain(certificate, key)
        self._towards_gateway = ssl.create_default_context(cafile=authority)
        self._towards_gateway.keylog_filename = key_log
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
        host, port = self._gateway
        try:
            agent = self._towards_agents.wrap_socket(connection, server_side=True)
            onward = socket.create_connection(("127.0.0.1", port))
            gateway = self._towards_gateway.wrap_socket(onward, server_hostname=host)
        except OSError:
            connection.close()
            return
        _carry({agent: gateway, gateway: agent})


def _carry(onward):
    """From each connection to the other, in one thread: OpenSSL's connections are for one at a time."""
    for connection in onward:
        connection.setblocking(False)
    try:
        while True:
            # What TLS has read already, no socket tells of.
            pending = [connection for connection in onward if connection.pending()]
            readable, _, _ = select.select(list(onward), [], [], 0 if pending else None)
            for connection in {*pending, *readable}:
                _move(connection, onward[connection])
    except (OSError, EOFError):
        # An end of either side, in whatever way, is the end of both.
        pass
    for connection in onward:
        connection.close()


def _move(source, target):
    try:
        data = source.recv(BLOCK)
    except ssl.SSLWantReadError:
        # Not a whole record yet, or nothing for anybody but TLS itself.
        return
    if not data:
        raise EOFError
    while data:
        try:
            data = data[target.send(data) :]
        except ssl.SSLWantWriteError:
            select.select([], [target], [])
