package ca

import (
	"slices"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// OTAConnectWarning goes with profile ota-connect-root.
const OTAConnectWarning = "this root has the critical extended key usage serverAuth, which the OTA Connect server demands of a fleet root; " +
	"Go, OpenSSL and with them the Hanaper gateway refuse client certificates under it: use fleet-root unless that server is the only one " +
	"that will ever check these devices"

func pathLen(n int) *int { return &n }

var (
	caUsage    = []string{"keyCertSign", "cRLSign"}
	caAttrs    = []string{"C", "O", "OU", "L", "ST", "DC", "serialNumber", "organizationIdentifier"}
	leafAttrs  = []string{"C", "O", "OU", "L", "ST", "serialNumber"}
	caKeys     = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-3072", "RSA-4096"}
	clientAuth = []string{"clientAuth"}
	serverAuth = []string{"serverAuth"}
	signs      = []string{"digitalSignature"}
)

func root(name string, length int) ProfileConfig {
	return ProfileConfig{Name: name, CA: true, SelfSigned: true, KeyUsage: caUsage, MaxValidityDays: 40 * 366, PathLen: pathLen(length),
		AllowedAttributes: caAttrs, KeyAlgorithms: caKeys}
}

// client is the base of all who connect and prove who they are.
func client(name string, days int) ProfileConfig {
	return ProfileConfig{Name: name, KeyUsage: signs, ExtKeyUsage: clientAuth, MaxValidityDays: days, AllowedAttributes: leafAttrs,
		CommonName: csr.DeviceName, KeyAlgorithms: keyAlgorithms}
}

func builtins() []ProfileConfig {
	otaRoot := root("ota-connect-root", 2)
	otaRoot.ExtKeyUsage, otaRoot.ExtKeyUsageCritical, otaRoot.Warning = serverAuth, true, OTAConnectWarning

	sub := ProfileConfig{Name: "subordinate-ca", CA: true, KeyUsage: caUsage, MaxValidityDays: 30 * 366, AllowedAttributes: caAttrs,
		KeyAlgorithms: caKeys}
	cross := sub
	cross.Name, cross.MaxValidityDays = "cross-certificate", 10*366
	factory := sub
	factory.Name, factory.PathLen = "factory-ca", pathLen(0)

	server := client("server", 3*366)
	server.ExtKeyUsage, server.SANs, server.RequireSAN, server.CommonName = serverAuth, []string{"dns", "ip"}, true, ""

	device := client("device", 30*366)
	all := []ProfileConfig{root("fleet-root", 2), root("operations-root", 1), root("gateway-root", 1), otaRoot, sub, cross, factory,
		device, server}
	for _, role := range Roles() {
		c := client(role, 3*366)
		c.Role, c.SANs, c.RequireSAN = role, []string{"uri"}, true
		all = append(all, c)
	}
	return all
}

// Builtins lists the names of the built-in profiles.
func Builtins() []string {
	var names []string
	for _, c := range builtins() {
		names = append(names, c.Name)
	}
	return names
}

// BuiltinConfig returns the data of a built-in profile, to be changed and given to NewProfile.
func BuiltinConfig(name string) (ProfileConfig, error) {
	all := builtins()
	i := slices.IndexFunc(all, func(c ProfileConfig) bool { return c.Name == name })
	if i < 0 {
		return ProfileConfig{}, advice.New(advice.Usage, "use a built-in profile or describe your own", "ca: profile %q is not one of %v", name, show.List(Builtins()))
	}
	return all[i], nil
}

// Builtin returns a built-in profile.
func Builtin(name string) (*Profile, error) {
	c, err := BuiltinConfig(name)
	if err != nil {
		return nil, err
	}
	return NewProfile(c)
}
