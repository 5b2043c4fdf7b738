package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
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

	if err := s.act(gateway.AllowRekey, "device-1"); err != nil {
		t.Fatal(err)
	}
	s.wellServed(s.client(first, true), first)
	s.refused(s.client(second, true), gateway.KeySuperseded)
}

// TestResetFirstRequest: a device that takes its first request back says nothing of the registry: no alarm, and no refusal in the registry's name.
func TestResetFirstRequest(t *testing.T) {
	s := newStand(t, nil)
	for n := range 40 {
		d := s.fleet.Device(t, fmt.Sprint("device-", n))
		c := s.client(d, true)
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Duration(n)*200*time.Microsecond, cancel)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.addr+"/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.Do(req); err == nil {
			resp.Body.Close()
		}
		cancel()
		s.wellServed(s.client(d, true), d)
	}
	if text := s.log.String(); strings.Contains(text, "msg=registry") || strings.Contains(s.metrics(), `reason="registry-unavailable",stage="request"} 1`) {
		t.Errorf("the registry is blamed: %s", text)
	}
}
