package peertest

import (
	"sync"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/cardtest"
)

// Card is a PIV card in a reader, through pcscd and OpenSC, as another tool prepared it: its keys are there, and no others can be made
// through PKCS#11. Slot 9C wants the PIN at each signature. An outage is that the card is pulled; it stops when it does not answer.
func Card(t testing.TB) *Peer {
	t.Helper()
	readers := cardtest.New(t)
	card := cardtest.NewCard().WithSerial()
	card.Put(t, cardtest.Authentication, "P-256", "ada")
	card.Put(t, cardtest.Signature, "RSA-2048", "ada")
	card.Put(t, cardtest.KeyManagement, "P-256", "ada")
	card.Put(t, cardtest.CardAuthentication, "P-384", "ada")
	readers.Insert(t, 0, card)
	var halt sync.Mutex
	card.Before(func(cardtest.Command) {
		halt.Lock()
		defer halt.Unlock()
	})
	return &Peer{Name: "opensc", Title: "OpenSC " + version("opensc") + " and pcscd " + version("pcscd") + ", PIV card", PIN: []byte(cardtest.DefaultPIN),
		Token: hsm.URI{Token: "ada", ModulePath: cardtest.Module(t)},
		Keys:  map[hsm.Algorithm]string{hsm.P256: "PIV AUTH key", hsm.RSA2048: "SIGN key", hsm.P384: "CARD AUTH key"},
		Cut:   func() { readers.Pull(t, 0) }, Restore: func() { readers.Insert(t, 0, card) },
		Stop: halt.Lock, Continue: halt.Unlock}
}
