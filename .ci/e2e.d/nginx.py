"""nginx as upstream: plain and with TLS under a certificate of its own."""

import hashlib
import os
import shutil
import socket

import stream
from failure import Failure
from program import Program, wait_until

FILE_BYTES = 64 << 20


class Nginx:
    """`port` speaks HTTP, `tls_port` HTTPS with HTTP/2; `/file` holds the first 64 MiB of the stream.

    `proxied_port` and `proxied_tls_port` are the same behind a PROXY header, of either version, without which nothing is
    answered; `/visitor` says whose address was in it.
    """

    def __init__(self, scratch, certificate, key):
        self.port, self.tls_port = scratch.port(), scratch.port()
        self.proxied_port, self.proxied_tls_port = scratch.port(), scratch.port()
        root = scratch.path("nginx", "html", "file")
        with open(root, "wb") as file:
            file.writelines(stream.blocks(FILE_BYTES))
        folder = scratch.path("nginx", "x").parent
        paths = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = f"""
            daemon off; {user} worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; {paths} client_max_body_size 0; ssl_protocols TLSv1.2 TLSv1.3;
              server {{
                listen 127.0.0.1:{self.port} backlog=512; listen 127.0.0.1:{self.tls_port} ssl http2;
                ssl_certificate {certificate}; ssl_certificate_key {key};
                root {root.parent};
                location = /hello {{ default_type text/plain; return 200 "hello from nginx over $scheme\\n"; }}
              }}
              server {{
                listen 127.0.0.1:{self.proxied_port} proxy_protocol;
                listen 127.0.0.1:{self.proxied_tls_port} ssl http2 proxy_protocol;
                ssl_certificate {certificate}; ssl_certificate_key {key};
                location = /visitor {{
                  default_type text/plain; return 200 "$proxy_protocol_addr:$proxy_protocol_port over $scheme";
                }}
              }}
            }}"""
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        if not program:
            raise Failure("nginx is not installed")
        file = scratch.write("nginx/nginx.conf", configuration)
        self._program = Program("nginx", [program, "-c", file, "-e", folder / "error.log", "-p", folder], scratch)
        wait_until(lambda: _listens(self.port) and _listens(self.tls_port), "nginx to listen", 10, self._program)

    def stop(self):
        self._program.stop()


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def file_digest(file):
    return hashlib.file_digest(file, "sha256").hexdigest()
