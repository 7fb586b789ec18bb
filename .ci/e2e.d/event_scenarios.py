"""What an operator is told of: a site that is cut off, one that comes and goes, and a webhook that is down."""

import base64
import itertools
import signal
import time
from contextlib import contextmanager
from datetime import datetime

from clients import fetch
from failure import expect, expect_equal
from program import wait_until
from receiver import Receiver
from scenario import scenario
from served import Served

SETTLE = 2


@scenario("files")
def site_that_is_cut_off_is_told_to_the_webhook_after_the_settle_time(deployment):
    with _told(deployment) as (receiver, agent):
        kinds = {receiver.next()["type"] for _ in range(2 + _endpoints(deployment))}
        # The gateway's own certificate is for two days.
        expect_equal(kinds, {"site.up", "endpoint.online", "certificate.ending"}, "what is told of a new site")
        agent.signal(signal.SIGSTOP)
        try:
            down = receiver.next(30, "site.down")
        finally:
            agent.signal(signal.SIGCONT)
        waited = (_time(down["data"]["time"]) - _time(down["data"]["since"])).total_seconds()
        expect(SETTLE <= waited < SETTLE + 1, f"told {waited} s after it happened, and not {SETTLE} s: {down}")
        arrived = down["arrived"] - _time(down["data"]["since"]).timestamp()
        expect(arrived >= SETTLE, f"arrived {arrived} s after it happened")
        expect_equal(down["data"]["account"], "main", "account of the site")
        expect("nothing was heard" in down["data"]["reason"], f"reason: {down['data']['reason']}")
        again = receiver.next(40, "site.up")
        expect("online again after" in again["data"]["text"], f"told of its return: {again}")


@scenario("files")
def site_that_comes_and_goes_is_told_once(deployment):
    with _told(deployment) as (receiver, _):
        receiver.next(20, "site.up")
        for _ in range(6):
            deployment.programs["agent"].signal(signal.SIGKILL)
            deployment.programs["agent"].wait(10)
            deployment.start_agent()
        flapping = receiver.next(20, "site.flapping")
        steady = receiver.next(40, "site.steady")
        expect_equal((flapping["data"]["count"], steady["data"]["count"]), (3, 6), "how often it went away")
        time.sleep(SETTLE + 1)
        kinds = [told["type"] for told in receiver.told if told["type"].startswith("site.")]
        expect_equal(kinds, ["site.up", "site.flapping", "site.steady"], "all that was told of the site")


@scenario("files")
def webhook_that_is_down_costs_no_event_and_no_traffic(deployment):
    """The receiver says no, says what is no HTTP, and says nothing, by turns."""
    with _told(deployment) as (receiver, agent):
        receiver.next(20, "site.up")
        receiver.ways = itertools.cycle(["refuse", "garbage", "silent"])
        mark = deployment.gateway_log_size()
        agent.signal(signal.SIGKILL)
        agent.wait(10)
        time.sleep(SETTLE + 0.5)
        deployment.start_agent()
        wait_until(lambda: "webhook.failing" in deployment.gateway_logged(mark), "the failure to be told", 40)
        start = time.monotonic()
        expect_equal(fetch(deployment.place("web"), "/hello").status, 200, "status while the receiver is down")
        expect(time.monotonic() - start < 2, f"a request took {time.monotonic() - start} s while the receiver is down")
        receiver.ways = itertools.repeat("take")
        down, up = receiver.next(60, "site.down"), receiver.next(60, "site.up")
        expect_equal((down["lost"], up["lost"]), (0, 0), "events that were lost")
        wait_until(lambda: "webhook.recovered" in deployment.gateway_logged(mark), "the end of it to be told", 20)


@contextmanager
def _told(deployment):
    """A gateway that was started anew and tells a receiver, and an agent that is noticed soon when it is silent."""
    receiver = Receiver()
    usual = deployment.agent_document
    with Served(receiver.handler()) as served:
        secret = f"whsec_{base64.b64encode(receiver.key).decode()}\n"
        file = deployment.scratch.write("files/webhook.secret", secret, 0o600)
        webhook = {"url": f"http://127.0.0.1:{served.port}/events", "secret_file": str(file), "timeout": "2s"}
        document = deployment.gateway_document() | {"events": {"settle": f"{SETTLE}s", "webhook": webhook}}
        deployment.agent_document = lambda: _alert(usual())
        deployment.programs["agent"].signal(signal.SIGTERM)
        deployment.programs["agent"].wait(20)
        deployment.stop_gateway()
        deployment.write_gateway(document)
        deployment.start_gateway()
        deployment.start_agent()
        try:
            yield receiver, deployment.programs["agent"]
            expect_equal(receiver.wrong, [], "deliveries whose signature or time is wrong")
        finally:
            deployment.agent_document = usual
            deployment.programs["agent"].stop()
            deployment.write_gateway()
            deployment.programs["gateway"].signal(signal.SIGHUP)
            deployment.start_agent()


def _alert(document):
    document["agent"] |= {"heartbeat_interval": "1s", "heartbeat_tolerance": "4s"}
    return document


def _endpoints(deployment):
    return len(deployment.agent_document()["endpoints"])


def _time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
