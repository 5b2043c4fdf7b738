package gateway

// Reason is a stable code for a decision: in log lines, figures and answers to devices. docs/spec/admission.md lists all.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	Admitted Reason = "admitted"

	NoTrust         Reason = "trust-missing"
	TrustExpired    Reason = "trust-expired"
	NoCertificate   Reason = "certificate-missing"
	NotProven       Reason = "key-not-proven"
	BadCertificate  Reason = "certificate-malformed"
	BadVersion      Reason = "certificate-version"
	BadSerial       Reason = "certificate-serial"
	IsCA            Reason = "certificate-is-ca"
	BadKeyUsage     Reason = "key-usage"
	BadExtKeyUsage  Reason = "extended-key-usage"
	BadExtension    Reason = "critical-extension"
	NoAuthorityKey  Reason = "authority-key-id"
	BadKey          Reason = "key-type"
	TooManyNames    Reason = "too-many-names"
	NoName          Reason = "name-missing"
	AmbiguousName   Reason = "name-ambiguous"
	BadName         Reason = "name-invalid"
	NotYetValid     Reason = "not-yet-valid"
	Expired         Reason = "expired"
	UnknownIssuer   Reason = "unknown-issuer"
	BadSignature    Reason = "bad-signature"
	BadIssuer       Reason = "issuer-unfit"
	ChainTooLong    Reason = "chain-too-long"
	NameConstrained Reason = "name-constraints"
	IssuerExpired   Reason = "issuer-expired"
	NoCRL           Reason = "crl-missing"
	StaleCRL        Reason = "crl-not-current"
	IssuerRevoked   Reason = "issuer-revoked"
	Revoked         Reason = "revoked"

	// Shared credentials.
	NotShared  Reason = "shared-credential"
	SharedOnly Reason = "shared-credential-only"

	// The registry's.
	DeviceBlocked Reason = "device-blocked"
	DeviceRetired Reason = "device-retired"
	NotRegistered Reason = "device-not-registered"
	RegistryDown  Reason = "registry-unavailable"
	// A device has one key: see Registry.Meet.
	KeySuperseded Reason = "key-superseded"
	OtherKey      Reason = "other-key"

	// The server that the peer calls.
	NoServerName    Reason = "server-name-missing"
	OtherServerName Reason = "server-name-unknown"
	OtherHost       Reason = "host-not-here"

	// Handshakes that ended before the device was judged, and limits.
	TLSVersion      Reason = "tls-version"
	NotTLS          Reason = "not-tls"
	ClientAlert     Reason = "client-alert"
	HandshakeSlow   Reason = "handshake-slow"
	HandshakeBroken Reason = "handshake-broken"
	BadIntroduction Reason = "proxy-header"
	AddressBusy     Reason = "address-limit"
	DeviceBusy      Reason = "device-limit"
	GatewayBusy     Reason = "gateway-limit"
)

var reasonText = map[Reason]string{
	Admitted:        "the device is admitted",
	NoTrust:         "the gateway holds no trust view yet",
	TrustExpired:    "the gateway's trust view has expired",
	NoCertificate:   "the device sent no certificate",
	NotProven:       "the peer showed a certificate and did not prove its key",
	BadCertificate:  "the certificate cannot be read, or is too large",
	BadVersion:      "the certificate is not of version 3",
	BadSerial:       "the certificate's serial number is not positive and of 1 to 20 octets",
	IsCA:            "the certificate is a CA's, not a device's",
	BadKeyUsage:     "the certificate's key usage is not digitalSignature without CA rights",
	BadExtKeyUsage:  "the certificate's extended key usage does not name clientAuth, or names anyExtendedKeyUsage",
	BadExtension:    "the certificate has an extension that may not stand there or is critical and unknown",
	NoAuthorityKey:  "the certificate has no authority key identifier",
	BadKey:          "the certificate's key is of a type or size that is not admitted",
	TooManyNames:    "the certificate has too many alternative names",
	NoName:          "the certificate's subject has no CN",
	AmbiguousName:   "the certificate's subject has more than one CN",
	BadName:         "the certificate's CN is no device id",
	NotYetValid:     "the certificate is not valid yet",
	Expired:         "the certificate has expired",
	UnknownIssuer:   "the certificate was not issued under a Fleet Root of this environment",
	BadSignature:    "the certificate's signature is not its issuer's",
	BadIssuer:       "a CA above the certificate does not meet the rules",
	ChainTooLong:    "the chain to the Fleet Root is too long",
	NameConstrained: "a CA above the certificate does not permit its names",
	IssuerExpired:   "a CA above the certificate is not valid now",
	NoCRL:           "a CA above the certificate has no CRL in the trust view",
	StaleCRL:        "the CRL of a CA above the certificate is not current",
	IssuerRevoked:   "a CA above the certificate is revoked",
	Revoked:         "the certificate is revoked",
	NotShared:       "the certificate is a shared credential, or of a test bench that came by one, which the officers' policy does not allow here",
	SharedOnly:      "a shared credential is for POST /devices, and nothing else",
	DeviceBlocked:   "an operator has blocked the device",
	DeviceRetired:   "the device is retired",
	NotRegistered:   "only devices that were registered beforehand are admitted, and this one was not",
	RegistryDown:    "the registry cannot be reached",
	KeySuperseded:   "the device was met with a newer key since: a clone, or a device that was set back",
	OtherKey:        "the device is known with another key, and this certificate is no newer: a clone, unless an operator allows it",
	NoServerName:    "the peer names no server (SNI): which environment it is for cannot be told",
	OtherServerName: "no environment of this gateway has the server name that the peer calls",
	OtherHost:       "the host of the request is not one of the environment that the connection is for",
	TLSVersion:      "the peer offers no version of TLS that is taken",
	NotTLS:          "the peer does not speak TLS",
	ClientAlert:     "the peer ended the handshake: it does not take the gateway's certificate, or an algorithm",
	HandshakeSlow:   "the handshake was not done in time",
	HandshakeBroken: "the peer went away in the handshake",
	BadIntroduction: "the PROXY protocol header of a load balancer is missing or malformed, or the peer is none of the load balancers",
	AddressBusy:     "the address has too many handshakes under way",
	DeviceBusy:      "the device has too many connections or requests",
	GatewayBusy:     "the gateway has as many requests under way as it takes",
}

// Text is the reason in plain words.
func (r Reason) Text() string { return reasonText[r] }

// Reasons are all reasons.
func Reasons() []Reason {
	return []Reason{Admitted, NoTrust, TrustExpired, NoCertificate, NotProven, BadCertificate, BadVersion, BadSerial, IsCA, BadKeyUsage, BadExtKeyUsage,
		BadExtension, NoAuthorityKey, BadKey, TooManyNames, NoName, AmbiguousName, BadName, NotYetValid, Expired, UnknownIssuer, BadSignature,
		BadIssuer, ChainTooLong, NameConstrained, IssuerExpired, NoCRL, StaleCRL, IssuerRevoked, Revoked, NotShared, SharedOnly, DeviceBlocked, DeviceRetired, NotRegistered, RegistryDown, KeySuperseded, OtherKey,
		NoServerName, OtherServerName, OtherHost, TLSVersion, NotTLS, ClientAlert, HandshakeSlow, HandshakeBroken, BadIntroduction, AddressBusy, DeviceBusy, GatewayBusy}
}
