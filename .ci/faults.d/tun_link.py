"""A point-to-point link between two network namespaces that delays and loses packets: two tun devices and a relay.

For kernels without netem. The relay runs in this process, so it is for paths of a few MB/s.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time

from netns import inside, ip, make

TUNSETIFF = 0x4004_54CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
# Packets that wait for their time, per direction; more are dropped, as by a router.
QUEUED_MAX = 2_000
AGENT = "agent"


class TunLink:
    """The agent's namespace, and the link from it to the scenario's own. The seed decides which packets are lost."""

    agent_namespace = AGENT
    gateway_address = "10.67.0.1"

    def __init__(self, delay, loss_up=0.0, loss_down=0.0, seed=1):
        """`delay` in seconds, each way; the share of packets that is lost on the way to the gateway, and back."""
        make(AGENT)
        with inside(AGENT):
            self._agent = _tun("link")
        self._gateway = _tun("link")
        _configure(AGENT, "10.67.0.2", self.gateway_address)
        _configure(None, self.gateway_address, "10.67.0.2")
        self.lost = 0
        self.passed = 0
        self._delay = delay
        self._random = random.Random(seed)
        self._losses = {self._agent: loss_up, self._gateway: loss_down}
        self._end_reader, self._end_writer = os.pipe()
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def stop(self):
        os.write(self._end_writer, b"x")
        self._thread.join(10)
        for descriptor in (self._agent, self._gateway, self._end_reader, self._end_writer):
            os.close(descriptor)

    def _relay(self):
        other = {self._agent: self._gateway, self._gateway: self._agent}
        waiting, order = [], 0
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([self._agent, self._gateway, self._end_reader], [], [], timeout)
            if self._end_reader in ready:
                return
            now = time.monotonic()
            for source in ready:
                packet = os.read(source, 65_536)
                if len(waiting) >= 2 * QUEUED_MAX or self._random.random() < self._losses[source]:
                    self.lost += 1
                    continue
                order += 1
                heapq.heappush(waiting, (now + self._delay, order, other[source], packet))
            while waiting and waiting[0][0] <= now:
                _, _, sink, packet = heapq.heappop(waiting)
                os.write(sink, packet)
                self.passed += 1


def _tun(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def _configure(namespace, address, peer):
    ip("addr", "add", address, "peer", peer, "dev", "link", namespace=namespace)
    ip("link", "set", "dev", "link", "up", namespace=namespace)
