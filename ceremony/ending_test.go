package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// lyingKey signs wrongly as often as it is told.
type lyingKey struct {
	hsm.Key
	wrong *int
}

func (k lyingKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.Key.Sign(r, digest, opts)
	if err == nil && *k.wrong > 0 {
		*k.wrong--
		sig[len(sig)-1] ^= 1
	}
	return sig, err
}

type lyingToken struct {
	hsm.Token
	wrong *int
}

func (t lyingToken) Generate(ctx context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	k, err := t.Token.Generate(ctx, s)
	return lyingKey{k, t.wrong}, err
}

func (t lyingToken) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) {
	k, err := t.Token.Key(ctx, q)
	return lyingKey{k, t.wrong}, err
}

// TestWrongSignature: a token returns one wrong signature. It is not written down, and the ceremony can be resumed, or
// aborted while the token goes on lying.
func TestWrongSignature(t *testing.T) {
	text := strings.Split((&stage{t: t}).full(), "  - certificate:\n")[0]
	for _, verb := range []string{"resume", "abort"} {
		s := newStage(t)
		wrong := 1
		c := s.config(s.plan(text))
		c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
			tok, err := s.open(ctx, name, uri, pin)
			return lyingToken{tok, &wrong}, err
		}
		_, err := Run(context.Background(), c)
		if err == nil || !strings.Contains(err.Error(), "does not verify") {
			t.Fatalf("a wrong signature: %v", err)
		}
		leaves := entries(t, tree(t, c.Out))
		if h, _ := headOf(leaves[len(leaves)-1]); h.Kind != kindSignIntent {
			t.Errorf("the transcript ends with %q, not with what was to be signed", h.Kind)
		}
		if verb == "abort" {
			wrong = 1000
		}
		if err := s.goOn(verb, c); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		s.verified(c.Out, verb == "abort")
	}
}

// verified asks that a folder verifies.
func (s *stage) verified(out string, aborted bool) *Report {
	s.t.Helper()
	r, err := s.verify(out)
	if err != nil || r.Aborted != aborted {
		s.t.Fatalf("%v", err)
	}
	return r
}

// TestAbortAlways: a ceremony can be aborted after its window, by a later program, without its token, and with a transcript
// that is wrong or damaged at its end. What could not be undone is written, and verify tells it.
func TestAbortAlways(t *testing.T) {
	gone := func(context.Context, string, hsm.URI, hsm.PINSource) (hsm.Token, error) {
		return nil, fmt.Errorf("the token is dead: %w", hsm.ErrNoToken)
	}
	for _, c := range []struct {
		name   string
		change func(*stage, *AbortConfig)
		keys   int
		check  func(*testing.T, *Report, abortLeaf)
	}{
		{"a year later", func(_ *stage, c *AbortConfig) { c.Asserted = c.Asserted.AddDate(1, 0, 0) }, 0, nil},
		{"by a later program", func(_ *stage, c *AbortConfig) { c.Tool.SHA256 = strings.Repeat("0", 64) }, 0, nil},
		{"without the token", func(_ *stage, c *AbortConfig) {
			c.Open, c.Leave = gone, func(string, error) error { return nil }
		}, 1, func(t *testing.T, r *Report, _ abortLeaf) {
			if len(r.Stays) != 1 || !strings.Contains(r.Stays[0], `key "a"`) {
				t.Errorf("what stays: %v", r.Stays)
			}
		}},
		{"with an entry that follows from nothing", func(s *stage, c *AbortConfig) {
			w := &world{stage: s}
			files := tree(s.t, c.Out)
			leaves := slices.Clone(entries(s.t, files))
			h, _ := headOf(leaves[len(leaves)-1])
			extra := encodeLeaf(&serialLeaf{Head: Head{Kind: kindSerial, Step: h.Step, At: h.At}, For: "nobody", Serial: strings.Repeat("4a", 20)})
			// An older release wrote it so, and this machine remembers it so.
			files = w.with(files, append(leaves, extra))
			s.rewrite(c, files)
		}, 0, func(t *testing.T, r *Report, l abortLeaf) {
			if l.Wrong == nil || l.Wrong.Entry != r.Entries-4 || !slices.Contains(l.Serials, strings.Repeat("4a", 20)) {
				t.Errorf("%+v of %d entries", l.Wrong, r.Entries)
			}
		}},
		{"with a damaged end", func(s *stage, c *AbortConfig) {
			files := tree(s.t, c.Out)
			data := files[transcriptFile]
			data[len(data)-80] ^= 1
			put(s.t, c.Out, files)
		}, 0, func(t *testing.T, _ *Report, l abortLeaf) {
			if l.Unreadable == nil || l.Unreadable.Entry != 7 || l.Unreadable.Lost != 1 {
				t.Errorf("%+v", l.Unreadable)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, config := cutAt(t, 9)
			s.t = t
			a := AbortConfig{RunConfig: config, Reason: "a test"}
			c.change(s, &a)
			st, err := Abandoned(a.Out, a.Anchor)
			if err != nil {
				t.Fatal(err)
			}
			a.Plan, a.Approvals = st.Plan, st.Approvals
			if _, err := Abort(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			r := s.verified(a.Out, true)
			if n := s.objects(); n != c.keys {
				t.Errorf("%d keys are left, want %d", n, c.keys)
			}
			var l abortLeaf
			for _, data := range entries(t, tree(t, a.Out)) {
				if h, _ := headOf(data); h.Kind == kindAbort {
					if err := decodeLeaf(data, &l, kindAbort); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.check != nil {
				c.check(t, r, l)
			}
			if err := s.goOn("abort", a.RunConfig); err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("aborted again: %v", err)
			}
		})
	}
	// Nobody agreed that the key stays: nothing is closed, and the abort can go on when the token is back.
	s, config := cutAt(t, 9)
	a := AbortConfig{RunConfig: config, Reason: "a test"}
	a.Open = gone
	if _, err := Abort(context.Background(), a); !errors.Is(err, hsm.ErrNoToken) {
		t.Errorf("without the token and without a word: %v", err)
	}
	if err := s.goOn("abort", config); err != nil || s.objects() != 0 {
		t.Errorf("the token is back: %v", err)
	}
	for _, reason := range []string{"", "  ", "a\nb", strings.Repeat("x", 5000)} {
		a.Reason = reason
		if _, err := Abort(context.Background(), a); err == nil || advice.KindOf(err) != advice.Usage {
			t.Errorf("the reason %.10q: %v", reason, err)
		}
	}
}

// rewrite gives a folder other files, and has the machine remember them.
func (s *stage) rewrite(c *AbortConfig, files map[string][]byte) {
	s.t.Helper()
	put(s.t, c.Out, files)
	first, err := quorum.ReadApproval(files["approvals/1.json"])
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := journal.Parse(files[transcriptFile])
	if err != nil {
		s.t.Fatal(err)
	}
	c.Anchor.State = machine.At(filepath.Join(s.dir, "another-state"))
	b := begunBy(c.Plan.script, first.Nonce)
	b.Anchor, b.Size, b.Root = machine.ByRoster, r.Size(), hexHash(r.Root())
	m, err := c.Anchor.State.Begin(b)
	if err != nil {
		s.t.Fatal(err)
	}
	m.Close()
}

// TestByRoster: on a machine that remembers nothing, the digests of roster and transcript and M officers are asked for; which anchor it was is
// in the transcript.
func TestByRoster(t *testing.T) {
	for _, verb := range []string{"resume", "abort"} {
		s, c := cutAt(t, 9)
		right, wrong := s.roster.Digest(), [32]byte{1}
		// The digest that the program showed when the run ended.
		head := transcriptDigest(recordOf(t, c.Out))
		c.Anchor = Anchor{State: machine.At(filepath.Join(s.dir, "elsewhere")), Transcript: &head}
		before := tree(t, c.Out)
		for _, bad := range []struct {
			name, says string
			roster     *[32]byte
			officers   []crypto.Signer
		}{
			{"no digest", "this machine remembers nothing of this ceremony", nil, s.officers},
			{"another digest", "not the one that was given", &wrong, s.officers},
			{"one officer of two", "2 officers must be present", (*[32]byte)(&right), s.officers[:1]},
		} {
			b := c
			b.Anchor.Roster, b.Officers = bad.roster, bad.officers
			if err := s.goOn(verb, b); err == nil || !strings.Contains(err.Error(), bad.says) || advice.Hint(err) == "" {
				t.Errorf("%s, %s: %v", verb, bad.name, err)
			}
			if !maps.EqualFunc(tree(t, c.Out), before, bytes.Equal) || s.objects() != 1 || len(tree(t, filepath.Join(s.dir, "elsewhere"))) > 0 {
				t.Errorf("%s, %s: something was written", verb, bad.name)
			}
		}
		c.Anchor.Roster = (*[32]byte)(&right)
		st, err := Abandoned(c.Out, c.Anchor)
		if err != nil || st.By != machine.ByRoster || len(st.Doubts) < 3 {
			t.Fatalf("%+v, %v", st, err)
		}
		if err := s.goOn(verb, c); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		s.verified(c.Out, verb == "abort")
		if text := string(tree(t, c.Out)[transcriptFile]); !strings.Contains(text, `"anchor":"roster"`) {
			t.Errorf("%s: the transcript does not name its anchor", verb)
		}
	}
}

// TestEarlierAnchored: a ceremony that carries on from one which this machine does not know needs its checkpoint's digest.
func TestEarlierAnchored(t *testing.T) {
	s := second(t)
	c := s.config(s.plan(s.secondScript()))
	c.Out += "-2"
	c.Anchor = Anchor{State: machine.At(filepath.Join(s.dir, "elsewhere"))}
	before := s.objects()
	wrong := [32]byte{1}
	for _, a := range []*[32]byte{nil, &wrong} {
		c.Anchor.Earlier = a
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), RuleEarlier.ID) || advice.KindOf(err) != advice.Refused {
			t.Errorf("anchor %v: %v", a, err)
		}
		if _, err := os.Lstat(c.Out); err == nil || s.objects() != before {
			t.Error("the refused run left a folder or a key")
		}
	}
	c.Anchor.Earlier = &c.Plan.script.earlier.checkpoint
	if _, err := Run(context.Background(), c); err != nil {
		t.Error(err)
	}
	// An earlier ceremony that only one officer signed is not carried on from.
	c = s.config(c.Plan)
	c.Out += "-3"
	c.Plan.script.earlier.verified.signers = c.Plan.script.earlier.verified.signers[:1]
	if _, err := Run(context.Background(), c); !errors.Is(err, ErrNotAttested) || advice.KindOf(err) != advice.Refused {
		t.Errorf("an earlier ceremony that is not attested: %v", err)
	}
}

// TestOneCard: a thief with one officer's card, a token of their own and the approvals that anyone can copy makes a folder that
// is consistent in itself, and not attested. Signatures that are added must be of officers, over this very checkpoint.
func TestOneCard(t *testing.T) {
	s := newStage(t)
	p := s.plan(keysOnly)
	c := s.config(p)
	c.Officers = s.officers[:1]
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	roster := s.roster.Digest()
	digest := quorum.Sum(tree(t, result.Out)[checkpointFile])
	anchors := Anchors{Roster: (*[32]byte)(&roster)}
	verify := func() (*Report, error) { return Verify(context.Background(), os.DirFS(result.Out), anchors) }
	for _, anchor := range []Anchors{anchors, {Checkpoint: (*[32]byte)(&digest)}} {
		r, err := Verify(context.Background(), os.DirFS(result.Out), anchor)
		if !errors.Is(err, ErrNotAttested) || advice.KindOf(err) != advice.Unverified || r == nil || r.Attested || !strings.Contains(err.Error(), "Officer 2, Officer 3") {
			t.Fatalf("one signature: %v", err)
		}
	}
	attest := func(anchors Anchors, key crypto.Signer) error {
		_, err := Attest(context.Background(), result.Out, os.DirFS(result.Out), anchors, func(*Report) (crypto.Signer, error) { return key, nil })
		return err
	}
	before := tree(t, result.Out)
	for name, err := range map[string]error{
		"the same card again": attest(anchors, s.officers[0]), "a stranger": attest(anchors, strangerKey), "no anchor": attest(Anchors{}, s.officers[1]),
		"another anchor": attest(Anchors{Roster: &[32]byte{1}}, s.officers[1]),
	} {
		if err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if !maps.EqualFunc(tree(t, result.Out), before, bytes.Equal) {
		t.Error("a refused signature was written")
	}
	sign := func(payload string, body []byte, key crypto.Signer) []byte {
		env, err := quorum.SignDSSE(payload, body, key)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	body := before[checkpointFile]
	for name, file := range map[string]struct {
		path string
		data []byte
	}{
		"a stranger's":               {"attestations/1.dsse.json", sign(quorum.TranscriptPayload, body, strangerKey)},
		"over another checkpoint":    {"attestations/1.dsse.json", sign(quorum.TranscriptPayload, append([]byte("x"), body...), s.officers[1])},
		"an approval":                {"attestations/1.dsse.json", before["approvals/2.json"]},
		"of another kind":            {"attestations/1.dsse.json", sign("application/x", body, s.officers[1])},
		"under another name":         {"attestations/officer.json", sign(quorum.TranscriptPayload, body, s.officers[1])},
		"in a folder of another one": {"attestations/1/1.dsse.json", sign(quorum.TranscriptPayload, body, s.officers[1])},
	} {
		changed := exchanged(before, file.path, file.data)
		if _, err := Verify(context.Background(), memory(changed), anchors); err == nil || errors.Is(err, ErrNotAttested) || !strings.Contains(err.Error(), file.path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The first officer's signature once more is no second officer.
	twice := exchanged(before, "attestations/1.dsse.json", sign(quorum.TranscriptPayload, body, s.officers[0]))
	if _, err := Verify(context.Background(), memory(twice), anchors); !errors.Is(err, ErrNotAttested) {
		t.Errorf("one officer twice: %v", err)
	}
	if err := attest(anchors, s.officers[2]); err != nil {
		t.Fatal(err)
	}
	r, err := verify()
	if err != nil || !r.Attested || len(r.Late) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if both, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: (*[32]byte)(&roster), Checkpoint: &[32]byte{1}}); err == nil || both != nil {
		t.Errorf("one of two anchors is wrong: %v", err)
	}
}

// TestRevokedBySerial: a CRL lists by serial only what its issuer issued.
func TestRevokedBySerial(t *testing.T) {
	s := second(t)
	serial := func(name string) string {
		block, _ := pem.Decode(tree(t, filepath.Join(s.dir, "out"))["artefacts/"+name+".pem"])
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%040x", cert.SerialNumber)
	}
	for name, want := range map[string]string{"factory-ca": "", "station-1": RuleCRLEntry.ID, "fleet-root": RuleCRLEntry.ID, "operations-root": RuleCRLEntry.ID} {
		if err := s.check(strings.Replace(s.secondScript(), "{certificate: factory-ca, reason: superseded", "{serial: "+serial(name)+", reason: superseded", 1)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestTakenKeyGone: a key that a step would take up is gone. That is found before anything is done.
func TestTakenKeyGone(t *testing.T) {
	s := second(t)
	tok, err := s.open(context.Background(), "roots", hsm.URI{Token: s.boards["roots"].Label}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := tok.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if a := k.Attributes(); a.Label == "Demo Trust Targets" {
			if err := tok.Destroy(context.Background(), hsm.Query{Label: a.Label, ID: a.ID}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tok.Close()
	before := s.objects()
	c := s.config(s.plan(s.secondScript()))
	c.Out += "-2"
	if _, err := Run(context.Background(), c); !errors.Is(err, hsm.ErrNoKey) || !strings.Contains(err.Error(), "trust-targets-key") {
		t.Errorf("a key that is gone: %v", err)
	}
	if _, err := os.Lstat(c.Out); err == nil || s.objects() != before {
		t.Error("the refused run left a folder or a key")
	}
	first, _ := quorum.ReadApproval(c.Approvals[0])
	if used, err := c.Anchor.State.Used(first.Nonce); used || err != nil {
		t.Errorf("its approvals count as used: %v", err)
	}
	c.Out = filepath.Join(s.dir, "no", "such", "folder")
	if err := Ready(c, Present{Signers: 2}); err == nil || !strings.Contains(err.Error(), RuleOutput.ID) {
		t.Errorf("the folder above the output is missing: %v", err)
	}
}
