"""The OpenWrt package: init script and hotplug script under a real ash with a procd that only writes down what it is
asked for, the settings that they make read by the real agent, and the Makefile under a real make."""

import json
import os
import stat
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "packaging/openwrt"
STUBS = Path(__file__).resolve().parent / "openwrt"
TOKEN = "adit_box_0123456789abcdef"


class Box(unittest.TestCase):
    """A router of nothing but a folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="adit-openwrt-")
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        (self.home / "token").write_text(TOKEN + "\n")
        self.users = self.home / "passwd"
        self.users.write_text("root:x:0:0:root:/root:/bin/ash\nadit:x:999:999:adit:/var/run/adit:/bin/false\n")
        # Only the commands that a router has, and only their options.
        (self.home / "bin").mkdir()
        subprocess.run(["busybox", "--install", "-s", self.home / "bin"], check=True)

    def configure(self, text):
        (self.home / "config").write_text(text.replace("HOME", str(self.home)))

    def init(self, action, script="adit.init", **environment):
        """The status of a call; what it asked of procd is new each time."""
        for name in ("calls", "log"):
            (self.home / name).write_text("")
        done = subprocess.run(
            [self.home / "bin/ash", STUBS / "rc.common", PACKAGE / "files" / script, action],
            env={
                "PATH": str(self.home / "bin"),
                "HOME_OF_TEST": str(self.home),
                "PROGRAM_OF_TEST": os.environ["ADIT"],
                "IPKG_INSTROOT": str(self.home),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(done.stderr, "")
        return done.returncode

    def calls(self):
        lines = (self.home / "calls").read_text().splitlines()
        return [tuple(line[1:-1].split("][")) for line in lines]

    def log(self):
        return (self.home / "log").read_text()

    @property
    def file(self):
        return self.home / "run/adit.json"


AGENT = """
config agent 'main'
	option enabled '1'
	option connect_url 'connect.example.com:443'
	option authtoken_file 'HOME/token'
	option remote_management '0'
	option metadata 'box "7" at C:\\clinic, O'\\''Brien'
	list wan 'wan'
	list wan 'lte'
"""
ENDPOINTS = """
config endpoint 'api'
	option url 'https://api.clinic-1.internal'
	option upstream 'http://192.168.1.20:8080'
	option pooling_enabled '1'
	list bindings 'internal'

config endpoint
	option name 'db'
	option url 'tcp://db.clinic-1.internal:5432'
	option upstream 'tcp://192.168.1.30:5432'
	option proxy_protocol '2'
"""


class Settings(Box):
    def test_settings_become_the_agents_file(self):
        self.configure(AGENT + ENDPOINTS)
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertEqual(
            json.loads(self.file.read_text()),
            {
                "version": 3,
                "agent": {
                    "connect_url": "connect.example.com:443",
                    "remote_management": False,
                    "metadata": 'box "7" at C:\\clinic, O\'Brien',
                    "authtoken": TOKEN,
                },
                "endpoints": [
                    {
                        "name": "api",
                        "url": "https://api.clinic-1.internal",
                        "upstream": {"url": "http://192.168.1.20:8080"},
                        "pooling_enabled": True,
                        "bindings": ["internal"],
                    },
                    {
                        "name": "db",
                        "url": "tcp://db.clinic-1.internal:5432",
                        "upstream": {"url": "tcp://192.168.1.30:5432", "proxy_protocol": 2},
                    },
                ],
            },
        )

    def test_the_token_is_for_the_agent_alone(self):
        self.configure(AGENT + ENDPOINTS)
        self.init("start")
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.file.parent.stat().st_mode), 0o700)
        self.assertIn(("chown", "-R", "adit", str(self.file.parent)), self.calls())
        asked = [call for call in self.calls() if call[0] != "chown"]
        self.assertNotIn(TOKEN, str(asked), "procd is told the token, and so everybody who asks it")
        self.assertNotIn(TOKEN, self.log())

    def test_the_shipped_settings_are_off_and_usable(self):
        text = (PACKAGE / "files/adit.config").read_text()
        (self.home / "config").write_text(text)
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertNotIn(("open_instance",), self.calls())
        text = text.replace("enabled '0'", "enabled '1'").replace("/etc/adit-token", str(self.home / "token"))
        (self.home / "config").write_text(text.replace("\n#config", "\nconfig").replace("\n#\toption", "\n\toption"))
        self.assertEqual(self.init("start"), 0, self.log())
        names = [endpoint["name"] for endpoint in json.loads(self.file.read_text())["endpoints"]]
        self.assertEqual(names, ["api", "db"])

    def test_a_file_of_ones_own_runs_as_its_owner(self):
        own = self.home / "own.json"
        own.write_text('{"version": 3, "agent": {"connect_url": "a:1", "authtoken": "t"}, "endpoints": []}')
        own.chmod(0o600)
        self.configure(AGENT.replace("'1'", "'1'\n\toption config_file 'HOME/own.json'", 1))
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertIn(("set_param", "command", os.environ["ADIT"], "run", "--config", str(own)), self.calls())
        self.assertIn(("set_param", "user", own.owner()), self.calls())
        self.assertFalse(self.file.exists())

    def test_the_example_of_such_a_file_is_accepted(self):
        text = (PACKAGE / "adit.example.json").read_text()
        (self.home / "own.json").write_text(text.replace("/etc/adit-token", str(self.home / "token")))
        (self.home / "own.json").chmod(0o600)
        (self.home / "token").chmod(0o600)
        self.configure(AGENT.replace("'1'", "'1'\n\toption config_file 'HOME/own.json'", 1))
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertIn(("open_instance",), self.calls())

    def test_only_old_kernels_want_root_for_an_interface(self):
        self.configure(AGENT.replace("metadata", "connect_interface") + ENDPOINTS)
        (self.home / "accepts").write_text("#!/bin/sh\nexit 0\n")
        (self.home / "accepts").chmod(0o755)
        for release, user in (("5.4.154", "root"), ("4.14.1", "root"), ("5.10.1", "adit"), ("6.6.73", "adit")):
            uname = self.home / "bin/uname"
            uname.unlink()
            uname.write_text(f"#!/bin/sh\necho {release}\n")
            uname.chmod(0o755)
            self.assertEqual(self.init("start", PROGRAM_OF_TEST=str(self.home / "accepts")), 0, self.log())
            self.assertIn(("set_param", "user", user), self.calls())


class User(Box):
    ADDED = [("group_add_next", "adit"), ("user_add", "adit", "", "65536")]

    def setUp(self):
        super().setUp()
        self.configure(AGENT + ENDPOINTS)

    def added(self):
        return [call for call in self.calls() if call[0] in ("group_add_next", "user_add")]

    def test_the_packages_user_stays_as_it_is(self):
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertEqual(self.added(), [])

    def test_files_without_the_package_get_their_user_once(self):
        self.users.write_text("root:x:0:0:root:/root:/bin/ash\n")
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertEqual(self.added(), self.ADDED)
        self.assertLess(self.calls().index(self.ADDED[1]), self.calls().index(("chown", "-R", "adit", str(self.file.parent))))
        self.assertIn(("set_param", "user", "adit"), self.calls())
        self.assertEqual(self.init("start"), 0, self.log())
        self.assertEqual(self.added(), [])

    def test_a_user_that_cannot_be_added_is_named_and_nothing_starts(self):
        self.users.unlink()
        self.assertNotEqual(self.init("start"), 0)
        self.assertNotIn(("open_instance",), self.calls())
        self.assertIn("the user adit is not in /etc/passwd and cannot be added", self.log())
        self.assertEqual(list((self.home / "run").iterdir()), [])


class Supervision(Box):
    def test_procd_never_gives_up_and_keeps_the_messages(self):
        self.configure(AGENT + ENDPOINTS)
        self.assertEqual(self.init("start"), 0, self.log())
        expected = [
            ("open_service",),
            ("open_instance",),
            ("set_param", "command", os.environ["ADIT"], "run", "--config", str(self.file)),
            ("set_param", "respawn", "3600", "5", "0"),
            ("set_param", "stderr", "1"),
            ("set_param", "user", "adit"),
            ("set_param", "no_new_privs", "1"),
            ("close_instance",),
            ("add_reload_trigger", "adit"),
            ("close_service",),
        ]
        self.assertEqual([call for call in self.calls() if call in expected], expected)

    def test_unusable_settings_are_named_and_not_started(self):
        self.configure(AGENT.replace("metadata", "no_such_key") + ENDPOINTS)
        self.assertNotEqual(self.init("start"), 0)
        self.assertNotIn(("open_instance",), self.calls())
        self.assertIn("no_such_key", self.log())
        self.assertEqual(list((self.home / "run").iterdir()), [])

    def test_a_missing_token_is_named(self):
        self.configure(AGENT + ENDPOINTS)
        (self.home / "token").unlink()
        self.assertNotEqual(self.init("start"), 0)
        self.assertIn(str(self.home / "token"), self.log())

    def test_a_line_break_is_refused(self):
        self.configure(AGENT.replace("O'", "\nO'") + ENDPOINTS)
        self.assertNotEqual(self.init("start"), 0)
        self.assertIn("metadata has a line break", self.log())

    def test_a_restart_with_unusable_settings_goes_on_with_the_last_ones(self):
        self.configure(AGENT + ENDPOINTS)
        self.init("start")
        before = self.file.read_text()
        self.configure(AGENT.replace("metadata", "no_such_key") + ENDPOINTS)
        self.assertEqual(self.init("start"), 0)
        self.assertIn(("set_param", "command", os.environ["ADIT"], "run", "--config", str(self.file)), self.calls())
        self.assertEqual(self.file.read_text(), before)
        self.assertIn("accepted last", self.log())


class Reload(Box):
    def setUp(self):
        super().setUp()
        self.configure(AGENT + ENDPOINTS)
        self.init("start")
        (self.home / "running").touch()

    def test_changed_settings_are_taken_over_by_a_signal(self):
        self.configure(AGENT + ENDPOINTS.replace("8080", "9090"))
        self.assertEqual(self.init("reload"), 0, self.log())
        self.assertIn("9090", self.file.read_text())
        calls = self.calls()
        signal, again = calls.index(("send_signal", "adit", "*", "HUP")), calls.index(("open_service",))
        self.assertLess(signal, again, "a process that has just been started would die of the signal")
        self.assertNotIn(("kill",), calls)

    def test_unusable_settings_change_nothing(self):
        before = self.file.read_text()
        self.configure(AGENT.replace("connect_url", "conect_url") + ENDPOINTS)
        self.assertNotEqual(self.init("reload"), 0)
        self.assertEqual(self.calls(), [])
        self.assertEqual(self.file.read_text(), before)
        self.assertIn("conect_url", self.log())

    def test_what_does_not_run_is_started_and_gets_no_signal(self):
        (self.home / "running").unlink()
        self.assertEqual(self.init("reload"), 0, self.log())
        self.assertIn(("open_instance",), self.calls())
        self.assertNotIn(("send_signal", "adit", "*", "HUP"), self.calls())

    def test_disabled_settings_stop_it(self):
        self.configure(AGENT.replace("enabled '1'", "enabled '0'") + ENDPOINTS)
        self.assertEqual(self.init("reload"), 0)
        self.assertEqual(self.calls(), [("kill",)])


class Hotplug(Box):
    def setUp(self):
        super().setUp()
        self.configure(AGENT + ENDPOINTS)
        # What the script sources on a box is in the stub already.
        (self.home / "lib/functions").mkdir(parents=True)
        (self.home / "lib/functions.sh").touch()
        (self.home / "lib/functions/procd.sh").touch()

    def hotplug(self, action, interface):
        self.assertEqual(self.init("hotplug", "adit.hotplug", ACTION=action, INTERFACE=interface), 0)
        return self.calls()

    def test_a_wan_interface_that_comes_up_reconnects(self):
        for interface in ("wan", "lte"):
            self.assertEqual(self.hotplug("ifup", interface), [("send_signal", "adit", "*", "USR1")])

    def test_other_interfaces_and_events_do_nothing(self):
        for action, interface in (("ifdown", "wan"), ("ifupdate", "wan"), ("ifup", "lan"), ("ifup", "wan2")):
            self.assertEqual(self.hotplug(action, interface), [])


class Makefile(Box):
    def make(self, *arguments):
        done = subprocess.run(
            ["make", "--warn-undefined-variables", f"TOPDIR={STUBS}", f"OUT={self.home}", *arguments],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def installed(self):
        root = self.home / "root"
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in files}

    FILES = {
        "usr/bin/adit": 0o755,
        "etc/init.d/adit": 0o755,
        "etc/config/adit": 0o600,
        "etc/hotplug.d/iface/95-adit": 0o644,
    }

    def test_a_binary_that_exists_is_packaged(self):
        printed = self.make(f"ADIT_BINARY={os.environ['ADIT']}")
        self.assertNotIn("cargo", printed)
        self.assertEqual(self.installed(), self.FILES)
        self.assertEqual((self.home / "root/usr/bin/adit").read_bytes(), Path(os.environ["ADIT"]).read_bytes())
        self.assertIn("user=adit:adit", printed)
        self.assertIn("conffiles=/etc/config/adit", printed)

    def test_without_one_the_agent_is_built_from_source(self):
        printed = self.make()
        self.assertIn("cargo path= arguments=--bin adit", printed)
        self.assertEqual(self.installed(), self.FILES)
        self.assertIn("depends=@has-rust", printed)

    def test_the_version_is_the_agents(self):
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
        package = manifest["package"]["version"]
        version = package if isinstance(package, str) else manifest["workspace"]["package"]["version"]
        self.assertIn(f"version={version} ", self.make(f"ADIT_BINARY={os.environ['ADIT']}"))


if __name__ == "__main__":
    unittest.main()
