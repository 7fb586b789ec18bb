"""Faults of the one connection between agent and gateway."""

from failure import expect
from fault import fault

# Short, so that scenarios need not wait long for a loss to be noticed. The defaults have scenarios of their own.
QUICK = {"heartbeat_interval": "2s", "heartbeat_tolerance": "3s"}


@fault(seconds=60)
def reset_in_mid_session_is_survived(case):
    site = case.site()
    proxy = site.through_proxy()
    site.start()
    expect(proxy.reset() == 1, "the agent had another number of connections than one")
    site.wait_for_session(2)
    site.exchange()


@fault(seconds=60)
def corrupt_byte_ends_only_that_session(case):
    """TLS notices at either end; nothing wrong comes out, and the next session is as good as new."""
    site = case.site(agent=QUICK)
    proxy = site.through_proxy()
    site.start()
    for session, direction in ((2, "up"), (3, "down")):
        proxy.corrupt([direction])
        site.wait_for_session(session)
        site.exchange()
    expect(site.programs["gateway"].is_running(), "the gateway ended")
