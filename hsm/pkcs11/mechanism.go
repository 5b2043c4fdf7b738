package pkcs11

import (
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Mechanism is one that a token has (PKCS#11 v2.40, CK_MECHANISM_INFO).
type Mechanism struct {
	// Code is the CKM_ number, Name its name where this package knows it, else the number in hex.
	Code uint   `json:"code"`
	Name string `json:"name"`
	// MinBits and MaxBits are the key sizes as the token states them (bits for EC and RSA, mostly bytes for AES).
	MinBits uint `json:"min_key_size"`
	MaxBits uint `json:"max_key_size"`
	// Uses are of generate, sign, verify, encrypt, decrypt, wrap, unwrap, derive.
	Uses []string `json:"uses"`
}

var mechanismNames = map[uint]string{
	p11.CKM_RSA_PKCS_KEY_PAIR_GEN: "CKM_RSA_PKCS_KEY_PAIR_GEN", p11.CKM_RSA_PKCS: "CKM_RSA_PKCS", p11.CKM_RSA_X_509: "CKM_RSA_X_509",
	p11.CKM_RSA_PKCS_OAEP: "CKM_RSA_PKCS_OAEP", p11.CKM_RSA_PKCS_PSS: "CKM_RSA_PKCS_PSS",
	p11.CKM_SHA256_RSA_PKCS: "CKM_SHA256_RSA_PKCS", p11.CKM_SHA384_RSA_PKCS: "CKM_SHA384_RSA_PKCS", p11.CKM_SHA512_RSA_PKCS: "CKM_SHA512_RSA_PKCS",
	p11.CKM_SHA256_RSA_PKCS_PSS: "CKM_SHA256_RSA_PKCS_PSS", p11.CKM_SHA384_RSA_PKCS_PSS: "CKM_SHA384_RSA_PKCS_PSS", p11.CKM_SHA512_RSA_PKCS_PSS: "CKM_SHA512_RSA_PKCS_PSS",
	p11.CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN", p11.CKM_ECDSA: "CKM_ECDSA", p11.CKM_ECDSA_SHA1: "CKM_ECDSA_SHA1",
	p11.CKM_ECDSA_SHA256: "CKM_ECDSA_SHA256", p11.CKM_ECDSA_SHA384: "CKM_ECDSA_SHA384", p11.CKM_ECDSA_SHA512: "CKM_ECDSA_SHA512",
	p11.CKM_ECDH1_DERIVE: "CKM_ECDH1_DERIVE", ckmECEdwardsKeyPairGen: "CKM_EC_EDWARDS_KEY_PAIR_GEN", ckmEDDSA: "CKM_EDDSA",
	p11.CKM_AES_KEY_GEN: "CKM_AES_KEY_GEN", p11.CKM_AES_KEY_WRAP: "CKM_AES_KEY_WRAP", ckmAESKeyWrapPad: "CKM_AES_KEY_WRAP_PAD",
	ckmAESKeyWrapKWP: "CKM_AES_KEY_WRAP_KWP", p11.CKM_AES_CBC: "CKM_AES_CBC", p11.CKM_AES_GCM: "CKM_AES_GCM", p11.CKM_AES_CBC_PAD: "CKM_AES_CBC_PAD",
	p11.CKM_SHA256: "CKM_SHA256", p11.CKM_SHA384: "CKM_SHA384", p11.CKM_SHA512: "CKM_SHA512", p11.CKM_SHA_1: "CKM_SHA_1",
}

// mechanismName is a mechanism's name, or its number where this package does not know it.
func mechanismName(c uint) string {
	if name := mechanismNames[c]; name != "" {
		return name
	}
	return fmt.Sprintf("0x%08x", c)
}

var mechanismUses = []struct {
	flag uint
	name string
}{
	{p11.CKF_GENERATE, "generate"}, {p11.CKF_GENERATE_KEY_PAIR, "generate"}, {p11.CKF_SIGN, "sign"}, {p11.CKF_VERIFY, "verify"},
	{p11.CKF_ENCRYPT, "encrypt"}, {p11.CKF_DECRYPT, "decrypt"}, {p11.CKF_WRAP, "wrap"}, {p11.CKF_UNWRAP, "unwrap"}, {p11.CKF_DERIVE, "derive"},
}

// readMechanisms reads the token's list. The caller is inside the guard.
func (t *Token) readMechanisms() error {
	list, err := t.m.ctx.GetMechanismList(t.slot)
	if err != nil {
		return err
	}
	t.mechanisms = make(map[uint]p11.MechanismInfo, len(list))
	for _, m := range list {
		info, err := t.m.ctx.GetMechanismInfo(t.slot, []*p11.Mechanism{m})
		if err != nil {
			continue // listed, and denied when asked: as good as absent
		}
		t.mechanisms[m.Mechanism] = info
	}
	return nil
}

// Mechanisms lists what the token can do, by number.
func (t *Token) Mechanisms() []Mechanism {
	all := make([]Mechanism, 0, len(t.mechanisms))
	for c, info := range t.mechanisms {
		m := Mechanism{Code: c, Name: mechanismName(c), MinBits: info.MinKeySize, MaxBits: info.MaxKeySize}
		for _, u := range mechanismUses {
			if info.Flags&u.flag != 0 && !slices.Contains(m.Uses, u.name) {
				m.Uses = append(m.Uses, u.name)
			}
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Mechanism) int { return int(a.Code) - int(b.Code) })
	return all
}

// can says whether the token has a mechanism for a use. Some tokens set no flags at all: for them, to list it is enough.
func (t *Token) can(mechanism, use uint) bool {
	info, ok := t.mechanisms[mechanism]
	const uses = p11.CKF_GENERATE | p11.CKF_GENERATE_KEY_PAIR | p11.CKF_SIGN | p11.CKF_ENCRYPT | p11.CKF_DECRYPT | p11.CKF_WRAP | p11.CKF_UNWRAP | p11.CKF_DERIVE
	return ok && (info.Flags&use != 0 || info.Flags&uses == 0)
}

// lacks is the error for what the token cannot do.
func (t *Token) lacks(what string, format string, args ...any) error {
	return advice.New(advice.Usage, "choose another algorithm or token; `hanaper token show` lists the mechanisms",
		"%s: %s: %w (%s)", t.Info().Name(), fmt.Sprintf(format, args...), hsm.ErrUnsupported, what)
}

// CanGenerate says whether the token can generate keys of this algorithm; the error says what it lacks.
func (t *Token) CanGenerate(a hsm.Algorithm) error {
	kind, err := kindOf(a)
	if err != nil {
		return err
	}
	if !t.can(kind.generate, p11.CKF_GENERATE_KEY_PAIR) {
		return t.lacks(mechanismNames[kind.generate], "generate %s", show.Text(a))
	}
	info := t.mechanisms[kind.generate]
	if bits := uint(kind.bits); kind.family == familyRSA && info.MaxKeySize >= 1024 && (bits > info.MaxKeySize || bits < info.MinKeySize) {
		return t.lacks(fmt.Sprintf("it takes %d to %d bits", info.MinKeySize, info.MaxKeySize), "generate %s", show.Text(a))
	}
	return nil
}

// CanWrap says whether the token can back up, and restore, keys of this algorithm: AES key wrap with padding, and a key
// kind that it wraps. No token known here wraps Edwards keys (SoftHSM answers CKR_KEY_NOT_WRAPPABLE).
func (t *Token) CanWrap(a hsm.Algorithm) error {
	kind, err := kindOf(a)
	if err != nil {
		return err
	}
	if kind.family == familyEd25519 {
		return t.lacks("PKCS#11 v2.40 has no wrapped form of Edwards keys", "back up a key of algorithm %s", show.Text(a))
	}
	if !t.can(ckmAESKeyWrapPad, p11.CKF_WRAP) || !t.can(ckmAESKeyWrapPad, p11.CKF_UNWRAP) {
		return t.lacks("CKM_AES_KEY_WRAP_PAD", "back up a key")
	}
	return nil
}
