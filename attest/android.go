package attest

import (
	"crypto/subtle"
	"encoding/asn1"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidAndroid = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 17}

// androidVerifier reads Android Key Attestation (Android Open Source Project, "Key and ID attestation", the ASN.1 schema
// of the extension). Taken are keys that were generated in a trusted environment or a StrongBox, for signing, on a locked
// device that booted verified software, with the nonce as challenge. What only Android's software vouches for is not used.
type androidVerifier struct{}

func (androidVerifier) Kind() Kind { return Android }

func (androidVerifier) Verify(m *Manufacturers, e *Evidence, want Want) (*Verdict, error) {
	cert, v, err := m.X509Evidence(Android, e.Certificates, want.Key, oidAndroid, want)
	if err != nil {
		return nil, err
	}
	d, err := parseKeyDescription(extension(cert, oidAndroid))
	if err != nil {
		return nil, err
	}
	if err := d.check(want); err != nil {
		return nil, err
	}
	d.facts(v)
	return v, nil
}

// Values of the schema.
const (
	levelSoftware  = 0
	levelTrusted   = 1
	levelStrongBox = 2

	purposeSign     = 2
	purposeDecrypt  = 1
	originGenerated = 0
	bootVerified    = 0
)

var securityLevels = map[int]string{levelTrusted: "trusted environment", levelStrongBox: "StrongBox"}

// keyDescription is the content of the extension, as far as it is used.
type keyDescription struct {
	version, level, keyMintVersion, keyMintLevel int
	challenge                                    []byte
	software, hardware                           authorizations
}

// authorizations is an AuthorizationList.
type authorizations struct {
	purposes                           []int
	origin, osVersion, patchLevel      int
	hasOrigin, allApplications, hasRoT bool
	locked                             bool
	bootState                          int
	bootKey, bootHash                  []byte
	created                            int64 // milliseconds since 1970
}

func parseKeyDescription(ext []byte) (*keyDescription, error) {
	bad := func(what string) (*keyDescription, error) {
		return nil, refuse(ErrMalformed, "%s of the key description (1.3.6.1.4.1.11129.2.1.17)", what)
	}
	if ext == nil {
		return nil, refuse(ErrCertificate, "it has no key description (1.3.6.1.4.1.11129.2.1.17)")
	}
	var d keyDescription
	var seq, software, hardware, challenge, unique cryptobyte.String
	s := cryptobyte.String(ext)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !s.Empty() {
		return bad("the outer sequence")
	}
	if !seq.ReadASN1Integer(&d.version) || !seq.ReadASN1Enum(&d.level) || !seq.ReadASN1Integer(&d.keyMintVersion) || !seq.ReadASN1Enum(&d.keyMintLevel) {
		return bad("versions and security levels")
	}
	if !seq.ReadASN1(&challenge, cbasn1.OCTET_STRING) || !seq.ReadASN1(&unique, cbasn1.OCTET_STRING) {
		return bad("challenge and unique id")
	}
	d.challenge = challenge
	if !seq.ReadASN1(&software, cbasn1.SEQUENCE) || !seq.ReadASN1(&hardware, cbasn1.SEQUENCE) || !seq.Empty() {
		return bad("authorization lists")
	}
	if !d.software.parse(software) {
		return bad("software's list")
	}
	if !d.hardware.parse(hardware) {
		return bad("hardware's list")
	}
	return &d, nil
}

// parse reads a list: explicitly tagged values, none twice. Their order is not looked at, for devices in the field differ.
func (a *authorizations) parse(list cryptobyte.String) bool {
	seen := map[int]bool{}
	for !list.Empty() {
		tag, content, ok := readTagged(&list)
		if !ok || seen[tag] {
			return false
		}
		seen[tag] = true
		if !a.read(tag, content) {
			return false
		}
	}
	return true
}

func (a *authorizations) read(tag int, c cryptobyte.String) bool {
	switch tag {
	case 1: // purpose
		var set cryptobyte.String
		if !c.ReadASN1(&set, cbasn1.SET) || !c.Empty() {
			return false
		}
		for !set.Empty() {
			var p int
			if !set.ReadASN1Integer(&p) {
				return false
			}
			a.purposes = append(a.purposes, p)
		}
		return true
	case 600: // allApplications
		a.allApplications = true
		return true
	case 701: // creationDateTime
		return c.ReadASN1Integer(&a.created) && c.Empty()
	case 702: // origin
		a.hasOrigin = true
		return c.ReadASN1Integer(&a.origin) && c.Empty()
	case 704: // rootOfTrust
		return a.readRootOfTrust(c)
	case 705: // osVersion
		return c.ReadASN1Integer(&a.osVersion) && c.Empty()
	case 706: // osPatchLevel
		return c.ReadASN1Integer(&a.patchLevel) && c.Empty()
	}
	return true // what is not used
}

func (a *authorizations) readRootOfTrust(c cryptobyte.String) bool {
	var seq, key, hash cryptobyte.String
	a.hasRoT = true
	if !c.ReadASN1(&seq, cbasn1.SEQUENCE) || !c.Empty() || !seq.ReadASN1(&key, cbasn1.OCTET_STRING) || !seq.ReadASN1Boolean(&a.locked) || !seq.ReadASN1Enum(&a.bootState) {
		return false
	}
	if !seq.Empty() && !seq.ReadASN1(&hash, cbasn1.OCTET_STRING) { // since version 3
		return false
	}
	a.bootKey, a.bootHash = key, hash
	return seq.Empty()
}

// readTagged reads an explicitly tagged value of context class, whose number may be above 30 (X.690, section 8.1.2.4),
// which cryptobyte does not read. Numbers and lengths must have their shortest form.
func readTagged(s *cryptobyte.String) (tag int, content cryptobyte.String, ok bool) {
	b := []byte(*s)
	if len(b) < 2 || b[0]&0xe0 != 0xa0 { // context class, constructed
		return 0, nil, false
	}
	tag, n := int(b[0]&0x1f), 1
	if tag == 0x1f {
		for tag = 0; ; n++ {
			if n >= len(b) || n > 3 || n == 1 && b[n] == 0x80 {
				return 0, nil, false
			}
			tag = tag<<7 | int(b[n]&0x7f)
			if b[n]&0x80 == 0 {
				n++
				break
			}
		}
		if tag < 0x1f {
			return 0, nil, false
		}
	}
	// The rest is read as if it were an OCTET STRING: the same length and content.
	rest := cryptobyte.String(append([]byte{byte(cbasn1.OCTET_STRING)}, b[n:]...))
	before := len(rest)
	if !rest.ReadASN1(&content, cbasn1.OCTET_STRING) {
		return 0, nil, false
	}
	*s = cryptobyte.String(b[n-1+before-len(rest):])
	return tag, content, true
}

func (d *keyDescription) check(want Want) error {
	h := &d.hardware
	purpose := purposeSign
	if want.Use == Decrypts {
		purpose = purposeDecrypt
	}
	has := false
	for _, p := range h.purposes {
		has = has || p == purpose
	}
	switch {
	case len(want.Nonce) == 0 || subtle.ConstantTimeCompare(d.challenge, want.Nonce) != 1:
		return refuse(ErrStale, "the key was attested with another challenge")
	case securityLevels[d.level] == "":
		return refuse(ErrCertificate, "it was made by software (attestation security level %d)", d.level)
	case securityLevels[d.keyMintLevel] == "":
		return refuse(ErrKeyAttributes, "it is held by software (KeyMint security level %d)", d.keyMintLevel)
	case !h.hasOrigin:
		return refuse(ErrKeyAttributes, "the hardware does not say where it comes from")
	case h.origin != originGenerated:
		return refuse(ErrKeyAttributes, "its origin is %d, not generated (0)", h.origin)
	case !has:
		return refuse(ErrKeyAttributes, "the hardware does not hold it for purpose %d", purpose)
	case !h.hasRoT:
		return refuse(ErrPCR, "the hardware does not say what software it booted")
	case !h.locked:
		return refuse(ErrPCR, "the device's boot loader is unlocked")
	case h.bootState != bootVerified:
		return refuse(ErrPCR, "the software that it booted is not verified (state %d)", h.bootState)
	}
	return nil
}

func (d *keyDescription) facts(v *Verdict) {
	h := &d.hardware
	v.add("security level", securityLevels[d.level])
	v.add("attestation version", strconv.Itoa(d.version))
	v.add("verified boot key", hexText(h.bootKey))
	v.add("verified boot hash", hexText(h.bootHash))
	if h.osVersion != 0 {
		v.add("os version", strconv.Itoa(h.osVersion))
	}
	if h.patchLevel != 0 {
		v.add("os patch level", strconv.Itoa(h.patchLevel))
	}
	if created := max(h.created, d.software.created); created > 0 {
		v.add("created, says the device", time.UnixMilli(created).UTC().Format(time.RFC3339))
	}
	if h.allApplications || d.software.allApplications {
		v.add("applications", "all")
	}
}
