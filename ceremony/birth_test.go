package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
)

const tpmPIN = "correct-horse"

// birthStage is a stage whose roots are in a TPM.
type birthStage struct {
	*stage
	chip   *tpmtest.Chip
	tpmURI hsm.URI
}

// newBirthStage makes a store in a new TPM of a manufacturer, its attestor, and the challenges of two officers, as inputs.
func newBirthStage(t testing.TB, maker *tpmtest.Manufacturer) *birthStage {
	t.Helper()
	s := &birthStage{stage: newStage(t), chip: maker.New(t)}
	s.now = time.Now().UTC().Truncate(time.Second)
	s.tpmURI = hsm.URI{Scheme: hsm.SchemeTPM, Device: s.chip.Socket, Store: filepath.Join(s.dir, "store")}
	info, err := tpm.Init(context.Background(), tpm.NewStore{Device: s.chip.Socket, Folder: s.tpmURI.Store, Label: "roots"}, []byte(tpmPIN))
	if err != nil {
		t.Fatal(err)
	}
	s.tpmURI.Token, s.tpmURI.Serial = info.Label, info.Serial
	tok := s.token()
	defer tok.Close()
	chain, ek, ak, err := tok.Attestor(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	roots, err := os.ReadFile(s.chip.Roots)
	if err != nil {
		t.Fatal(err)
	}
	s.put("ek-roots.pem", roots)
	makers, err := Manufacturers(roots)
	if err != nil {
		t.Fatal(err)
	}
	a := &attest.Attestor{Label: info.Label, Serial: info.Serial, EKChain: chain, EKPublic: ek, AKPublic: ak}
	s.encode("attestor.json", a.Encode)
	for _, who := range []string{"ada", "grace"} {
		c, err := makers.NewChallenge(rand.Reader, who, a, s.now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		s.encode("challenge-"+who+".json", c.Encode)
	}
	return s
}

func (s *stage) encode(name string, encode func() ([]byte, error)) {
	s.t.Helper()
	data, err := encode()
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(name, data)
}

func (s *birthStage) token() *tpm.Token {
	s.t.Helper()
	tok, err := tpm.Open(context.Background(), tpm.Config{URI: s.tpmURI, PIN: hsm.PINBytes([]byte(tpmPIN))})
	if err != nil {
		s.t.Fatal(err)
	}
	return tok
}

// open opens the TPM, or a board.
func (s *birthStage) open(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
	if uri.Scheme != hsm.SchemeTPM {
		return s.stage.open(ctx, name, uri, pin)
	}
	t, err := tpm.Open(ctx, tpm.Config{URI: uri.OnMachine(s.tpmURI), PIN: hsm.PINBytes([]byte(tpmPIN))})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// TPM is the script's URI of the TPM; From and Until are its window.
func (s *birthStage) TPM() string   { return s.tpmURI.OnMachine(hsm.URI{}).String() }
func (s *birthStage) From() string  { return formatTime(s.now.Add(-time.Hour)) }
func (s *birthStage) Until() string { return formatTime(s.now.Add(24 * time.Hour)) }

// birthScript has a Fleet Root born in a TPM.
const birthScript = `version: 1
ceremony: born
environment: demo
window: {from: FROM, until: UNTIL}
roster: {{file "roster.json"}}
tokens:
  roots:
    uri: "TPM"
    birth:
      manufacturers: ek-roots
      attestor: attestor
      challenges: [challenge-ada, challenge-grace]
inputs:
  ek-roots: {{file "ek-roots.pem"}}
  attestor: {{file "attestor.json"}}
  challenge-ada: {{file "challenge-ada.json"}}
  challenge-grace: {{file "challenge-grace.json"}}
steps:
  - generate-key: {name: fleet-root-key, token: roots, label: Fleet Root, algorithm: P-384}
  - root-certificate:
      name: fleet-root
      key: fleet-root-key
      profile: fleet-root
      subject: {common_name: Fleet Root, organization: Example Devices}
      not_before: FROM
      not_after: 2046-11-21T00:00:00Z
`

func (s *birthStage) text() string {
	return strings.NewReplacer("FROM", s.From(), "UNTIL", s.Until(), `"TPM"`, `"`+s.TPM()+`"`).Replace(birthScript)
}

func (s *birthStage) runConfig(text string) RunConfig {
	s.t.Helper()
	c := s.config(s.plan(text))
	c.Open = s.open
	return c
}

// TestBirth: a root that is born in a TPM has a birth certificate in the transcript, which verify checks with the folder alone.
func TestBirth(t *testing.T) {
	s := newBirthStage(t, tpmtest.NewManufacturer(t))
	result, err := Run(context.Background(), s.runConfig(s.text()))
	if err != nil {
		t.Fatal(err)
	}
	s.chip.Stop()
	// Who reads the script sees whose TPM it will be, and who made the challenges.
	if facts := fmt.Sprint(s.plan(s.text()).View(1).Facts); !strings.Contains(facts, "{born in a TPM of") || !strings.Contains(facts, "{challenges by ada, grace}") {
		t.Errorf("check shows %s", facts)
	}
	roster := s.roster.Digest()
	anchor := [32]byte(roster)
	report, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err != nil {
		t.Fatal(err)
	}
	if report.Format != Format() || len(report.Keys) != 1 || report.Keys[0].Birth == nil || fmt.Sprint(report.Keys[0].Birth.Makers) != "[ada grace]" || !strings.Contains(report.Keys[0].Birth.Manufacturer, "swtpm") {
		t.Errorf("%+v %+v", report, report.Keys)
	}
	data, err := os.ReadFile(filepath.Join(result.Out, transcriptFile))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(data, []byte(kindBirth)) == 0 || bytes.Contains(data, []byte(tpmPIN)) {
		t.Error("the transcript has no birth, or the PIN")
	}
}

// TestBirthRehearsed: a rehearsal of the same script, on throw-away tokens, has no births, and verifies as a rehearsal.
func TestBirthRehearsed(t *testing.T) {
	s := newBirthStage(t, tpmtest.NewManufacturer(t))
	b := s.boards["online"]
	c := RunConfig{Plan: s.plan(s.text()), Out: filepath.Join(s.dir, "rehearsal"), Asserted: s.now, Tool: s.tool, Rehearsal: true,
		Open: func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
			tok, err := s.stage.open(ctx, "online", hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
			return relabelled{tok, uri.Token}, err
		}}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	anchor := [32]byte(s.roster.Digest())
	report, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &anchor})
	if err == nil || report == nil || report.Mode != "rehearsal" || len(report.Keys) != 1 || report.Keys[0].Birth != nil {
		t.Errorf("%+v: %v", report, err)
	}
}

// TestTPMRefused: what a TPM cannot do is refused by check, before any token is touched.
func TestTPMRefused(t *testing.T) {
	s := newBirthStage(t, tpmtest.NewManufacturer(t))
	key := "  - generate-key: {name: fleet-root-key, token: roots, label: Fleet Root, algorithm: P-384}\n"
	for _, c := range []struct{ was, now, says string }{
		{"algorithm: P-384", "algorithm: RSA-4096", "RSA-4096"},
		{"algorithm: P-384", "algorithm: Ed25519", "Ed25519"},
		{"algorithm: P-384", "algorithm: P-384, class: backup", "never leaves it"},
		{key, "  - init-token: {token: roots}\n" + key, "which no ceremony initialises"},
		{key, key + "  - hold-secret: {name: pin, token: roots, purpose: user}\n", "no security officer"},
		{`tpm:token`, `tpm:store=x;token`, "unknown attribute"},
	} {
		text := strings.Replace(s.text(), c.was, c.now, 1)
		if err := s.check(text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.now, err)
		}
	}
	before := s.tpmURI
	if _, err := s.script(strings.Replace(s.text(), s.TPM(), before.String(), 1)); err == nil || !strings.Contains(err.Error(), "belong into the bindings") {
		t.Errorf("device and store in a script: %v", err)
	}
}

// TestBirthRefusals: each way to have a birth that was none is refused, with its reason, before a key is made, or with the key removed by abort.
func TestBirthRefusals(t *testing.T) {
	maker, stranger := tpmtest.NewManufacturer(t), tpmtest.NewManufacturer(t)
	s, twin, foreign := newBirthStage(t, maker), newBirthStage(t, maker), newBirthStage(t, stranger)
	take := func(from *birthStage, name string) []byte {
		data, err := os.ReadFile(filepath.Join(from.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := map[string][]byte{}
	for _, n := range []string{"ek-roots.pem", "attestor.json", "challenge-ada.json", "challenge-grace.json"} {
		good[n] = take(s, n)
	}
	attestor, err := attest.ParseAttestor("attestor", good["attestor.json"])
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(a *attest.Attestor)) []byte {
		a := *attestor
		change(&a)
		data, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	other, err := attest.ParseAttestor("attestor", take(twin, "attestor.json"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.token().Generate(context.Background(), hsm.GenerateSpec{Label: "unrestricted", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	unrestricted, _, _, err := func() ([]byte, []byte, []byte, error) {
		tok := s.token()
		k, err := tok.Key(context.Background(), hsm.Query{ID: key.Attributes().ID})
		if err != nil {
			return nil, nil, nil, err
		}
		return tok.Certify(context.Background(), k, make([]byte, 32))
	}()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		put  map[string][]byte
		why  error
		says string
	}{
		"another manufacturer's root":            {map[string][]byte{"ek-roots.pem": take(foreign, "ek-roots.pem")}, attest.ErrManufacturer, ""},
		"a chain cut short":                      {map[string][]byte{"ek-roots.pem": firstCertificate(t, good["ek-roots.pem"])}, attest.ErrManufacturer, "cut short"},
		"an attestation key that signs anything": {map[string][]byte{"attestor.json": changed(func(a *attest.Attestor) { a.AKPublic = unrestricted })}, attest.ErrAK, "not restricted"},
		"the endorsement key of another TPM":     {map[string][]byte{"attestor.json": changed(func(a *attest.Attestor) { a.EKPublic = other.EKPublic })}, attest.ErrEK, ""},
		"challenges that are for another TPM":    {map[string][]byte{"challenge-ada.json": take(twin, "challenge-ada.json")}, attest.ErrNotActivated, "other keys"},
		"one challenge twice":                    {map[string][]byte{"challenge-ada.json": good["challenge-grace.json"]}, nil, "twice"},
		"an attestor that is none":               {map[string][]byte{"attestor.json": []byte("{}")}, attest.ErrMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for n, data := range good {
				s.put(n, data)
			}
			for n, data := range c.put {
				s.put(n, data)
			}
			if err := s.check(s.text()); err == nil || c.why != nil && !errors.Is(err, c.why) || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
		})
	}
	for n, data := range good {
		s.put(n, data)
	}
	// The script is honest, and the machine's bindings lead to another TPM of the same manufacturer.
	before := s.tpmURI
	c := s.runConfig(s.text())
	c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		tok, err := twin.open(ctx, name, twin.tpmURI, pin)
		return imposter{tok, tok.(*tpm.Token), before}, err
	}
	_, err = Run(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), RuleBirth.ID) || advice.KindOf(err) != advice.Refused {
		t.Errorf("another TPM's token: %v", err)
	}
	if keys, err := twin.token().Keys(context.Background()); err != nil || len(keys) != 0 {
		t.Errorf("%d keys: %v", len(keys), err)
	}
}

// liar is the TPM's token, with what it says of itself exchanged.
type liar struct {
	*tpm.Token
	activate func(secret []byte) []byte
	certify  func(public, statement, signature []byte) ([]byte, []byte, []byte)
}

func (l liar) Activate(ctx context.Context, blob, encrypted []byte) ([]byte, error) {
	secret, err := l.Token.Activate(ctx, blob, encrypted)
	if l.activate != nil {
		secret = l.activate(secret)
	}
	return secret, err
}

func (l liar) Certify(ctx context.Context, k hsm.Key, q []byte) (public, statement, signature []byte, err error) {
	public, statement, signature, err = l.Token.Certify(ctx, k, q)
	if l.certify != nil {
		public, statement, signature = l.certify(public, statement, signature)
	}
	return
}

// TestBirthLies: evidence that is old, of another key, or changed is refused by the ceremony, and by verify where it stands in a
// transcript; what was generated is removed by abort.
func TestBirthLies(t *testing.T) {
	s := newBirthStage(t, tpmtest.NewManufacturer(t))
	tok := s.token()
	old, err := tok.Generate(context.Background(), hsm.GenerateSpec{Label: "old", Algorithm: hsm.P384})
	if err != nil {
		t.Fatal(err)
	}
	oldPublic, oldStatement, oldSignature, err := tok.Certify(context.Background(), old, attest.Qualifying("hanaper birth v1", []byte("an old nonce")))
	if err != nil {
		t.Fatal(err)
	}
	var captured [2][]byte
	for i, c := range []struct {
		name string
		liar liar
		why  error
	}{
		{"a wrong answer to a challenge", liar{activate: func([]byte) []byte { return make([]byte, 32) }}, attest.ErrNotActivated},
		{"the statement about another key", liar{certify: func(p, _, _ []byte) ([]byte, []byte, []byte) { return p, oldStatement, oldSignature }}, attest.ErrStale},
		{"another key", liar{certify: func(_, st, sig []byte) ([]byte, []byte, []byte) {
			captured = [2][]byte{st, sig}
			return oldPublic, st, sig
		}}, attest.ErrOtherKey},
		{"the statement of an earlier ceremony", liar{certify: func(p, _, _ []byte) ([]byte, []byte, []byte) { return p, captured[0], captured[1] }}, attest.ErrStale},
		{"a statement that was changed", liar{certify: func(p, st, sig []byte) ([]byte, []byte, []byte) {
			st = bytes.Clone(st)
			st[len(st)-1] ^= 1
			return p, st, sig
		}}, attest.ErrSignature},
	} {
		config := s.runConfig(strings.Replace(s.text(), "ceremony: born", fmt.Sprintf("ceremony: lie-%d", i), 1))
		config.Out = filepath.Join(s.dir, fmt.Sprint("out", i))
		config.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
			l := c.liar
			l.Token = s.token()
			return l, nil
		}
		_, err := Run(context.Background(), config)
		if !errors.Is(err, c.why) || advice.KindOf(err) != advice.Refused || !strings.Contains(err.Error(), RuleBirth.ID) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := unfinished(&config); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if _, err := Abort(context.Background(), AbortConfig{RunConfig: config, Reason: "a lie", Agree: func(Aborting) error { return nil }}); err != nil {
			t.Errorf("%s: abort: %v", c.name, err)
		}
		if keys, err := tok.Keys(context.Background()); err != nil || len(keys) != 1 {
			t.Errorf("%s: %d keys are left: %v", c.name, len(keys), err)
		}
	}
}

// TestBirthCut cuts a ceremony on a TPM before each of its entries; it is resumed to a verified birth, or aborted and leaves no key.
func TestBirthCut(t *testing.T) {
	s := newBirthStage(t, tpmtest.NewManufacturer(t))
	defer func() { appending = nil }()
	anchor := [32]byte(s.roster.Digest())
	for n := int64(2); ; n++ {
		cut := false
		for _, abort := range []bool{false, true} {
			config := s.runConfig(strings.Replace(s.text(), "ceremony: born", fmt.Sprintf("ceremony: cut-%d-%t", n, abort), 1))
			config.Out = filepath.Join(s.dir, fmt.Sprintf("out-%d-%t", n, abort))
			appending = func(entry int64) error {
				if entry == n {
					cut = true
					return errCut
				}
				return nil
			}
			_, err := Run(context.Background(), config)
			appending = nil
			if cut {
				s.chip.Stop() // the machine loses power, too
				s.chip.Start()
				s.chip.Forget()
				if !strings.Contains(fmt.Sprint(err), errCut.Error()) {
					t.Fatalf("entry %d: %v", n, err)
				}
				if err := unfinished(&config); err != nil {
					t.Fatalf("entry %d: %v", n, err)
				}
				if abort {
					_, err = Abort(context.Background(), AbortConfig{RunConfig: config, Reason: "the power was cut", Agree: func(Aborting) error { return nil }})
				} else {
					_, err = Resume(context.Background(), config)
				}
			}
			if err != nil {
				t.Fatalf("entry %d, abort %t: %v", n, abort, err)
			}
			report, err := Verify(context.Background(), os.DirFS(config.Out), Anchors{Roster: &anchor})
			if err != nil || !report.Aborted && (len(report.Keys) != 1 || report.Keys[0].Birth == nil) {
				t.Fatalf("entry %d, abort %t: %+v, %v", n, abort, report, err)
			}
			tok := s.token()
			keys, err := tok.Keys(context.Background())
			if err != nil || len(keys) > 1 || report.Aborted && len(keys) > 0 {
				t.Fatalf("entry %d, abort %t: %d keys: %v", n, abort, len(keys), err)
			}
			for _, k := range keys {
				if err := tok.Destroy(context.Background(), k.URI().Query()); err != nil {
					t.Fatal(err)
				}
			}
			_ = tok.Close()
		}
		if !cut {
			if n < 10 {
				t.Errorf("only %d entries", n)
			}
			return
		}
	}
}

// imposter is a token that says it is another one.
type imposter struct {
	hsm.Token
	certifier
	uri hsm.URI
}

func (i imposter) Info() hsm.TokenInfo {
	info := i.Token.Info()
	info.Label, info.Serial = i.uri.Token, i.uri.Serial
	return info
}

// firstCertificate keeps the first certificate of a PEM file.
func firstCertificate(t testing.TB, data []byte) []byte {
	t.Helper()
	const end = "-----END CERTIFICATE-----\n"
	i := bytes.Index(data, []byte(end))
	if i < 0 {
		t.Fatal("no certificate")
	}
	return data[:i+len(end)]
}
