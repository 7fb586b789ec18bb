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


def family(pid):
    """The process and all that it has started and that still run."""
    pids = [pid]
    for parent in pids:
        try:
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
        except OSError:
            # It has ended meanwhile.
            pass
    return pids


def cpu_seconds(pid):
    """User and system time so far of all threads of a process, and of those it has started."""
    total = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        # Those that it has waited for count from now on.
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def memory(pid):
    """Resident, peak resident and anonymous memory, in KiB, of a process and those it has started."""
    keys = {"VmRSS": "rss", "VmHWM": "peak", "RssAnon": "anon"}
    total = dict.fromkeys(keys.values(), 0)
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/status").read_text().splitlines()
        except OSError:
            continue
        for key, value in (line.split(":", 1) for line in lines):
            if key in keys:
                total[keys[key]] += int(value.split()[0])
    return total


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
