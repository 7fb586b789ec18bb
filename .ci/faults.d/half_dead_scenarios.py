"""Gateways that take the connection and fall silent at some step: left by deadline, and tried again."""

import half_dead
from failure import expect
from fault import fault
from half_dead import HalfDead
from program import wait_until

CONNECT_SECONDS = 2
# Fixed in the agent: how long a call may take once the session is up.
CALL_SECONDS = 10
SLACK_SECONDS = 5
BACK_SECONDS = 30


@fault(seconds=90)
def gateway_that_takes_tcp_and_never_answers_is_left(case):
    left_in_time(case, half_dead.TLS, CONNECT_SECONDS, "the TLS handshake got no answer in time")


@fault(seconds=90)
def gateway_that_takes_tls_and_never_answers_auth_is_left(case):
    left_in_time(case, half_dead.AUTH, CONNECT_SECONDS, "the log-in got no answer in time")


@fault(seconds=120)
def gateway_that_takes_auth_and_never_answers_bind_is_left(case):
    left_in_time(case, half_dead.BIND, CALL_SECONDS, "did not answer Bind in time")


def left_in_time(case, silent_at, deadline, words):
    """The agent leaves a half-dead gateway by its deadline, says at which step, and finds the healthy one after it."""
    site = case.site(agent={"connect_timeout": f"{CONNECT_SECONDS}s"})
    proxy = site.through_proxy()
    peer = HalfDead(silent_at, *site.certificate_files())
    case.at_end(peer.stop)
    healthy, proxy.target = proxy.target, peer.address
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    wait_until(lambda: len(peer.lives) >= 2, "the agent to leave twice", 2 * (deadline + SLACK_SECONDS) + BACK_SECONDS)
    expect(max(peer.lives) < deadline + SLACK_SECONDS, f"the agent stayed for {peer.lives} s")
    expect(words in site.agent_log(), f"the log does not say: {words}")
    before = site.sessions()
    proxy.target = healthy
    site.wait_for_session(before + 1, deadline + BACK_SECONDS)
    site.wait_until_reachable()
    site.exchange()
