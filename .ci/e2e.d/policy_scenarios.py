"""Traffic Policy on a cloud endpoint: what it lets through arrives, what it refuses never reaches the agent."""

import base64
import json
import socket
import ssl
import subprocess
import time

from clients import HTTP1, HTTP2, fetch
from failure import expect, expect_equal
from policed import HOST
from policed import policy as _policy
from policed import rule as _rule
from scenario import scenario
from served import Quiet, Served


@scenario("files")
def policy_decides_by_address_header_and_password(deployment):
    rules = [
        _rule("restrict-ips", {"allow": ["127.0.0.0/8", "::1"]}),
        _rule("deny", {"status_code": 404}, "req.url.path.startsWith('/hidden')"),
        _rule("close-connection", None, "hasReqHeader('x-close')"),
        _rule("basic-auth", {"credentials": ["ann:battery-staple"]}, "req.url.path.startsWith('/private')"),
        _rule("restrict-ips", {"allow": ["192.0.2.0/24"]}, "req.url.path == '/office'"),
    ]
    with _policy(deployment, rules) as (place, counted):
        for version in (HTTP1, HTTP2):
            before = counted.requests
            expect_equal(fetch(place, "/hidden/x", version=version).status, 404, "status of a denied path")
            office = fetch(place, "/office", "-H", "X-Forwarded-For: 192.0.2.7", version=version)
            expect_equal((office.status, office.headers["ngrok-error-code"]), (403, "ERR_NGROK_3203"), "office")
            private = fetch(place, "/private", version=version)
            expect_equal((private.status, private.headers["adit-error-code"]), (401, "ERR_NGROK_3204"), "private")
            expect("www-authenticate" in private.headers, "the 401 asks for nothing")
            wrong = fetch(place, "/private", "-u", "ann:battery-stapler", version=version)
            expect_equal(wrong.status, 401, "status with a wrong password")
            expect_equal(counted.requests, before, "requests that reached the upstream")
            right = fetch(place, "/private", "-u", "ann:battery-staple", version=version)
            expect_equal((right.status, counted.requests), (200, before + 1), "status with the right password")
        log = deployment.gateway_logged(0)
        expect("refused by policy" in log and "code=3203" in log, "no line tells of the refusal")
        expect("battery" not in log, "a password is in the log")


@scenario("files")
def policy_changes_requests_and_responses(deployment):
    rules = [
        _rule("set-vars", {"vars": [{"who": "${conn.client_ip}"}]}),
        _rule("redirect", {"from": "/old/(.*)", "to": "/new/$1", "status_code": 308}),
        _rule("url-rewrite", {"from": "/v1/", "to": "/api/"}),
        _rule("add-headers", {"headers": {"x-visitor": "${vars.who}", "host": "inside.test"}}),
        _rule("remove-headers", {"headers": ["x-secret"]}),
        _rule("custom-response", {"body": "you are ${vars.who}"}, "req.url.path == '/who'"),
    ]
    after = [_rule("add-headers", {"headers": {"x-status": "${res.status_code}"}})]
    with _policy(deployment, rules, after) as (place, _):
        for version in (HTTP1, HTTP2):
            moved = fetch(place, "/old/x?y=1", version=version)
            expect_equal(moved.status, 308, "status of a redirect")
            expect_equal(moved.headers["location"], f"https://{HOST}:{place.port}/new/x?y=1", "Location")
            expect_equal(fetch(place, "/who", version=version).body, b"you are 127.0.0.1", "own answer")
            answer = fetch(place, "/v1/x", "-H", "X-Secret: s", version=version)
            expect_equal(answer.headers["x-status"], "200", "header that was added to the response")
            seen = json.loads(answer.body)
            expect_equal(seen["path"], "/api/x", "path at the upstream")
            expect_equal(seen["headers"]["x-visitor"], "127.0.0.1", "header that was added to the request")
            expect_equal(seen["headers"]["host"], "inside.test", "Host at the upstream")
            expect_equal(seen["headers"]["x-forwarded-host"], f"{HOST}:{place.port}", "X-Forwarded-Host")
            expect("x-secret" not in seen["headers"], "a removed header arrived")


@scenario("files")
def policy_limits_how_often_each_may_ask(deployment):
    config = {"name": "each", "algorithm": "sliding_window", "capacity": 2, "rate": "60s"}
    rules = [_rule("rate-limit", config | {"bucket_key": ["getReqHeader('x-key')"]})]
    with _policy(deployment, rules) as (place, counted):
        before = counted.requests
        statuses = [fetch(place, "/", "-H", "X-Key: a").status for _ in range(3)]
        expect_equal(statuses, [200, 200, 429], "statuses of one key")
        limited = fetch(place, "/", "-H", "X-Key: a")
        expect_equal(limited.headers["adit-error-code"], "ERR_NGROK_702", "code")
        expect(0 < int(limited.headers["retry-after"]) <= 60, "Retry-After is not within the window")
        expect_equal(fetch(place, "/", "-H", "X-Key: b").status, 200, "status of another key")
        expect_equal(counted.requests, before + 3, "requests that reached the upstream")


@scenario("files")
def policy_lets_through_whose_token_the_issuer_has_signed(deployment):
    with _Issuer(deployment.scratch) as issuer:
        config = {
            "issuer": {"allow_list": [{"value": "https://idp.test/"}]},
            "audience": {"allow_list": [{"value": "urn:api"}]},
            "http": {"tokens": [{"type": "jwt", "method": "header", "name": "Authorization", "prefix": "Bearer "}]},
            "jws": {"allowed_algorithms": ["RS256"], "keys": {"sources": {"additional_jkus": [issuer.url]}}},
        }
        rules = [
            _rule("jwt-validation", config),
            _rule("add-headers", {"headers": {"x-user": "${actions.ngrok.jwt_validation.tokens[0].payload.sub}"}}),
        ]
        with _policy(deployment, rules) as (place, counted):
            before, now = counted.requests, int(time.time())
            good = {"iss": "https://idp.test/", "aud": "urn:api", "sub": "ann", "exp": now + 300}
            header = {"alg": "RS256", "kid": "one", "typ": "JWT"}
            for status, code, token in (
                (401, 3408, None),
                (401, 3416, "nonsense"),
                (401, 3401, issuer.token(header | {"alg": "none"}, good)),
                (401, 3401, issuer.token(header | {"alg": "HS256"}, good)),
                (401, 3401, issuer.token(header, good)[:-8] + "AAAAAAAA"),
                (401, 3401, issuer.token(header, good | {"exp": now - 120})),
                (403, 3403, issuer.token(header, good | {"aud": "urn:other"})),
                (403, 3403, issuer.token(header, good | {"iss": "https://evil.test/"})),
            ):
                bearer = ("-H", f"Authorization: Bearer {token}") if token else ()
                refused = fetch(place, "/", *bearer)
                expect_equal((refused.status, refused.headers["adit-error-code"]), (status, f"ERR_NGROK_{code}"), token)
            expect_equal(counted.requests, before, "requests that reached the upstream")
            passed = fetch(place, "/", "-H", f"Authorization: Bearer {issuer.token(header, good)}")
            expect_equal(passed.status, 200, "status with a good token")
            expect_equal(json.loads(passed.body)["headers"]["x-user"], "ann", "claim at the upstream")
            issuer.stop()
            passed = fetch(place, "/", "-H", f"Authorization: Bearer {issuer.token(header, good)}")
            expect_equal(passed.status, 200, "status with a good token while the issuer is down")
            log = deployment.gateway_logged(0)
            expect(issuer.token(header, good)[:60] not in log, "a token is in the log")


@scenario("files")
def policy_uses_secrets_and_keys_that_lie_beside_the_configuration(deployment):
    scratch = deployment.scratch
    with _Issuer(scratch) as issuer:
        issuer.stop()
        scratch.write("files/upstream-key", "s3cret-of-the-upstream\n", 0o600)
        command = ["openssl", "rsa", "-in", issuer.key, "-pubout", "-out", scratch.path("files", "issuer-public.pem")]
        subprocess.run(command, check=True, capture_output=True)
        config = {
            "issuer": {"allow_list": [{"value": "https://${req.url.host}/"}]},
            "http": {"tokens": [{"type": "jwt", "method": "header", "name": "Authorization", "prefix": "Bearer "}]},
            "jws": {"allowed_algorithms": ["RS256"], "keys": {"sources": {"files": ["issuer-public.pem"]}}},
        }
        facts = "${endpoint.id} ${conn.bytes_in > 100} ${conn.ts.start <= req.ts.header_received} ${req.user_agent.name}"
        rules = [
            _rule("jwt-validation", config),
            _rule("add-headers", {"headers": {"x-key": "${secrets.get('upstream', 'key')}", "x-facts": facts}}),
            _rule("log", {"metadata": {"key": "${secrets.get('upstream', 'key').upper()}"}}),
        ]
        vaults = [{"name": "upstream", "secrets": [{"name": "key", "file": "upstream-key"}]}]
        with _policy(deployment, rules, change=lambda document: document.update(vaults=vaults)) as (place, counted):
            good = {"iss": f"https://{HOST}/", "sub": "ann", "exp": int(time.time()) + 300}
            header = {"alg": "RS256", "kid": "any"}
            bearer = ("-H", f"Authorization: Bearer {issuer.token(header, good)}")
            passed = fetch(place, "/", *bearer)
            expect_equal(passed.status, 200, "status with a token that a key of the file has signed")
            headers = json.loads(passed.body)["headers"]
            expect_equal(headers["x-key"], "s3cret-of-the-upstream", "secret at the upstream")
            name, counts, starts, client = headers["x-facts"].split()
            expect_equal((name[:3], counts, starts, client), ("ep_", "true", "true", "curl"), "facts of the connection")
            before = counted.requests
            elsewhere = issuer.token(header, good | {"iss": "https://elsewhere.test/"})
            refused = fetch(place, "/", "-H", f"Authorization: Bearer {elsewhere}")
            expect_equal((refused.status, counted.requests), (403, before), "another issuer")
            log = deployment.gateway_logged(0)
            expect("logged by policy" in log and "s3cret" not in log.lower(), "a secret is in the log")


class _Issuer(Served):
    """Publishes one RSA key and signs with it; openssl does the cryptography."""

    def __init__(self, scratch):
        self.key = scratch.path("issuer.pem")
        command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.key]
        subprocess.run(command, check=True, capture_output=True)
        command = ["openssl", "rsa", "-in", self.key, "-noout", "-modulus"]
        modulus = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("=")[1]
        jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "e": "AQAB", "n": _base64(bytes.fromhex(modulus))}

        class Handler(Quiet):
            def do_GET(self):
                self.answer({"keys": [jwk]})

        super().__init__(Handler)
        self.url = f"http://127.0.0.1:{self.port}/jwks"
        self.is_stopped = False

    def token(self, header, claims):
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        command = ["openssl", "dgst", "-sha256", "-sign", self.key]
        signature = subprocess.run(command, check=True, capture_output=True, input=signed.encode()).stdout
        return f"{signed}.{_base64(signature)}"

    def stop(self):
        if not self.is_stopped:
            self.is_stopped = True
            super().stop()


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@scenario("files")
def refused_upload_gets_its_answer_and_no_reset(deployment):
    rules = [
        _rule("basic-auth", {"credentials": ["ann:battery-staple"]}, "req.url.path == '/private'"),
        _rule("deny", {"status_code": 403}, "req.url.path == '/denied'"),
    ]
    size = 32 << 20
    upload = deployment.scratch.write("files/upload", "x" * size)
    # With the first one curl sends at once; with the second it asks, and is told no before it sends.
    expectations = ("Expect:", "Expect: 100-continue")
    with _policy(deployment, rules) as (place, counted):
        for version in (HTTP1, HTTP2):
            for path, status in (("/private", 401), ("/denied", 403)):
                for expectation in expectations:
                    refused = fetch(place, path, "--data-binary", f"@{upload}", "-H", expectation, version=version)
                    expect_equal(refused.status, status, f"status of a refused upload to {path} with {version}")
        before = counted.requests
        context = ssl.create_default_context(cafile=str(place.ca_file))
        with socket.create_connection(("127.0.0.1", place.port), 20) as plain:
            with context.wrap_socket(plain, server_hostname=place.host) as connection:
                # Many libraries look for an answer only when all has been sent.
                for path, status in (("/private", b"401"), ("/denied", b"403")):
                    head = f"POST {path} HTTP/1.1\r\nHost: {place.host}\r\nContent-Length: {size}\r\n\r\n"
                    connection.sendall(head.encode() + b"x" * size)
                    answer = connection.recv(1 << 16)
                    expect(answer.startswith(b"HTTP/1.1 " + status), f"answer after the upload to {path}: {answer!r}")
                    while not _is_whole(answer):
                        answer += connection.recv(1 << 16)
        expect_equal(counted.requests, before, "requests that reached the upstream")


def _is_whole(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    length = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(length[0])
