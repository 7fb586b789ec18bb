"""A PostgreSQL server with a cluster of its own."""

import os
import pwd
import subprocess
from pathlib import Path

from failure import Failure
from program import Program, wait_until

USER = "postgres"


class Postgres:
    """Listens on a free port of 127.0.0.1; every local user may connect as `postgres` without a password."""

    def __init__(self, scratch):
        self.port = scratch.port()
        self._binaries = _newest_binaries()
        folder = scratch.path("postgres", "x").parent
        # The server refuses to run as root.
        self._user = USER if os.geteuid() == 0 else None
        if self._user:
            entry = pwd.getpwnam(USER)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        data = folder / "data"
        subprocess.run(
            [
                self._binaries / "initdb",
                "-D",
                data,
                "-U",
                USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
            **({"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}),
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=120,
        )
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._program = Program(
            "postgres", [self._binaries / "postgres", "-D", data, *settings], scratch, user=self._user
        )
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL to accept connections", 60, self._program)

    def psql(self, host, port, command, stdin=None, stdout=subprocess.PIPE):
        """Starts psql with one command."""
        return subprocess.Popen(
            [self._binaries / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
            + ["-h", host, "-p", str(port), "-U", USER, "-d", "postgres", "-c", command],
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PGSSLMODE": "disable", "PGCONNECT_TIMEOUT": "20"},
        )

    def query(self, host, port, command):
        """The output of one command."""
        child = self.psql(host, port, command)
        try:
            output, errors = child.communicate(timeout=60)
        finally:
            child.kill()
        if child.returncode != 0:
            raise Failure(f"psql failed with status {child.returncode}: {errors.decode(errors='replace')}")
        return output.decode().strip()

    def stop(self):
        self._program.stop()


def _newest_binaries():
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not folders:
        raise Failure("PostgreSQL is not installed")
    return folders[-1]
