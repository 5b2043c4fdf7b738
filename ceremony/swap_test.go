package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
)

// forged is the folder of a finished ceremony as all its officers, and whoever has its tokens, could make it: entries are
// changed as the test says, the manifest and the journal are made anew and signed by those present. Only what the
// script says is left to tell that something else was signed.
func forged(t *testing.T, s *stage, files map[string][]byte, change func(files map[string][]byte, leaves [][]byte) [][]byte) map[string][]byte {
	t.Helper()
	record, err := journal.Parse(files[transcriptFile])
	if err != nil {
		t.Fatal(err)
	}
	files = maps.Clone(files)
	leaves := change(files, record.Leaves())
	listed := maps.Clone(files)
	for n := range outside {
		delete(listed, n)
	}
	files[manifestFile] = encodeManifest(listed)
	var end endLeaf
	last := len(leaves) - 1
	if err := decodeLeaf(leaves[last], &end, kindEnd); err != nil {
		t.Fatal(err)
	}
	end.Manifest = hexSHA256(files[manifestFile])
	leaves[last] = encodeLeaf(&end)
	path := filepath.Join(t.TempDir(), "log")
	log, err := journal.Create(path, record.Origin())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leaves {
		if _, err := log.Append(l); err != nil {
			t.Fatal(err)
		}
	}
	files[checkpointFile] = log.Checkpoint()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if files[transcriptFile], err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if files[signatureFile], err = quorum.SignDSSE(quorum.TranscriptPayload, files[checkpointFile], s.officers[:2]...); err != nil {
		t.Fatal(err)
	}
	return files
}

// replaced puts another artefact, signed by the same key of the ceremony, in the place of one: its file, and the entries
// of what was signed, of the signature and of the file.
func replaced(t *testing.T, s *stage, leaves [][]byte, files map[string][]byte, path string, was, signed []byte, sig []byte, data []byte, hash crypto.Hash, copies ...string) {
	t.Helper()
	digest := func(b []byte) string {
		if hash == 0 {
			return hexSHA256(b)
		}
		h := hash.New()
		h.Write(b)
		return hex.EncodeToString(h.Sum(nil))
	}
	old, done := digest(was), false
	for i, data := range leaves {
		var in signIntentLeaf
		var out signatureLeaf
		if decodeLeaf(data, &in, kindSignIntent) != nil || in.Digest != old {
			continue
		}
		in.Digest = digest(signed)
		if err := decodeLeaf(leaves[i+1], &out, kindSignature); err != nil {
			t.Fatal(err)
		}
		out.Signature, done = sig, true
		leaves[i], leaves[i+1] = encodeLeaf(&in), encodeLeaf(&out)
	}
	if !done {
		t.Fatalf("%s: nothing of this digest was signed", path)
	}
	for _, path := range append(copies, path) {
		files[path] = data
		for i := range leaves {
			var a artefactLeaf
			if decodeLeaf(leaves[i], &a, kindArtefact) == nil && a.Path == path {
				a.SHA256, a.Size = hexSHA256(data), len(data)
				leaves[i] = encodeLeaf(&a)
			}
		}
	}
}

// TestSwapped: an artefact that the right key signed, that the manifest lists and all officers signed for, but that is
// not what the script says, is refused, and named. Each differs in one fact.
func TestSwapped(t *testing.T) {
	s := newStage(t)
	result, err := Run(context.Background(), s.config(s.plan(s.full())))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	same := func(files map[string][]byte, leaves [][]byte) [][]byte { return leaves }
	if _, err := Verify(context.Background(), memory(forged(t, s, files, same)), Anchors{Roster: &anchor}); err != nil {
		t.Fatalf("made anew and unchanged: %v", err)
	}
	b := s.boards["roots"]
	token, err := s.open(context.Background(), "roots", hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	live := func(label string) hsm.Key {
		k, err := token.Key(context.Background(), hsm.Query{Label: label})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	cert := func(name string) *x509.Certificate {
		c, err := oneCertificate(files["artefacts/"+name+".pem"])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root, rootKey := cert("fleet-root"), live("Demo Fleet Root")
	factory := cert("factory-ca")
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	profile, err := ca.Builtin("factory-ca")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(change func(*ca.Template)) *x509.Certificate {
		issuer, err := ca.NewIssuer(root, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := ca.Template{RawSubject: factory.RawSubject, PublicKey: factory.PublicKey, NotBefore: factory.NotBefore, NotAfter: factory.NotAfter, Serial: factory.SerialNumber}
		change(&tmpl)
		p, err := issuer.Prepare(profile, tmpl, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Sign(context.Background(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	certificates := map[string]func(*ca.Template){
		"serial number":    func(x *ca.Template) { x.Serial = new(big.Int).Add(factory.SerialNumber, big.NewInt(1)) },
		"subject":          func(x *ca.Template) { x.RawSubject = nil; x.Subject.CommonName = "Another Factory CA" },
		"public key":       func(x *ca.Template) { x.PublicKey = other.Public() },
		"validity":         func(x *ca.Template) { x.NotAfter = x.NotAfter.Add(-time.Hour) },
		"name constraints": func(x *ca.Template) { x.Constraints = &ca.NameConstraints{PermittedDNS: []string{"example.com"}} },
		"CRL addresses":    func(x *ca.Template) { x.CRLURLs = []string{"http://example.com/a.crl"} },
	}
	for fact, change := range certificates {
		t.Run("certificate/"+fact, func(t *testing.T) {
			made := issue(change)
			bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
				data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw})
				replaced(t, s, leaves, files, "artefacts/factory-ca.pem", factory.RawTBSCertificate, made.RawTBSCertificate, made.Signature, data, crypto.SHA384)
				return leaves
			})
			_, err := Verify(context.Background(), memory(bad), Anchors{Roster: &anchor})
			if err == nil || !strings.Contains(err.Error(), "factory-ca.pem") || !strings.Contains(err.Error(), fact) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("crl", func(t *testing.T) {
		crl, err := x509.ParseRevocationList(files["artefacts/fleet-root-crl.crl"])
		if err != nil {
			t.Fatal(err)
		}
		for fact, change := range map[string]func(*ca.CRLTemplate){
			"number":     func(x *ca.CRLTemplate) { x.Number = big.NewInt(9) },
			"nextUpdate": func(x *ca.CRLTemplate) { x.NextUpdate = x.NextUpdate.Add(time.Hour) },
			"list of entries": func(x *ca.CRLTemplate) {
				x.Entries = []x509.RevocationListEntry{{SerialNumber: factory.SerialNumber, RevocationTime: x.ThisUpdate, ReasonCode: 1}}
			},
		} {
			issuer, err := ca.NewIssuer(root, rootKey)
			if err != nil {
				t.Fatal(err)
			}
			tmpl := ca.CRLTemplate{Number: crl.Number, ThisUpdate: crl.ThisUpdate, NextUpdate: crl.NextUpdate}
			change(&tmpl)
			p, err := issuer.PrepareCRL(tmpl, nil)
			if err != nil {
				t.Fatal(err)
			}
			made, err := p.Sign(context.Background(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
				replaced(t, s, leaves, files, "artefacts/fleet-root-crl.crl", crl.RawTBSRevocationList, made.RawTBSRevocationList, made.Signature, made.Raw, crypto.SHA384)
				return leaves
			})
			_, err = Verify(context.Background(), memory(bad), Anchors{Roster: &anchor})
			if err == nil || !strings.Contains(err.Error(), "fleet-root-crl.crl") || !strings.Contains(err.Error(), fact) {
				t.Errorf("%s: %v", fact, err)
			}
		}
	})
	t.Run("uptane", func(t *testing.T) {
		const path = "uptane/image/targets.json"
		was, err := uptane.ParseTargets(uptane.Image, files[path])
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]uptane.TargetsConfig{
			"version": {Repository: uptane.Image, Version: 2, Expires: was.Expires()},
			"expiry":  {Repository: uptane.Image, Version: 1, Expires: was.Expires().Add(time.Hour)},
			"content": {Repository: uptane.Image, Version: 1, Expires: was.Expires(), Custom: json.RawMessage(`{"a":1}`)},
		} {
			doc, err := uptane.NewTargets(c)
			if err != nil {
				t.Fatal(err)
			}
			signed, err := uptane.AddSignatures(doc, crypto.Signer(live("Demo Image Targets")))
			if err != nil {
				t.Fatal(err)
			}
			bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
				replaced(t, s, leaves, files, path, was.Signed(), signed.Signed(), signed.Signatures()[0].Sig, signed.Bytes(), 0)
				return leaves
			})
			if _, err = Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("uptane root", func(t *testing.T) {
		const path = "uptane/image/1.root.json"
		was, err := uptane.ParseRoot(files[path])
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*uptane.RootConfig){
			"expiry":    func(c *uptane.RootConfig) { c.Expires = c.Expires.Add(time.Hour) },
			"version":   func(c *uptane.RootConfig) { c.Version = 2 },
			"threshold": func(c *uptane.RootConfig) { swapKey(t, c, uptane.RoleTimestamp, uptane.RoleSnapshot, 1) },
			"a key":     func(c *uptane.RootConfig) { swapKey(t, c, uptane.RoleTargets, "", 1) },
		} {
			c := was.Config()
			change(&c)
			doc, err := uptane.NewRoot(c)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			signed, err := uptane.AddSignatures(doc, crypto.Signer(live("Demo Image Root")))
			if err != nil {
				t.Fatal(err)
			}
			bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
				replaced(t, s, leaves, files, path, was.Signed(), signed.Signed(), signed.Signatures()[0].Sig, signed.Bytes(), 0, "uptane/image/root.json")
				return leaves
			})
			if _, err = Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), "root.json") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("request", func(t *testing.T) { swapRequest(t) })
	t.Run("trust", func(t *testing.T) {
		// The repository of another policy, signed by the same keys: every file and every digest of it is sound.
		c := trust.Content{Environment: "demo", Anchors: []*x509.Certificate{root}, Intermediates: []*x509.Certificate{factory},
			CRLs: [][]byte{files["artefacts/fleet-root-crl.crl"]}, Policy: trust.DefaultPolicy("demo")}
		c.Policy.RequireCRL = true
		rootKey, targetsKey := live("Demo Trust Root"), live("Demo Trust Targets")
		online := func(name string) trust.Role {
			pub, err := publicFromPEM(name, files["inputs/"+name])
			if err != nil {
				t.Fatal(err)
			}
			return trust.One(pub)
		}
		keys := trust.Keys{Root: trust.One(rootKey.Public()), Targets: trust.One(targetsKey.Public()), Snapshot: online("trust-snapshot"), Timestamp: online("trust-timestamp"), CRL: online("trust-crl")}
		until := time.Date(2027, 11, 21, 0, 0, 0, 0, time.UTC)
		made, err := trust.Build(nil, c, keys, trust.Validity{RootExpires: until, TargetsExpires: until}, asserted, rootKey, targetsKey)
		if err != nil {
			t.Fatal(err)
		}
		bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte { return swapTrust(t, files, leaves, made) })
		if _, err = Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), "gateway policy") {
			t.Errorf("another gateway policy: %v", err)
		}
	})
	// A test signature that does not verify.
	bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
		for i := len(leaves) - 1; i > 0; i-- {
			var out signatureLeaf
			if decodeLeaf(leaves[i], &out, kindSignature) == nil {
				out.Signature[len(out.Signature)-1] ^= 1
				leaves[i] = encodeLeaf(&out)
				return leaves
			}
		}
		t.Fatal("nothing was signed")
		return nil
	})
	if _, err := Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), "entry") {
		t.Errorf("a test signature that does not verify: %v", err)
	}
	// A signature of a key of the ceremony over something that the script never asked for is refused too.
	bad = forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
		for i, data := range leaves {
			var in signIntentLeaf
			if decodeLeaf(data, &in, kindSignIntent) == nil {
				list := append([][]byte{}, leaves[:i+2]...)
				return append(list, leaves[i:]...)
			}
		}
		t.Fatal("nothing was signed")
		return nil
	})
	if _, err := Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), "entry") {
		t.Errorf("one signature more: %v", err)
	}
}

// swapTrust puts another repository in the place of that of the ceremony: its files, and the entries of what was signed and
// written, in their order.
func swapTrust(t *testing.T, files map[string][]byte, leaves [][]byte, made map[string][]byte) [][]byte {
	t.Helper()
	for n := range files {
		if strings.HasPrefix(n, "trust/") {
			delete(files, n)
		}
	}
	var out, artefacts [][]byte
	for _, n := range sortedKeys(made) {
		files["trust/"+n] = made[n]
		artefacts = append(artefacts, encodeLeaf(&artefactLeaf{Path: "trust/" + n, SHA256: hexSHA256(made[n]), Size: len(made[n])}))
	}
	signed := []string{"metadata/1.root.json", "metadata/1.targets.json"}
	step := -1
	for i, data := range leaves {
		var st stepLeaf
		var in signIntentLeaf
		var sig signatureLeaf
		var a artefactLeaf
		if decodeLeaf(data, &st, kindStep) == nil {
			step = -1
			if st.What == "trust-repository" {
				step = 0
			}
		}
		if decodeLeaf(data, new(stepDoneLeaf), kindStepDone) == nil {
			step = -1
		}
		switch {
		case step >= 0 && decodeLeaf(data, &in, kindSignIntent) == nil:
			var m struct {
				Signatures []struct{ Sig string }
				Signed     json.RawMessage
			}
			if err := json.Unmarshal(made[signed[step]], &m); err != nil {
				t.Fatal(err)
			}
			// The signed part stands in the file in its canonical form, but for the line breaks of keys.
			payload := strings.ReplaceAll(string(m.Signed), `\n`, "\n")
			in.Digest = hexSHA256([]byte(payload))
			out = append(out, encodeLeaf(&in))
			if err := decodeLeaf(leaves[i+1], &sig, kindSignature); err != nil {
				t.Fatal(err)
			}
			var err error
			if sig.Signature, err = hex.DecodeString(m.Signatures[0].Sig); err != nil {
				t.Fatal(err)
			}
			out = append(out, encodeLeaf(&sig))
			step++
		case step > 0 && decodeLeaf(data, &sig, kindSignature) == nil:
		case step > 0 && decodeLeaf(data, &a, kindArtefact) == nil:
			if artefacts != nil {
				for _, l := range artefacts {
					var x artefactLeaf
					if err := json.Unmarshal(l, &x); err != nil {
						t.Fatal(err)
					}
					x.Head = a.Head
					out = append(out, encodeLeaf(&x))
				}
				artefacts = nil
			}
		default:
			out = append(out, data)
		}
	}
	return out
}

// swapRequest: a certification request of another subject, by the same key.
func swapRequest(t *testing.T) {
	t.Helper()
	s := newStage(t)
	text := strings.Split(readFile(t, goldenDir+"/first.yaml"), "  - generate-key: {name: image-root-key")[0]
	result, err := Run(context.Background(), s.config(s.plan(text)))
	if err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(result.Out))
	if err != nil {
		t.Fatal(err)
	}
	const path = "artefacts/fleet-root-request.csr"
	block, _ := pem.Decode(files[path])
	was, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b := s.boards["roots"]
	token, err := s.open(context.Background(), "roots", hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	k, err := token.Key(context.Background(), hsm.Query{Label: "Fleet Root"})
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	for name, tmpl := range map[string]csr.Template{
		"another subject": {Subject: pkix.Name{CommonName: "Another Root"}},
		"an extension":    {RawSubject: was.RawSubject, DNSNames: []string{"example.com"}},
	} {
		der, err := csr.Create(rand.Reader, k, tmpl)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		bad := forged(t, s, files, func(files map[string][]byte, leaves [][]byte) [][]byte {
			replaced(t, s, leaves, files, path, was.RawTBSCertificateRequest, made.RawTBSCertificateRequest, made.Signature, csr.PEM(der), crypto.SHA384)
			return leaves
		})
		if _, err := Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "others") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// swapKey gives a role of a root the keys of another, or a new one, with a threshold.
func swapKey(t *testing.T, c *uptane.RootConfig, role, from uptane.Role, threshold int) {
	t.Helper()
	roles := maps.Clone(c.Roles)
	if from != "" {
		roles[role], roles[from] = roles[from], roles[role]
	} else {
		key, err := uptane.NewKey(strangerKey.Public())
		if err != nil {
			t.Fatal(err)
		}
		roles[role] = uptane.RoleKeys{Keys: []uptane.Key{key}, Threshold: threshold}
	}
	c.Roles = roles
}

// TestSwappedAborted: an aborted folder that all officers signed, and that does not list what the entries before the abort made,
// is refused.
func TestSwappedAborted(t *testing.T) {
	s, c := cutAt(t, 9)
	if err := s.goOn("abort", c); err != nil {
		t.Fatal(err)
	}
	files, err := readFolder(os.DirFS(c.Out))
	if err != nil {
		t.Fatal(err)
	}
	anchor := s.roster.Digest()
	for _, x := range []struct {
		name string
		ok   bool
		f    func(*abortLeaf)
	}{
		{"unchanged", true, func(*abortLeaf) {}},
		{"other words", true, func(l *abortLeaf) { l.Remains = []string{"nothing at all"} }},
		{"a key is left out", false, func(l *abortLeaf) { l.Destroys = l.Destroys[1:] }},
		{"another key", false, func(l *abortLeaf) { l.Destroys[0].ID = strings.Repeat("ab", 20) }},
		{"another token", false, func(l *abortLeaf) { l.Destroys[0].Token = "other" }},
		{"a serial more", false, func(l *abortLeaf) { l.Serials = append(l.Serials, strings.Repeat("4b", 20)) }},
		{"a signature more", false, func(l *abortLeaf) { l.Signatures++ }},
		{"an act that lasts", false, func(l *abortLeaf) { l.Lasting = append(l.Lasting, lasting{1, "numbered"}) }},
		{"a wrong entry that is not wrong", false, func(l *abortLeaf) { l.Wrong = &wrongEntry{Entry: 99, Why: "x"} }},
	} {
		bad := forged(t, s, files, func(_ map[string][]byte, leaves [][]byte) [][]byte {
			leaves = slices.Clone(leaves)
			for i := range leaves {
				var l abortLeaf
				if decodeLeaf(leaves[i], &l, kindAbort) == nil {
					x.f(&l)
					leaves[i] = encodeLeaf(&l)
				}
			}
			return leaves
		})
		if r, err := Verify(context.Background(), memory(bad), Anchors{Roster: &anchor}); (err == nil) != x.ok {
			t.Errorf("%s: %v (%v)", x.name, err, r)
		}
	}
}
