"""The HTTP upstream of the scenarios: one thread per connection, so that many requests can wait at once."""

import hashlib
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stream


class Web:
    """Serves on a port of 127.0.0.1, a free one if none is given, until `stop`."""

    def __init__(self, port=0):
        self.events = Handshake()
        self.gatherings = {}
        self.gatherings_lock = threading.Lock()
        self.release = threading.Event()
        self.waiting = threading.Semaphore(0)
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.web = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def gathering(self, name, size):
        """The barrier at which `size` requests that name it wait for each other."""
        with self.gatherings_lock:
            return self.gatherings.setdefault(name, threading.Barrier(size))


class Handshake:
    """Lets the sender of events go on only when the reader has reported the event before."""

    def __init__(self):
        self._condition = threading.Condition()
        self._seen = 0

    def begin(self):
        with self._condition:
            self._seen = 0

    def report(self, number):
        with self._condition:
            self._seen = number
            self._condition.notify_all()

    def wait_for(self, number, seconds):
        with self._condition:
            return self._condition.wait_for(lambda: self._seen >= number, seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        # Clients that leave in the middle are part of the scenarios; everything else shows at the client.
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers leave at once: nothing here waits for Nagle.
    disable_nagle_algorithm = True
    wbufsize = 0
    rbufsize = 1 << 18

    def do_GET(self):
        path, _, query = self.path.partition("?")
        answer = getattr(self, "get_" + path.strip("/").replace("-", "_"), None)
        if not answer:
            return self.reply(404, b"no such page\n")
        return answer(dict(urllib.parse.parse_qsl(query)))

    def do_PUT(self):
        sha, count = hashlib.sha256(), 0
        for block in self.body():
            sha.update(block)
            count += len(block)
        self.reply(200, json.dumps({"sha256": sha.hexdigest(), "bytes": count}).encode())

    do_POST = do_PUT

    def get_hello(self, query):
        self.reply(200, b"hello from the upstream\n")

    def get_headers(self, query):
        pairs = [[name, value] for name, value in self.headers.items()]
        self.reply(200, json.dumps({"version": self.request_version, "headers": pairs}).encode())

    def get_stream(self, query):
        length = int(query["bytes"])
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        for block in stream.blocks(length):
            self.wfile.write(block)

    def get_chunked(self, query):
        """As `stream`, but without a length; `cut=1` ends the connection in the middle of a chunk."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for block in stream.blocks(int(query["bytes"])):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        if "cut" in query:
            self.wfile.write(b"1000\r\ntoo short")
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def get_events(self, query):
        """Server-sent events; each leaves only after the reader has reported the one before."""
        count = int(query["count"])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(1, count + 1):
            event = b"id: %d\ndata: event %d\n\n" % (number, number)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            if not self.server.web.events.wait_for(number, 10):
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def get_gather(self, query):
        self.server.web.gathering(query["name"], int(query["size"])).wait(30)
        self.reply(200, b"together\n")

    def get_hold(self, query):
        """Answers the head at once and the rest when the scenario says so."""
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"first")
        self.server.web.waiting.release()
        self.server.web.release.wait(60)
        self.wfile.write(b"last")

    def get_upgrade(self, query):
        """Becomes a connection whose bytes come back, as after the handshake of a WebSocket."""
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.close_connection = True
        while data := self.rfile.read1(1 << 16):
            self.wfile.write(data)

    def get_forged(self, query):
        """An upstream that pretends to be the gateway."""
        self.reply(200, b"forged\n", {"adit-error-code": "ERR_NGROK_1", "ngrok-error-code": "ERR_NGROK_1"})

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return self.chunks()
        return self.counted(int(self.headers.get("Content-Length", 0)))

    def counted(self, left):
        while left:
            block = self.rfile.read1(min(left, 1 << 18))
            if not block:
                raise ConnectionError("the body ended early")
            left -= len(block)
            yield block

    def chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self.counted(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def log_message(self, *arguments):
        pass
