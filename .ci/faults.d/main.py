"""Runs the fault scenarios: `main.py ADIT ADIT_GATEWAY [WORD…]`. See fault.py for how to write one.

With words, only scenarios whose name has one of them in it. Scenarios mostly wait, so several run at once, each as a
process of its own with its own deadline.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The machinery of the end-to-end scenarios: programs, certificates, clients, upstreams.
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e.d")]

import fault  # noqa: E402 - found only with the line above
from scenario import explain  # noqa: E402

# A scenario's own namespaces. What is in them ends with this program, too, however it ends.
NAMESPACES = "setpriv --pdeathsig=KILL unshare --net --mount --pid --fork --mount-proc --kill-child=SIGKILL --"
# What runs at once: light scenarios cost 1, heavy ones more.
CAPACITY = 6
HEAVY = 4


def main():
    adit, gateway, *words = sys.argv[1:]
    load_scenarios()
    faults = fault.chosen(words)
    if not faults:
        print(f"faults: no scenario is called {words}", file=sys.stderr)
        return 1
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adit-faults-") as folder:
        folder = Path(folder)
        # Some scenarios run the agent as a user of its own.
        folder.chmod(0o755)
        # Copies, so that a build that goes on beside the run cannot exchange them.
        binaries = [shutil.copy(adit, folder / "adit"), shutil.copy(gateway, folder / "adit-gateway")]
        failed = Runner(folder, binaries).run(faults)
    print(f"faults: {len(faults)} scenarios, {time.monotonic() - start:.0f} s, {len(failed)} failed")
    for name in failed:
        print(f"faults: failed: {name}")
    return 1 if failed else 0


def load_scenarios():
    for module in sorted(HERE.glob("*_scenarios.py")):
        __import__(module.stem)


class Runner:
    """Runs scenarios at once as far as their weights allow."""

    def __init__(self, folder, binaries):
        self._folder, self._binaries = folder, binaries
        self._room = threading.Condition()
        self._used = 0
        self._failed = []

    def run(self, faults):
        """Returns the names of those that failed. The longest go first, so that none of them is left to the end."""
        threads = []
        for entry in sorted(faults, key=lambda entry: -entry.seconds):
            cost = HEAVY if entry.heavy else 1
            with self._room:
                self._room.wait_for(lambda: self._used + cost <= CAPACITY)
                self._used += cost
            threads.append(threading.Thread(target=self._run_and_report, args=(entry, cost)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return self._failed

    def _run_and_report(self, entry, cost):
        start = time.monotonic()
        try:
            status, output = self._run(entry)
        except OSError as error:
            status, output = 1, str(error)
        with self._room:
            word = "ok    " if status == 0 else "FAILED"
            print(f"{word} {time.monotonic() - start:6.1f} s  {entry.name.replace('_', ' ')}", flush=True)
            lines = output.strip().splitlines()
            print("".join(f"         {line}\n" for line in lines), end="", flush=True)
            if status != 0:
                self._failed.append(entry.name)
            self._used -= cost
            self._room.notify_all()

    def _run(self, entry):
        """Exit status and output. The end of the first process in a process namespace ends all others in it."""
        scratch = self._folder / entry.name
        scratch.mkdir(mode=0o755)
        command = [
            *NAMESPACES.split(),
            sys.executable,
            "-B",
            str(HERE / "main.py"),
            "--one",
            entry.name,
            *self._binaries,
        ]
        with open(scratch / "output", "w+b") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "TMPDIR": str(scratch)},
            )
            status, verdict = 1, ""
            try:
                status = child.wait(entry.seconds)
            except subprocess.TimeoutExpired:
                verdict = f"not over after {entry.seconds} s\n"
                self._end(child)
            output.seek(0)
            return status, verdict + output.read().decode(errors="replace")

    def _end(self, child):
        # First asked, for the scenario's own account of what it was waiting for.
        for inner in _children(child.pid):
            os.kill(inner, signal.SIGINT)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def run_one(name, *binaries):
    """One scenario, in this process, which has its namespaces already."""
    prepare_namespaces()
    load_scenarios()
    case = fault.Case(dict(zip(("adit", "adit-gateway"), binaries, strict=True)))
    try:
        fault.named(name).function(case)
    except (Exception, KeyboardInterrupt) as error:
        explain(error)
        case.show_logs()
        return 1
    finally:
        case.stop()
    return 0


def prepare_namespaces():
    """A loopback that is up; names of network namespaces and of hosts that nobody else sees."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    names = Path("/run/netns")
    names.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "names", names], check=True)
    hosts = Path(tempfile.gettempdir()) / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


if __name__ == "__main__":
    sys.exit(run_one(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main())
