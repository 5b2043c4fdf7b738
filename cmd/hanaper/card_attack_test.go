package main

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/quorum"
)

// gotSecret says whether a card was given a PIN or a PUK.
func gotSecret(c *cardtest.Card) bool {
	for _, l := range c.Log() {
		if l.Instruction == 0x24 || l.Instruction == 0x2c || l.Instruction == 0x20 && l.Status>>4 != 0x63c {
			return true
		}
	}
	return false
}

// A card is exchanged for another of the same name, neither of which has a number, while its holder types: the other gets neither PIN
// nor PUK.
func TestCardExchanged(t *testing.T) {
	r := cardtest.New(t)
	bin := programtest.Path(t, "hanaper")
	d := desk{t, t.TempDir()}
	first, other := cardtest.NewCard(), cardtest.NewCard()
	for _, c := range []*cardtest.Card{first, other} {
		c.Put(t, cardtest.Signature, "P-256", "ada")
	}
	for _, verb := range []struct {
		name       []string
		asks, gets string
		lines      [2]string
	}{
		{[]string{"change-pin"}, "PIN", "PIN", [2]string{cardtest.DefaultPIN, "271828"}},
		{[]string{"change-pin", "--puk"}, "PUK", "PUK", [2]string{cardtest.DefaultPUK, "31415926"}},
		{[]string{"unblock"}, "PUK", "PIN", [2]string{cardtest.DefaultPUK, "271828"}},
	} {
		r.Insert(t, 0, first)
		s := sit(t, exec.Command(bin, append(append([]string{"token"}, verb.name...), "--transcript", d.path("log"), cardURI(t, "ada"))...))
		s.sees(verb.asks + " of")
		s.sees("which is tried once")
		first.Log()
		r.Insert(t, 0, other)
		other.Log()
		s.answers(": ", verb.lines[0])
		s.answers("New "+verb.gets, verb.lines[1])
		s.answers("The same again: ", verb.lines[1])
		if out := s.leaves(1); !strings.Contains(out, "pulled") {
			t.Errorf("%v:\n%s", verb.name, out)
		}
		if gotSecret(other) {
			t.Errorf("%v: the other card was given a secret", verb.name)
		}
		if p, u := other.TriesLeft(); p != 3 || u != 3 {
			t.Errorf("%v: %d and %d tries are left", verb.name, p, u)
		}
	}
}

// A card that another program holds is not waited for for ever.
func TestCardHeld(t *testing.T) {
	r := cardtest.New(t)
	bin := programtest.Path(t, "hanaper")
	d := desk{t, t.TempDir()}
	c := cardtest.NewCard().WithSerial()
	r.Insert(t, 0, c)
	held, err := piv.Open(r.Name(0))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cmd := exec.Command(bin, "officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--transcript", d.path("cards.log"), "--out", d.path("ada.json"))
	s := sit(t, cmd)
	if out := s.leaves(1); !strings.Contains(out, "another program has held the card") {
		t.Error(out)
	}
	d.nothing("ada.json")
}

// A card-setup that is killed at any of its changes can be done again, with what the card has by then, and spends no try.
func TestCardSetupKilled(t *testing.T) {
	r := cardtest.New(t)
	bin := programtest.Path(t, "hanaper")
	const newPIN, newPUK = "271828", "31415926"
	for at := 1; ; at++ {
		d := desk{t, t.TempDir()}
		setup := func(pin, puk string, more ...string) []string {
			answers := d.write("answers", strings.Join([]string{"Yes", "-", pin, puk, newPIN, newPIN, newPUK, newPUK}, "\n")+"\n")
			return append([]string{"officer", "card-setup", "--name", "ada", "--module", cardtest.Module(t), "--transcript", d.path("cards.log"), "--out", d.path("ada.json"), "--answers", answers}, more...)
		}
		c := cardtest.NewCard()
		r.Insert(t, 0, c)
		cmd := exec.Command(bin, setup(cardtest.DefaultPIN, cardtest.DefaultPUK)...)
		changes, killed := 0, false
		var started sync.Mutex // until the process is there to be killed
		started.Lock()
		c.Before(func(k cardtest.Command) {
			if k.Instruction == 0x24 || k.Instruction == 0xdb || k.Instruction == 0x47 {
				if changes++; changes == at { // the card makes this change all the same
					killed = true
					started.Lock()
					_ = cmd.Process.Kill()
					started.Unlock()
				}
			}
		})
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		started.Unlock()
		err := cmd.Wait()
		out := said.Bytes()
		c.Before(nil)
		if !killed {
			if err != nil || at < 8 {
				t.Errorf("change %d: %v\n%s", at, err, out)
			}
			return
		}
		d.nothing("ada.json")
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) { // pcscd resets the card of a program that was killed
			if card, err := piv.Open(r.Name(0)); err == nil {
				card.Close()
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		pin := newPIN
		if at == 1 {
			pin = cardtest.DefaultPIN
		}
		d.ok(setup(pin, newPUK, "--replace")...)
		o, err := quorum.ParseEnrolment([]byte(d.text("ada.json")))
		if sign, _ := quorum.KeyID(c.Public(cardtest.Signature)); err != nil || o.KeyID != sign {
			t.Errorf("change %d: %+v, %v", at, o, err)
		}
		if p, u := c.TriesLeft(); p != 3 || u != 3 {
			t.Errorf("change %d: %d and %d tries are left", at, p, u)
		}
		if kinds := leaves(t, d.path("cards.log"), newPIN, newPUK); kinds != "card-setup-intent card-setup-intent card-setup" {
			t.Errorf("change %d: %s", at, kinds)
		}
	}
}

// The final try is not spent on a PIN from a file, which a service that is started again and again would send.
func TestFinalTryIsNotAFiles(t *testing.T) {
	r := cardtest.New(t)
	d := desk{t, t.TempDir()}
	c := cardtest.NewCard().WithSerial()
	c.Put(t, cardtest.Signature, "P-256", "ada")
	r.Insert(t, 0, c)
	show := []string{"token", "show", cardURI(t, "ada") + "&pin-source=" + d.write("pin", "999999\n")}
	for n := 2; n > 0; n-- {
		d.refused(1, "PIN", "none", show...)
		if p, _ := c.TriesLeft(); p != n {
			t.Fatalf("%d tries are left", p)
		}
	}
	for range 3 {
		d.refused(3, "a file does not spend it", "none", show...)
	}
	if p, _ := c.TriesLeft(); p != 1 {
		t.Errorf("%d tries are left", p)
	}
}
