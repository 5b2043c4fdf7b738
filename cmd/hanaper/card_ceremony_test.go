package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// holder is an officer with a PIV card, which card-setup made of a blank one.
type holder struct {
	name, pin     string
	card          *cardtest.Card
	sign, decrypt string // key URIs
	token         string // how messages name it
}

// setUp makes an officer's card in reader 3, and enrols it.
func (d desk) setUp(r *cardtest.Readers, name, algorithm, pin string) holder {
	d.Helper()
	h := holder{name: name, pin: pin, card: cardtest.NewCard()}
	r.Insert(d, 3, h.card)
	answers := strings.Join([]string{"Yes", "-", cardtest.DefaultPIN, cardtest.DefaultPUK, pin, pin, "puk-" + name[:1] + "-01", "puk-" + name[:1] + "-01"}, "\n") + "\n"
	d.ok("officer", "card-setup", "--name", name, "--module", cardtest.Module(d), "--reader", r.Name(3), "--algorithm", algorithm,
		"--transcript", d.path("cards.log"), "--out", d.path(name+".officer.json"), "--answers", d.write("answers", answers))
	infos, err := pkcs11.List(cardtest.Module(d))
	if err != nil {
		d.Fatal(err)
	}
	for _, i := range infos {
		if i.Reader == r.Name(3) {
			u := i.URI()
			u.ModulePath, u.ID = cardtest.Module(d), []byte{2}
			h.sign, h.token = u.String(), i.Name()
			u.ID = []byte{3}
			h.decrypt = u.String()
		}
	}
	r.Pull(d, 3)
	return h
}

// snatchAt pulls the card out of its reader when its key in a slot is used for the nth time from now.
func (h holder) snatchAt(r *cardtest.Readers, reader int, slot cardtest.Slot, nth int32) {
	var n atomic.Int32
	h.card.Before(func(c cardtest.Command) {
		if c.Instruction == 0x87 && c.P2 == byte(slot) && n.Add(1) == nth {
			r.Snatch(reader)
		}
	})
}

// TestCardCeremony: three officers with PIV cards of three kinds hold a ceremony at a terminal. Cards are pulled at an approval, while a share is opened
// and at the transcript's signature: the program says which card it waits for, and goes on when it is back. Both verifiers accept the result.
func TestCardCeremony(t *testing.T) {
	r := cardtest.New(t)
	d := desk{t, t.TempDir()}
	ada, grace, katherine := d.setUp(r, "ada", "RSA-2048", "111111"), d.setUp(r, "grace", "P-256", "22222222"), d.setUp(r, "katherine", "P-384", "3333333")
	d.ok("roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", d.path("roster.json"),
		d.path("ada.officer.json"), d.path("grace.officer.json"), d.path("katherine.officer.json"))
	softhsm.ForTest(t)
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	d.write("so-pin", "a-first-so-pin")
	d.write("user-pin", "a-first-user-pin")
	d.write("bindings.yaml", fmt.Sprintf("tokens:\n  vault: %q\npins:\n  vault: {so: %s, user: %s}\n", "pkcs11:?module-path="+module, d.path("so-pin"), d.path("user-pin")))
	d.write("script.yaml", strings.ReplaceAll(fmt.Sprintf(custodyScript, "cards", d.digest("roster.json"), "", "", "", "inputs: {}", `  - init-token: {token: vault}
  - hold-secret: {name: vault-user, token: vault, purpose: user}
  - hold-secret: {name: vault-so, token: vault, purpose: so}
  - generate-key: {name: k, token: vault, algorithm: P-256}
`), "custody-command", "cards-vault"))
	at := func(args ...string) *sitting { return sit(t, exec.Command(programtest.Path(t, "hanaper"), args...)) }
	approve := func(h holder, more ...string) *sitting {
		s := at(append(append([]string{"ceremony", "approve", "--officer", h.sign, "--out", d.path(h.name + ".json")}, more...), d.path("script.yaml"))...)
		s.answers("Type Yes to approve: ", "Yes")
		return s
	}

	// Ada's card is not there, then grace's is in the reader, then the right one, which is pulled while it signs.
	s := approve(ada)
	s.sees("put the card in: " + ada.token)
	r.Insert(t, 0, grace.card)
	s.sees(`present: "grace"`)
	ada.snatchAt(r, 1, cardtest.Signature, 1)
	r.Insert(t, 1, ada.card)
	s.sees("3 tries are left before the PIN of this card locks.")
	s.answers("PIN of "+ada.token+": ", ada.pin)
	s.sees("waiting for " + ada.token)
	ada.card.Before(nil)
	r.Insert(t, 2, ada.card)
	s.sees("is back")
	s.leaves(0)

	// Ctrl-C is a way out, and leaves nothing.
	s = approve(katherine, "--with", d.path("ada.json"))
	s.sees("put the card in: ")
	_, _ = s.keys.WriteString("\x03")
	if out := s.leaves(1); !strings.Contains(out, "katherine") {
		t.Error(out)
	}
	d.nothing("katherine.json")
	r.Insert(t, 0, katherine.card)
	s = approve(katherine, "--with", d.path("ada.json"))
	s.answers("PIN of "+katherine.token+": ", katherine.pin)
	s.leaves(0)

	r.Insert(t, 1, grace.card)
	run := []string{"ceremony", "run", "--out", d.path("out"), "--time", "2026-11-21T09:00:00Z", "--no-pause", "--bindings", d.path("bindings.yaml"), "--state", d.path("state"),
		"--approval", d.path("ada.json"), "--approval", d.path("katherine.json"), "--officer", ada.sign, "--officer", katherine.sign,
		"--custodian", ada.decrypt, "--custodian", grace.decrypt, "--custodian", katherine.decrypt, d.path("script.yaml")}

	// A wrong PIN is tried once, and ends it before anything is written.
	s = at(run...)
	s.answers("Type Yes to begin: ", "Yes")
	s.answers("PIN of "+ada.token+": ", "999999")
	if out := s.leaves(1); !strings.Contains(squeeze(out), "the card says: 2 tries are left") {
		t.Error(out)
	}
	d.nothing("out")
	if pin, _ := ada.card.TriesLeft(); pin != 2 {
		t.Errorf("%d tries left", pin)
	}

	s = at(run...)
	s.answers("Type Yes to begin: ", "Yes")
	s.sees("2 tries are left before the PIN of this card locks.")
	s.answers("PIN of "+ada.token+": ", ada.pin)
	s.answers("PIN of "+katherine.token+": ", katherine.pin)
	grace.snatchAt(r, 1, cardtest.KeyManagement, 1)
	s.answers("PIN of "+grace.token+": ", grace.pin)
	s.answers("Somebody else", "")
	s.answers("A bag or seal number", "")
	s.sees("waiting for " + grace.token)
	grace.card.Before(nil)
	katherine.snatchAt(r, 0, cardtest.Signature, 1)
	r.Insert(t, 3, grace.card)
	s.sees("is back")
	s.answers(ceremony.AskException, "")
	s.answers(ceremony.AskDeviation, "")
	s.sees("waiting for " + katherine.token)
	katherine.card.Before(nil)
	r.Insert(t, 0, katherine.card)
	s.sees("is back")
	s.leaves(0)
	for _, h := range []holder{ada, grace, katherine} {
		if pin, puk := h.card.TriesLeft(); pin != cardtest.Tries || puk != cardtest.Tries {
			t.Errorf("%s: %d and %d tries left", h.name, pin, puk)
		}
	}
	if out := d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out")); !strings.Contains(out, "ada") || !strings.Contains(out, "katherine") {
		t.Error(out)
	}
	said, err := exec.Command("python3", "../../docs/spec/verify_ceremony.py", "--roster", d.digest("roster.json"), d.path("out")).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "verified: ceremony") {
		t.Errorf("%v\n%s", err, said)
	}
	for _, name := range []string{"out/transcript", "cards.log"} {
		data, err := os.ReadFile(d.path(name))
		if err != nil {
			continue // of another name
		}
		for _, h := range []holder{ada, grace, katherine} {
			if strings.Contains(string(data), h.pin) {
				t.Errorf("%s's PIN is in %s", h.name, name)
			}
		}
	}
}

// Two cards of one label are told apart by their serials; a URI that names both is refused, and neither PIN is tried.
func TestCardsOfOneLabel(t *testing.T) {
	r := cardtest.New(t)
	d := desk{t, t.TempDir()}
	one, two := cardtest.NewCard().WithSerial(), cardtest.NewCard().WithSerial()
	for i, c := range []*cardtest.Card{one, two} {
		c.Put(t, cardtest.Signature, "P-256", "ada")
		r.Insert(t, i, c)
	}
	u := hsm.URI{Token: "ada", ID: []byte{2}, ModulePath: cardtest.Module(t)}
	enroll := func(u hsm.URI) []string {
		return []string{"officer", "enroll", "--name", "ada", "--key", u.String(), "--out", d.path("ada.json"), "--answers", d.write("answers", cardtest.DefaultPIN+"\n")}
	}
	d.refused(2, "tokens, 2 of them, fit", "ada.json", enroll(u)...)
	infos, err := pkcs11.List(cardtest.Module(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*cardtest.Card{one, two} {
		for _, l := range c.Log() {
			if l.Instruction == 0x20 && l.Status != 0x63c3 {
				t.Errorf("a PIN was sent: %+v", l)
			}
		}
	}
	for _, i := range infos {
		if i.Reader == r.Name(1) {
			u.Serial = i.Serial
		}
	}
	d.ok(enroll(u)...)
	if pin, _ := one.TriesLeft(); pin != cardtest.Tries {
		t.Errorf("%d tries left", pin)
	}
}
