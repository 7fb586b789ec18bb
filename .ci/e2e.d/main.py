"""Runs all scenarios on all deployments: `main.py ADIT ADIT_GATEWAY FOLDER_OF_NODE_PACKAGES [WORD…]`.

With words, only scenarios whose name has one of them in it. Without, half of them runs beside the other half, each with
upstreams, gateways and agents of its own: most scenarios wait most of the time.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dev
import files
import private
import scenario

# Each module adds its scenarios to the list, in this order: those that restart things come last.
import http_scenarios  # noqa: F401, I001
import tcp_scenarios  # noqa: F401
import sdk_scenarios  # noqa: F401
import policy_scenarios  # noqa: F401
import exchange_scenarios  # noqa: F401
import oidc_scenarios  # noqa: F401
import log_in_scenarios  # noqa: F401
import browser_scenarios  # noqa: F401
import log_in_matrix_scenarios  # noqa: F401
import saml_scenarios  # noqa: F401
import proxied_scenarios  # noqa: F401
import encryption_scenarios  # noqa: F401
import acme_scenarios  # noqa: F401
import termination_scenarios  # noqa: F401
import admin_scenarios  # noqa: F401
import event_scenarios  # noqa: F401
import status_page_scenarios  # noqa: F401
import lifecycle_scenarios  # noqa: F401
from scratch import Scratch
from upstreams import Upstreams

# The machines that run this have two cores.
PARTS = 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("adit")
    parser.add_argument("gateway")
    parser.add_argument("node_packages", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--part", type=int, choices=range(PARTS), help="only every second scenario, from this one on")
    arguments = parser.parse_args()
    # Whoever ends this wants nothing of it to be left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("e2e: told to end"))
    if arguments.words or arguments.part is not None:
        return run_here(arguments)
    return run_parts(sys.argv[1:])


def run_parts(arguments):
    """Runs all parts at once; what each has printed is printed together."""
    start = time.monotonic()
    command = [sys.executable, "-B", __file__, *arguments, "--part"]
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "second"
        with printed.open("w") as second:
            children = [subprocess.Popen([*command, "0"]), subprocess.Popen([*command, "1"], stdout=second)]
        try:
            codes = [child.wait() for child in children]
        except BaseException as error:
            # An interrupt at the keyboard is for the children, too.
            if not isinstance(error, KeyboardInterrupt):
                for child in children:
                    child.terminate()
            # They stop what they have started.
            for child in children:
                child.wait()
            raise
        finally:
            print(printed.read_text(), end="", flush=True)
    print(f"e2e: both parts {time.monotonic() - start:.0f} s, {'ok' if codes == [0, 0] else 'FAILED'}")
    return 0 if codes == [0, 0] else 1


def run_here(arguments):
    start, failed = time.monotonic(), []
    scratch = Scratch(arguments.part or 0)
    try:
        # Copies, so that a build that goes on beside the run cannot exchange them.
        binaries = {
            "adit": shutil.copy(arguments.adit, scratch.path("adit")),
            "adit-gateway": shutil.copy(arguments.gateway, scratch.path("adit-gateway")),
        }
        scratch.path("node").symlink_to(arguments.node_packages.resolve())
        upstreams = Upstreams(scratch)
        try:
            for kind in (dev.Dev, files.Files, private.Private):
                failed += run(kind(scratch, binaries, upstreams), arguments)
        finally:
            upstreams.stop()
    finally:
        scratch.remove()
    print(f"e2e: {time.monotonic() - start:.0f} s, {len(failed)} failed")
    for name in failed:
        print(f"e2e: failed: {name}")
    return 1 if failed else 0


def run(deployment, arguments):
    """Starts the deployment if a scenario wants it, and returns the names of what failed."""
    chosen = list(scenario.chosen(deployment, arguments.words or [""]))
    if arguments.part is not None:
        chosen = chosen[arguments.part :: PARTS]
    if not chosen:
        return []
    try:
        deployment.start()
        return scenario.run_all(deployment, chosen) + deployment.end()
    except Exception as error:
        deployment.show_logs({})
        scenario.explain(error)
        return [f"{deployment.name}: start or end"]
    finally:
        deployment.stop()


if __name__ == "__main__":
    sys.exit(main())
