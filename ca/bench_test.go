package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/bench"
)

// ours is what the factory does for each device: read the request, prove possession, prepare by all rules, sign, verify.
func ours(request []byte, policy *csr.Policy, issuer *Issuer, p *Profile) error {
	r, err := csr.Parse(request, policy)
	if err != nil {
		return err
	}
	prep, err := issuer.Prepare(p, Template{RawSubject: r.RawSubject(), PublicKey: r.PublicKey(), NotBefore: t0, NotAfter: years(10)}, rand.Reader)
	if err != nil {
		return err
	}
	_, err = prep.Sign(context.Background(), rand.Reader)
	return err
}

// bare is the least that the standard library needs for a certificate from a request, with no rule checked.
func bare(request []byte, issuer *x509.Certificate, key *ecdsa.PrivateKey) error {
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return err
	}
	if err := r.CheckSignature(); err != nil {
		return err
	}
	serial, err := NewSerial(rand.Reader)
	if err != nil {
		return err
	}
	_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: r.Subject, NotBefore: t0, NotAfter: years(10),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, issuer, r.PublicKey, key)
	return err
}

// BenchmarkIssueDevice compares both on one core and one P-256 key in memory, in turns.
func BenchmarkIssueDevice(b *testing.B) {
	f := newFamily(b, "P-384", "P-256")
	device, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	request, err := csr.Create(rand.Reader, device, csr.Template{Subject: pkix.Name{CommonName: "dev-0001"}})
	if err != nil {
		b.Fatal(err)
	}
	p, policy, key := mustProfile(b, "device"), csr.DevicePolicy(), f.factoryKey.(*ecdsa.PrivateKey)
	rate := func(one func() error) func() (float64, error) {
		return func() (float64, error) {
			const n = 1000
			start := time.Now()
			for range n {
				if err := one(); err != nil {
					return 0, err
				}
			}
			return n / time.Since(start).Seconds(), nil
		}
	}
	bench.Compare(b, "issue_device", "certificates/s",
		bench.Side{Name: "issue_device_ours", Rate: rate(func() error { return ours(request, policy, f.facIssuer, p) })},
		bench.Side{Name: "issue_device_bare", Rate: rate(func() error { return bare(request, f.factory, key) })})
}
