package attest

import (
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
)

// Extensions of the certificates that YubiHSMs make for keys (Yubico, YubiHSM OIDs), each in DER.
var (
	oidHSMFirmware     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 1} // OCTET STRING of 3
	oidHSMSerial       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 2} // INTEGER
	oidHSMOrigin       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 3} // BIT STRING of 1 octet
	oidHSMCapabilities = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 5} // BIT STRING of 8 octets, big endian
	oidHSMObject       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 6} // INTEGER
	oidHSMLabel        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 4, 9} // UTF8String
)

const (
	hsmGenerated = 0x01 // of origin; 0x02 is imported, and 0x10 beside either says that it came in wrapped
	// hsmExportable is the capability exportable-under-wrap.
	hsmExportable = 1 << 0x10
)

// yubihsmVerifier reads attestation certificates of YubiHSMs. They are made for imported keys too, and for keys that may
// leave under a wrapping key: both are refused.
type yubihsmVerifier struct{}

func (yubihsmVerifier) Kind() Kind { return YubiHSM }

func (yubihsmVerifier) Verify(m *Manufacturers, e *Evidence, want Want) (*Verdict, error) {
	cert, v, err := m.X509Evidence(YubiHSM, e.Certificates, want.Key, nil, want)
	if err != nil {
		return nil, err
	}
	origin, ok1 := value[asn1.BitString](extension(cert, oidHSMOrigin))
	capabilities, ok2 := value[asn1.BitString](extension(cert, oidHSMCapabilities))
	firmware, ok3 := value[[]byte](extension(cert, oidHSMFirmware))
	if !ok1 || !ok2 || !ok3 || origin.BitLength != 8 || capabilities.BitLength != 64 || len(firmware) != 3 {
		return nil, refuse(ErrCertificate, "it lacks the extensions with which a YubiHSM attests a key (1.3.6.1.4.1.41482.4.1, 4.3 and 4.5)")
	}
	if origin.Bytes[0] != hsmGenerated {
		return nil, refuse(ErrKeyAttributes, "its origin is 0x%02x: it was imported, or came in wrapped", origin.Bytes[0])
	}
	if binary.BigEndian.Uint64(capabilities.Bytes)&hsmExportable != 0 {
		return nil, refuse(ErrKeyAttributes, "it may leave the chip under a wrapping key (exportable-under-wrap)")
	}
	v.add("firmware", fmt.Sprintf("%d.%d.%d", firmware[0], firmware[1], firmware[2]))
	v.add("capabilities", fmt.Sprintf("%016x", capabilities.Bytes))
	for _, x := range []struct {
		name string
		oid  asn1.ObjectIdentifier
	}{{"serial", oidHSMSerial}, {"object", oidHSMObject}} {
		if data := extension(cert, x.oid); data != nil {
			n, ok := value[*big.Int](data)
			if !ok || n.Sign() < 0 || n.BitLen() > 64 {
				return nil, refuse(ErrMalformed, "%s of the YubiHSM", x.name)
			}
			v.add(x.name, n.String())
		}
	}
	if data := extension(cert, oidHSMLabel); data != nil {
		label, ok := value[string](data)
		if !ok || len(label) > maxText {
			return nil, refuse(ErrMalformed, "label of the YubiHSM's key")
		}
		v.add("label", label)
	}
	return v, nil
}
