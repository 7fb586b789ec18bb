"""A PostgreSQL server with a cluster of its own."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from failure import Failure
from program import Program, wait_until

USER = "postgres"


class Postgres:
    """Listens on a free port of 127.0.0.1; every local user may connect as `postgres` without a password, with TLS or not.

    Version 15 has TLS by its own negotiation only: plain bytes ask for it, in the connection.
    """

    def __init__(self, scratch, certificate, key):
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
            **self._tls(folder, certificate, key),
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

    def _tls(self, folder, certificate, key):
        """Settings for TLS. The server takes only a key that is its own."""
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            copy = shutil.copy(source, folder / name)
            os.chmod(copy, 0o600)
            if self._user:
                shutil.chown(copy, self._user)
        return {"ssl": "on", "ssl_cert_file": folder / "server.crt", "ssl_key_file": folder / "server.key"}

    def verified(self, place, query):
        """What psql says to one query, or why it does not, over TLS with a server that must be who it says."""
        target = f"host={place.host} hostaddr=127.0.0.1 port={place.port} user={USER} dbname=postgres"
        target += f" sslmode=verify-full sslrootcert={place.ca_file} connect_timeout=20"
        command = [self._binaries / "psql", "-X", "-q", "-A", "-t", "-d", target, "-c", query]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

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
