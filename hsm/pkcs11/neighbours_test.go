package pkcs11_test

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/softhsm"
)

// TestTwoUsersOfALibrary: p11-kit's proxy loads SoftHSM in this very process, where we use SoftHSM as well. Whoever comes second meets a
// library that is initialised, and whoever goes first takes it away from the other (C_Finalize): who stays goes on signing.
func TestTwoUsersOfALibrary(t *testing.T) {
	for _, first := range []string{"ours", "the proxy's"} {
		t.Run(first+" first", func(t *testing.T) {
			p := peertest.Proxy(t)
			b := board(t)
			direct := func() *pkcs11.Token { return open(t, b) }
			var here, there *pkcs11.Token
			if first == "ours" {
				here, there = direct(), p.Open(t)
			} else {
				there = p.Open(t)
				here = direct()
			}
			mine, theirs := generate(t, here, "k", hsm.P256), generate(t, there, "k", hsm.P256)
			for range 3 {
				mustSign(t, mine)
				mustSign(t, theirs)
			}
			// A restart by either is an outage to the other.
			if first == "ours" {
				pkcs11.RestartLibrary(here)
			} else {
				pkcs11.RestartLibrary(there)
			}
			mustSign(t, mine)
			mustSign(t, theirs)
			gone, stays := here, theirs
			if first != "ours" {
				gone, stays = there, mine
			}
			if err := gone.Close(); err != nil {
				t.Error(err)
			}
			for range 3 {
				mustSign(t, stays)
			}
		})
	}
}

// TestSlotsChange: the proxy numbers its slots in the order of what is there, so a token has another slot once others were made. It is found
// by label and serial, and the PIN goes to no other.
func TestSlotsChange(t *testing.T) {
	p := peertest.Proxy(t)
	token := p.Open(t)
	k := generate(t, token, "k", hsm.P256)
	mustSign(t, k)
	before := pkcs11.SlotOf(token)
	for i := 0; pkcs11.SlotOf(token) == before; i++ {
		if i == 30 {
			t.Fatal("the slot never changed")
		}
		if _, err := softhsm.ForTest(t).Create(t.Name() + string(rune('a'+i))); err != nil {
			t.Fatal(err)
		}
		pkcs11.RestartLibrary(token)
		mustSign(t, k)
	}
	infos, err := pkcs11.List(p.Token.ModulePath)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.PINWarning() != "" {
			t.Errorf("%s: %s", i.Name(), i.PINWarning())
		}
	}
}

// TestStartString: a library is started once in a process, with one string; who names it with another is told, and disturbs nobody.
func TestStartString(t *testing.T) {
	p := peertest.NSS(t)
	token := p.Open(t)
	if err := pkcs11.GenerateUnproven(token, "k", []byte("k"), hsm.P256); err != nil {
		t.Fatal(err)
	}
	k, err := token.Key(t.Context(), hsm.Query{Label: "k"})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{p.Token.ModulePath, hsm.URI{ModulePath: p.Token.ModulePath, InitReserved: "configdir='sql:/nowhere'"}.String()} {
		if _, err := pkcs11.List(other); err == nil || !strings.Contains(err.Error(), "in use here with another start-up string") || !strings.Contains(advice.Hint(err), "x-init-reserved") {
			t.Errorf("%s: %v (hint %q)", other, err, advice.Hint(err))
		}
	}
	if k.URI().InitReserved != p.Token.InitReserved {
		t.Errorf("the key's URI is %s", k.URI())
	}
	mustSign(t, k)
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	// Not even now: what NSS was started with is wrong.
	if _, err := pkcs11.List(p.Token.ModulePath); err == nil || !strings.Contains(advice.Hint(err), "configdir='sql:") {
		t.Errorf("without a string: %v (hint %q)", err, advice.Hint(err))
	}
}
