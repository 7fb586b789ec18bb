"""haproxy as load balancer in front of a gateway: it says in PROXY headers whom its connections are from."""

import csv
import shutil
import socket

from failure import Failure
from program import Program, wait_until

# Where its connections to the gateway come from, so that the gateway can tell them from those of others.
SOURCE = "127.0.0.2"


class Haproxy:
    """`ports` are those to connect to: with headers of version 2 and 1 in front of TLS, of version 1 in front of HTTP, and of
    version 2 in front of a `tcp` endpoint."""

    def __init__(self, scratch, tls_port, http_port, http_host, tcp_port):
        self.ports = {name: scratch.port() for name in ("v2", "v1", "http", "tcp")}
        self._socket = scratch.path("haproxy", "socket")
        if len(str(self._socket)) > SOCKET_PATH_MAX:
            raise Failure(f"{self._socket} is too long for a socket")
        listens = {name: f"listen {name}\n  bind 127.0.0.1:{port}\n" for name, port in self.ports.items()}
        checked = "check check-send-proxy inter 200 fall 1 rise 1"
        configuration = f"""
global
  stats socket {self._socket}
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
{listens["v2"]}  server gateway 127.0.0.1:{tls_port} source {SOURCE} send-proxy-v2 {checked}
{listens["v1"]}  server gateway 127.0.0.1:{tls_port} source {SOURCE} send-proxy
{listens["http"]}  option httpchk
  http-check send meth GET uri /hello ver HTTP/1.1 hdr Host {http_host}
  http-check expect status 200
  server gateway 127.0.0.1:{http_port} source {SOURCE} send-proxy {checked}
{listens["tcp"]}  server gateway 127.0.0.1:{tcp_port} source {SOURCE} send-proxy-v2
"""
        program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if not program:
            raise Failure("haproxy is not installed")
        file = scratch.write("haproxy/haproxy.cfg", configuration)
        self._program = Program("haproxy", [program, "-db", "-f", file], scratch)

    def __enter__(self):
        try:
            wait_until(self._is_up, "haproxy's checks of the gateway to pass", 20, self._program)
        except Failure:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._program.stop()

    def _is_up(self):
        states = self._states()
        return states and all(state == "L4OK" if name == "v2" else state == "L7OK" for name, state in states.items())

    def _states(self):
        """The outcomes of the checks, by listener."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._socket))
                connection.sendall(b"show stat\n")
                text = connection.makefile().read()
        except OSError:
            return {}
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return {row["pxname"]: row["check_status"] for row in rows if row["svname"] == "gateway" and row["check_status"]}


# The longest path that a socket of Linux may have.
SOCKET_PATH_MAX = 107
