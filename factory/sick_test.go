package factory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// TestLibraryStartedAnew: the token's library says that sessions and login are well, and answers errors to signing until it is started anew. The service enrols again by itself, with one
// signature for each certificate.
func TestLibraryStartedAnew(t *testing.T) {
	shim := shimtest.New(t)
	p := newPlant(t)
	uri, err := hsm.ParseURI(p.board.URI)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: shim.Module, URI: uri, PIN: hsm.PINFile(p.board.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	key, err := token.Key(context.Background(), hsm.Query{Label: "factory-ca"})
	if err != nil {
		t.Fatal(err)
	}
	if p.issuer, err = ca.NewIssuer(p.issuing, key, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	c := r.client(r.station(t, "line-1"))
	enroll := func(q factory.EnrollRequest) error {
		_, _, err := c.Enroll(context.Background(), q)
		return err
	}
	for i, ckr := range []string{"0x06", "0x05", "0x30"} {
		shim.Plan(t, "C_Sign 2 stuck "+ckr)
		for n := range 5 {
			id := fmt.Sprintf("dev-%d-%d", i, n)
			q := deviceRequest(t, newKey(t), id)
			err := enroll(q)
			// Where the library was restarted a moment ago it is not restarted at once: the line's next try comes through.
			for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
				if got := code(t, err); got != factory.CodeUnavailable {
					t.Fatalf("%s: %s: %s, %v", ckr, id, got, err)
				}
				err = enroll(q)
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", ckr, id, err)
			}
		}
		if signed := shim.Count(t, "C_Sign"); signed != 5 {
			t.Errorf("%s: %d signatures for 5 certificates", ckr, signed)
		}
		if shim.Count(t, "C_Initialize") == 0 {
			t.Errorf("%s: the library was not started anew", ckr)
		}
	}
}
