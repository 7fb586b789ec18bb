"""Places and numbers that belong to one run only: a temporary directory, free ports, files."""

import os
import shutil
import socket
import tempfile
from pathlib import Path


class Scratch:
    """A private directory that is removed at the end, and ports that nothing listens on."""

    def __init__(self, part=0):
        self.folder = Path(tempfile.mkdtemp(prefix="adit-e2e-"))
        # PostgreSQL and nginx's workers run as other users, below this folder.
        self.folder.chmod(0o755)
        # Runs beside each other take their ports from ranges of their own.
        self._next_port = 20_000 + part * 4_000 + os.getpid() * 7 % 3_000

    def path(self, *parts):
        """A path below the directory; its parents are made."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name, text, mode=0o644):
        """Puts the whole file in its place at once: programs that read it meanwhile find the old or the new one."""
        path = self.path(name)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text)
        new.chmod(mode)
        new.replace(path)
        return path

    def port(self):
        """A port below the ephemeral range, so that outgoing connections cannot take it before its listener does."""
        while True:
            self._next_port += 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self._next_port))
                except OSError:
                    continue
                return self._next_port

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
