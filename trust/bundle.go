package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/hanaper/hanaper/internal/strict"
)

// parseBundle reads PEM certificates, with nothing between or around them.
func parseBundle(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(data) > 0 {
		if !bytes.HasPrefix(data, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, errors.New("holds something other than PEM certificates")
		}
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, errors.New("holds something other than PEM certificates")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if certs = append(certs, cert); len(certs) > MaxCertificates {
			return nil, fmt.Errorf("holds more than %d certificates", MaxCertificates)
		}
	}
	return certs, nil
}

func marshalBundle(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		// Writing to a bytes.Buffer does not fail.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}

// checkCAs states what anchors and intermediates must be. Of those in unsigned, by their DER bytes, no signature is asked for.
func checkCAs(anchors, intermediates []*x509.Certificate, unsigned map[string]bool) error {
	signed := func(c, by *x509.Certificate) bool { return unsigned[string(c.Raw)] || c.CheckSignatureFrom(by) == nil }
	if len(anchors) == 0 {
		return errors.New("no anchor: name at least one Fleet Root")
	}
	if len(anchors) > MaxCertificates || len(intermediates) > MaxCertificates {
		return fmt.Errorf("more than %d anchors or intermediates", MaxCertificates)
	}
	subjects := map[ID][]byte{}
	certs := map[string]bool{}
	for _, c := range slices.Concat(anchors, intermediates) {
		if c == nil {
			return errors.New("a certificate is missing")
		}
		name := c.Subject.String()
		if c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return fmt.Errorf("%q is not a CA certificate: it needs version 3, basicConstraints CA:TRUE and keyCertSign", name)
		}
		if certs[string(c.Raw)] {
			return fmt.Errorf("%q stands twice", name)
		}
		certs[string(c.Raw)] = true
		id := IssuerID(c)
		if s, ok := subjects[id]; ok && !bytes.Equal(s, c.RawSubject) {
			return fmt.Errorf("%q shares its key with a CA of another name", name)
		}
		subjects[id] = c.RawSubject
	}
	for _, c := range anchors {
		if !bytes.Equal(c.RawIssuer, c.RawSubject) || !signed(c, c) {
			return fmt.Errorf("anchor %q is not self-signed", c.Subject)
		}
	}
	known, left := slices.Clone(anchors), slices.Clone(intermediates)
	for len(left) > 0 {
		n := len(left)
		left = slices.DeleteFunc(left, func(c *x509.Certificate) bool {
			for _, ca := range known {
				if bytes.Equal(ca.RawSubject, c.RawIssuer) && signed(c, ca) {
					known = append(known, c)
					return true
				}
			}
			return false
		})
		if len(left) == n {
			return fmt.Errorf("intermediate %q does not chain to an anchor", left[0].Subject)
		}
	}
	return nil
}

type releasesFile struct {
	Format   int           `json:"format"`
	Releases []releaseJSON `json:"releases"`
}

type releaseJSON struct {
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
}

// parseReleases reads releases.json: {"format":1,"releases":[{"issuer":HEX64,"serial":HEX}]}.
func parseReleases(data []byte) (map[ID]serials, error) {
	var f releasesFile
	if err := strict.JSON(releasesTarget, data, &f); err != nil {
		return nil, err
	}
	if f.Format != 1 || len(f.Releases) > MaxReleases {
		return nil, fmt.Errorf("%s: format %d is unknown, or more than %d releases", releasesTarget, f.Format, MaxReleases)
	}
	var list []Release
	for _, r := range f.Releases {
		id, ok := parseID(r.Issuer)
		n, ok2 := new(big.Int).SetString(r.Serial, 16)
		if !ok || !ok2 || n.Text(16) != r.Serial {
			return nil, fmt.Errorf("%s: issuer %.80q or serial %.80q is not lower-case hex", releasesTarget, r.Issuer, r.Serial)
		}
		list = append(list, Release{Issuer: id, Serial: n})
	}
	return releaseSets(list)
}

func releaseSets(list []Release) (map[ID]serials, error) {
	if len(list) > MaxReleases {
		return nil, fmt.Errorf("more than %d releases", MaxReleases)
	}
	sets := map[ID]serials{}
	for _, r := range list {
		s, ok := serialOf(r.Serial)
		if !ok || r.Serial.Sign() <= 0 {
			return nil, fmt.Errorf("release of serial %v: it is not a positive number of at most 20 octets", r.Serial)
		}
		sets[r.Issuer] = append(sets[r.Issuer], s)
	}
	for id, s := range sets {
		slices.SortFunc(s, compareSerials)
		if n := len(s); len(slices.Compact(s)) != n {
			return nil, fmt.Errorf("a release for issuer %s stands twice", id)
		}
	}
	return sets, nil
}

func marshalReleases(list []Release) ([]byte, error) {
	f := releasesFile{Format: 1}
	for _, r := range list {
		f.Releases = append(f.Releases, releaseJSON{r.Issuer.String(), r.Serial.Text(16)})
	}
	slices.SortFunc(f.Releases, func(a, b releaseJSON) int {
		return bytes.Compare([]byte(a.Issuer+a.Serial), []byte(b.Issuer+b.Serial))
	})
	return json.MarshalIndent(f, "", "  ")
}
