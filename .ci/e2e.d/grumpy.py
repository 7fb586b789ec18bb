"""An ACME authority that has an account for everybody and no certificate for anybody, as pebble never is."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from authority import Authority


class Grumpy:
    """Answers each order with `status`, `headers` and `body`, whatever is signed; counts them in `orders`."""

    def __init__(self, label, scratch):
        authority = Authority(f"grumpy-{label}", scratch)
        certificate, key = authority.issue("localhost", "127.0.0.1")
        self.directory_ca = authority.certificate
        self.status, self.headers, self.body, self.orders = 500, {}, b"", 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.grumpy = self
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.base = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.directory_url = f"{self.base}/dir"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def refuse(self, status, kind, **headers):
        """Orders get a problem from now on."""
        problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": "not now", "status": status}
        self.answer(status, json.dumps(problem).encode(), **headers)

    def answer(self, status, body, **headers):
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        base = self.server.grumpy.base
        paths = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "revokeCert": "x", "keyChange": "x"}
        self.reply(200, json.dumps({name: f"{base}/{path}" for name, path in paths.items()}).encode())

    def do_HEAD(self):
        self.reply(200, b"")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        grumpy = self.server.grumpy
        if self.path == "/account":
            return self.reply(201, b'{"status": "valid"}', {"Location": f"{grumpy.base}/account/1"})
        grumpy.orders += 1
        self.reply(grumpy.status, grumpy.body, grumpy.headers)

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Replay-Nonce": "bm9uY2U", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass
