"""Faults of the network between agent and gateway: packets that vanish, and no word of it to either end."""

import time

from failure import expect
from fault import fault

# The agent's defaults, and what a loaded machine may add.
NOTICED_SECONDS = 10 + 15
SLACK_SECONDS = 5
BACK_SECONDS = 30


@fault(seconds=180)
def black_hole_is_noticed_and_left_behind(case):
    """Packets vanish in both directions without a RST: the loss is noticed by heartbeat, and the path is used again."""
    site = case.site()
    path = site.across_a_network()
    site.start()
    path.drop()
    start = time.monotonic()
    site.wait_for_failure(1, NOTICED_SECONDS + SLACK_SECONDS)
    print(f"the loss was noticed after {time.monotonic() - start:.1f} s")
    path.restore()
    back = site.wait_for_session(2, BACK_SECONDS)
    print(f"a new session was up {back:.1f} s after the path's return")
    expect("no heartbeat came back" in site.agent_log(), "the log does not say what was wrong")
    site.exchange()
