#!/usr/bin/env python3
"""Verify the folder of a Hanaper ceremony without Hanaper.

    verify_ceremony.py [--roster DIGEST] [--checkpoint DIGEST] [--earlier DIGEST] FOLDER

Written from the pages beside it and transcript.schema.json, not from the program. Needs `cryptography` and nothing else
besides the standard library. Exit codes: 0 verified, 2 usage, 4 not verified. It does not read the script: that the entries
are what the script asks for, `hanaper ceremony verify` shows. formats.md says what each of the two proves.
"""
import base64, datetime, hashlib, json, os, re, sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

HERE = os.path.dirname(os.path.abspath(__file__))
OUTSIDE = ("manifest.json", "transcript.log", "checkpoint", "transcript.dsse.json")
HASHES = {"SHA-256": hashes.SHA256(), "SHA-384": hashes.SHA384(), "SHA-512": hashes.SHA512()}
SCHEMES = {"ed25519": ("ed25519", ""), "ecdsa-p256-sha256": ("ecdsa", "SHA-256"), "ecdsa-p384-sha384": ("ecdsa", "SHA-384"),
           "rsa-pss-sha256": ("rsa-pss", "SHA-256"), "rsa-pkcs1-sha256": ("rsa-pkcs1v15", "SHA-256")}
LATE = re.compile(r"attestations/[1-9][0-9]{0,3}\.dsse\.json")
USAGES = "digitalSignature contentCommitment keyEncipherment dataEncipherment keyAgreement keyCertSign cRLSign".split()
RESTORED = b"a signature to prove that a restored key is the one that was backed up\n"
TRIAL = b"a signature to find out what this token can do; not metadata\n"
FOUND = "hanaper: a test signature by a key that was found again, and nothing else"

class Bad(Exception): pass

BAD = (Bad, KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError)

def moment(text): return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
def sha(data): return hashlib.sha256(data).hexdigest()
def hashed(name, data): return hashlib.new(name.replace("-", ""), data).digest()

def need(ok, what):
    if not ok: raise Bad(what)

def strict_json(data, what):
    def unique(pairs):
        need(len({k for k, _ in pairs}) == len(pairs), what + ": a key stands twice")
        return dict(pairs)
    return json.loads(data.decode("utf-8"), object_pairs_hook=unique)

def go_json(value):
    """The one spelling of a value: as Go's encoding/json writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda m: "\\u%04x" % ord(m[0]), text).encode("utf-8")

# the journal (journal.md)
def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF

def read_journal(data):
    end = data.find(b"\n")
    first = re.fullmatch(rb"hanaper-journal/1 ([!-*,-~]{1,200})", data[:end])
    need(end > 0 and first, "transcript.log: it is no journal")
    chain, at, leaves = hashlib.sha256(data[:end + 1]).digest(), end + 1, []
    while at < len(data):
        what = "transcript.log: entry %d" % len(leaves)
        head = data[at:at + 35]
        m = re.fullmatch(rb"([0-9a-f]{16}) ([0-9a-f]{8}) ([0-9a-f]{8})\n", head)
        need(m and int(m[1], 16) == len(leaves) and int(m[3], 16) == crc32c(head[:26]), what + ": its head is damaged")
        size = int(m[2], 16)
        leaf, tail = data[at + 35:at + 35 + size], data[at + 35 + size:at + 35 + size + 66]
        need(0 < size <= 1 << 20 and len(tail) == 66, what + ": it is not all there")
        chain = hashlib.sha256(chain + head + leaf).digest()
        need(tail == b"\n" + chain.hex().encode() + b"\n", what + ": it is not what was written")
        leaves.append(leaf)
        at += 35 + size + 66
    return first[1].decode(), leaves

def tree_root(leaves):
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + tree_root(leaves[:k]) + tree_root(leaves[k:])).digest()

# the entries (transcript.md, transcript.schema.json)
with open(os.path.join(HERE, "transcript.schema.json"), encoding="utf-8") as f:
    SCHEMA = json.load(f)

def fits(value, kind, what):
    if kind.startswith(("list of ", "map of ")):
        need(isinstance(value, (list if kind.startswith("list") else dict, type(None))), what + " is no " + kind)
        for v in value.values() if isinstance(value, dict) else value or []:
            fits(v, kind.split(" of ", 1)[1], what)
    elif kind in SCHEMA["types"]:
        need(isinstance(value, dict), what + " is no object")
        check_fields(value, SCHEMA["types"][kind], what)
    else:
        types = {"string": str, "integer": int, "boolean": bool, "bytes": (str, type(None))}[kind]
        need(isinstance(value, types) and (kind != "integer" or not isinstance(value, bool)), "%s is no %s" % (what, kind))

def check_fields(value, fields, what):
    need(list(value) == [f["name"] for f in fields if f["name"] in value], what + ": it has unknown fields, or in another order")
    for f in fields:
        need(f["name"] in value or f.get("optional"), "%s: %s is missing" % (what, f["name"]))
        if f["name"] in value:
            fits(value[f["name"]], f["type"], what + " " + f["name"])
            need(not (f.get("prose") or f["name"] == "version") or "".join(value[f["name"]] or "").isprintable(), what + ": control characters")

def read_entries(leaves):
    entries, last = [], ""
    for i, leaf in enumerate(leaves):
        what = "transcript.log: entry %d" % i
        e = strict_json(leaf, what)
        if i == 0:
            need(re.fullmatch(r"[1-9][0-9]{0,3}\.(0|[1-9][0-9]{0,3})", str(e.get("format"))), what + ": it does not say of what format it is")
            mine, its = [[int(n) for n in v.split(".")] for v in (SCHEMA["format"], e["format"])]
            need(mine[0] == its[0], what + ": it was made by a newer release of Hanaper, or one that is no longer read: format " + e["format"])
        what += " (%s)%s" % (e["kind"], ", made by a newer release of Hanaper" if its > mine else "")
        need(e["kind"] in SCHEMA["leaves"], what + ": its kind is unknown")
        check_fields(e, SCHEMA["leaves"][e["kind"]]["fields"], what)
        need(go_json(e) == leaf, what + ": it is not in its one spelling")
        need(e["at"] >= last and moment(e["at"]), what + ": it is dated before the one that it follows")
        last = e["at"]
        entries.append(e)
    kinds = [e["kind"] for e in entries]
    need(kinds[:1] == ["begin"] and kinds[-1:] == ["end"] and kinds.count("begin") == kinds.count("end") == 1, "transcript.log: it does not begin once and end once")
    return entries

# signatures
def verify(key, scheme, message, sig, digest=None):
    """True if sig is key's. ECDSA and RSA can be given the digest in the place of the message."""
    scheme, name = scheme if isinstance(scheme, tuple) else SCHEMES.get(scheme, ("", ""))
    try:
        if scheme == "ed25519":
            need(isinstance(key, ed25519.Ed25519PublicKey), "")
            key.verify(sig, message)
            return True
        hash_ = HASHES[name]
        digest, given = digest or hashed(name, message), Prehashed(hash_)
        if scheme == "ecdsa":
            need(isinstance(key, ec.EllipticCurvePublicKey), "")
            key.verify(sig, digest, ec.ECDSA(given))
        else:
            need(isinstance(key, rsa.RSAPublicKey) and scheme in ("rsa-pss", "rsa-pkcs1v15"), "")
            key.verify(sig, digest, padding.PSS(padding.MGF1(hash_), hash_.digest_size) if scheme == "rsa-pss" else padding.PKCS1v15(), given)
        return True
    except (InvalidSignature, Bad, KeyError, ValueError, TypeError):
        return False

def envelope(data, kind, what):
    """What a DSSE envelope holds, what is signed of it, and the key ids and signatures."""
    e = strict_json(data, what)
    payload, sigs = base64.b64decode(e["payload"]), [(s["keyid"], base64.b64decode(s["sig"])) for s in e["signatures"]]
    again = {"payloadType": kind, "payload": base64.b64encode(payload).decode(), "signatures": [{"keyid": k, "sig": base64.b64encode(s).decode()} for k, s in sigs]}
    need(go_json(again) + b"\n" == data and 0 < len(sigs) <= 128 and len(data) <= 8 << 20, what + ": it is not the envelope that it should be, in its one spelling")
    return payload, b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload), sigs

class Roster:
    def __init__(self, data, what):
        self.data, self.digest = data, sha(data)
        self.json = strict_json(data, what)
        need(self.json.get("type") == "hanaper-roster/1", what + ": it is no roster")
        self.threshold, self.people = self.json["threshold"], {}
        for o in self.json["officers"]:
            spki = base64.b64decode(o["signing_key"], validate=True)
            need(sha(spki) not in self.people, what + ": a key stands twice")
            self.people[sha(spki)] = (o, serialization.load_der_public_key(spki))
    def signers(self, data, kind, what):
        """The payload, and the key ids of those who signed; everybody must be of the roster, and every signature good."""
        payload, pae, sigs = envelope(data, kind, what)
        for k, sig in sigs:
            need(k in self.people, what + ": key %.16s is nobody's in the roster" % k)
            officer, key = self.people[k]
            need(verify(key, officer["scheme"], pae, sig), what + ": the signature of %s" % officer["name"])
        return payload, [k for k, _ in sigs]
    def officers(self, ids):
        return sorted({self.people[i][0]["name"] for i in ids if self.people[i][0]["role"] == "officer"})

# what was signed
def canonical(v):  # JSON of TUF
    if isinstance(v, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v)) + "}"
    if isinstance(v, list):
        return "[" + ",".join(map(canonical, v)) + "]"
    return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' if isinstance(v, str) else json.dumps(v)

def signed_in(path, data):
    """What was signed in a file, and the signatures that it holds."""
    name = path.removesuffix(".rehearsal")
    for form, load, content in ((r"artefacts/.*(?<!\.chain)(?<!\.pub)\.pem", x509.load_pem_x509_certificate, "tbs_certificate_bytes"),
                                (r"artefacts/.*\.crl", x509.load_der_x509_crl, "tbs_certlist_bytes"), (r"artefacts/.*\.csr", x509.load_pem_x509_csr, "tbs_certrequest_bytes")):
        if re.fullmatch(form, name):
            return [(getattr(load(data), content), load(data).signature)]
    if name.startswith("uptane/") and name.endswith(".json"):
        body = data[data.index(b'"signed":') + 9:-1]
        return [(body, base64.b64decode(s["sig"])) for s in strict_json(data, path)["signatures"]]
    if name.startswith("trust/metadata/"):
        return [(canonical(strict_json(data, path)["signed"]).encode(), bytes.fromhex(s["sig"])) for s in strict_json(data, path)["signatures"]]
    if name.startswith("artefacts/") and name.endswith(".dsse.json"):  # a release
        payload, pae, [(_, sig)] = envelope(data, "application/vnd.hanaper.release+json", path)
        return [(pae, sig)]
    return []

def check_signatures(entries, files, aborted):
    """Each signature verifies under the recorded key, and is over a file of its step or a text that is nothing else."""
    begin, keys, step, imports, intent, open_, serials, profile, last_found = entries[0], {}, 0, False, None, [], {}, {}, None
    for i, e in enumerate(entries):
        what = "transcript.log: entry %d (%s)" % (i, e["kind"])
        if e["kind"] in ("key", "found", "cloned"):
            spki = base64.b64decode(e["spki"])
            need(e["kind"] == "found" or sha(spki) == e["spki_sha256"], what + ": it contradicts itself")
            keys[e["name"]] = serialization.load_der_public_key(spki), sha(spki)
        elif e["kind"] == "found-again":
            need(keys.get(e["name"], (0, 0))[1] == e["spki_sha256"], what + ": it is about another key")
            last_found = "\n".join([FOUND, begin["environment"], begin["ceremony"], e["name"], e["spki_sha256"], ""]).encode()
        elif e["kind"] in ("serial", "profile"):
            need(e["kind"] == "profile" or e["serial"] not in [x["serial"] for x in serials.values()], what + ": the serial number was drawn before")
            (serials if e["kind"] == "serial" else profile)[e["for"]] = e
        elif e["kind"] == "sign-intent":
            intent = e
        elif e["kind"] == "signature":
            need(intent and intent["key"] in keys, what + ": nothing was about to be signed, or by no key")
            open_.append((i, intent, base64.b64decode(e["signature"])))
            intent = None
            if e["step"] == 0 or aborted:
                settle(open_, keys, [(last_found, None)] if last_found else [], aborted)
        elif e["kind"] == "artefact" and not aborted:
            need(sha(files.get(e["path"], b"")) == e["sha256"] and len(files[e["path"]]) == e["size"], e["path"] + ": it is not the file of the transcript")
        elif e["kind"] == "step-done" and not aborted:
            made = [x["path"] for x in entries[step:i] if x["kind"] == "artefact"]
            # What an earlier ceremony signed is carried on in trust/ as it was.
            made = [p for p in made if files.get("earlier/" + p) != files[p] and not imports]
            settle(open_, keys, list({m for p in made for m in signed_in(p, files[p])}), False)
        elif e["kind"] == "step":
            step, imports = i, e["what"] == "import-certificate"  # signed by a CA outside
    need(not open_, "transcript.log: signatures are left over")
    for path, data in files.items():
        m = re.fullmatch(r"artefacts/([a-z0-9.-]+)\.pem", path)
        if m and m[1] in serials and not aborted:
            check_certificate(path, x509.load_pem_x509_certificate(data), serials[m[1]]["serial"], profile[m[1]])

def settle(open_, keys, messages, aborted):
    """Match the signatures of a step with what they are over."""
    for i, intent, sig in open_:
        what, found = "transcript.log: entry %d (signature)" % i, False
        key, scheme = keys[intent["key"]][0], (intent["scheme"], intent["hash"])
        for message, own in messages + [(RESTORED, None), (TRIAL, None)]:
            if hashed(intent["hash"] or "SHA-256", message).hex() == intent["digest"] and own in (None, sig):
                found = verify(key, scheme, message, sig)
                need(found, what + ": it does not verify under key " + intent["key"])
                if own:
                    messages = [m for m in messages if m[1] != sig]
                break
        if not found and aborted:  # its file was never written; an Ed25519 signature cannot be verified without it
            found = scheme[0] == "ed25519" or verify(key, scheme, None, sig, bytes.fromhex(intent["digest"]))
        need(found, what + ": it is over nothing that this step wrote")
    need(aborted or not [m for m in messages if m[1]], "a file holds a signature that the transcript does not have")
    open_.clear()

def check_certificate(path, c, serial, profile):
    need("%040x" % c.serial_number == serial, path + ": it has another serial number than was drawn for it")
    ext = {e.oid.dotted_string: e.value for e in c.extensions}
    basic, usage, eku = (ext.get("2.5.29." + n) for n in ("19", "15", "37"))
    need(bool(basic and basic.ca) == profile["ca"], path + ": it is a CA's, or not, against its profile")
    spelt = {n: re.sub("([A-Z])", r"_\1", n).lower() for n in USAGES if n != "cRLSign"} | {"cRLSign": "crl_sign"}
    need(usage and {n for n in USAGES if getattr(usage, spelt[n])} == set(profile["key_usage"]), path + ": its key usage is not that of its profile")
    need(len(eku or []) == len(profile.get("ext_key_usage") or []), path + ": its extended key usage is not that of its profile")
    if basic and basic.ca and "path_length" in profile:
        need(basic.path_length is not None and basic.path_length <= profile["path_length"], path + ": its path length is above that of its profile")
    days = (c.not_valid_after_utc - c.not_valid_before_utc).total_seconds() / 86400
    need(days <= profile["max_validity_days"], path + ": it is valid longer than its profile allows")

# a folder
class Folder:
    def __init__(self, files):
        self.files = files
        need("INCOMPLETE" not in files, "INCOMPLETE: the ceremony of this folder has not ended")
        for n in OUTSIDE + ("script.yaml", "roster.json"):
            need(n in files, n + ": it is missing")
        self.origin, leaves = read_journal(files["transcript.log"])
        need(leaves, "transcript.log: it is empty")
        self.checkpoint = ("%s\n%d\n%s\n" % (self.origin, len(leaves), base64.b64encode(tree_root(leaves)).decode())).encode()
        need(files["checkpoint"] == self.checkpoint, "checkpoint: it is not that of the transcript")
        self.roster = Roster(files["roster.json"], "roster.json")
        self.rehearsal = self.origin.startswith("hanaper/rehearsal/")
        self.signed, self.late = [], []
        if not self.rehearsal:
            self.sealed()
        self.entries = read_entries(leaves)
        self.begin = self.entries[0]
        self.aborted = any(e["kind"] == "abort" for e in self.entries)
        need(self.origin == "hanaper/%s/%s/%s" % ("rehearsal" if self.rehearsal else "ceremony", self.begin["environment"], self.begin["ceremony"]), "transcript.log: it is that of another ceremony")
        for check in (self.listed, self.approved, self.present):
            check()
        self.earlier = self.before()
        wrong = [e["wrong"]["entry"] for e in self.entries if e["kind"] == "abort" and "wrong" in e]  # from there on the entries follow from nothing
        check_signatures(self.entries[:(wrong + [len(leaves)])[0]], files, self.aborted)
    def sealed(self):
        payload, self.signed = self.roster.signers(self.files["transcript.dsse.json"], "application/vnd.hanaper.transcript", "transcript.dsse.json")
        need(payload == self.checkpoint, "transcript.dsse.json: it signs another checkpoint")
        for n in filter(LATE.fullmatch, sorted(self.files)):
            payload, ids = self.roster.signers(self.files[n], "application/vnd.hanaper.transcript", n)
            need(payload == self.checkpoint, n + ": it signs another checkpoint")
            self.late += ids
    def listed(self):
        need(sha(self.files["manifest.json"]) == self.entries[-1]["manifest_sha256"], "manifest.json: it is not the one that the transcript names")
        listed = {f["path"]: f for f in strict_json(self.files["manifest.json"], "manifest.json")["files"]}
        for n, f in listed.items():
            need(n in self.files, n + ": it is missing")
            need(sha(self.files[n]) == f["sha256"] and len(self.files[n]) == f["size"], n + ": it is not the file that the ceremony wrote")
        for n in self.files:
            need(n in listed or n in OUTSIDE or LATE.fullmatch(n), n + ": it is not of this ceremony")
        stated = {e["path"] for e in self.entries if e["kind"] == "artefact"}
        lost = [e["unreadable"]["sha256"] for e in self.entries if e["kind"] == "abort" and "unreadable" in e]
        need([sha(d) for n, d in self.files.items() if n == "transcript.unreadable"] == lost, "transcript.unreadable: it is not what the transcript says of it")
        for n in listed:
            need(re.fullmatch(r"script\.yaml|roster\.json|transcript\.unreadable|(inputs|approvals|roster-approvals|earlier)/.*", n) or n in stated and not self.aborted, n + ": the transcript does not state it")
    def approved(self):
        b, f = self.begin, self.files
        need(b["script_sha256"] == sha(f["script.yaml"]) and b["roster_sha256"] == self.roster.digest, "transcript.log: entry 0: it names another script or roster")
        inputs = {"roster": self.roster.digest} | {n: sha(d) for n, d in f.items() if n.startswith(("inputs/", "roster-approvals/"))}
        if "earlier/checkpoint" in f:
            inputs["earlier"] = sha(f["earlier/checkpoint"])
        need(b["inputs_sha256"] == inputs, "transcript.log: entry 0: it names other inputs")
        need(self.rehearsal == (b["mode"] == "rehearsal"), "transcript.log: entry 0: its mode is another")
        if self.rehearsal:
            return
        want = {"type": "hanaper-approval/1", "verb": "ceremony run", "environment": b["environment"], "roster": self.roster.digest, "script": b["script_sha256"],
                "inputs": inputs, "tool": b["tool"]["sha256"], "nonce": b["nonce"], "expires": b["expires"]}
        ids = []
        for n in sorted(n for n in f if n.startswith("approvals/")):
            payload, by = self.roster.signers(f[n], "application/vnd.hanaper.approval+json", n)
            need(strict_json(payload, n) == want, n + ": it approves something else")
            ids += by
        need(len(self.roster.officers(ids)) >= self.roster.threshold, "approvals: %d of %d officers" % (len(self.roster.officers(ids)), self.roster.threshold))
        need({a["key_id"] for a in b["approvals"]} == set(ids) and moment(b["asserted"]) < moment(b["expires"]), "transcript.log: entry 0: its approvals are others, or had expired")
    def present(self):
        if not self.rehearsal:
            last = [e for e in self.entries if e["kind"] in ("begin", "resumed", "abort")][-1]
            need({o["key_id"] for o in last["officers"]} >= set(self.signed) and self.roster.officers(self.signed), "transcript.dsse.json: those who signed were not present, or no officer is among them")
    def before(self):
        files = {n[len("earlier/"):]: d for n, d in self.files.items() if n.startswith("earlier/")}
        if not files:
            return None
        try:
            old = Folder(files)
        except BAD as bad:
            raise Bad("earlier/%s" % bad)
        need(not old.rehearsal and old.begin["environment"] == self.begin["environment"], "earlier: a rehearsal, or of another environment")
        need(moment(old.entries[-1]["at"]) <= moment(self.begin["asserted"]), "earlier: it ended after this ceremony began")
        if old.roster.digest != self.roster.digest:
            ids = []
            for n in sorted(n for n in self.files if n.startswith("roster-approvals/")):
                payload, by = old.roster.signers(self.files[n], "application/vnd.hanaper.roster+json", n)
                need(payload == self.roster.data, n + ": it approves another roster")
                ids += by
            need(self.roster.json.get("previous") == old.roster.digest and len(old.roster.officers(ids)) >= old.roster.threshold, "roster.json: it does not follow the earlier one")
        return old
    def chain(self):
        return [self] + (self.earlier.chain() if self.earlier is not None else [])

def read_files(top):
    files = {}
    for path in (os.path.join(dir_, n) for dir_, _, names in os.walk(top) for n in names):
        name = os.path.relpath(path, top).replace(os.sep, "/")
        need(os.path.isfile(path) and not os.path.islink(path), name + ": it is no regular file")
        with open(path, "rb") as f: files[name] = f.read()
    return files

def main(args):
    anchors = {"--roster": None, "--checkpoint": None, "--earlier": None}
    while len(args) > 2 and args[0] in anchors:
        anchors[args[0]] = args[1].removeprefix("sha256:")
        args = args[2:]
    if len(args) != 1 or not os.path.isdir(args[0]) or any(a and not re.fullmatch("[0-9a-f]{64}", a) for a in anchors.values()):
        print(__doc__.split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    try:
        f = Folder(read_files(args[0]))
        need(not f.rehearsal, "a REHEARSAL, consistent in itself: no ceremony was held")
        need(any(anchors.values()), "consistent, NOT authenticated: give the roster's digest, as people compared it, with --roster")
        need(anchors["--checkpoint"] in (None, sha(f.checkpoint)), "checkpoint: the digest given is that of another checkpoint")
        need(anchors["--roster"] in [None] + [c.roster.digest for c in f.chain()], "roster.json: it is not the roster of the digest given, and follows from none of it")
        need(anchors["--earlier"] in [None] + [sha(c.checkpoint) for c in f.chain()[1:]], "script.yaml: it carries on from no ceremony with the checkpoint given")
        by = f.roster.officers(f.signed + f.late)
        need(len(by) >= f.roster.threshold, "performed, not attested: %d of %d officers signed the transcript: %s" % (len(by), f.roster.threshold, ", ".join(by)))
    except BAD as bad:
        print("verify_ceremony: %s" % (bad if isinstance(bad, Bad) else "malformed: %r" % bad), file=sys.stderr)
        return 4
    print("verified: ceremony %s of %s, format %s, %s, %d entries, signed by %s, checkpoint %s" % (f.begin["ceremony"], f.begin["environment"], f.begin["format"],
          "ABORTED" if f.aborted else "finished", len(f.entries), ", ".join(by), sha(f.checkpoint)))
    for n in sorted(n for n in f.files if n.startswith("artefacts/") and n.endswith(".dsse.json")):
        print("signed a release: %s, manifest.json with SHA-256 %s" % (n, sha(base64.b64decode(json.loads(f.files[n])["payload"]))))
    return 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
