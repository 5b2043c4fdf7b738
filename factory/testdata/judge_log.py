"""Judges an archive of an issuance log and a file of openings, from docs/spec/issuance-log.md and RFC 6962 alone."""
import base64, hashlib, json, pathlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha(b):
    return hashlib.sha256(b).digest()


def root(hashes):  # RFC 6962, section 2.1
    if not hashes:
        return sha(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return sha(b"\x01" + root(hashes[:k]) + root(hashes[k:]))


def checkpoint(note, vkey):
    name, key_hash, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1 and sha(name.encode() + b"\n" + key)[:4].hex() == key_hash
    body, signatures = note.split("\n\n", 1)
    body += "\n"
    good = False
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if dash == "\u2014" and signer == name and signature[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], body.encode())
            good = True
    origin, size, top = body.splitlines()[:3]
    assert good and origin == name
    return int(size), base64.b64decode(top)


def path(n):
    groups = ["%03d" % (n % 1000)]
    while n >= 1000:
        n //= 1000
        groups.insert(0, "x%03d" % (n % 1000))
    return "/".join(groups)


def leaves(folder, size):
    out = []
    for n in range((size + 255) // 256):
        width = min(256, size - 256 * n)
        data = (folder / ("tile/entries/" + path(n) + ("" if width == 256 else ".p/%d" % width))).read_bytes()
        while data:
            length = int.from_bytes(data[:2], "big")
            out.append(data[2:2 + length])
            data = data[2 + length:]
    return out


def included(leaf_hash, index, size, proof):  # RFC 9162, section 2.1.3.2
    fn, sn, r = index, size - 1, leaf_hash
    for p in proof:
        assert sn > 0
        if fn & 1 or fn == sn:
            r = sha(b"\x01" + p + r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha(b"\x01" + r + p)
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return r


def main(vkey, archive, openings):
    folder = pathlib.Path(archive)
    size, top = checkpoint((folder / "checkpoint").read_text(), vkey)
    entries = leaves(folder, size)
    assert len(entries) == size and all(len(e) == 65 for e in entries)
    assert root([sha(b"\x00" + e) for e in entries]) == top, "root"
    document = json.load(open(openings))
    assert document["format"] == "hanaper-issuance-opening/1"
    names = set()
    for o in document["openings"]:
        details = o["details"]
        field = dict(line.split(" ", 1) for line in details.splitlines()[1:])
        assert details.startswith("hanaper-issuance/1\n")
        assert field["device"] == sha(b"hanaper-issuance-device/1\n" + bytes.fromhex(o["salt"]) + o["device_id"].encode()).hex()
        kind = ["issue", "revoke", "reissue", "scrap", "abandon", "other_key", "lot", "take_in", "lost", "held", "accept"].index(field["kind"]) + 1
        leaf = bytes([kind]) + bytes.fromhex(o.get("certificate", "00" * 32)) + sha(details.encode())
        head, note = o["proof"].split("\n\n", 1)
        lines = head.splitlines()
        assert lines[0] == "c2sp.org/tlog-proof@v1" and lines[1] == "index " + field["index"]
        at, expected = checkpoint(note, vkey)
        assert included(sha(b"\x00" + leaf), int(field["index"]), at, [base64.b64decode(h) for h in lines[2:]]) == expected, "proof"
        assert entries[int(field["index"])] == leaf
        names.add(o["device_id"])
    print("%d entries, %s is proven" % (size, ", ".join(sorted(names))))


main(*sys.argv[1:])
