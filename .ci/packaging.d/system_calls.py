"""Which system calls the two programs make in the course of their lives."""

import re
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / folder) for folder in ("faults.d", "e2e.d")]

from fault import Case  # noqa: E402 - found only with the line above
from program import wait_until  # noqa: E402


def calls_of_both(adit, gateway):
    """Unit -> names of system calls, from a start over log-in, traffic, a reload and a reconnect to the drained end."""
    case = Case({"adit": adit, "adit-gateway": gateway})
    try:
        return _trace(case)
    finally:
        case.stop()


def _trace(case):
    traces = {name: case.scratch.path(f"{name}.trace") for name in ("agent", "gateway")}
    strace = {name: ["strace", "-f", "-qq", "-e", "signal=none", "-o", trace] for name, trace in traces.items()}
    site = case.site()
    site.agent_prefix, site.gateway_prefix = strace["agent"], strace["gateway"]
    site.start()
    for name, number in (("gateway", signal.SIGHUP), ("agent", signal.SIGHUP), ("agent", signal.SIGUSR1)):
        site.signal_inside(name, number)
    site.wait_for_session(2)
    site.wait_until_reachable()
    site.exchange()
    for name in ("agent", "gateway"):
        site.signal_inside(name, signal.SIGTERM)
        site.programs[name].wait(60)
    wait_until(lambda: all(trace.stat().st_size for trace in traces.values()), "the traces to be written", 10)
    units = {"agent": "adit.service", "gateway": "adit-gateway.service"}
    return {units[name]: _names(trace) for name, trace in traces.items()}


def _names(trace):
    return set(re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace.read_text(), re.MULTILINE))
