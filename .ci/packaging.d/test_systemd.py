"""The systemd units, as far as they can be judged where systemd does not run: their syntax, how much they allow, and
that the programs get along with that."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "packaging/systemd"
# What `systemd-analyze security` calls the exposure, in tenths. Most of it is the network, which they are for.
EXPOSURE_MAX = {"adit.service": 12, "adit-gateway.service": 12}
# With the drop-in for connect_interface: one capability, and no user namespace.
EXPOSURE_WITH_INTERFACE_MAX = 19

sys.path[:0] = [str(ROOT / ".ci/e2e.d")]


class Units(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="adit-units-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def install(self, *drop_ins):
        """The units where their programs are, with drop-ins for the agent."""
        for file in UNITS.glob("adit*.s*"):
            text = file.read_text()
            text = text.replace("/usr/bin/adit-gateway", os.environ["ADIT_GATEWAY"])
            (self.folder / file.name).write_text(text.replace("/usr/bin/adit ", os.environ["ADIT"] + " "))
        (self.folder / "adit.service.d").mkdir()
        for name in drop_ins:
            shutil.copy(UNITS / "drop-ins" / name, self.folder / "adit.service.d")

    def analyze(self, *arguments):
        done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def security(self, unit, threshold):
        return self.analyze("security", "--offline=yes", f"--threshold={threshold}", self.folder / unit).stdout

    def test_units_are_correct(self):
        self.install(*(file.name for file in (UNITS / "drop-ins").iterdir()))
        for unit in ("adit.service", "adit-gateway.service", "adit-gateway.socket"):
            done = self.analyze("verify", "--man=no", "--recursive-errors=no", self.folder / unit)
            self.assertEqual(done.stdout + done.stderr, "")

    def test_sandbox_stays_strict(self):
        self.install()
        for unit, threshold in EXPOSURE_MAX.items():
            self.security(unit, threshold)

    def test_only_the_drop_in_for_an_interface_gives_a_capability(self):
        self.install()
        self.assertNotIn("CAP_NET_RAW", settings(self.folder / "adit.service"))
        self.assertEqual(settings(self.folder / "adit.service").get("CapabilityBoundingSet"), "")
        shutil.copy(UNITS / "drop-ins/connect-interface.conf", self.folder / "adit.service.d")
        shown = self.security("adit.service", EXPOSURE_WITH_INTERFACE_MAX)
        granted = [line for line in shown.splitlines() if line.startswith("✗") and "Capabilit" in line]
        self.assertEqual(len(granted), 2, shown)
        self.assertTrue(any("CAP_NET_(BIND_SERVICE|BROADCAST|RAW)" in line for line in granted), shown)

    def test_restarts_are_without_limit(self):
        for unit in EXPOSURE_MAX:
            found = settings(UNITS / unit)
            self.assertEqual((found["Restart"], found["StartLimitIntervalSec"]), ("always", "0"), unit)

    def test_the_token_is_neither_in_the_unit_nor_in_the_command_line(self):
        found = settings(UNITS / "adit.service")
        self.assertEqual(found["LoadCredential"].split(":")[0], "authtoken")
        document = json.loads((UNITS / "adit.json").read_text())
        self.assertEqual(document["agent"]["authtoken_file"], "/run/credentials/adit.service/authtoken")
        self.assertNotIn("authtoken", document["agent"])
        self.assertEqual(found["ExecStart"], "/usr/bin/adit run --config /etc/adit.json")

    def test_the_shipped_file_is_usable(self):
        token = self.folder / "token"
        token.write_text("adit_box_1\n")
        token.chmod(0o600)
        text = (UNITS / "adit.json").read_text()
        file = self.folder / "adit.json"
        file.write_text(text.replace("/run/credentials/adit.service/authtoken", str(token)))
        done = subprocess.run(
            [os.environ["ADIT"], "check", "--config", file], capture_output=True, text=True, timeout=20
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_syscall_filters_allow_what_the_programs_do(self):
        """Both programs log in, carry a request, reload and drain under strace; all they call has to be allowed."""
        from system_calls import calls_of_both

        for unit, calls in calls_of_both(os.environ["ADIT"], os.environ["ADIT_GATEWAY"]).items():
            allowed = self.allowed(UNITS / unit)
            self.assertTrue({"epoll_wait", "epoll_pwait"} & calls, f"{unit}: nothing was traced: {calls}")
            self.assertEqual(calls - allowed, set(), unit)

    def allowed(self, unit):
        """The system calls that a unit's filter lets through."""
        lines = re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE)
        allowed = set()
        for line in lines:
            words = self.expand(line.removeprefix("~").split())
            allowed = allowed - words if line.startswith("~") else allowed | words
        # Always allowed, whatever the filter says.
        return allowed | self.expand(["@default"]) | {"execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall"}

    def expand(self, words):
        calls = set()
        for word in words:
            if not word.startswith("@"):
                calls.add(word)
                continue
            lines = self.analyze("syscall-filter", word).stdout.splitlines()[1:]
            calls |= self.expand([line.strip() for line in lines if line.strip() and not line.strip().startswith("#")])
        return calls


def settings(file):
    """The last value of each key."""
    return dict(re.findall(r"^(\w+)=(.*)$", file.read_text(), re.MULTILINE))


if __name__ == "__main__":
    unittest.main()
