"""An ACME authority for scenarios: Let's Encrypt's `pebble`, and the name server that it asks."""

import json
import ssl
import urllib.request

from authority import Authority
from program import Program, wait_until


class Pebble:
    """Issues for all names, which it finds at 127.0.0.1, what `http_port` or `tls_port` prove there.

    It forgets everything when it stops: accounts, orders, and its own keys.
    """

    def __init__(self, label, scratch, http_port, tls_port):
        self._label, self._scratch = label, scratch
        self._authority = Authority(f"pebble-{label}", scratch)
        certificate, key = self._authority.issue("localhost", "127.0.0.1")
        self.directory_ca = self._authority.certificate
        self._port, self._management, self._dns = scratch.port(), scratch.port(), scratch.port()
        self.directory_url = f"https://127.0.0.1:{self._port}/dir"
        self.name_server = f"127.0.0.1:{self._dns}"
        self._names = self._program = None
        self.settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": tls_port,
        }

    def start(self, seconds=None, nonce_reject=0):
        """Starts it: `seconds` is how long certificates last, `nonce_reject` how many of a hundred requests it sends back."""
        if not self._names:
            none = ("-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "")
            management = f"127.0.0.1:{self._scratch.port()}"
            command = ["pebble-challtestsrv", "-dns01", self.name_server, "-management", management, *none]
            self._names = Program(f"names-{self._label}", command, self._scratch)
        settings = self.settings | ({"certificateValidityPeriod": seconds} if seconds else {})
        file = self._scratch.write(f"acme/{self._label}/pebble.json", json.dumps({"pebble": settings}))
        self._program = Program(
            f"pebble-{self._label}",
            ["pebble", "-config", file, "-dnsserver", self.name_server],
            self._scratch,
            env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": str(nonce_reject), "PEBBLE_AUTHZREUSE": "0"},
        )
        wait_until(self._answers, "pebble to answer", 20, self._program)

    def root(self):
        """The file with the root that its certificates lead to."""
        text = self._ask("/roots/0").decode()
        return self._scratch.write(f"acme/{self._label}/root.pem", text)

    def orders(self):
        """How many orders it has taken, over all of its lives."""
        return self._program.logged().count("orders in the db")

    def stop(self):
        if self._program:
            self._program.stop()
            self._program = None

    def stop_all(self):
        self.stop()
        if self._names:
            self._names.stop()

    def _answers(self):
        try:
            return self._ask("/roots/0")
        except OSError:
            return False

    def _ask(self, path):
        context = ssl.create_default_context(cafile=self.directory_ca)
        with urllib.request.urlopen(f"https://127.0.0.1:{self._management}{path}", context=context, timeout=5) as answer:
            return answer.read()
