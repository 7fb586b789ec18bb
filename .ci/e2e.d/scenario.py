"""The list of scenarios, and how they are run."""

import sys
import time
import traceback

from failure import Failure

_scenarios = []


def scenario(*deployments):
    """Marks a function as a scenario that runs on each of the named deployments, which it gets as its argument."""

    def add(function):
        _scenarios.append((function, deployments))
        return function

    return add


def run(deployment, only):
    """Runs the deployment's scenarios in the order of their definition; returns the names of those that failed."""
    failed = []
    for function, deployments in _scenarios:
        name = f"{deployment.name}: {function.__name__.replace('_', ' ')}"
        if deployment.name not in deployments or not any(word in name for word in only):
            continue
        marks = deployment.log_marks()
        start = time.monotonic()
        try:
            function(deployment)
        except Exception as error:
            failed.append(name)
            print(f"FAILED {time.monotonic() - start:6.1f} s  {name}", flush=True)
            _explain(error)
            deployment.show_logs(marks)
        else:
            print(f"ok     {time.monotonic() - start:6.1f} s  {name}", flush=True)
    return failed


def _explain(error):
    trace = traceback.format_exception(error)
    # A Failure speaks for itself; only where it was raised is of interest.
    text = f"{trace[-2]}{error}" if isinstance(error, Failure) else "".join(trace)
    print(text, file=sys.stdout, flush=True)
