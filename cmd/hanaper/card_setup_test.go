package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// cardURI names a card by its label.
func cardURI(t testing.TB, label string) string {
	t.Helper()
	return hsm.URI{Token: label, ModulePath: cardtest.Module(t)}.String()
}

// leaves gives the kinds in a log, and looks that none of the secrets is in it.
func leaves(t *testing.T, path string, secrets ...string) string {
	t.Helper()
	log, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var kinds []string
	for i := range log.Size() {
		data, err := log.Leaf(i)
		if err != nil {
			t.Fatal(err)
		}
		var l changeLeaf
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if strings.Contains(string(data), s) {
				t.Errorf("a secret is in the log: %s", data)
			}
		}
		kinds = append(kinds, l.Kind)
	}
	return strings.Join(kinds, " ")
}

// A blank card becomes an officer's, at a terminal, for each algorithm; the enrolment is of the keys that are in the card.
func TestCardSetup(t *testing.T) {
	r := cardtest.New(t)
	bin := programtest.Path(t, "hanaper")
	for _, algorithm := range []string{"P-256", "P-384", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			d := desk{t, t.TempDir()}
			c := cardtest.NewCard()
			r.Insert(t, 1, c)
			cmd := exec.Command(bin, "officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--algorithm", algorithm, "--transcript", d.path("cards.log"), "--out", d.path("ada.json"))
			s := sit(t, cmd)
			s.sees("Tries of its PIN left: 3")
			s.answers("Type Yes to go on: ", "Yes")
			s.answers("Management key", "-")
			s.answers("PIN of the card now, which is tried once", cardtest.DefaultPIN)
			s.answers("PUK of the card now", cardtest.DefaultPUK)
			s.answers("New PIN", cardtest.DefaultPIN)
			s.answers("everybody knows.", "271828")
			s.answers("The same again: ", "271828")
			s.answers("New PUK", "31415926")
			s.answers("The same again: ", "31415926")
			out := s.leaves(0)
			for _, want := range []string{"enrolment written to", "STILL TO DO: the card's management key", "--custodian", r.Name(1)} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			o, err := quorum.ParseEnrolment([]byte(d.text("ada.json")))
			if err != nil {
				t.Fatal(err)
			}
			sign, _ := quorum.KeyID(c.Public(cardtest.Signature))
			decrypt, _ := quorum.KeyID(c.Public(cardtest.KeyManagement))
			if o.KeyID != sign || o.DecryptionKeyID != decrypt {
				t.Errorf("another key is enrolled: %+v", o)
			}
			if kinds := leaves(t, d.path("cards.log"), "271828", "31415926", cardtest.DefaultPUK); kinds != "card-setup-intent card-setup" {
				t.Error(kinds)
			}
			// It is not blank any more, and no verb empties it by the way.
			d.refused(3, "is not blank", "again.json", "officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--transcript", d.path("again.log"), "--out", d.path("again.json"), "--answers", d.write("silence", ""))
			d.nothing("again.log")
		})
	}
}

// What is wrong is found before the card is changed, and a wrong PIN or PUK is tried once.
func TestCardSetupRefused(t *testing.T) {
	r := cardtest.New(t)
	d := desk{t, t.TempDir()}
	setup := func(more ...string) []string {
		return append([]string{"officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--transcript", d.path("cards.log"), "--out", d.path("ada.json")}, more...)
	}
	answers := func(lines ...string) []string {
		return []string{"--answers", d.write("answers", strings.Join(lines, "\n")+"\n")}
	}
	d.refused(1, "no PIV card is in any reader", "ada.json", setup(answers()...)...)
	c := cardtest.NewCard()
	r.Insert(t, 0, c)
	untouched := func(pin, puk int) {
		t.Helper()
		d.nothing("ada.json")
		if p, u := c.TriesLeft(); p != pin || u != puk {
			t.Errorf("%d and %d tries left, not %d and %d", p, u, pin, puk)
		}
		if c.Public(cardtest.Signature) != nil || c.Public(cardtest.KeyManagement) != nil {
			t.Error("a key was made")
		}
		for _, l := range c.Log() {
			if l.Instruction == 0xdb && l.Status == 0x9000 {
				t.Error("something was written")
			}
		}
	}
	good := []string{"Yes", "-", cardtest.DefaultPIN, cardtest.DefaultPUK, "271828", "271828", "31415926", "31415926"}
	with := func(i int, v string) []string {
		g := append([]string{}, good...)
		g[i] = v
		return answers(g...)
	}
	d.refused(3, "not Yes", "cards.log", setup(with(0, "yes")...)...)
	untouched(3, 3)
	d.refused(2, "hexadecimal", "cards.log", setup(with(1, "secret-words")...)...)
	d.refused(1, "the management key is refused", "cards.log", setup(with(1, strings.Repeat("42", 24))...)...)
	untouched(3, 3)
	d.refused(1, "2 tries are left", "cards.log", setup(with(2, "654321")...)...)
	untouched(2, 3)
	d.refused(2, "RSA-4096", "cards.log", setup(append([]string{"--algorithm", "RSA-4096"}, answers(good...)...)...)...)
	d.refused(2, `no reader "nowhere"`, "cards.log", setup(append([]string{"--reader", "nowhere"}, answers(good...)...)...)...)
	r.Insert(t, 1, cardtest.NewCard())
	d.refused(2, "in several readers", "cards.log", setup(answers(good...)...)...)
	untouched(2, 3)
	r.Pull(t, 1)
	d.refused(1, "the PUK", "ada.json", setup(with(3, "87654321")...)...)
	untouched(3, 2) // the right PIN was given before
	if kinds := leaves(t, d.path("cards.log")); kinds != "card-setup-intent card-setup-failed" {
		t.Error(kinds)
	}
	c.SetTries(0, 3)
	d.refused(3, "PIN locked", "ada.json", setup(answers(good...)...)...)
}

// TestCardSetupPulled: who pulls the card while it is set up is told which PIN and PUK it may have now, and how to go on.
func TestCardSetupPulled(t *testing.T) {
	r := cardtest.New(t)
	for _, at := range []struct {
		instruction, p2 byte
		says            string
	}{
		{0x24, 0x81, "its PIN is as it was; its PUK may be the old one or the new one"},
		{0x24, 0x80, "its PUK is the new one; its PIN may be the old one or the new one"},
		{0x47, 0x9d, "its PIN and its PUK are the new ones; run this again with --replace"},
	} {
		d, c := desk{t, t.TempDir()}, cardtest.NewCard()
		r.Insert(t, 0, c)
		c.Before(func(command cardtest.Command) {
			if command.Instruction == at.instruction && (command.P2 == at.p2) {
				r.Snatch(0)
			}
		})
		answers := d.write("answers", strings.Join([]string{"Yes", "-", cardtest.DefaultPIN, cardtest.DefaultPUK, "271828", "271828", "31415926", "31415926"}, "\n")+"\n")
		d.refused(1, at.says, "ada.json", "officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--transcript", d.path("cards.log"), "--out", d.path("ada.json"), "--answers", answers)
		c.Before(nil)
	}
}

// PIN and PUK are changed, and a locked PIN is unblocked, with the tries told before and a log after.
func TestCardPINVerbs(t *testing.T) {
	r := cardtest.New(t)
	d := desk{t, t.TempDir()}
	c := cardtest.NewCard().WithSerial()
	c.Put(t, cardtest.Signature, "P-256", "ada")
	r.Insert(t, 0, c)
	verb := func(name string, flags []string, lines ...string) []string {
		return append(append([]string{"token", name, "--transcript", d.path("log"), "--answers", d.write("answers", strings.Join(lines, "\n")+"\n")}, flags...), cardURI(t, "ada"))
	}
	left := func(pin, puk int) {
		t.Helper()
		if p, u := c.TriesLeft(); p != pin || u != puk {
			t.Errorf("%d and %d tries left, not %d and %d", p, u, pin, puk)
		}
	}
	if out := d.ok("token", "list", "--module", cardtest.Module(t)); !strings.Contains(out, "3 tries are left, in reader "+r.Name(0)) {
		t.Error(out)
	}
	d.ok(verb("change-pin", nil, cardtest.DefaultPIN, "271828", "271828")...)
	d.ok(verb("change-pin", []string{"--puk"}, cardtest.DefaultPUK, "31415926", "31415926")...)
	left(3, 3)
	for n := 2; n > 0; n-- {
		d.refused(1, "PIN refused", "none", verb("change-pin", nil, cardtest.DefaultPIN, "111111", "111111")...)
		left(n, 3)
	}
	d.refused(3, "PIN locked", "none", verb("change-pin", nil, cardtest.DefaultPIN, "111111", "111111")...)
	left(0, 3)
	d.refused(3, "PIN locked", "none", verb("change-pin", nil, "271828", "111111", "111111")...)
	left(0, 3)
	if out := d.ok("token", "list", "--module", cardtest.Module(t)); !strings.Contains(out, "PIN LOCKED, in reader "+r.Name(0)) {
		t.Error(out)
	}
	d.refused(1, "the PUK: PIN refused: 2 tries are left", "none", verb("unblock", nil, cardtest.DefaultPUK, "111111", "111111")...)
	left(0, 2)
	d.ok(verb("unblock", nil, "31415926", "111111", "111111")...)
	left(3, 3)
	d.ok(verb("change-pin", nil, "111111", "222222", "222222")...)
	kinds := leaves(t, d.path("log"), "271828", "31415926", "111111", "222222")
	if want := "pin-change-intent pin-change puk-change-intent puk-change" + strings.Repeat(" pin-change-intent pin-change-failed", 3) +
		" pin-unblock-intent pin-unblock-failed pin-unblock-intent pin-unblock pin-change-intent pin-change"; kinds != want {
		t.Error(kinds)
	}
	// Without a terminal and answers nothing is asked; without a log nothing is done.
	d.refused(2, "transcript", "none", "token", "unblock", cardURI(t, "ada"))
	left(3, 3)
}
