"""Verifies a trust repository with Debian's python3-securesystemslib: thresholds, hashes, versions. Exit 0 if all is well."""
import hashlib
import json
import os
import sys

from securesystemslib.formats import encode_canonical
from securesystemslib.keys import verify_signature

base = sys.argv[1]


def load(path):
    with open(os.path.join(base, "metadata", path), "rb") as f:
        raw = f.read()
    return raw, json.loads(raw)


def met(doc, keys, role):
    data = encode_canonical(doc["signed"]).encode()
    good = set()
    for sig in doc["signatures"]:
        key = keys.get(sig["keyid"])
        if key is None or sig["keyid"] not in role["keyids"]:
            continue
        key = dict(key, keyid=sig["keyid"])
        # The id is what securesystemslib makes of the key: SHA-256 over its canonical form.
        assert hashlib.sha256(encode_canonical({k: key[k] for k in ("keytype", "scheme", "keyval")}).encode()).hexdigest() == sig["keyid"]
        if verify_signature(key, sig, data):
            good.add(sig["keyid"])
    assert len(good) >= role["threshold"], "threshold not met: %d of %d" % (len(good), role["threshold"])


def described(raw, info):
    assert len(raw) == info["length"] and hashlib.sha256(raw).hexdigest() == info["hashes"]["sha256"]


_, root = load("1.root.json")
met(root, root["signed"]["keys"], root["signed"]["roles"]["root"])
print("root 1 ok")
while os.path.exists(os.path.join(base, "metadata", "%d.root.json" % (root["signed"]["version"] + 1))):
    _, new = load("%d.root.json" % (root["signed"]["version"] + 1))
    met(new, root["signed"]["keys"], root["signed"]["roles"]["root"])
    met(new, new["signed"]["keys"], new["signed"]["roles"]["root"])
    root = new
    print("root %d ok" % root["signed"]["version"])

keys, roles = root["signed"]["keys"], root["signed"]["roles"]
_, timestamp = load("timestamp.json")
met(timestamp, keys, roles["timestamp"])
print("timestamp ok")
info = timestamp["signed"]["meta"]["snapshot.json"]
raw, snapshot = load("%d.snapshot.json" % info["version"])
described(raw, info)
met(snapshot, keys, roles["snapshot"])
print("snapshot ok")
info = snapshot["signed"]["meta"]["targets.json"]
raw, targets = load("%d.targets.json" % info["version"])
described(raw, info)
met(targets, keys, roles["targets"])
print("targets ok")
info = snapshot["signed"]["meta"]["crl.json"]
raw, crl = load("%d.crl.json" % info["version"])
described(raw, info)
d = targets["signed"]["delegations"]
met(crl, d["keys"], d["roles"][0])
print("crl ok")
n = 0
for signed in (targets["signed"], crl["signed"]):
    for name, info in signed["targets"].items():
        head, tail = os.path.split(name)
        with open(os.path.join(base, "targets", head, info["hashes"]["sha256"] + "." + tail), "rb") as f:
            described(f.read(), info)
        n += 1
print("%d targets ok" % n)
