"""A DNS server of the scenario's own on port 53 of 127.0.0.1, and the files that make programs ask it."""

import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

TYPE_A, TYPE_AAAA, CLASS_IN = 1, 28, 1
FAILED, NO_SUCH_NAME = 2, 3
KINDS = {TYPE_A: ("addresses", socket.AF_INET), TYPE_AAAA: ("addresses_v6", socket.AF_INET6)}


class Names:
    """Answers A questions from `addresses` (name -> list of IPv4 addresses), and that there is no such name otherwise;
    AAAA questions for these names from `addresses_v6`, if there are any.

    Changes of `addresses` count at once; `broken` answers everything with SERVFAIL, `silent` nothing. `asked` counts.
    """

    def __init__(self, addresses=None, address="127.0.0.1", addresses_v6=None):
        self.addresses, self.addresses_v6 = addresses or {}, addresses_v6 or {}
        self.broken = self.silent = False
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self):
        self._socket.close()

    def _serve(self):
        while True:
            try:
                question, client = self._socket.recvfrom(4096)
            except OSError:
                return
            self.asked += 1
            if not self.silent:
                self._socket.sendto(self._answer(question), client)

    def _answer(self, question):
        labels, place = [], 12
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode())
            place += 1 + length
        kind, _ = struct.unpack_from(">HH", question, place + 1)
        name = ".".join(labels).lower()
        known = name in self.addresses
        code = FAILED if self.broken else 0 if known else NO_SUCH_NAME
        table, family = KINDS.get(kind, ("", 0))
        records = getattr(self, table).get(name, []) if table and not code else []
        # A reply to the question alone: recursion desired and available, no additional records.
        head = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        reply = head + question[12 : place + 5]
        for address in records:
            data = socket.inet_pton(family, address)
            reply += struct.pack(">HHHIH", 0xC00C, kind, CLASS_IN, 5, len(data)) + data
        return reply


def resolve_by(text):
    """Puts `text` in place of /etc/resolv.conf, for this scenario and what it starts from now on or has running."""
    file = Path(tempfile.gettempdir()) / "resolv.conf"
    mounted = file.exists()
    file.write_text(text)
    if not mounted:
        subprocess.run(["mount", "--bind", file, Path("/etc/resolv.conf").resolve()], check=True)
