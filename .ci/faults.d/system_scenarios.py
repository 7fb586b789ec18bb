"""Small and odd systems: no names yet, few descriptors, nothing to write to."""

import json
import shutil
import socket
import subprocess

from failure import Failure, expect, expect_equal
from fault import fault
from files import DOMAIN
from link_scenarios import hold
from names import Names, resolve_by
from program import wait_until

BACK_SECONDS = 30
VISITORS = 200


@fault(seconds=240)
def names_that_come_later_than_the_agent_are_found(case):
    """At boot there is no resolver; then one that fails, one that is silent, one that knows nothing; then the name."""
    site = case.site()
    site.connect_name = f"connect.{DOMAIN}"
    site.connect_url = f"{site.connect_name}:{site.port}"
    resolve_by("# nothing yet\n")
    site.start_gateway()
    site.start_upstreams()
    site.start_agent(wait=False)
    site.wait_for_failed_attempt()
    resolve_by("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    hold(3)
    names = Names()
    case.at_end(names.stop)
    for trouble in ("broken", "silent"):
        setattr(names, trouble, True)
        wait_for_questions(names)
        setattr(names, trouble, False)
    wait_for_questions(names)
    names.addresses[site.connect_name] = ["127.0.0.1"]
    back = site.wait_for_session(1, BACK_SECONDS)
    print(f"a session was up {back:.1f} s after the name was there")
    site.wait_until_reachable()
    site.exchange()


def wait_for_questions(names):
    """Waits until the agent has asked in two attempts; one attempt has a question for each family of addresses."""
    asked = names.asked
    wait_until(lambda: names.asked >= asked + 4, "the agent to ask for its gateway", 90)


@fault(seconds=120)
def few_descriptors_are_survived_and_served_again(case):
    """200 visitors on 64 descriptors: some are turned away, the session stays, and afterwards all is well again."""
    site = case.site()
    site.agent_prefix = ["prlimit", "--nofile=64:64"]
    site.start()
    base = site.agent_descriptors()
    visitors = [connected(site) for _ in range(VISITORS)]
    served = sum(is_echoed(visitor) for visitor in visitors)
    print(f"{served} of {VISITORS} visitors were served at the same time")
    expect(0 < served < 64, f"{served} visitors were served with 64 descriptors")
    for visitor in filter(None, visitors):
        visitor.close()
    wait_until(lambda: site.agent_descriptors() <= base, "the agent's descriptors to be as many as before", 30)
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")
    site.exchange()


def connected(site):
    """A visitor, or None: who is turned away at once may see that before the connection is made."""
    try:
        return site.place("raw").socket(timeout=30)
    except ConnectionError:
        return None


def is_echoed(visitor):
    """Whether a visitor is served; who is turned away sees an end or a reset."""
    if not visitor:
        return False
    try:
        visitor.sendall(b"Eping")
        return visitor.recv(4, socket.MSG_WAITALL) == b"ping"
    except ConnectionError:
        return False


@fault(seconds=90)
def read_only_root_without_tmp_is_enough(case):
    """Nothing can be written anywhere, and nothing is missed; also not by a session that has to be made anew."""
    site = case.site()
    proxy = site.through_proxy()
    site.start_gateway()
    site.start_upstreams()
    root = read_only_root(site)
    site.launch("agent", ["chroot", root, "/adit", "run", "--config", "/etc/adit.json"])
    site.wait_until_reachable()
    site.exchange()
    expect_equal(proxy.reset(), 1, "connections that the reset ended")
    site.wait_for_session(2, BACK_SECONDS)
    site.wait_until_reachable()
    site.exchange()


def read_only_root(site):
    """A root with the agent, its file, the authority, the libraries and nothing that can be written to."""
    root = site.scratch.path("root", "x").parent
    mount("-t", "tmpfs", "root", root)
    document = site.agent_document()
    document["agent"]["connect_cas"] = "/etc/ca.pem"
    (root / "etc").mkdir()
    (root / "etc/adit.json").write_text(json.dumps(document))
    (root / "etc/adit.json").chmod(0o600)
    shutil.copy(site.ca_file, root / "etc/ca.pem")
    shutil.copy("/etc/hosts", root / "etc/hosts")
    shutil.copy(site.binaries["adit"], root / "adit")
    for folder in ("lib", "lib64", "usr"):
        (root / folder).mkdir()
        mount("--bind", f"/{folder}", root / folder)
        mount("-o", "remount,bind,ro", root / folder)
    mount("-o", "remount,ro", root)
    try:
        (root / "probe").touch()
    except OSError:
        return root
    raise Failure("the root is not read-only")


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)
