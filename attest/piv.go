package attest

import (
	"encoding/asn1"
	"fmt"
	"math/big"
)

// Extensions of the certificates that YubiKeys make for keys generated in a PIV slot (Yubico, PIV Attestation OID Arc). The
// first and the third are raw octets, not DER.
var (
	oidPIVFirmware = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3} // 3 octets: 5.4.3
	oidPIVSerial   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7} // INTEGER
	oidPIVPolicy   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8} // 2 octets: of PIN and of touch
)

var (
	pinPolicies   = map[byte]string{1: "never", 2: "once", 3: "always", 4: "match once", 5: "match always"}
	touchPolicies = map[byte]string{1: "never", 2: "always", 3: "cached"}
)

// pivVerifier reads attestation certificates of PIV cards that attest as YubiKeys do. A card makes one only for a key that
// was generated in it. It holds no nonce: that the card is there now is shown by the request's own signature, over the nonce.
type pivVerifier struct{}

func (pivVerifier) Kind() Kind { return PIV }

func (pivVerifier) Verify(m *Manufacturers, e *Evidence, want Want) (*Verdict, error) {
	cert, v, err := m.X509Evidence(PIV, e.Certificates, want.Key, oidPIVPolicy, want)
	if err != nil {
		return nil, err
	}
	firmware, policy := extension(cert, oidPIVFirmware), extension(cert, oidPIVPolicy)
	if len(firmware) != 3 || len(policy) != 2 || pinPolicies[policy[0]] == "" || touchPolicies[policy[1]] == "" {
		return nil, refuse(ErrCertificate, "it lacks the extensions with which a card attests a key that was generated in it (1.3.6.1.4.1.41482.3.3 and 3.8)")
	}
	if serial := extension(cert, oidPIVSerial); serial != nil {
		n, ok := value[*big.Int](serial)
		if !ok || n.Sign() < 0 || n.BitLen() > 64 {
			return nil, refuse(ErrMalformed, "the card's serial number")
		}
		v.add("serial", n.String())
	}
	v.add("firmware", fmt.Sprintf("%d.%d.%d", firmware[0], firmware[1], firmware[2]))
	v.add("pin policy", pinPolicies[policy[0]])
	v.add("touch policy", touchPolicies[policy[1]])
	return v, nil
}
