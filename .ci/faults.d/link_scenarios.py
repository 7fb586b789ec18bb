"""Faults of the one connection between agent and gateway."""

import signal
import threading
import time

import stream
from clients import read_exactly, read_to_end, request_stream
from failure import expect, expect_equal
from fault import fault

# Short, so that scenarios need not wait long for a loss to be noticed. The defaults have scenarios of their own.
QUICK = {"heartbeat_interval": "2s", "heartbeat_tolerance": "3s"}
BACK_SECONDS = 30
BULK = 64 << 20


@fault(seconds=60)
def reset_in_mid_session_is_survived(case):
    site = case.site()
    proxy = site.through_proxy()
    site.start()
    expect_equal(proxy.reset(), 1, "connections that the reset ended")
    site.wait_for_session(2, BACK_SECONDS)
    site.exchange()


@fault(seconds=60)
def resets_never_pass_a_cut_download_for_a_whole_one(case):
    """Bytes of a download that were there before a reset are right, and its end is an error."""
    site = case.site()
    proxy = site.through_proxy()
    site.start()
    for session in range(2, 5):
        with site.place("raw").socket() as connection:
            request_stream(connection, 1 << 30)
            expect_equal(read_exactly(connection, 1 << 20), next(stream.blocks(1 << 20)), "the first bytes")
            proxy.reset()
            try:
                count, _ = read_to_end(connection)
            except ConnectionResetError:
                count = None
            expect(count is None, f"a download that was cut ended cleanly after {count} bytes more")
        site.wait_for_session(session, BACK_SECONDS)
        site.wait_until_reachable()
    site.exchange()


@fault(seconds=90)
def half_closed_link_is_replaced(case):
    """One direction ends by FIN and the other stays open: at either end that is the end of the session."""
    site = case.site(agent=QUICK)
    proxy = site.through_proxy()
    site.start()
    for session, direction in ((2, "up"), (3, "down")):
        proxy.half_close([direction])
        site.wait_for_session(session, BACK_SECONDS)
        site.wait_until_reachable()
        site.exchange()


@fault(seconds=90)
def corrupt_byte_ends_only_that_session(case):
    """TLS notices at either end; nothing wrong comes out, and the next session is as good as new."""
    site = case.site(agent=QUICK)
    proxy = site.through_proxy()
    site.start()
    for session, direction in ((2, "up"), (3, "down")):
        proxy.corrupt([direction])
        site.wait_for_session(session, BACK_SECONDS)
        site.wait_until_reachable()
        site.exchange()
    expect(site.programs["gateway"].is_running(), "the gateway ended")


@fault(seconds=90, heavy=True)
def stalled_link_goes_on_without_a_wrong_byte(case):
    """Nothing moves for a while, less than the heartbeat's patience: streams both ways go on where they were."""
    site = case.site()
    proxy = site.through_proxy()
    site.start()
    transfers = [Transfer(site) for _ in range(3)]
    for _ in range(3):
        moved = sum(proxy.carried.values())
        proxy.stall()
        hold(2)
        # What was on its way through the proxy when it stalled.
        expect(sum(proxy.carried.values()) - moved < BULK, "the link did not stall")
        proxy.clear()
    for transfer in transfers:
        transfer.join()
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")


@fault(seconds=120)
def silent_gateway_is_left_by_heartbeat(case):
    """The connection stays open and nothing answers any more, in one direction or in both."""
    site = case.site(agent=QUICK)
    proxy = site.through_proxy()
    site.start()
    for session, directions in ((2, ["up"]), (3, ["down"]), (4, ["up", "down"])):
        proxy.black_hole(directions)
        site.wait_for_loss(session - 1, 2 + 3 + 5)
        proxy.clear()
        site.wait_for_session(session, BACK_SECONDS)
        site.wait_until_reachable()
    site.exchange()


@fault(seconds=120)
def killed_gateway_is_found_again(case):
    """SIGKILL, refused connections for a while, and the gateway's return."""
    site = case.site()
    site.start()
    site.programs["gateway"].signal(signal.SIGKILL)
    site.programs["gateway"].wait(10)
    site.wait_for_loss(1)
    hold(10)
    site.start_gateway()
    back = site.wait_for_session(2, BACK_SECONDS)
    print(f"a new session was up {back:.1f} s after the gateway's return")
    site.wait_until_reachable()
    site.exchange()


@fault(seconds=120, heavy=True)
def delayed_link_carries_checksums(case):
    """150 ms each way: nothing about a long path is wrong, only slow."""
    site = case.site(agent=QUICK)
    proxy = site.through_proxy()
    proxy.delay(0.15)
    site.start()
    transfers = [Transfer(site, 4 << 20) for _ in range(4)]
    for transfer in transfers:
        transfer.join()
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")


class Transfer:
    """Bytes that go both ways at once through the raw upstream, and have to come back unchanged."""

    def __init__(self, site, length=BULK):
        self._length = length
        self._error = None
        self._connection = site.place("raw").socket(timeout=60)
        self._threads = [threading.Thread(target=self._run, args=(step,)) for step in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def join(self):
        for thread in self._threads:
            thread.join()
        self._connection.close()
        if self._error:
            raise self._error

    def _run(self, step):
        try:
            step()
        except Exception as error:
            self._error = self._error or error

    def _send(self):
        self._connection.sendall(b"E")
        for block in stream.blocks(self._length):
            self._connection.sendall(block)
        self._connection.shutdown(1)

    def _receive(self):
        seen = read_to_end(self._connection)
        expect_equal(seen, (self._length, stream.digest(self._length)), "what came back")


def hold(seconds):
    """How long a fault lasts; not a wait for anything."""
    time.sleep(seconds)
