"""A real OpenID provider (npm's oidc-provider), and a server in front of its keys that can be slow or send far too much."""

import json
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from failure import Failure
from program import Program, wait_until
from served import Quiet, Served

_FOLDER = Path(__file__).resolve().parent / "oidc"
HUGE_BYTES = 100 << 20


class Provider:
    """Gives access tokens as JWT, signed with the first of its keys. Keys of the same name are the same ones after a restart."""

    def __init__(self, scratch):
        self.scratch, self.port = scratch, scratch.port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.keys = scratch.path("oidc", "x").parent
        self.program = None

    def start(self, *key_ids, redirect="-"):
        """People can log in if there is an address to send them back to."""
        command = ["node", _FOLDER / "provider.mjs", self.port, self.keys, redirect, *key_ids]
        self.program = Program("oidc-provider", command, self.scratch)
        wait_until(self._answers, "the OpenID provider to answer", 20, self.program)

    def stop(self):
        if self.program:
            self.program.stop()
            self.program = None

    def token(self):
        """A fresh access token."""
        answer = subprocess.run(
            ["curl", "-sS", "--fail", "--max-time", "10", "-u", "site:site-secret"]
            + ["-d", "grant_type=client_credentials&resource=urn:api", f"{self.issuer}/token"],
            check=True,
            capture_output=True,
        )
        return json.loads(answer.stdout)["access_token"]

    def sign(self, key_id, parts):
        """Tokens of these texts, signed with the key of this name whatever they say: one for each (header, payload)."""
        command = ["node", _FOLDER / "sign.mjs", self.keys / f"{key_id}.json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=json.dumps(parts))
        return json.loads(done.stdout)

    def published(self):
        with urllib.request.urlopen(f"{self.issuer}/jwks", timeout=5) as answer:
            return answer.read()

    def _answers(self):
        try:
            return self.published()
        except OSError:
            return None


class Front(Served):
    """`/jwks` is what the provider publishes; `/slow` never answers, `/huge` sends 100 MiB. It counts what it sent of them."""

    def __init__(self, provider):
        front = self
        self.fetched, self.slow, self.huge_bytes = 0, 0, 0
        self.let_go = threading.Event()

        class Handler(Quiet):
            def do_GET(self):
                match self.path:
                    case "/jwks":
                        front.fetched += 1
                        try:
                            self.answer(json.loads(provider.published()))
                        except OSError:
                            self.send_error(502)
                    case "/slow":
                        front.slow += 1
                        # As a provider does that hangs: the connection stands.
                        front.let_go.wait(60)
                    case "/huge":
                        self.send_response(200)
                        self.send_header("Content-Length", str(HUGE_BYTES))
                        self.end_headers()
                        try:
                            for _ in range(HUGE_BYTES >> 16):
                                self.wfile.write(b" " * (1 << 16))
                                front.huge_bytes += 1 << 16
                        except OSError:
                            pass

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.let_go.set()
        super().stop()


def accepted_within(seconds, ask):
    """Asks until the status is 200, since the gateway asks an issuer for keys at most every 10 s; returns how long it took."""
    start = time.monotonic()
    while (status := ask().status) != 200:
        if time.monotonic() - start > seconds:
            raise Failure(f"the token is still refused with {status} after {seconds} s")
        time.sleep(0.5)
    return time.monotonic() - start
