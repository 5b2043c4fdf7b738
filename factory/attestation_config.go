package factory

import (
	"cmp"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

// AttestationConfig is the part of the configuration about evidence of where devices' keys were born; the example documents it.
type AttestationConfig struct {
	AttestationRule   `yaml:",inline"`
	ChallengeKey      string               `yaml:"challenge_key"`
	ChallengeLifetime time.Duration        `yaml:"challenge_lifetime"`
	Manufacturers     []ManufacturerConfig `yaml:"manufacturers"`
	// Lots are stricter rules, by the name of the lot.
	Lots map[string]AttestationRule `yaml:"lots"`
}

// AttestationRule is what is asked of a device.
type AttestationRule struct {
	Policy string        `yaml:"policy"`
	Kinds  []string      `yaml:"kinds"`
	States []StateConfig `yaml:"states"`
}

// ManufacturerConfig names the files (PEM) with a manufacturer's certificates.
type ManufacturerConfig struct {
	Name          string   `yaml:"name"`
	Kind          string   `yaml:"kind"`
	Roots         []string `yaml:"roots"`
	Intermediates []string `yaml:"intermediates"`
}

// StateConfig is a state that a TPM's machine may be in: values in hex by the number of the register.
type StateConfig struct {
	Name      string            `yaml:"name"`
	Bank      string            `yaml:"bank"`
	Registers map[string]string `yaml:"registers"`
}

// paths are the places of all files in it.
func (c *AttestationConfig) paths() (ps []*string) {
	ps = append(ps, &c.ChallengeKey)
	for i := range c.Manufacturers {
		m := &c.Manufacturers[i]
		for _, list := range [][]string{m.Roots, m.Intermediates} {
			for j := range list {
				ps = append(ps, &list[j])
			}
		}
	}
	return ps
}

func (c *AttestationConfig) check() error {
	if c.Policy == "" {
		if len(c.Manufacturers)+len(c.Lots)+len(c.Kinds)+len(c.States) > 0 {
			return advice.New(advice.Usage, "set it to required, accepted or ignored", "attestation.policy is missing")
		}
		return nil
	}
	if c.ChallengeLifetime < 10*time.Second || c.ChallengeLifetime > time.Hour {
		return advice.New(advice.Usage, "5m is a good value", "attestation.challenge_lifetime must lie between 10s and 1h")
	}
	return nil
}

// LoadAttestation reads the files that the configuration names; nil if it asks for no evidence. The key for challenges is made where it is
// missing, if make says so; without one, and not to make one, the Challenger is nil.
func (c *Config) LoadAttestation(make bool) (*Attestation, error) {
	a := &c.Attestation
	if a.Policy == "" {
		return nil, nil
	}
	var makers []attest.ManufacturerConfig
	for _, m := range a.Manufacturers {
		one := attest.ManufacturerConfig{Name: m.Name, Kind: attest.Kind(m.Kind)}
		var err error
		if one.Roots, err = loadAll(m.Roots); err != nil {
			return nil, err
		}
		if one.Intermediates, err = loadAll(m.Intermediates); err != nil {
			return nil, err
		}
		makers = append(makers, one)
	}
	pinned, err := attest.NewManufacturers(makers...)
	if err != nil {
		return nil, inSection(err)
	}
	pc := attest.PolicyConfig{Manufacturers: pinned, Lots: map[string]attest.Rule{}}
	if pc.Default, err = a.rule(); err != nil {
		return nil, inSection(err)
	}
	for lot, r := range a.Lots {
		if pc.Lots[lot], err = r.rule(); err != nil {
			return nil, inSection(err)
		}
	}
	out := &Attestation{}
	if out.Policy, err = attest.NewPolicy(pc); err != nil {
		return nil, inSection(err)
	}
	key, err := challengeKey(a.ChallengeKey, make)
	if err != nil || key == nil {
		return out, err
	}
	out.Challenger, err = attest.NewChallenger(key, a.ChallengeLifetime)
	return out, err
}

func inSection(err error) error {
	return advice.New(advice.Usage, advice.Hint(err), "attestation: %w", err)
}

func loadAll(paths []string) (certs []*x509.Certificate, err error) {
	for _, p := range paths {
		some, err := LoadCertificates(p)
		if err != nil {
			return nil, advice.Wrap(advice.KindOf(err), err, cmp.Or(advice.Hint(err), "attestation.manufacturers names it"))
		}
		certs = append(certs, some...)
	}
	return certs, nil
}

func (r AttestationRule) rule() (attest.Rule, error) {
	out := attest.Rule{Level: attest.Level(r.Policy)}
	for _, k := range r.Kinds {
		out.Kinds = append(out.Kinds, attest.Kind(k))
	}
	for _, s := range r.States {
		values := map[int][]byte{}
		for n, v := range s.Registers {
			number, err := strconv.ParseUint(n, 10, 8)
			value, bad := hex.DecodeString(v)
			if err != nil || bad != nil || strconv.FormatUint(number, 10) != n {
				return out, advice.New(advice.Usage, `write it as "7": "00ff..."`, "state %s: register %.20q is no number, or its value not hex", show.Text(s.Name), n)
			}
			values[int(number)] = value
		}
		state, err := attest.NewPCRState(s.Name, s.Bank, values)
		if err != nil {
			return out, err
		}
		out.States = append(out.States, state)
	}
	return out, nil
}

const challengeKeySize = 32

// challengeKey reads the file with the key for challenges (64 hex digits, mode 0600), or makes it.
func challengeKey(path string, make bool) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !make {
			return nil, nil
		}
		return makeChallengeKey(path)
	}
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, advice.New(advice.Refused, "run: chmod 600 "+path, "key file %s: mode %04o lets group or others in", show.Text(path), st.Mode().Perm())
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(key) != challengeKeySize {
		return nil, advice.New(advice.Usage, "it holds 64 hex digits; move it away, and a new one is made", "%s holds no key for challenges", show.Text(path))
	}
	return key, nil
}

func makeChallengeKey(path string) ([]byte, error) {
	key := make([]byte, challengeKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if err := durable.Mkdir(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	err := durable.Create(path, []byte(hex.EncodeToString(key)+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) { // another server was faster
		return challengeKey(path, false)
	}
	return key, err
}
