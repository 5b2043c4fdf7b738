package quorum

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/circl/secretsharing"

	"github.com/hanaper/hanaper/internal/advice"
)

const serial = "a1b2c3d4e5f60718"

func split(t testing.TB, threshold int, list []person) (*Shares, *Secret) {
	t.Helper()
	s, secret, err := Split(ShareConfig{Purpose: PurposeUser, TokenSerial: serial, Threshold: threshold}, newRoster(t, 1, list))
	if err != nil {
		t.Fatal(err)
	}
	return s, secret
}

func open(t testing.TB, s *Shares, list []person) []*Share {
	t.Helper()
	var out []*Share
	for _, p := range list {
		x, err := s.Open(p.decrypt)
		if err != nil {
			t.Fatal(err)
		}
		if x.Holder() != p.Name {
			t.Errorf("share of %s opened with the key of %s", x.Holder(), p.Name)
		}
		out = append(out, x)
	}
	return out
}

// Any M of N shares give the PIN, all M-1 are refused; holders have P-256, P-384 and RSA keys with both hashes.
func TestSharesAnyMOfN(t *testing.T) {
	list := people(t)[:5]
	for m := 1; m <= 5; m++ {
		made, secret := split(t, m, list)
		want, err := secret.PIN(4, 255)
		if err != nil {
			t.Fatal(err)
		}
		secret.Wipe()
		s, err := ParseShares(made.Data())
		if err != nil {
			t.Fatal(err)
		}
		all := open(t, s, list)
		subsets(5, m, func(idx []int) {
			var some []*Share
			for _, i := range idx {
				some = append(some, all[i])
			}
			x, err := s.Combine(some...)
			if err != nil {
				t.Fatalf("%s, %v: %v", ofN(m, 5), idx, err)
			}
			if pin, err := x.PIN(4, 255); err != nil || !bytes.Equal(pin, want) {
				t.Errorf("%s, %v: another PIN, %v", ofN(m, 5), idx, err)
			}
			if _, err := s.Combine(some[1:]...); !errors.Is(err, ErrTooFew) || advice.KindOf(err) != advice.Refused {
				t.Errorf("%s, without %d: %v", ofN(m, 5), idx[0], err)
			}
		})
		if _, err := s.Combine(all...); err != nil {
			t.Errorf("all of them: %v", err)
		}
	}
}

func TestCombineRefusals(t *testing.T) {
	list := people(t)[:4]
	s, secret := split(t, 2, list)
	other, _ := split(t, 2, list)
	mine, theirs := open(t, s, list), open(t, other, list)
	forged := &Share{index: 2, holder: mine[1].holder, value: theirs[1].value.Copy(), of: s.digest}
	wiped := open(t, s, list[:1])[0]
	wiped.Wipe()
	for _, v := range []struct {
		name   string
		shares []*Share
		says   string
	}{
		{"none", nil, "0 of 2"},
		{"one", mine[:1], "1 of 2"},
		{"one twice", []*Share{mine[0], mine[0]}, "share of Ada: given twice"},
		{"one twice and enough", []*Share{mine[0], mine[1], mine[0]}, "share of Ada: given twice"},
		{"of another secret", []*Share{mine[0], theirs[1]}, "share of Berta"},
		{"changed", []*Share{mine[0], forged}, "share of Berta"},
		{"enough, and a changed one", []*Share{mine[0], mine[2], forged}, "share of Berta"},
		{"wiped", []*Share{mine[0], wiped}, "wiped"},
		{"nil", []*Share{mine[0], nil}, "wiped"},
	} {
		if x, err := s.Combine(v.shares...); err == nil || x != nil || !strings.Contains(err.Error(), v.says) {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	secret.Wipe()
	if _, err := secret.PIN(4, 255); !errors.Is(err, ErrWiped) {
		t.Errorf("wiped secret: %v", err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", mine[0], mine[0], mine[0], mine[0]), fmt.Sprintf("%v %+v %#v", secret, secret, secret)} {
		if !strings.Contains(text, "hidden") || len(text) > 200 {
			t.Errorf("printed: %s", text)
		}
	}
}

// A share whose ciphertext, place or circumstances were changed is refused with its owner's name.
func TestCorruptedShare(t *testing.T) {
	list := people(t)[:4]
	made, _ := split(t, 2, list)
	edit := func(f func(*sharesJSON)) []byte {
		var j sharesJSON
		if err := json.Unmarshal(made.Data(), &j); err != nil {
			t.Fatal(err)
		}
		f(&j)
		data, err := encode(j)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	flip := func(s *string, at int) {
		b, err := base64.StdEncoding.DecodeString(*s)
		if err != nil {
			t.Fatal(err)
		}
		b[(at+len(b))%len(b)] ^= 1
		*s = base64.StdEncoding.EncodeToString(b)
	}
	if !bytes.Equal(edit(func(*sharesJSON) {}), made.Data()) {
		t.Fatal("the test writes otherwise")
	}
	for i, p := range list {
		for name, f := range map[string]func(*sharesJSON){
			"ciphertext":        func(j *sharesJSON) { flip(&j.Shares[i].Ciphertext, 0) },
			"last byte":         func(j *sharesJSON) { flip(&j.Shares[i].Ciphertext, -1) },
			"encapsulated":      func(j *sharesJSON) { flip(&j.Shares[i].Encapsulated, 40) },
			"encapsulated head": func(j *sharesJSON) { flip(&j.Shares[i].Encapsulated, 0) },
			"token":             func(j *sharesJSON) { j.TokenSerial = "ffff" },
			"epoch":             func(j *sharesJSON) { j.Epoch = 2 },
			"purpose":           func(j *sharesJSON) { j.Purpose = PurposeSO },
			"environment":       func(j *sharesJSON) { j.Environment = "staging" },
			"threshold":         func(j *sharesJSON) { j.Threshold, j.Commitments = 1, j.Commitments[:1] },
			"commitment":        func(j *sharesJSON) { j.Commitments[0], j.Commitments[1] = j.Commitments[1], j.Commitments[0] },
			"number of shares":  func(j *sharesJSON) { j.Shares = append(j.Shares, stranger(j.Shares[0])) },
		} {
			s, err := ParseShares(edit(f))
			if err != nil {
				t.Errorf("%s: not even parsed: %v", name, err)
				continue
			}
			x, err := s.Open(p.decrypt)
			if err == nil || x != nil || !strings.Contains(err.Error(), "share of "+p.Name) || advice.KindOf(err) != advice.Unverified {
				t.Errorf("%s of %s: %v", name, p.Name, err)
			}
		}
	}
	// Two shares of one key kind swapped between their owners.
	s, err := ParseShares(edit(func(j *sharesJSON) {
		a, b := &j.Shares[2], &j.Shares[3]
		a.Ciphertext, b.Ciphertext = b.Ciphertext, a.Ciphertext
		a.Encapsulated, b.Encapsulated = b.Encapsulated, a.Encapsulated
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(list[2].decrypt); err == nil {
		t.Error("swapped shares opened")
	}
	if _, err := made.Open(keys()["P-256"][5]); err == nil || advice.KindOf(err) != advice.Refused {
		t.Errorf("a stranger's key: %v", err)
	}
	if _, err := made.Open(keys()["Ed25519"][5]); err == nil {
		t.Error("Ed25519 opened something")
	}
	if _, err := made.Open("no key"); err == nil {
		t.Error("a string opened something")
	}
}

func stranger(x shareJSON) shareJSON {
	x.Officer, x.Key, x.Index = "Stranger", strings.Repeat("ab", 32), 5
	return x
}

// A genuine encryption of a wrong value: the commitments refuse it, though the cipher is content.
func TestDishonestDealer(t *testing.T) {
	list := people(t)[:3]
	made, _ := split(t, 2, list)
	e := &made.entries[1]
	e.holder = list[1].Officer
	if err := made.seal(1, sharing.NewScalar().SetUint64(7)); err != nil {
		t.Fatal(err)
	}
	if err := made.finish(); err != nil {
		t.Fatal(err)
	}
	s, err := ParseShares(made.Data())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(list[1].decrypt); !errors.Is(err, ErrShare) || !strings.Contains(err.Error(), "Berta") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Open(list[0].decrypt); err != nil {
		t.Error(err)
	}
}

func TestSplitRefusals(t *testing.T) {
	list := people(t)
	r := newRoster(t, 2, list)
	staging, err := NewRoster(RosterConfig{Environment: "staging", Threshold: 1, Issued: issued, Officers: officersOf(list)})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := split(t, 2, list)
	noKeys := newRoster(t, 1, []person{newPerson(t, "Solo", RoleOfficer, keys()["Ed25519"][4], "", nil, "")})
	for name, v := range map[string]struct {
		c ShareConfig
		r *Roster
	}{
		"no purpose":          {ShareConfig{TokenSerial: serial}, r},
		"unknown purpose":     {ShareConfig{Purpose: "both", TokenSerial: serial}, r},
		"no serial":           {ShareConfig{Purpose: PurposeSO}, r},
		"long serial":         {ShareConfig{Purpose: PurposeSO, TokenSerial: strings.Repeat("1", 65)}, r},
		"serial with newline": {ShareConfig{Purpose: PurposeSO, TokenSerial: "1\n"}, r},
		"threshold above N":   {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Threshold: 6}, r},
		"negative threshold":  {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Threshold: -1}, r},
		"nobody":              {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Holders: []string{}}, r},
		"no decryption keys":  {ShareConfig{Purpose: PurposeSO, TokenSerial: serial}, noKeys},
		"unknown holder":      {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Holders: []string{"Ada", "Zoe"}}, r},
		"holder twice":        {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Holders: []string{"Ada", "ada"}}, r},
		"a witness":           {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Holders: []string{"Ada", "Wim"}}, r},
		"other purpose":       {ShareConfig{Purpose: PurposeSO, TokenSerial: serial, Previous: first}, r},
		"other token":         {ShareConfig{Purpose: PurposeUser, TokenSerial: "other", Previous: first}, r},
		"other environment":   {ShareConfig{Purpose: PurposeUser, TokenSerial: serial, Previous: first}, staging},
	} {
		if s, x, err := Split(v.c, v.r); err == nil || s != nil || x != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Sharing anew makes another secret in the next epoch; shares of the two do not mix.
func TestReshare(t *testing.T) {
	list := people(t)
	old, oldSecret := split(t, 2, list)
	next, secret, err := Split(ShareConfig{Purpose: PurposeUser, TokenSerial: serial, Previous: old, Threshold: 3, Holders: []string{"Berta", "Clara", "Dora", "Emmy"}}, newRoster(t, 1, list))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := oldSecret.PIN(4, 255)
	b, _ := secret.PIN(4, 255)
	if bytes.Equal(a, b) || next.Epoch() != 2 || next.Threshold() != 3 || strings.Join(next.Holders(), " ") != "Berta Clara Dora Emmy" {
		t.Errorf("epoch %d, %d of %v", next.Epoch(), next.Threshold(), next.Holders())
	}
	if _, err := next.Open(list[0].decrypt); advice.KindOf(err) != advice.Refused {
		t.Errorf("Ada, who holds none: %v", err)
	}
	mixed := append(open(t, next, list[1:3]), open(t, old, list[3:4])...)
	if _, err := next.Combine(mixed...); !errors.Is(err, ErrShare) {
		t.Errorf("mixed epochs: %v", err)
	}
	x, err := next.Combine(open(t, next, list[1:4])...)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := x.PIN(4, 255); !bytes.Equal(got, b) {
		t.Error("another PIN")
	}
}

func TestSharesOfARoster(t *testing.T) {
	list := people(t)
	r, other := newRoster(t, 1, list), newRoster(t, 2, list)
	made, _ := split(t, 2, list)
	s, err := ParseShares(made.Data())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckRoster(r); err != nil {
		t.Error(err)
	}
	if err := s.CheckRoster(other); advice.KindOf(err) != advice.Unverified {
		t.Errorf("another roster: %v", err)
	}
	s, err = ParseShares(bytes.Replace(made.Data(), []byte(`"Ada"`), []byte(`"Ida"`), 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckRoster(r); err == nil || !strings.Contains(err.Error(), "share of Ida") {
		t.Errorf("another name: %v", err)
	}
}

func TestPIN(t *testing.T) {
	list := people(t)[:1]
	_, secret := split(t, 1, list)
	for _, v := range []struct{ min, max, want int }{{4, 255, 32}, {4, 8, 8}, {6, 12, 12}, {0, 0, 32}, {0, 1 << 30, 32}, {40, 64, 40}, {8, 8, 8}, {4, 6, 0}, {4, 7, 0}, {20, 10, 0}} {
		pin, err := secret.PIN(v.min, v.max)
		if len(pin) != v.want || (v.want == 0) != errors.Is(err, ErrPINLength) {
			t.Errorf("%+v: %d characters, %v", v, len(pin), err)
		}
	}
	if _, err := secret.Key(); err == nil {
		t.Error("a key from a PIN's secret")
	}
	// Bound to purpose, token and epoch.
	seen := map[string]bool{}
	for _, a := range []about{{"production", PurposeUser, serial, 1}, {"production", PurposeSO, serial, 1}, {"production", PurposeUser, "2", 1}, {"production", PurposeUser, serial, 2}, {"staging", PurposeUser, serial, 1}} {
		pin, err := (&Secret{secret.scalar, a}).PIN(4, 255)
		if err != nil || seen[string(pin)] {
			t.Errorf("%+v: %v", a, err)
		}
		seen[string(pin)] = true
	}
	// Even over the alphabet: 20,000 characters, each expected 323 times; six standard deviations allowed.
	count := map[byte]int{}
	for epoch := range uint64(625) {
		pin, err := (&Secret{secret.scalar, about{"production", PurposeUser, serial, epoch}}).PIN(4, 255)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range pin {
			count[c]++
		}
	}
	for i := range alphabet {
		if n := count[alphabet[i]]; n < 323-108 || n > 323+108 {
			t.Errorf("%c stands %d times", alphabet[i], n)
		}
	}
	_, wrap, err := Split(ShareConfig{Purpose: PurposeWrap, TokenSerial: serial, Threshold: 1}, newRoster(t, 1, list))
	if err != nil {
		t.Fatal(err)
	}
	if k, err := wrap.Key(); err != nil || len(k) != 32 {
		t.Errorf("wrapping key: %d, %v", len(k), err)
	}
	if _, err := wrap.PIN(4, 255); err == nil {
		t.Error("a PIN from a wrapping key's secret")
	}
}

// agreeing stands for a key that can only do what a token's key does.
type agreeing struct{ k *ecdh.PrivateKey }

func (a agreeing) PublicKey() *ecdh.PublicKey             { return a.k.PublicKey() }
func (a agreeing) Curve() ecdh.Curve                      { return a.k.Curve() }
func (a agreeing) ECDH(p *ecdh.PublicKey) ([]byte, error) { return a.k.ECDH(p) }
func (a agreeing) Public() crypto.PublicKey               { return a.k.Public() }
func (agreeing) Decrypt() ([]byte, error)                 { return nil, io.EOF }

type decrypting struct{ k *rsa.PrivateKey }

func (d decrypting) Public() crypto.PublicKey { return d.k.Public() }
func (d decrypting) Decrypt(r io.Reader, b []byte, o crypto.DecrypterOpts) ([]byte, error) {
	return d.k.Decrypt(r, b, o)
}

func TestOpaqueKeys(t *testing.T) {
	list := people(t)[:3]
	s, _ := split(t, 3, list)
	p256, err := list[0].decrypt.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []Decrypter{agreeing{p256}, p256, list[0].decrypt, decrypting{list[2].decrypt.(*rsa.PrivateKey)}} {
		if _, err := s.Open(key); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
}

// Feldman's commitments are checked by circl; this judges our use of it: t is the degree, M-1.
func TestDegree(t *testing.T) {
	list := people(t)[:5]
	s, _ := split(t, 3, list)
	var in []secretsharing.Share
	for _, x := range open(t, s, list[:2]) {
		in = append(in, secretsharing.Share{ID: sharing.NewScalar().SetUint64(uint64(x.index)), Value: x.value})
	}
	guess, err := secretsharing.Recover(1, in)
	if err != nil {
		t.Fatal(err)
	}
	if sharing.NewElement().MulGen(guess).IsEqual(s.commitments[0]) {
		t.Error("two of three shares gave the secret")
	}
}

// TestShareOfAnotherPolynomial: what opens with its owner's key, and does not lie on the polynomial that was committed to, is no
// share: whoever made the document could otherwise have officers spend a token's tries.
func TestShareOfAnotherPolynomial(t *testing.T) {
	list := people(t)[:3]
	s, _ := split(t, 2, list)
	if err := s.seal(0, sharing.RandomNonZeroScalar(nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.finish(); err != nil {
		t.Fatal(err)
	}
	again, err := ParseShares(s.Data())
	if err != nil {
		t.Fatal(err)
	}
	if share, err := again.Open(list[0].decrypt); !errors.Is(err, ErrShare) || share != nil {
		t.Errorf("opened: %v", err)
	}
	if _, err := again.Open(list[1].decrypt); err != nil {
		t.Errorf("the others: %v", err)
	}
}

func TestEveryChangedSharesByte(t *testing.T) {
	list := people(t)[:2]
	s, _ := split(t, 2, list)
	for i := range s.data {
		changed := s.Data()
		changed[i] ^= 1
		p, err := ParseShares(changed)
		if err != nil {
			continue
		}
		if p.Digest() == s.Digest() {
			t.Fatalf("byte %d: same digest", i)
		}
		if p.about == s.about {
			continue // Only names and the roster's digest, which nothing is derived from, may change without every share failing.
		}
		closed := slices.ContainsFunc(list, func(who person) bool {
			_, err := p.Open(who.decrypt)
			return err != nil
		})
		if !closed {
			t.Fatalf("byte %d: both shares open", i)
		}
	}
}

func FuzzShares(f *testing.F) {
	list := people(f)[:4]
	s, _ := split(f, 2, list)
	f.Add(s.Data())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseShares(data)
		if err != nil {
			return
		}
		for i := range s.entries {
			_ = s.info(&s.entries[i])
		}
		for _, p := range list[:2] {
			_, _ = s.Open(p.decrypt)
		}
		if err := s.finish(); err != nil || !bytes.Equal(s.data, data) {
			t.Fatalf("accepted, but written otherwise: %v", err)
		}
	})
}
