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


def chosen(deployment, words):
    """The deployment's scenarios whose name has one of the words in it, in the order of their definition."""
    for function, deployments in _scenarios:
        name = f"{deployment.name}: {function.__name__.replace('_', ' ')}"
        if deployment.name in deployments and any(word in name for word in words):
            yield name, function


def run_all(deployment, scenarios):
    """Runs scenarios, pairs of a name and a function, one after the other; returns the names of those that failed."""
    failed = []
    for name, function in scenarios:
        marks = deployment.log_marks()
        start = time.monotonic()
        try:
            function(deployment)
        except Exception as error:
            failed.append(name)
            print(f"FAILED {time.monotonic() - start:6.1f} s  {name}", flush=True)
            explain(error)
            deployment.show_logs(marks)
            deployment.recover()
        else:
            print(f"ok     {time.monotonic() - start:6.1f} s  {name}", flush=True)
    return failed


def explain(error):
    """Prints what went wrong, for a person."""
    trace = traceback.format_exception(error)
    # A Failure speaks for itself; only where it was raised is of interest.
    text = f"{trace[-2]}{error}" if isinstance(error, Failure) else "".join(trace)
    print(text, file=sys.stdout, flush=True)
