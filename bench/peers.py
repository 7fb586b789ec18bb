"""The tunnels that are compared. Each knows how to start its server and its agent on given ports."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from processes import family, wait_for


class Tunnel:
    """A server with a public port, and an agent with an upstream, as two processes."""

    name: str
    crypto: str
    # Programs that have to be installed.
    needs: tuple = ()

    def __init__(self, folder, upstream_port, free_port):
        self.folder, self.upstream_port = folder, upstream_port
        self.public_port, self.control_port = free_port(), free_port()
        self.server = self.agent = None

    def start(self):
        self.prepare()
        self.server = self._spawn("server", self.server_command())
        self.agent = self._spawn("agent", self.agent_command())

    def prepare(self):
        """Writes files."""

    def server_command(self):
        raise NotImplementedError

    def agent_command(self):
        raise NotImplementedError

    def stop(self):
        for child in (self.agent, self.server):
            if child:
                # What it has started has no other way to learn of its end.
                for pid in reversed(family(child.pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                child.wait()

    def logs(self):
        return "".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in self.folder.glob("*.log")
        )

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def _spawn(self, name, command):
        with open(self.folder / f"{name}.log", "wb") as log:
            environment = {**os.environ, "RUST_LOG": "error"}
            return subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )


class Adit(Tunnel):
    name, crypto = "adit", "TLS 1.3, one connection for all streams; static musl build"
    agent_binary: Path
    gateway_binary: Path

    def prepare(self):
        command = [self.gateway_binary, "token", "new", "--id", "bench", "--account", "main", "--allow-any"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        token, _, credential = printed.partition("\n")
        forward = {"type": "forward-internal", "config": {"url": "tcp://bench.internal:7000"}}
        policy = {"on_tcp_connect": [{"actions": [forward]}]}
        gateway = {
            "connect": {"names": ["localhost"]},
            "listeners": {"agents": f"127.0.0.1:{self.control_port}", "tcp": {"addresses": "127.0.0.1"}},
            "limits": {"streams_per_session_max": STREAMS_MAX},
            "certificates": [{"certificate_file": str(keys.chain), "private_key_file": str(keys.key)}],
            "cloud_endpoints": [{"url": f"tcp://bench.test:{self.public_port}", "traffic_policy": policy}],
        }
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in gateway.items()]
        self.gateway_file = self.write("gateway.yml", "".join(lines) + "credentials:\n" + credential)
        agent = {
            "authtoken": token,
            "connect_url": f"localhost:{self.control_port}",
            "connect_cas": str(keys.authority),
            "streams_max": STREAMS_MAX,
        }
        upstream = {"url": f"tcp://127.0.0.1:{self.upstream_port}"}
        endpoint = {"name": "bench", "url": "tcp://bench.internal:7000", "upstream": upstream}
        self.agent_file = self.write("adit.json", json.dumps({"version": 3, "agent": agent, "endpoints": [endpoint]}))

    def server_command(self):
        return [self.gateway_binary, "run", "--config", self.gateway_file]

    def agent_command(self):
        return [self.agent_binary, "run", "--config", self.agent_file]


class AditGlibc(Adit):
    name, crypto = "adit_glibc", "the same, the agent linked to the system's C library"
    agent_binary: Path


class Rathole(Tunnel):
    name, crypto = "rathole", "TLS 1.3, one connection per stream"
    binary: str

    def prepare(self):
        shared = 'default_token = "bench"\n'
        self.write(
            "server.toml",
            f'[server]\nbind_addr = "127.0.0.1:{self.control_port}"\n{shared}'
            f'[server.transport]\ntype = "tls"\n[server.transport.tls]\npkcs12 = "{keys.bundle}"\npkcs12_password = "bench"\n'
            f'[server.services.bench]\nbind_addr = "127.0.0.1:{self.public_port}"\n',
        )
        self.write(
            "client.toml",
            f'[client]\nremote_addr = "127.0.0.1:{self.control_port}"\n{shared}'
            f'[client.transport]\ntype = "tls"\n[client.transport.tls]\ntrusted_root = "{keys.authority}"\nhostname = "localhost"\n'
            f'[client.services.bench]\nlocal_addr = "127.0.0.1:{self.upstream_port}"\n',
        )

    def server_command(self):
        return [self.binary, "--server", self.folder / "server.toml"]

    def agent_command(self):
        # It retries a refused connection only after a second: give the server time to listen.
        time.sleep(0.3)
        return [self.binary, "--client", self.folder / "client.toml"]


class Pipe(Tunnel):
    """The reference: TLS with adit's library and ciphers, and nothing else."""

    name, crypto = "pipe", "TLS 1.3, one connection per stream, nothing but TLS"
    binary: Path

    def server_command(self):
        return [self.binary, "pipe-server", self.public_port, self.control_port, keys.chain, keys.key]

    def agent_command(self):
        # It does not try twice.
        wait_for(lambda: is_listening(self.control_port), self)
        return [self.binary, "pipe-agent", self.control_port, self.upstream_port, keys.authority]


class Ssh(Tunnel):
    """OpenSSH's server, run as `nobody`, and one of its clients or dropbear's."""

    name, crypto = "ssh", "SSH, chacha20-poly1305, one connection for all streams"
    needs = ("sshd", "ssh", "ssh-keygen", "setpriv")
    cipher = "chacha20-poly1305@openssh.com"

    def prepare(self):
        keys.make_ssh(self.folder)
        options = {
            "Port": self.control_port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "PidFile": "none",
            "AuthorizedKeysFile": self.folder / "authorized",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "UsePAM": "yes",
            "Compression": "no",
            "LogLevel": "ERROR",
        }
        self.server_file = self.write("sshd", "".join(f"{key} {value}\n" for key, value in options.items()))
        for path in (self.folder / "host", self.server_file):
            os.chown(path, NOBODY, NOBODY)
        self.folder.chmod(0o755)

    def server_command(self):
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return [*as_nobody, program("sshd"), "-D", "-e", "-f", self.server_file]

    def agent_command(self):
        wait_for(lambda: is_listening(self.control_port), self)
        options = ("UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR", "Compression=no")
        options = [part for option in options for part in ("-o", option)]
        return [
            *(program("ssh"), "-N", "-T", "-F", "/dev/null", "-i", self.folder / "user", *options, "-c", self.cipher),
            *("-p", self.control_port, "-R", self.forward(), "nobody@127.0.0.1"),
        ]

    def forward(self):
        return f"127.0.0.1:{self.public_port}:127.0.0.1:{self.upstream_port}"


class SshGcm(Ssh):
    name, crypto = "ssh_gcm", "SSH, aes128-gcm, one connection for all streams"
    cipher = "aes128-gcm@openssh.com"


class Dropbear(Ssh):
    name, crypto = "dropbear", "SSH, chacha20-poly1305, one connection for all streams; the server is OpenSSH's"
    needs = ("sshd", "dbclient", "dropbearkey", "ssh-keygen", "setpriv")

    def agent_command(self):
        wait_for(lambda: is_listening(self.control_port), self)
        return [
            *("env", f"HOME={self.folder}", program("dbclient"), "-N", "-T", "-y", "-y", "-i", self.folder / "dropbear"),
            *("-p", self.control_port, "-W", "1048576", "-R", self.forward(), "nobody@127.0.0.1"),
        ]


class Keys:
    """One authority and one certificate for `localhost`, made with openssl; keys for SSH."""

    def make(self, folder, names=()):
        self.authority, self.chain = folder / "ca.pem", folder / "chain.pem"
        self.key, self.bundle = folder / "key.pem", folder / "bundle.p12"
        certificate, request, extensions = folder / "certificate.pem", folder / "request.pem", folder / "extensions"
        alternatives = ",".join(["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{name}" for name in names)])
        extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n")
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
        openssl(
            *("req", "-x509", *new_key, "-keyout", folder / "ca.key", "-out", self.authority, "-subj", "/CN=bench"),
            *("-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        openssl("req", *new_key, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", folder / "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", certificate),
        )
        self.chain.write_text(certificate.read_text() + self.authority.read_text())
        openssl(
            *("pkcs12", "-export", "-out", self.bundle, "-inkey", self.key, "-in", certificate),
            *("-certfile", self.authority, "-passout", "pass:bench"),
        )

    def make_ssh(self, folder):
        for name in ("host", "user"):
            quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
        authorized = (folder / "user.pub").read_text()
        if program("dropbearkey"):
            printed = quietly(program("dropbearkey"), "-t", "ed25519", "-f", folder / "dropbear")
            authorized += "".join(f"{line}\n" for line in printed.splitlines() if line.startswith("ssh-"))
        (folder / "authorized").write_text(authorized)


def openssl(*arguments):
    quietly("openssl", *arguments)


def quietly(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def program(name):
    """Where a program is, also one that only root has in its path; None without it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def find_rathole():
    """Where `cargo install rathole` has put it, or None."""
    cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    return shutil.which("rathole", path=f"{os.environ['PATH']}:{cargo_home / 'bin'}")


NOBODY = 65534
# More than the 1,000 idle streams that are measured.
STREAMS_MAX = 1_200
keys = Keys()
