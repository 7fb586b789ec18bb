"""Runs all scenarios on both deployments: `main.py ADIT ADIT_GATEWAY FOLDER_OF_NODE_PACKAGES [WORD…]`.

With words, only scenarios whose name has one of them in it.
"""

import shutil
import sys
import time
from pathlib import Path

import dev
import files
import http_scenarios  # noqa: F401 - each module adds its scenarios to the list
import lifecycle_scenarios  # noqa: F401
import scenario
import sdk_scenarios  # noqa: F401
import tcp_scenarios  # noqa: F401
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
            failed += run_dev(dev.Dev(scratch, binaries, upstreams), words)
            failed += run_files(files.Files(scratch, binaries, upstreams), words)
        finally:
            upstreams.stop()
    finally:
        scratch.remove()
    print(f"e2e: {time.monotonic() - start:.0f} s, {len(failed)} failed")
    for name in failed:
        print(f"e2e: failed: {name}")
    return 1 if failed else 0


def run_dev(deployment, words):
    try:
        deployment.start()
        failed = scenario.run(deployment, words or [""])
        dev.check_leaves_nothing(deployment)
        return failed
    finally:
        deployment.stop()


def run_files(deployment, words):
    try:
        deployment.start()
        return scenario.run(deployment, words or [""])
    finally:
        deployment.stop()


if __name__ == "__main__":
    sys.exit(main())
