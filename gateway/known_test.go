package gateway

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway/fleettest"
)

// TestKnownUnderNewTrust: of a certificate that was admitted only its signature is taken as known, and only by the CA that made it.
func TestKnownUnderNewTrust(t *testing.T) {
	f := fleettest.New(t)
	d := f.Device(t, "device-1")
	chain := []*x509.Certificate{d.Cert}
	twin := fleettest.CATemplate("Factory")
	twin.SubjectKeyId = f.Factory.Cert.SubjectKeyId
	other := fleettest.Issue(t, f.Root, fleettest.NewKey(t), twin)
	with := func(between ...*x509.Certificate) *fleettest.View {
		return fleettest.NewView(f.View.Roots, between, fleettest.Time)
	}
	policy := with(f.Factory.Cert)
	policy.GatewayPolicy.KeyTypes = []string{"RSA"}
	noCRL := with(f.Factory.Cert)
	clear(noCRL.CRLInfos)
	for _, c := range []struct {
		what string
		view *fleettest.View
		want Reason
	}{
		{"the same", with(f.Factory.Cert), Admitted},
		{"its CA is gone", with(), UnknownIssuer},
		{"its CA has another key", with(other.Cert), BadSignature},
		{"both CAs", with(other.Cert, f.Factory.Cert), Admitted},
		{"its kind of key is not admitted", policy, BadKey},
		{"it is revoked", with(f.Factory.Cert).Revoke(f.Factory.Cert, d.Cert.SerialNumber), Revoked},
		{"its CA is revoked", with(f.Factory.Cert).Revoke(f.Root.Cert, f.Factory.Cert.SerialNumber), IssuerRevoked},
		{"no CRL", noCRL, NoCRL},
	} {
		before := newCachedJudge(f.View, Rules{}, nil)
		for range 2 {
			if got := before.admit(chain, fleettest.Time); !got.Admitted() || got.Device != "device-1" {
				t.Fatal(got.Words())
			}
		}
		after := newCachedJudge(c.view, Rules{}, before)
		for range 2 {
			got, pure := after.admit(chain, fleettest.Time), Admit(c.view, chain, fleettest.Time)
			if got.Reason != c.want || pure.Reason != c.want || !got.Until.Equal(pure.Until) {
				t.Errorf("%s: %s until %s, want %s until %s", c.what, got.Words(), got.Until, c.want, pure.Until)
			}
		}
		if got := before.admit(chain, fleettest.Time); !got.Admitted() {
			t.Errorf("%s: by the trust before: %s", c.what, got.Words())
		}
	}
}

// TestKnownUntil: dates are looked at each time, of the certificate, its CAs, their CRLs and the trust.
func TestKnownUntil(t *testing.T) {
	f := fleettest.New(t)
	short := fleettest.DeviceTemplate("device-1")
	short.NotBefore, short.NotAfter = fleettest.Time.Add(-time.Minute), fleettest.Time.Add(time.Minute)
	d := fleettest.Issue(t, f.Factory, fleettest.NewKey(t), short)
	j := newCachedJudge(f.View, Rules{}, nil)
	for _, c := range []struct {
		at   time.Duration
		want Reason
	}{
		{0, Admitted}, {time.Minute, Admitted}, {time.Minute + time.Second, Expired}, {0, Admitted}, {-time.Minute - time.Second, NotYetValid}, {2 * time.Hour, TrustExpired},
	} {
		if got := j.admit([]*x509.Certificate{d.Cert}, fleettest.Time.Add(c.at)); got.Reason != c.want {
			t.Errorf("at %s: %s, want %s", c.at, got.Words(), c.want)
		}
	}
	long := f.Device(t, "device-2")
	f.View.ExpiresAt = fleettest.Time.Add(12 * time.Hour)
	for _, c := range []struct {
		at   time.Duration
		want Reason
	}{{0, Admitted}, {time.Hour, StaleCRL}, {0, Admitted}, {-2 * time.Hour, StaleCRL}} {
		if got := j.admit([]*x509.Certificate{long.Cert}, fleettest.Time.Add(c.at)); got.Reason != c.want {
			t.Errorf("at %s: %s, want %s", c.at, got.Words(), c.want)
		}
	}
}
