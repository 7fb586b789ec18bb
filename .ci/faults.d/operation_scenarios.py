"""What those who look after an agent see and do: status, diagnosis, another configuration while it works."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import stream
from authority import Authority
from clients import read_to_end, request_stream
from failure import expect, expect_equal
from fault import fault
from program import wait_until

BACK_SECONDS = 30
# What `adit diagnose` ends with.
NAMES, NETWORK, TIME, CERTIFICATE, LOG_IN, UPSTREAM = 10, 11, 12, 13, 15, 16


@fault(seconds=120)
def status_follows_the_session_through_an_outage(case):
    site = case.site()
    site.agent["status_socket"] = str(site.scratch.path("status"))
    site.start()
    code, report = status(site)
    expect_equal((code, report["session"]["state"], report["reconnects"]), (0, "up", 0), "a session that is up")
    expect(report["heartbeat"]["answered"], "the heartbeat of a session that is up")
    expect_equal({entry["state"] for entry in report["endpoints"]}, {"online"}, "the endpoints")
    expect(report["bytes"]["from_upstreams"] > 1 << 20, f"{report['bytes']} after a download of 1 MiB")
    site.programs["gateway"].signal(signal.SIGKILL)
    site.programs["gateway"].wait(10)
    site.wait_for_loss(1, BACK_SECONDS)

    def is_refused():
        code, report = status(site)
        return report if code == 5 and "refused" in report["last_error"]["text"] else None

    report = wait_until(is_refused, "the status to say that the connection is refused", BACK_SECONDS)
    expect_equal({entry["state"] for entry in report["endpoints"]}, {"offline"}, "the endpoints")
    site.start_gateway()
    site.wait_for_session(2, BACK_SECONDS)
    site.wait_until_reachable()
    code, report = status(site)
    expect_equal((code, report["reconnects"]), (0, 1), "after the gateway's return")
    site.programs["agent"].signal(signal.SIGKILL)
    site.programs["agent"].wait(10)
    expect_equal(status(site)[0], 4, "the exit code without an agent")
    # The socket that the killed one left behind is replaced.
    site.start_agent()
    expect_equal(status(site)[0], 0, "after a crash")


def status(site):
    done = run(site, "status", "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def run(site, *arguments):
    """A command of the agent's, with its file."""
    command = [site.binaries["adit"], *arguments, "--config", site.agent_file]
    environment = {"SSL_CERT_FILE": str(site.upstreams.authority.certificate)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@fault(seconds=240)
def diagnosis_names_the_fault_and_who_can_mend_it(case):
    site = case.site()
    site.start()
    diagnosed(site, 0, "ok    log-in")
    good = site.agent_document()

    def wrong(code, words, agent=None, endpoints=None):
        document = json.loads(json.dumps(good))
        document["agent"] |= agent or {}
        document["endpoints"] = endpoints or document["endpoints"]
        site.scratch.write("files/adit.json", json.dumps(document), 0o600)
        diagnosed(site, code, *words)

    wrong(NAMES, ["cannot look no-such.invalid up"], {"connect_url": "no-such.invalid"})
    wrong(NETWORK, ["refused"], {"connect_url": f"127.0.0.1:{site.scratch.port()}"})
    with SilentListener() as address:
        wrong(NETWORK, ["timed out", "firewall"], {"connect_url": address})
    wrong(LOG_IN, ["refuses the log-in", "token"], {"authtoken": "adit_e2e_" + "x" * 43})
    inspector = Authority("Deep Look", site.scratch)
    wrong(CERTIFICATE, ["issued by CN=gateway", "inspects TLS"], {"connect_cas": str(inspector.certificate)})
    dead = f"tcp://127.0.0.1:{site.scratch.port()}"
    endpoints = [*good["endpoints"], {"name": "dead", "url": "tcp://dead.internal:1", "upstream": {"url": dead}}]
    wrong(UPSTREAM, ["ok    upstream", f"FAIL  upstream {dead} of dead", "refused"], endpoints=endpoints)
    # Nobody's session ended for all this.
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions of the agent that runs, and how many were lost")
    site.exchange()


@fault(seconds=120)
def diagnosis_of_a_certificate_out_of_its_time_names_both_times(case):
    site = case.site()
    site.start_upstreams()
    expired(site)
    site.start_gateway()
    site.write_agent()
    diagnosed(site, TIME, "expired at 2020-02-02T00:00:00Z", "the system clock says 20")


def expired(site):
    """A certificate of the gateway's authority that was good until 2020."""
    folder = Path(site.ca_file).parent
    certificate, key = site.certificate_files()
    request, extensions = folder / "old.csr", folder / "old.ext"
    extensions.write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-new", "-key", key, "-subj", "/CN=old", "-out", request)
    # OpenSSL 3.0 signs with other dates only through its little authority.
    (folder / "index").write_text("")
    (folder / "serial").write_text("1000\n")
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=a\n[a]\ndatabase={folder}/index\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n"
    )
    openssl(
        *("ca", "-batch", "-notext", "-config", folder / "ca.cnf", "-in", request, "-out", certificate),
        *("-cert", site.ca_file, "-keyfile", folder / "ca.key", "-extfile", extensions),
        *("-startdate", "20200101000000Z", "-enddate", "20200202000000Z"),
    )


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


def diagnosed(site, code, *words):
    done = run(site, "diagnose")
    text = done.stdout + done.stderr
    expect_equal(done.returncode, code, f"the exit code of a diagnosis that said {text}")
    for word in words:
        expect(word in text, f"{word!r} is not in {text}")
    expect(code == 0 or "who can mend it" in text, f"nobody is named in {text}")
    expect("adit_e2e_" not in text, f"a token is in {text}")


class SilentListener:
    """An address that answers no packet: a listener whose queue is full."""

    def __enter__(self):
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        address = self._listener.getsockname()
        self._first = socket.create_connection(address)
        return f"127.0.0.1:{address[1]}"

    def __exit__(self, *_):
        self._first.close()
        self._listener.close()


@fault(seconds=120, heavy=True)
def another_file_during_a_download_costs_it_no_byte(case):
    """SIGHUP while bytes flow: endpoints come and go, a bad file is refused, and the download is whole."""
    site = case.site()
    site.start()
    length = 256 << 20
    agent = site.programs["agent"]
    with site.place("raw").socket(timeout=60) as connection:
        request_stream(connection, length)
        good = site.agent_document()
        for number in range(5):
            extra = {"name": f"extra-{number}", "url": f"https://extra-{number}.internal", "upstream": {"url": "9"}}
            reload(site, {**good, "endpoints": [*good["endpoints"], extra]})
            agent.wait_for_log(f"endpoint=extra-{number} online")
            reload(site, {**good, "endpoints": "all of them"})
            agent.wait_for_log(f"the configuration is refused (reload {2 * number + 2})")
        reload(site, good)
        agent.wait_for_log("endpoints removed: extra-4")
        expect_equal(read_to_end(connection), (length, stream.digest(length)), "what the download brought")
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")
    site.exchange()


def reload(site, document):
    site.scratch.write("files/adit.json", json.dumps(document), 0o600)
    site.programs["agent"].signal(signal.SIGHUP)
