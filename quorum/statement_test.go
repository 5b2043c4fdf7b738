package quorum

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
)

// Any M of N succeed, every M-1 are refused.
func TestAnyMOfN(t *testing.T) {
	list := people(t)[:5]
	for m := 1; m <= 5; m++ {
		r := newRoster(t, m, list)
		st := statement(t, r)
		all := approve(t, st, list...)
		try := func(idx []int) error {
			var some [][]byte
			for _, i := range idx {
				some = append(some, all[i])
			}
			q, err := Verify(st, r, some, issued, nil)
			if err == nil && len(q.Officers()) != len(idx) {
				t.Errorf("%d officers counted of %d", len(q.Officers()), len(idx))
			}
			return err
		}
		subsets(5, m, func(idx []int) {
			if err := try(idx); err != nil {
				t.Errorf("%s, %v: %v", ofN(m, 5), idx, err)
			}
		})
		subsets(5, m-1, func(idx []int) {
			if err := try(idx); !errors.Is(err, ErrQuorum) || advice.KindOf(err) != advice.Refused {
				t.Errorf("%s, %v: %v", ofN(m, 5), idx, err)
			}
		})
	}
}

func TestVerifyRefusals(t *testing.T) {
	list := people(t)
	r := newRoster(t, 2, list)
	st := statement(t, r)
	good := approve(t, st, list[0], list[1])
	if _, err := Verify(st, r, good, issued, func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Statement)) Statement {
		s := st
		s.Inputs = map[string]Digest{}
		for k, v := range st.Inputs {
			s.Inputs[k] = v
		}
		f(&s)
		return s
	}
	otherRoster := newRoster(t, 2, list[:4])
	flip := func(d Digest) Digest { d[0] ^= 1; return d }
	for _, v := range []struct {
		name      string
		st        Statement
		approvals [][]byte
		now       time.Time
		used      func(string) bool
		want      error
		says      string
	}{
		{"none", st, nil, issued, nil, ErrQuorum, "0 of 2"},
		{"one officer twice", st, approve(t, st, list[0], list[0]), issued, nil, ErrQuorum, "1 of 2"},
		{"the same file twice", st, [][]byte{good[0], good[0]}, issued, nil, ErrQuorum, "1 of 2"},
		{"a witness", st, approve(t, st, list[0], list[5]), issued, nil, nil, "Wim has the role witness"},
		{"an auditor", st, approve(t, st, list[0], list[6]), issued, nil, nil, "Axel has the role auditor"},
		{"a stranger", st, approve(t, st, list[0], newPerson(t, "Mallory", RoleOfficer, keys()["Ed25519"][5], "", nil, "")), issued, nil, ErrSignature, "nobody"},
		{"at its expiry", st, good, st.Expires, nil, ErrExpired, "2026-11-22T09:00:00Z"},
		{"after its expiry", st, good, st.Expires.Add(time.Hour), nil, ErrExpired, ""},
		{"used nonce", st, good, issued, func(n string) bool { return n == st.Nonce }, ErrReplayed, st.Nonce},
		{"another script", change(func(s *Statement) { s.ScriptDigest = flip(s.ScriptDigest) }), good, issued, nil, ErrStatement, "script"},
		{"another input", change(func(s *Statement) { s.Inputs["factory.csr"] = flip(s.Inputs["factory.csr"]) }), good, issued, nil, ErrStatement, "factory.csr"},
		{"an input more", change(func(s *Statement) { s.Inputs["more"] = Sum(nil) }), good, issued, nil, ErrStatement, "more"},
		{"an input less", change(func(s *Statement) { delete(s.Inputs, "factory.csr") }), good, issued, nil, ErrStatement, "inputs"},
		{"another tool", change(func(s *Statement) { s.ToolDigest = flip(s.ToolDigest) }), good, issued, nil, ErrStatement, "tool"},
		{"another verb", change(func(s *Statement) { s.Verb = "ceremony abort" }), good, issued, nil, ErrStatement, "verb"},
		{"another nonce", change(func(s *Statement) { s.Nonce = strings.Repeat("0", 32) }), good, issued, nil, ErrStatement, "nonce"},
		{"a later expiry", change(func(s *Statement) { s.Expires = s.Expires.Add(time.Hour) }), good, issued, nil, ErrStatement, "expiry"},
		{"another environment", change(func(s *Statement) { s.Environment = "staging" }), good, issued, nil, ErrStatement, "staging"},
		{"another roster", change(func(s *Statement) { s.RosterDigest = otherRoster.Digest() }), good, issued, nil, ErrStatement, "roster"},
		{"no nonce", change(func(s *Statement) { s.Nonce = "" }), good, issued, nil, nil, "nonce"},
		{"no script", change(func(s *Statement) { s.ScriptDigest = Digest{} }), good, issued, nil, nil, "digests"},
		{"one of them broken", st, [][]byte{good[0], good[1], []byte("{}")}, issued, nil, ErrEnvelope, "approval 3"},
		{"not JSON", st, [][]byte{[]byte("x")}, issued, nil, ErrEnvelope, "approval 1"},
	} {
		q, err := Verify(v.st, r, v.approvals, v.now, v.used)
		if err == nil || q != nil {
			t.Errorf("%s: accepted", v.name)
			continue
		}
		if v.want != nil && !errors.Is(err, v.want) || !strings.Contains(err.Error(), v.says) {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

// TestVerifyByItsRoster: what officers approved counts for the environment and by the roster that it names, and by no other.
func TestVerifyByItsRoster(t *testing.T) {
	list := people(t)
	r := newRoster(t, 2, list)
	other := newRoster(t, 2, list[:4])
	staging, elsewhere := statement(t, r), statement(t, other)
	staging.Environment = "staging"
	for name, st := range map[string]Statement{"another environment": staging, "another roster": elsewhere} {
		if q, err := Verify(st, r, approve(t, st, list[0], list[1]), issued, nil); !errors.Is(err, ErrStatement) || q != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, nonce := range []string{"", "00", strings.Repeat("0", 2*nonceSize-2), strings.Repeat("0", 2*nonceSize+2), strings.Repeat("0", 2*nonceSize-1) + "A"} {
		st := statement(t, r)
		st.Nonce = nonce
		if _, err := st.Encode(); err == nil {
			t.Errorf("nonce %q accepted", nonce)
		}
	}
}

// Every changed byte of an approval is refused, and none panics.
func TestEveryChangedApprovalByte(t *testing.T) {
	list := people(t)[:1]
	r := newRoster(t, 1, list)
	st := statement(t, r)
	env := approve(t, st, list[0])[0]
	for i := range env {
		for _, x := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(env)
			changed[i] ^= x
			if _, err := Verify(st, r, [][]byte{changed}, issued, nil); err == nil {
				t.Fatalf("byte %d ^ %x: accepted", i, x)
			}
		}
	}
}

func TestStatementRoundTrip(t *testing.T) {
	r := newRoster(t, 1, people(t))
	st := statement(t, r)
	env := approve(t, st, people(t)[0])[0]
	got, err := ReadApproval(env)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := st.Encode()
	b, err := got.Encode()
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
	if _, err := ParseStatement(bytes.Replace(a, []byte(`"verb"`), []byte(`"Verb"`), 1)); err == nil {
		t.Error("a key in another case accepted")
	}
	if _, err := ParseStatement(append(a, ' ')); err == nil {
		t.Error("a space more accepted")
	}
}

func TestDSSE(t *testing.T) {
	list := people(t)
	r := newRoster(t, 2, list)
	payload := []byte("checkpoint")
	var signers []crypto.Signer
	for _, p := range list {
		signers = append(signers, p.sign)
	}
	env, err := SignDSSE(TranscriptPayload, payload, signers...)
	if err != nil {
		t.Fatal(err)
	}
	got, by, err := VerifyDSSE(env, TranscriptPayload, r, 5)
	if err != nil || !bytes.Equal(got, payload) || len(by) != 7 {
		t.Fatalf("%d signers: %v", len(by), err)
	}
	if _, _, err := VerifyDSSE(env, TranscriptPayload, r, 6); !errors.Is(err, ErrQuorum) {
		t.Errorf("six officers of five: %v", err)
	}
	if _, _, err := VerifyDSSE(env, ApprovalPayload, r, 0); !errors.Is(err, ErrEnvelope) {
		t.Errorf("another payload type: %v", err)
	}
	if _, err := SignDSSE(TranscriptPayload, payload); err == nil {
		t.Error("no key: signed")
	}
	// A PKCS #1 v1.5 signature does not count for an officer whose roster entry says PSS.
	pkcs1, err := NewSigner(list[3].sign, RSAPKCS1SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if env, err = SignDSSE(TranscriptPayload, payload, pkcs1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := VerifyDSSE(env, TranscriptPayload, r, 1); !errors.Is(err, ErrSignature) {
		t.Errorf("another scheme: %v", err)
	}
	// The key id is not the key: Ada's signature under Berta's id.
	env, _ = SignDSSE(TranscriptPayload, payload, list[0].sign)
	swapped := bytes.Replace(env, []byte(list[0].KeyID), []byte(list[1].KeyID), 1)
	if _, _, err := VerifyDSSE(swapped, TranscriptPayload, r, 1); !errors.Is(err, ErrSignature) {
		t.Errorf("another key id: %v", err)
	}
	// An envelope and a signature have one spelling each: the last letter of the base64 has bits that stand for nothing.
	if _, _, err := VerifyDSSE(env, TranscriptPayload, r, 1); err != nil {
		t.Fatal(err)
	}
	end := bytes.LastIndex(env, []byte("=="))
	stray := bytes.Clone(env)
	stray[end-1]++
	for name, changed := range map[string][]byte{"stray bits": stray, "a space": bytes.Replace(env, []byte(":"), []byte(": "), 1), "no newline": bytes.TrimSpace(env)} {
		if _, _, err := VerifyDSSE(changed, TranscriptPayload, r, 1); err == nil {
			t.Errorf("%s: another spelling is taken", name)
		}
	}
	// Two signatures of one key count once.
	var e map[string]any
	if err := json.Unmarshal(env, &e); err != nil {
		t.Fatal(err)
	}
	sigs := e["signatures"].([]any)
	doubled := []byte(`{"payloadType":"` + TranscriptPayload + `","payload":"` + base64.StdEncoding.EncodeToString(payload) + `","signatures":[`)
	one, _ := json.Marshal(struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}{sigs[0].(map[string]any)["keyid"].(string), sigs[0].(map[string]any)["sig"].(string)})
	doubled = append(append(append(append(doubled, one...), ','), one...), []byte("]}\n")...)
	if _, signers, err := VerifyDSSE(doubled, TranscriptPayload, r, 2); !errors.Is(err, ErrQuorum) {
		t.Errorf("doubled signature: %d signers, %v", len(signers), err)
	}
}

// liar is a token that signs something else than it was asked to.
type liar struct{ crypto.Signer }

func (l liar) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return l.Signer.Sign(r, append([]byte{digest[0] ^ 1}, digest[1:]...), o)
}

type broken struct{ crypto.Signer }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("card pulled")
}

func TestUnreliableKeys(t *testing.T) {
	for name, list := range keys() {
		for _, key := range []crypto.Signer{liar{list[0]}, broken{list[0]}} {
			if env, err := SignDSSE(TranscriptPayload, []byte("x"), key); err == nil || env != nil {
				t.Errorf("%s: %T accepted", name, key)
			}
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	list := people(f)[:2]
	r := newRoster(f, 1, list)
	st := statement(f, r)
	st.Nonce = strings.Repeat("0", 32)
	for _, env := range approve(f, st, list...) {
		f.Add(env)
	}
	payload, err := st.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, err := Verify(st, r, [][]byte{data}, issued, nil); err == nil && len(q.Officers()) == 0 {
			t.Fatal("accepted without an officer")
		}
		if s, err := ParseStatement(data); err == nil {
			if again, err := s.Encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatal("accepted, but written otherwise")
			}
		}
	})
}
