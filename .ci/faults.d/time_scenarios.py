"""Clocks that are wrong at boot and jump by decades. The real agent runs under faketime; its gateway knows the time."""

import base64
import hashlib
import re
import subprocess
import time

from clients import read_exactly
from failure import expect, expect_equal
from faketime import Clock
from fault import fault
from program import wait_until

BOOT = "1970-01-01 00:00:30"
AHEAD = "2082-11-28 00:00:00"
BACK_SECONDS = 30
# Both ends of a session miss a beat, if they do, within their sum.
BEAT = {"heartbeat_interval": "1s", "heartbeat_tolerance": "2s"}
BEAT_SECONDS = 3
# Fixed in the agent: how soon it asks again after a certificate that was not valid at the time.
AGAIN_SECONDS = 5
SLACK_SECONDS = 5
WAIT = re.compile(r"the next attempt follows in (\d+) ms")


@fault(seconds=120)
def clock_of_1970_connects_and_jumps_of_56_years_end_nothing(case):
    """A certificate that was valid when the agent was built is enough, and a session outlives every jump."""
    site, clock = site_with_clock(case, agent=BEAT)
    issue(site, "2020-01-01", "2066-01-01")
    clock.set(BOOT)
    site.start()
    expect("before this adit was built" in site.agent_log(), "the agent does not say that its clock is wrong")
    with site.place("raw").socket() as visitor:
        visitor.sendall(b"E")
        for moment in (BOOT, AHEAD, BOOT, "2026-12-24 00:00:00", BOOT, AHEAD):
            mark = len(site.agent_log())
            clock.set(moment)
            echo_for(visitor, BEAT_SECONDS + 1)
            site.exchange()
            expect(f"t={moment[:4]}-" in site.agent_log()[mark:], f"nothing was logged in {moment[:4]}")
    expect_equal((site.sessions(), site.losses()), (1, 0), "sessions, and how many were lost")


@fault(seconds=120)
def certificate_out_of_its_time_is_explained_and_used_soon_after_the_clock_is_set(case):
    """Too early (at boot) and too late (after a jump): one line with both times, and short waits until it is right."""
    site, clock = site_with_clock(case)
    proxy = site.through_proxy()
    start = time.strftime("%Y-%m-%d", time.gmtime())
    site.start_gateway()
    site.start_upstreams()
    clock.set(BOOT)
    site.start_agent(wait=False)
    wait_for_waits(site, 3)
    expect_line(
        site.agent_log(), rf"is not valid before {start}T.* the system clock says 1970-01-01T.* was taken, when"
    )
    used_soon(site, clock, 1)

    mark = len(site.agent_log())
    clock.set(AHEAD)
    proxy.reset()
    wait_for_waits(site, waits_of(site) + 3)
    expect_line(site.agent_log()[mark:], r"expired at 20..-.*, and the system clock says 2082-11-28T")
    used_soon(site, clock, 2)


@fault(seconds=120)
def pinned_gateway_is_reached_at_any_time_and_only_with_its_key(case):
    """With a pin, a certificate that is younger than the agent serves in 1970 and in 2082; the pin of another does not."""
    pin_of_another = "sha256:" + "0" * 64
    site, clock = site_with_clock(case)
    certificate, _ = site.certificate_files()
    site.agent["connect_pin"] = [pin_of_another, pin(certificate)]
    proxy = site.through_proxy()
    clock.set(BOOT)
    site.start()
    for session, moment in ((2, AHEAD), (3, BOOT)):
        clock.set(moment)
        proxy.reset()
        site.wait_for_session(session, BACK_SECONDS)
        site.exchange()

    site.programs["agent"].stop()
    site.agent["connect_pin"] = pin_of_another
    clock.set_right()
    site.start_agent(wait=False)
    expected = f"has the public key {pin(certificate)}, which agent.connect_pin does not name"
    site.programs["agent"].wait_for_log(expected, since=site.programs["agent"].log_size())


def site_with_clock(case, **options):
    """A site whose agent goes by a clock of its own."""
    site, clock = case.site(**options), Clock(case.scratch)
    # Says how long each wait is.
    site.agent["log_level"] = "debug"
    site.agent_environment = clock.environment
    return site, clock


def issue(site, start, end):
    """Makes the gateway's certificate anew for its names and key, valid from one day to the other."""
    certificate, _ = site.certificate_files()
    folder, authority = certificate.parent, site.ca_file.parent
    days = (time.mktime(time.strptime(end, "%Y-%m-%d")) - time.mktime(time.strptime(start, "%Y-%m-%d"))) / 86_400
    command = ["faketime", start, "openssl", "x509", "-req", "-in", folder / "request.pem", "-days", int(days)]
    command += ["-CA", authority / "ca.pem", "-CAkey", authority / "ca.key", "-CAcreateserial"]
    command += ["-extfile", folder / "extensions", "-out", certificate]
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=30)


def pin(certificate):
    """As the README says."""
    key = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], check=True, capture_output=True)
    command = ["openssl", "pkey", "-pubin", "-outform", "der"]
    key = subprocess.run(command, check=True, capture_output=True, input=key.stdout)
    return "sha256/" + base64.b64encode(hashlib.sha256(key.stdout).digest()).decode()


def echo_for(visitor, seconds):
    """Uses the open stream for as long as a missed heartbeat would take to end the session."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        visitor.sendall(b"ping")
        expect_equal(read_exactly(visitor, 4), b"ping", "echo")
        time.sleep(0.1)


def expect_line(log, pattern):
    expect(any(re.search(pattern, line) for line in log.splitlines()), f"no line of the log has {pattern}")


def waits_of(site):
    return len(WAIT.findall(site.agent_log()))


def wait_for_waits(site, count):
    wait_until(lambda: waits_of(site) >= count, f"the agent to wait {count} times", 60, site.programs["agent"])


def used_soon(site, clock, session):
    """Waits were short and jittered, and the one that runs when the clock is set right is the last."""
    waits = [int(ms) for ms in WAIT.findall(site.agent_log())][-2:]
    expect(all(AGAIN_SECONDS * 500 <= ms <= AGAIN_SECONDS * 1000 for ms in waits), f"the agent waits {waits} ms")
    clock.set_right()
    took = site.wait_for_session(session, AGAIN_SECONDS + SLACK_SECONDS)
    print(f"waits of {waits} ms; session {session} was up {took:.1f} s after the clock was set")
    site.wait_until_reachable()
    site.exchange()
