package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What is built is held to more than what is read: a part that verifies, and under which no device could connect, is a mistake that an office finds
// out at night. A rule never becomes stricter for what exists, so these are asked of new parts alone.

// checkAdmits refuses CAs under which no gateway admits a device, and a policy under which none of it holds.
func checkAdmits(c Content, now time.Time) error {
	for _, ca := range slices.Concat(c.Anchors, c.Intermediates) {
		if fault := unfit(ca); fault != "" {
			return fmt.Errorf("no device under %q could be admitted: %s", ca.Subject, fault)
		}
	}
	for _, ca := range c.Intermediates {
		if !reaches(ca, c.Anchors, c.Intermediates, nil) {
			return fmt.Errorf("no device under %q could be admitted: the path lengths of the CAs above it do not allow it", ca.Subject)
		}
	}
	if s := c.Policy.SharedCredentials; s != nil && !now.Before(s.Until) {
		return errors.New("the leave for shared credentials has ended: leave it out, or give a later date")
	}
	return nil
}

// unfit is why gateways pass over a CA's certificate (docs/spec/admission.md); empty if they do not.
func unfit(c *x509.Certificate) string {
	limits := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
	switch {
	case limits && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return "its extended key usage excludes clientAuth"
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Sprintf("it has the critical extension %v, which gateways do not process", c.UnhandledCriticalExtensions[0])
	case len(c.SubjectKeyId) == 0:
		return "it has no subject key identifier"
	}
	return ""
}

// reaches says whether a chain from ca to an anchor keeps each path length constraint (RFC 5280, section 4.2.1.9); below are the CAs under ca in the
// chain. Names are compared and not signatures, which checkCAs has verified for one chain at least.
func reaches(ca *x509.Certificate, anchors, intermediates, below []*x509.Certificate) bool {
	count := 0
	for _, b := range below {
		if !bytes.Equal(b.RawSubject, b.RawIssuer) {
			count++
		}
	}
	if limited := ca.MaxPathLen > 0 || ca.MaxPathLenZero; limited && count > ca.MaxPathLen || slices.Contains(below, ca) {
		return false
	}
	if slices.Contains(anchors, ca) {
		return true
	}
	for _, parent := range slices.Concat(anchors, intermediates) {
		if bytes.Equal(parent.RawSubject, ca.RawIssuer) && reaches(parent, anchors, intermediates, append(slices.Clip(below), ca)) {
			return true
		}
	}
	return false
}
