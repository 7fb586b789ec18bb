"""The bill of materials of an agent, as CycloneDX 1.5: every crate that is linked, the standard library, and musl."""

import json
import uuid
from datetime import UTC, datetime


def document(triple, crates, rust_version, musl, musl_sha256, seconds):
    """The document as text. `seconds` is the time that it states; the same input gives the same bytes."""
    agent, *others = crates
    components = [_crate(crate) for crate in sorted(others, key=lambda crate: crate.key)]
    std = {"type": "library", "name": "rust-std", "version": rust_version, "licenses": [{"expression": "MIT OR Apache-2.0"}]}
    libc = {
        "type": "library",
        "name": "musl",
        "version": musl,
        "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": musl_sha256}],
    }
    for component in (std, libc):
        component["bom-ref"] = f"{component['name']}@{component['version']}"
    tree = [{"ref": _ref(crate.key), "dependsOn": sorted(map(_ref, crate.needs))} for crate in crates]
    tree[0]["dependsOn"] += [std["bom-ref"], libc["bom-ref"]]
    body = {
        "metadata": {
            "timestamp": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": _crate(agent) | {"type": "application"},
            "properties": [{"name": "adit:target", "value": triple}],
        },
        "components": [*components, std, libc],
        "dependencies": sorted(tree, key=lambda entry: entry["ref"]),
    }
    # A number of its own for each content.
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": serial.urn, "version": 1}
    return json.dumps(head | body, indent=1) + "\n"


def _crate(crate):
    component = {
        "type": "library",
        "bom-ref": _ref(crate.key),
        "name": crate.name,
        "version": crate.version,
        # Old manifests write "/" for OR.
        "licenses": [{"expression": crate.licence.replace("/", " OR ")}],
        "purl": f"pkg:cargo/{crate.name}@{crate.version}",
    }
    if crate.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": crate.sha256}]
    return component


def _ref(key):
    return "{}@{}".format(*key)
