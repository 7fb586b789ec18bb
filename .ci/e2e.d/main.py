"""Runs all scenarios on all deployments: `main.py ADIT ADIT_GATEWAY FOLDER_OF_NODE_PACKAGES [WORD…]`.

With words, only scenarios whose name has one of them in it.
"""

import shutil
import sys
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


def main():
    adit, gateway, node_packages, *words = sys.argv[1:]
    start, failed = time.monotonic(), []
    scratch = Scratch()
    try:
        # Copies, so that a build that goes on beside the run cannot exchange them.
        binaries = {
            "adit": shutil.copy(adit, scratch.path("adit")),
            "adit-gateway": shutil.copy(gateway, scratch.path("adit-gateway")),
        }
        scratch.path("node").symlink_to(Path(node_packages).resolve())
        upstreams = Upstreams(scratch)
        try:
            for kind in (dev.Dev, files.Files, private.Private):
                failed += run(kind(scratch, binaries, upstreams), words or [""])
        finally:
            upstreams.stop()
    finally:
        scratch.remove()
    print(f"e2e: {time.monotonic() - start:.0f} s, {len(failed)} failed")
    for name in failed:
        print(f"e2e: failed: {name}")
    return 1 if failed else 0


def run(deployment, words):
    """Starts the deployment if a scenario wants it, and returns the names of what failed."""
    if not any(scenario.chosen(deployment, words)):
        return []
    try:
        deployment.start()
        return scenario.run(deployment, words) + deployment.end()
    except Exception as error:
        deployment.show_logs({})
        scenario.explain(error)
        return [f"{deployment.name}: start or end"]
    finally:
        deployment.stop()


if __name__ == "__main__":
    sys.exit(main())
