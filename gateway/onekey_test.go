package gateway_test

import (
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/fleettest"
)

// TestOneKey: a second key for an id comes in only with a later certificate; then the connections of the first are closed, and it stays out.
func TestOneKey(t *testing.T) {
	s := newStand(t, nil)
	first := s.fleet.Device(t, "device-1")
	open := dialRaw(t, s, first)
	clone := s.fleet.Device(t, "device-1")
	s.refused(s.client(clone, true), gateway.OtherKey)
	spelled := s.fleet.Device(t, "Device-1")
	s.refused(s.client(spelled, true), gateway.OtherKey)
	open.again(t)

	later := fleettest.DeviceTemplate("device-1")
	later.NotBefore, later.NotAfter = first.Cert.NotBefore.Add(time.Hour), first.Cert.NotAfter
	second := fleettest.Issue(t, s.fleet.Factory, fleettest.NewKey(t), later)
	s.wellServed(s.client(second, true), second)
	open.gone(t)
	s.refused(s.client(first, true), gateway.KeySuperseded)
	s.refused(s.client(clone, true), gateway.OtherKey)
	s.wellServed(s.client(second, true), second)

	if err := s.registry.AllowRekey(t.Context(), "device-1"); err != nil {
		t.Fatal(err)
	}
	s.wellServed(s.client(first, true), first)
	s.refused(s.client(second, true), gateway.KeySuperseded)
}
