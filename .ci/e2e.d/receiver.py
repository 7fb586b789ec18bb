"""What the gateway's webhook tells, as a receiver takes it."""

import base64
import hashlib
import hmac
import itertools
import json
import queue
import secrets
import time

from served import Quiet


class Receiver:
    """A receiver as Standard Webhooks describes it: signatures and times are checked, ids are taken once."""

    def __init__(self):
        self.key = secrets.token_bytes(32)
        self.ways, self.told, self.wrong = itertools.repeat("take"), [], []
        self._ids, self._queue = set(), queue.Queue()

    def handler(self):
        receiver = self

        class Handler(Quiet):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                way = next(receiver.ways)
                if way == "refuse":
                    return self.answer({}, status=500)
                if way == "garbage":
                    self.wfile.write(b"\0\xff no HTTP at all\r\n\r\n")
                    self.close_connection = True
                    return None
                if way == "silent":
                    time.sleep(3)
                    self.close_connection = True
                    return None
                receiver.take(self.headers, body)
                return self.answer({})

        return Handler

    def take(self, headers, body):
        name, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        message = f"{name}.{stamp}.".encode() + body
        signature = base64.b64encode(hmac.new(self.key, message, hashlib.sha256).digest()).decode()
        if headers["webhook-signature"] != f"v1,{signature}" or abs(time.time() - int(stamp)) > 60:
            self.wrong.append(dict(headers))
        if name not in self._ids:
            self._ids.add(name)
            told = json.loads(body) | {"arrived": time.time()}
            self.told.append(told)
            self._queue.put(told)

    def next(self, seconds=20, kind=None):
        """The next event, or the next of a kind."""
        end = time.monotonic() + seconds
        while True:
            try:
                told = self._queue.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind or 'event'} within {seconds} s; told: {self.told}") from None
            if kind in (None, told["type"]):
                return told

    def forget(self):
        """Whatever was told so far."""
        self.told.clear()
        while not self._queue.empty():
            self._queue.get()
