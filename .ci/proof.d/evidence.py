"""What somebody with all power over the gateway's host can take from it: packets, memory, logs."""

import re
import signal
import subprocess

from failure import Failure, expect
from program import Program

TOOLS_SECONDS = 120


class Capture:
    """tcpdump of everything that enters or leaves the gateway's ports."""

    def __init__(self, ports, scratch):
        self.file = scratch.path("capture.pcap")
        ports = " or ".join(f"tcp port {port}" for port in ports)
        command = ["tcpdump", "-i", "lo", "-n", "-U", "-s", "0", "-B", "65536", "-Z", "root", "-w", self.file, ports]
        self._tcpdump = Program("tcpdump", command, scratch)
        self._tcpdump.wait_for_log("listening on")

    def end(self):
        self._tcpdump.signal(signal.SIGINT)
        self._tcpdump.wait(20)
        expect("\n0 packets dropped by kernel" in self._tcpdump.logged(), f"a hole: {self._tcpdump.logged()}")

    def stop(self):
        self._tcpdump.stop()


def opened(capture, key_log, server_name):
    """The bytes of both directions of all TLS connections to `server_name`, decrypted by tshark."""
    tshark = ["tshark", "-n", "-r", capture, "-o", f"tls.keylog_file:{key_log}"]
    query = f'tls.handshake.type == 1 and tls.handshake.extensions_server_name == "{server_name}"'
    streams = _output(*tshark, "-Y", query, "-T", "fields", "-e", "tcp.stream").split()
    if not streams:
        raise Failure(f"a failure of the search: no connection to {server_name} was captured")
    directions = {False: bytearray(), True: bytearray()}
    for stream in streams:
        for line in _output(*tshark, "-q", "-z", f"follow,tls,raw,{stream}").splitlines():
            # Packets of the second party are indented.
            if match := re.fullmatch(r"(\t?)([0-9a-f]+)", line):
                directions[bool(match[1])] += bytes.fromhex(match[2])
    return bytes(directions[False]) + b"\n" + bytes(directions[True])


def memory(program, scratch):
    """All memory of a running process, which goes on after that."""
    prefix = scratch.path(f"core-{program.name}")
    _output("gcore", "-a", "-o", prefix, str(program.pid))
    expect(program.is_running(), f"{program.name} did not survive its core dump")
    file = prefix.with_name(f"{prefix.name}.{program.pid}")
    data = file.read_bytes()
    file.unlink()
    return data


def _output(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TOOLS_SECONDS)
    if done.returncode != 0:
        raise Failure(f"a failure of the search: {command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
