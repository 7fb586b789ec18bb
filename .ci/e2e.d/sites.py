"""Two public names behind one log-in, at a provider that runs; a browser beside them if one is wanted."""

from contextlib import ExitStack, contextmanager

from chromium import Chromium
from clients import Place, fetch
from files import DOMAIN
from log_in_scenarios import CALLBACK
from oidc import Provider
from policed import HOST, policy, rule
from saml import Pysaml, Samlp, key_pair

SECOND = f"second.{DOMAIN}"
DEEP = "/deep/link?a=b&c=%20d"
ACS = "/ngrok/saml/acs"
SAML = {"pysaml2": Pysaml, "samlp": Samlp}
# All that a policy can name, SAML with two providers that have nothing in common.
KINDS = ("openid-connect", "oauth", *SAML)
_RESULTS = {"openid-connect": "oidc", "oauth": "oauth"}


@contextmanager
def site(deployment, kind, more=None, change=lambda document: None, redirect=None):
    """Gives the provider, the first of the names, a browser, and the upstream that counts."""
    with counted_site(deployment, kind, more, change, redirect) as (provider, place, counted):
        with Chromium(deployment.scratch) as browser:
            yield provider, place, browser, counted


@contextmanager
def counted_site(deployment, kind, more=None, change=lambda document: None, redirect=None):
    """The same without a browser."""
    start = _saml if kind in SAML else _openid
    provider, config = start(deployment, kind, redirect)
    rules = log_in_rules(kind, config | (more or {}))

    def also(document):
        [first] = [endpoint for endpoint in document["cloud_endpoints"] if endpoint["url"] == f"https://{HOST}"]
        document["cloud_endpoints"].append(first | {"url": f"https://{SECOND}"})
        change(document)

    with ExitStack() as stack:
        stack.callback(provider.stop)
        place, counted = stack.enter_context(policy(deployment, rules, change=also))
        if kind in SAML:
            hosts = [Place("https", host, deployment.port, deployment.ca_file) for host in (HOST, SECOND)]
            provider.know(*(fetch(host, "/ngrok/saml/metadata").body.decode() for host in hosts))
        yield provider, place, counted


def log_in_rules(kind, config):
    """A log-in, what tells the upstream who it is, and a way to a real WebSocket."""
    action, result = ("saml", "saml") if kind in SAML else (kind, _RESULTS[kind])
    return [
        rule(action, config),
        rule("add-headers", {"headers": {"x-user": f"${{actions.ngrok.{result}.identity.email}}"}}),
        rule("forward-internal", {"url": "https://echo.internal"}, "req.url.path == '/echo'"),
    ]


def _openid(deployment, kind, redirect):
    provider = Provider(deployment.scratch)
    hosts = [f"https://{host}:{deployment.port}{CALLBACK}" for host in (HOST, SECOND)]
    provider.start("one", redirect=redirect(provider) if redirect else ",".join(hosts))
    config = {"client_id": "people", "client_secret": "site-secret"}
    if kind == "openid-connect":
        return provider, config | {"issuer_url": provider.issuer}
    at = provider.issuer
    urls = {"authorize_url": f"{at}/auth", "token_url": f"{at}/token", "userinfo_url": f"{at}/me"}
    return provider, config | {"provider": "custom"} | urls


def _saml(deployment, kind, _redirect):
    key, certificate = key_pair(deployment.scratch, "service")
    acs = f"https://{HOST}:{deployment.port}{ACS}"
    provider = SAML[kind](deployment.scratch, acs, service=(key, certificate), asks=True)
    config = {"private_key": str(key), "certificate": str(certificate), "end_provider_session": True}
    return provider, config | {"idp_metadata_url": f"{provider.url}/metadata"}
