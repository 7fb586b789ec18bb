"""What `compare` does with a tunnel. Each workload starts on a fresh one and gives numbers by name."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

import peers
from processes import cpu_seconds, memory

GIB = 1 << 30
# The load generator, set by who uses this.
RIG = None


def rig(*arguments, timeout=300):
    command = [str(part) for part in (RIG, *arguments)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout).stdout
    return json.loads(printed.splitlines()[-1])


class Load:
    """Bytes that are produced and dropped."""

    def __init__(self, _, port):
        self.port = port
        self._process = subprocess.Popen([RIG, "serve", str(port)], stdin=subprocess.DEVNULL)

    def answers(self, port):
        """Whether a whole exchange with the upstream works."""
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(b"E" + bytes(8) + b"x")
                return connection.recv(1) == b"x"
        except OSError:
            return False

    def stop(self):
        self._process.kill()
        self._process.wait()


class Nginx:
    """Two files over HTTP."""

    def __init__(self, folder, port):
        self.port = port
        self._folder = folder / "nginx"
        (self._folder / "html").mkdir(parents=True)
        (self._folder / "html/100").write_bytes(os.urandom(100))
        (self._folder / "html/65536").write_bytes(os.urandom(65_536))
        paths = "".join(
            f"{kind}_temp_path {self._folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {self._folder}/pid; error_log {self._folder}/error crit;\n"
            "events { worker_connections 4096; }\n"
            "http { access_log off; keepalive_requests 100000000; sendfile on; tcp_nodelay on; open_file_cache max=16;\n"
            f"{paths}\nserver {{ listen 127.0.0.1:{port} backlog=4096; root {self._folder}/html; }} }}\n"
        )
        command = [peers.program("nginx"), "-c", self._folder / "nginx.conf", "-e", self._folder / "error"]
        self._process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL)

    def answers(self, port):
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(b"GET /100 HTTP/1.0\r\n\r\n")
                return connection.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False

    def stop(self):
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Workload:
    upstream = Load
    needs = ()

    def __init__(self, name, rows):
        self.name, self.rows = name, rows

    def measure(self, tunnel, arguments):
        # The agent may still do what it does after a start.
        time.sleep(0.5)
        before = [cpu_seconds(child.pid) for child in (tunnel.agent, tunnel.server)]
        found = self.run(tunnel, arguments)
        agent, server = (
            cpu_seconds(child.pid) - start for child, start in zip((tunnel.agent, tunnel.server), before, strict=True)
        )
        return found | self.costs(found, agent, server) | {"peak": memory(tunnel.agent.pid)["peak"]}

    def run(self, tunnel, arguments):
        raise NotImplementedError

    def costs(self, found, agent, server):
        return {"agent_s": agent, "server_s": server}


class Bulk(Workload):
    def __init__(self, name, direction, streams):
        what = f"{streams} streams" if streams > 1 else "one stream"
        rows = {
            "mb_per_s": f"{what} {direction}, MB/s",
            "agent_s_per_gib": f"{what} {direction}, agent's CPU, s/GiB",
            "server_s_per_gib": f"{what} {direction}, server's CPU, s/GiB",
        }
        super().__init__(name, rows | ({"peak": f"{what} {direction}, agent's peak, resident KiB"} if streams > 1 else {}))
        self._direction, self._streams = direction, streams

    def run(self, tunnel, arguments):
        return rig("bulk", tunnel.public_port, self._direction, self._streams, int(arguments.gib * GIB))

    def costs(self, found, agent, server):
        gib = found["bytes"] / GIB
        return {"agent_s_per_gib": agent / gib, "server_s_per_gib": server / gib}


class Requests(Workload):
    upstream = Nginx
    needs = ("nginx", "wrk")

    def __init__(self, name, size, connections):
        what = f"requests of {size:,} bytes, {connections} connection{'s' if connections > 1 else ''}"
        rows = {
            "per_second": f"{what}, per second",
            "p50_us": f"{what}, p50 µs",
            "p99_us": f"{what}, p99 µs",
            "agent_s_per_1000": f"{what}, agent's CPU, s/1,000",
        }
        super().__init__(name, rows)
        self._size, self._connections = size, connections

    def run(self, tunnel, arguments):
        threads = min(2, self._connections)
        command = ["wrk", f"-t{threads}", f"-c{self._connections}", f"-d{arguments.seconds}s", "--latency"]
        command.append(f"http://127.0.0.1:{tunnel.public_port}/{self._size}")
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        if "Non-2xx" in printed or "Socket errors" in printed:
            raise OSError(printed)
        found = {"requests": int(re.search(r"(\d+) requests in", printed)[1])}
        found["per_second"] = float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])
        for name in ("50", "99"):
            number, unit = re.search(rf"\s{name}%\s+([\d.]+)(us|ms|s)", printed).groups()
            found[f"p{name}_us"] = float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
        return found

    def costs(self, found, agent, server):
        thousands = found["requests"] / 1000
        return {"agent_s_per_1000": agent / thousands, "server_s_per_1000": server / thousands}


class Churn(Workload):
    def run(self, tunnel, arguments):
        return rig("churn", tunnel.public_port, arguments.seconds, 16)

    def costs(self, found, agent, server):
        thousands = found["connections"] / 1000
        return {"agent_s_per_1000": agent / thousands, "server_s_per_1000": server / thousands}


class Pings(Workload):
    def __init__(self, name, direction, stalled):
        what = f"ping beside 4 streams {direction}" + (", one of them stalled" if stalled else "")
        rows = {"p50_us": f"{what}, p50 µs", "p99_us": f"{what}, p99 µs", "live_mb_per_s": f"{what}: those, MB/s"}
        super().__init__(name, rows)
        self._direction, self._stalled = direction, stalled

    def run(self, tunnel, arguments):
        return rig("pings", tunnel.public_port, self._direction, arguments.seconds, 4, self._stalled)


class Idle(Workload):
    def measure(self, tunnel, arguments):
        time.sleep(2)
        found = {f"idle_{key}": value for key, value in memory(tunnel.agent.pid).items()}
        command = [str(part) for part in (RIG, "idle", tunnel.public_port, 1000)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            if not holder.stdout.readline():
                raise OSError("1,000 streams could not be opened")
            time.sleep(1)
            found |= {f"streams_{key}": value for key, value in memory(tunnel.agent.pid).items()}
            holder.communicate("\n", timeout=60)
            if holder.returncode:
                raise OSError("of 1,000 idle streams not all were alive at the end")
        return found


ALL = [
    Bulk("down", "down", 1),
    Bulk("up", "up", 1),
    Bulk("down50", "down", 50),
    Bulk("up50", "up", 50),
    Requests("http100", 100, 50),
    Requests("http64k", 65_536, 50),
    Requests("http100-1", 100, 1),
    Requests("http64k-1", 65_536, 1),
    Churn(
        "churn",
        {
            "per_second": "connections for a byte each, per second",
            "p99_us": "connections for a byte each, p99 µs",
            "agent_s_per_1000": "connections for a byte each, agent's CPU, s/1,000",
        },
    ),
    Pings("pings-down", "down", 1),
    Pings("pings-up", "up", 1),
    Idle(
        "idle",
        {
            "idle_anon": "idle, agent's anonymous KiB",
            "idle_rss": "idle, agent's resident KiB",
            "streams_anon": "1,000 idle streams, agent's anonymous KiB",
            "streams_rss": "1,000 idle streams, agent's resident KiB",
        },
    ),
]
