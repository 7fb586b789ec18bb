"""The firewall rules that the guide for end customers shows, as they stand there but for names and addresses."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from failure import expect
from fault import fault
from netns import AGENT, TRANSIT, inside, run

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs/end-customer.md"
# Nobody else's in these scenarios.
AGENT_USER = 65534


@fault(seconds=90)
def rules_of_the_guide_let_the_agent_through_and_nothing_else(case):
    """On the box: its user reaches the gateway and the upstreams of its file."""
    site, network = guarded_site(case)
    upstreams = site.upstreams
    rules = rules_of_the_guide("table inet")
    rules = rules.replace('"adit"', str(AGENT_USER))
    rules = rules.replace("203.0.113.10 tcp dport 443", f"{network.gateway_address} tcp dport {site.port}")
    rules = rules.replace("192.168.1.20 tcp dport 8080", f"127.0.0.1 tcp dport {upstreams.web.port}")
    rules = rules.replace("192.168.1.30 tcp dport 5432", f"127.0.0.1 tcp dport {upstreams.raw.port}")
    assert_is_effective(site, network, lambda: run(AGENT, "nft", "-f", "-", text=rules))


@fault(seconds=90)
def rules_of_the_guide_for_the_router_let_the_box_through_to_the_gateway_alone(case):
    site, network = guarded_site(case)
    rules = rules_of_the_guide("chain")
    rules = rules.replace("192.168.1.50", network.agent_address).replace("192.168.1.0/24", "10.66.1.0/24")
    rules = rules.replace("203.0.113.10 tcp dport 443", f"{network.gateway_address} tcp dport {site.port}")
    # OpenWrt puts the chain into a table of its own.
    assert_is_effective(site, network, lambda: run(TRANSIT, "nft", "-f", "-", text=f"table inet fw4 {{ {rules} }}"))


def guarded_site(case):
    """A site behind a router, whose agent runs as a user of its own."""
    site = case.site()
    network = site.across_a_network()
    site.agent_prefix += ["setpriv", f"--reuid={AGENT_USER}", f"--regid={AGENT_USER}", "--clear-groups", "--"]
    write_agent = site.write_agent

    def write_for_the_agent():
        write_agent()
        site.agent_file.chmod(0o644)

    site.write_agent = write_for_the_agent
    site.start()
    return site, network


def rules_of_the_guide(beginning):
    """The block of the guide that begins like this."""
    blocks = re.findall(r"```nft\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    blocks = [block for block in blocks if block.startswith(beginning)]
    expect(len(blocks) == 1, f"the guide has {len(blocks)} blocks of rules that begin with {beginning}")
    return blocks[0]


def assert_is_effective(site, network, forbid):
    other = socket.create_server((network.gateway_address, 0))
    with other:
        expect(reaches(other.getsockname()), "the other service could not be reached before the rules, either")
        forbid()
        expect(not reaches(other.getsockname()), "the rules forbid nothing")
    # What is open goes on, and a new connection to the gateway is made.
    site.exchange()
    site.programs["agent"].signal(signal.SIGUSR1)
    site.wait_for_session(2)
    site.wait_until_reachable()
    site.exchange()


def reaches(address):
    """Whether the agent's user, on the agent's box, gets a connection."""
    host, port = address
    # What Python loads when it first needs it, that user may not read.
    code = "import encodings.idna, os, socket; "
    code += f"os.setuid({AGENT_USER}); socket.create_connection(({host!r}, {port}), 5)"
    with inside(AGENT):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20).returncode == 0
