package gateway_test

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// unknown asserts that the registry has no such device.
func (s *stand) unknown(name string) {
	s.t.Helper()
	if d, err := s.registry.Device(context.Background(), "test", name); !errors.Is(err, gateway.ErrNoDevice) {
		s.t.Errorf("the registry has %+v, %v", d, err)
	}
}

// TestRegisteredOnly: by the officers' word, or by the gateway's own, only devices of the list come in. Nothing is written about any other.
func TestRegisteredOnly(t *testing.T) {
	for _, by := range []string{"the officers", "the configuration"} {
		s := newStand(t, func(c *gateway.Config) { c.RegisteredOnly = by == "the configuration" })
		met := s.fleet.Device(t, "met-before")
		if by == "the officers" {
			s.wellServed(s.client(met, true), met)
			v := s.fleet.View.Revoke(s.fleet.Factory.Cert, s.fleet.Root.Cert.SerialNumber)
			v.GatewayPolicy.RegisteredOnly = true
			s.trust(v)
			s.wellServed(s.client(met, true), met)
		}
		stranger, listed := s.fleet.Device(t, "stranger"), s.fleet.Device(t, "listed")
		s.refused(s.client(stranger, true), gateway.NotRegistered)
		s.unknown("stranger")
		err := s.registry.Import(context.Background(), []gateway.Registration{{Environment: "test", Device: "LISTED"}, {Environment: "staging", Device: "stranger"}},
			gateway.By{Who: "a test", At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		s.wellServed(s.client(listed, true), listed)
		s.refused(s.client(stranger, true), gateway.NotRegistered)
		s.unknown("stranger")
		s.refused(s.client(s.fleet.Device(t, "Listed"), true), gateway.OtherKey)
	}
}

// generation issues a certificate that says which one of the device it is.
func (s *stand) generation(name string, n int) *fleettest.Entity {
	s.t.Helper()
	der, err := asn1.Marshal(n)
	if err != nil {
		s.t.Fatal(err)
	}
	tmpl := fleettest.DeviceTemplate(name)
	tmpl.ExtraExtensions = []pkix.Extension{{Id: gateway.Generation, Value: der}}
	return fleettest.Issue(s.t, s.fleet.Factory, fleettest.NewKey(s.t), tmpl)
}

// TestGenerations: A, B, A, B with the keys of two certificates that begin at the same time: the higher generation comes in, and from then on the other stays out for
// good, whatever connection it has open.
func TestGenerations(t *testing.T) {
	s := newStand(t, nil)
	a, b, clone := s.generation("device-1", 1), s.generation("DEVICE-1", 2), s.generation("device-1", 2)
	open := dialRaw(t, s, a)
	s.wellServed(s.client(b, true), b)
	open.gone(t)
	for range 2 {
		s.refused(s.client(a, true), gateway.KeySuperseded)
		s.refused(s.client(clone, true), gateway.OtherKey)
		s.wellServed(s.client(b, true), b)
	}
	d, err := s.registry.Device(context.Background(), "test", "device-1")
	if err != nil || d.Generation != 2 || len(d.Certificates) != 2 || len(d.Flags) != 2 {
		t.Errorf("%+v, %v: want two certificates met, and both flags of a clone", d, err)
	}
}
