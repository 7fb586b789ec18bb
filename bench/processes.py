"""What the benchmarks do with processes: build them, wait for them, and read what the kernel knows of them."""

import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def built(package):
    """Builds one program alone, as it is shipped, and says where it is."""
    return subprocess.run([ROOT / ".ci/built", package], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def wait_for(condition, tunnel):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{tunnel.name} does not carry traffic after 20 s")
        time.sleep(0.05)


def cpu_seconds(pid):
    """User and system time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid):
    """Resident, peak resident and anonymous memory, in KiB."""
    keys = {"VmRSS": "rss", "VmHWM": "peak", "RssAnon": "anon"}
    lines = (line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {keys[key]: int(value.split()[0]) for key, value in lines if key in keys}


def free_port():
    """A port below the ephemeral range, so that outgoing connections cannot take it."""
    while True:
        free_port.last += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", free_port.last))
                return free_port.last
            except OSError:
                pass


free_port.last = 20_000 + os.getpid() * 7 % 8_000
