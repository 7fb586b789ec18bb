"""Tokens of a real OpenID provider: which pass, which do not and why, and what happens while the provider cannot be asked."""

import base64
import hashlib
import hmac
import json
import signal
import time
from contextlib import ExitStack, contextmanager

from clients import fetch
from failure import expect, expect_equal
from oidc import HUGE_BYTES, Front, Provider, accepted_within
from policed import policy, rule
from program import wait_until
from scenario import scenario

# The gateway asks an issuer at most every 10 s.
RETRY = 10


@scenario("files")
def openid_provider_rotates_its_keys_and_goes_away(deployment):
    with _provider(deployment, "one") as (provider, front, place, counted):
        first = provider.token()
        passed = _ask(place, first)
        expect_equal(passed.status, 200, "status with the provider's token")
        expect_equal(json.loads(passed.body)["headers"]["x-user"], "site", "claim at the upstream")
        _refused(place, counted, None, 401, 3408)

        provider.stop()
        provider.start("two", "one")
        second = provider.token()
        accepted_within(RETRY + 5, lambda: _ask(place, second))
        expect_equal(_ask(place, first).status, 200, "status of a token of the older key, which is still published")

        provider.stop()
        provider.start("three")
        third = provider.token()
        accepted_within(RETRY + 5, lambda: _ask(place, third))
        for old in (first, second):
            _refused(place, counted, old, 401, 3401)
        expect("names a key (kid) that is not among" in deployment.gateway_logged(0), "the reason is not in the log")

        # Without the provider, and with the file read anew, the keys that were fetched last stay.
        provider.stop()
        front.stop()
        since = deployment.gateway_log_size()
        deployment.programs["gateway"].signal(signal.SIGHUP)
        wait_until(lambda: "is in force" in deployment.gateway_logged(since), "the reload", 20)
        expect_equal(_ask(place, third).status, 200, "status while the provider is down")
        _refused(place, counted, first, 401, 3401)


@scenario("files")
def openid_provider_that_is_slow_or_sends_without_end_is_bounded(deployment):
    with _provider(deployment, "one") as (provider, front, place, counted):
        token = provider.token()
        expect_equal(_ask(place, token).status, 200, "status before")
        start = time.monotonic()
        _refused(place, counted, token, 502, 3422, "/slow")
        expect(4 < time.monotonic() - start < 9, f"a slow provider keeps a visitor for {time.monotonic() - start:.1f} s")
        start = time.monotonic()
        expect_equal(_ask(place, token).status, 200, "status beside it")
        _refused(place, counted, token, 502, 3422, "/slow")
        expect(time.monotonic() - start < 3, "the second visitor waits for a provider that was asked just now")
        expect_equal(front.slow, 1, "connections to the slow provider")

        before = _resident(deployment)
        _refused(place, counted, token, 502, 3422, "/huge")
        grown = _resident(deployment) - before
        expect(front.huge_bytes < HUGE_BYTES // 4, f"{front.huge_bytes} of 100 MiB were taken")
        expect(grown < 8 << 20, f"the gateway has grown by {grown} bytes")
        expect_equal(_ask(place, token).status, 200, "status afterwards")
        log = deployment.gateway_logged(0)
        for words in ("no answer within 5 s", "longer than"):
            expect(words in log, f"{words!r} is not in the log")


@scenario("files")
def hostile_token_is_refused_with_its_own_reason_in_the_log(deployment):
    with _provider(deployment, "one") as (provider, _, place, counted):
        good = provider.token()
        expect_equal(_ask(place, good).status, 200, "status of the token that the others are made of")
        begin = deployment.gateway_log_size()
        for name, tokens, status, code, reason in _hostile(provider, good):
            since = deployment.gateway_log_size()
            _refused(place, counted, tokens, status, code)
            log = deployment.gateway_logged(since)
            expect(reason in log, f"{name}: {reason!r} is not in the log: {log}")
            longest = max((token for token in tokens if token), key=len, default="")
            expect(len(longest) < 40 or longest[-40:] not in log, f"{name}: the token is in the log")
        query = fetch(place, f"/api?access_token={good}", "-H", f"Cookie: authorization=Bearer {good}", "-H", f"X-Token: {good}")
        expect_equal((query.status, query.headers["adit-error-code"]), (401, "ERR_NGROK_3408"), "tokens in other places")
        lines = [line for line in deployment.gateway_logged(begin).splitlines() if "refused by policy" in line]
        expect(all("name=jwt-validation" in line or 'name="jwt-validation"' in line for line in lines), lines)


def _hostile(provider, good):
    """What each is called, the tokens of the request, status and code of the answer, and the reason in the log."""
    head, body, signature = good.split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in (head, body))
    public = json.dumps(json.loads(provider.published())["keys"][0])
    now = int(time.time())
    # (name, header, claims, status, code, reason): signed with the provider's own key.
    signed = [
        ("other type", header | {"typ": "logout+jwt"}, claims, 401, 3401, "typ says that it is for something else"),
        ("critical", header | {"crit": ["exp"]}, claims, 401, 3401, "critical extensions"),
        ("other address of keys", header | {"jku": "https://evil.test/"}, claims, 401, 3401, "jku names keys of somebody else"),
        ("certificate elsewhere", header | {"x5u": "https://evil.test/"}, claims, 401, 3401, "own key in x5u"),
        ("own key", header | {"jwk": json.loads(public)}, claims, 401, 3401, "own key in jwk"),
        ("file as key", header | {"kid": "../../dev/null"}, claims, 401, 3401, "names a key (kid) that is not among"),
        ("statement as key", header | {"kid": "x' UNION SELECT 'k"}, claims, 401, 3401, "names a key (kid) that is not among"),
        ("RSA with a key that is none", header | {"alg": "RS256"}, claims, 401, 3401, "for another algorithm"),
        ("expired a second past the leeway", header, claims | {"exp": now - 61}, 401, 3401, "has expired"),
        ("not valid yet", header, claims | {"nbf": now + 120}, 401, 3401, "not valid yet"),
        ("for others", header, claims | {"aud": "urn:other"}, 403, 3403, "audience"),
        ("of others", header, claims | {"iss": "https://evil.test/"}, 403, 3403, "issuer"),
    ]
    texts = [[json.dumps(head), json.dumps(claims)] for _, head, claims, *_ in signed]
    deep = '{"sub":' + "[" * 1000 + "]" * 1000 + "}"
    twice = json.dumps(claims)[:-1] + ', "sub": "root"}'
    *tokens, nested, double = provider.sign("one", [*texts, [json.dumps(header), deep], [json.dumps(header), twice]])
    for (name, _, _, status, code, reason), token in zip(signed, tokens, strict=True):
        yield name, [token], status, code, reason
    unsigned = _base64(json.dumps(header | {"alg": "none"}).encode())
    confused = f"{_base64(json.dumps(header | {'alg': 'HS256'}).encode())}.{body}"
    tag = hmac.digest(public.encode(), confused.encode(), hashlib.sha256)
    yield "nested", [nested], 401, 3416, "nested too deep"
    yield "a claim twice", [double], 401, 3416, "twice"
    yield "none", [f"{unsigned}.{body}."], 401, 3401, "algorithm is none"
    yield "public key as secret", [f"{confused}.{_base64(tag)}"], 401, 3401, "shared secret"
    yield "huge", [f"{head}.{'A' * 17_000}.{signature}"], 401, 3416, "longer than 16 KiB"
    yield "other claims", [f"{head}.{_base64(json.dumps(claims | {'sub': 'root'}).encode())}.{signature}"], 401, 3401, "signature is not by"
    yield "nonsense", ["nonsense"], 401, 3416, "no signature"
    yield "two headers", [good, good], 401, 3401, "more than one header"
    yield "two in one header", [f"{good}, Bearer {good}"], 401, 3416, "not base64url"


@contextmanager
def _provider(deployment, *key_ids):
    """A provider, the server in front of its keys, and an endpoint that asks for its tokens in front of an upstream."""
    provider = Provider(deployment.scratch)
    with ExitStack() as stack:
        provider.start(*key_ids)
        stack.callback(provider.stop)
        front = stack.enter_context(Front(provider))
        user = {"headers": {"x-user": "${actions.ngrok.jwt_validation.tokens[0].payload.sub}"}}
        rules = [
            _rule(provider, front, "jwks", "!(req.url.path in ['/slow', '/huge'])"),
            *(_rule(provider, front, path, f"req.url.path == '/{path}'") for path in ("slow", "huge")),
            rule("add-headers", user),
        ]
        place, counted = stack.enter_context(policy(deployment, rules))
        yield provider, front, place, counted


def _rule(provider, front, path, condition):
    token = {"type": "access_token", "method": "header", "name": "Authorization", "prefix": "Bearer "}
    config = {
        "issuer": {"allow_list": [{"value": provider.issuer}]},
        "audience": {"allow_list": [{"value": "urn:api"}]},
        "http": {"tokens": [token]},
        "jws": {
            "allowed_algorithms": ["ES256", "RS256"],
            "keys": {"sources": {"additional_jkus": [f"{front.url}/{path}"]}},
        },
    }
    # The marks that tell whether the policy is in force come without a token.
    return rule("jwt-validation", config, condition)


def _ask(place, *tokens, path="/"):
    bearers = [argument for token in tokens if token for argument in ("-H", f"Authorization: Bearer {token}")]
    return fetch(place, path, *bearers)


def _refused(place, counted, tokens, status, code, path="/"):
    """Asks with these tokens, and makes sure that nothing of it reaches the upstream."""
    before = counted.requests
    tokens = tokens if isinstance(tokens, list) else [tokens]
    answer = _ask(place, *tokens, path=path)
    found = (answer.status, answer.headers.get("adit-error-code"))
    expect_equal(found, (status, f"ERR_NGROK_{code}"), f"answer to {str(tokens)[:80]} at {path}")
    expect_equal(counted.requests, before, "requests that reached the upstream")


def _resident(deployment):
    """The gateway's resident memory in bytes."""
    with open(f"/proc/{deployment.programs['gateway'].pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
