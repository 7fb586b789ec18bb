"""What is behind the agent in a soak run: a process of its own, which can be killed and started again.

As a program, `soak_upstream.py WEB_PORT RAW_PORT`; at SIGTERM it resets all raw connections and ends at once.
"""

import asyncio
import os
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / ".ci/e2e.d")]

import stream  # noqa: E402 - found only with the line above
from authority import Authority  # noqa: E402
from program import Program, wait_until  # noqa: E402
from web import Web  # noqa: E402


class Upstream:
    """The process, seen from the run."""

    def __init__(self, case):
        self._case = case
        self.authority = Authority("upstream", case.scratch)
        self._ports = [case.scratch.port(), case.scratch.port()]
        self._program = None
        case.at_end(lambda: self._program.stop())
        self.start()

    def start(self):
        command = [sys.executable, "-B", __file__, *self._ports]
        self._program = Program("upstream", command, self._case.scratch)
        wait_until(lambda: all(map(_listens, self._ports)), "the upstream to listen", 20, self._program)

    def kill(self):
        self._program.signal(signal.SIGTERM)
        self._program.wait(10)

    def targets(self):
        web, raw = self._ports
        return {"web": ("https", f"http://127.0.0.1:{web}"), "raw": ("tcp", f"tcp://127.0.0.1:{raw}")}

    def wrong(self):
        """What the upstream saw that it should not have seen."""
        return [f"upstream: {line}" for line in self._program.logged().splitlines()]


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Raw:
    """`E` is echoed; `D` and a length is sent the stream; `U`, a length and the stream is checked and answered."""

    def __init__(self):
        self._writers = set()

    async def serve(self, reader, writer):
        self._writers.add(writer)
        try:
            kind = await reader.readexactly(1)
            await {b"E": self._echo, b"D": self._send, b"U": self._check}[kind](reader, writer)
        except (OSError, asyncio.IncompleteReadError, KeyError):
            # Visitors that are cut, and probes that only connect.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _echo(self, reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def _send(self, reader, writer):
        (length,) = struct.unpack("<Q", await reader.readexactly(8))
        for block in stream.blocks(length):
            for place in range(0, len(block), 1 << 16):
                writer.write(block[place : place + (1 << 16)])
                await writer.drain()

    async def _check(self, reader, writer):
        (length,) = struct.unpack("<Q", await reader.readexactly(8))
        count = 0
        for block in stream.blocks(length):
            place = 0
            while place < len(block):
                data = await reader.read(min(len(block) - place, 1 << 16))
                if not data:
                    return complain(f"a clean end after {count} of {length} bytes of an upload")
                if data != block[place : place + len(data)]:
                    return complain(f"wrong bytes in an upload between {count} and {count + len(data)}")
                place += len(data)
                count += len(data)
        if await reader.read(1):
            return complain(f"more than the {length} bytes of an upload")
        writer.write(b"%d" % count)

    def reset_all(self):
        for writer in self._writers:
            end = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def complain(what):
    print(what, flush=True)


async def serve(port):
    raw = Raw()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.start_server(raw.serve, "127.0.0.1", port, backlog=512)
    await ended.wait()
    raw.reset_all()
    # Aborted transports close their sockets in the loop's next turn.
    await asyncio.sleep(0)
    os._exit(0)


def main():
    web_port, raw_port = map(int, sys.argv[1:])
    threading.Thread(target=Web, args=(web_port,), daemon=True).start()
    asyncio.run(serve(raw_port))


if __name__ == "__main__":
    main()
