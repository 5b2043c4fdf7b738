package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/quorum"
)

// desk are custodians with decryption keys in memory, who type the first PINs of tokens.
type desk struct {
	keys []crypto.Signer
	pins map[string][]byte
	// failAt makes the custodians leave before the nth secret.
	tests, secrets int
}

func (d *desk) Secret(_ context.Context, shares *quorum.Shares) (*quorum.Secret, error) {
	d.secrets++
	var opened []*quorum.Share
	for _, k := range d.keys {
		if len(opened) == shares.Threshold() {
			break
		}
		if share, err := shares.Open(k); err == nil {
			opened = append(opened, share)
		}
	}
	return shares.Combine(opened...)
}

func (d *desk) Test(_ context.Context, shares *quorum.Shares) error {
	d.tests++
	opened := 0
	for _, k := range d.keys {
		if share, err := shares.Open(k); err == nil {
			opened++
			share.Wipe()
		}
	}
	if opened != len(shares.Holders()) {
		return errCut
	}
	return nil
}

func (d *desk) PIN(_ context.Context, token, which string, _ hsm.TokenInfo) ([]byte, error) {
	return []byte(string(d.pins[token+" "+which])), nil
}

// custodyStage gives the officers decryption keys, and a script that initialises a token.
func custodyStage(t *testing.T) (*stage, *desk, RunConfig) {
	t.Helper()
	s := newStage(t)
	s.Vault = strings.ReplaceAll(s.boards["roots"].Label, "roots ", "vault-")
	d := &desk{pins: map[string][]byte{"vault so": []byte("first-so-pin"), "vault user": []byte("first-user-pin")}}
	config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: s.now}
	for _, o := range s.roster.Officers() {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		d.keys = append(d.keys, key)
		o.DecryptionKey, o.Decryption = key.Public(), quorum.HPKEP256
		config.Officers = append(config.Officers, o)
	}
	var err error
	if s.roster, err = quorum.NewRoster(config); err != nil {
		t.Fatal(err)
	}
	s.put("roster.json", s.roster.Data())
	data, err := os.ReadFile("testdata/custody.yaml")
	if err != nil {
		t.Fatal(err)
	}
	soPIN, err := os.ReadFile(s.boards["roots"].SOPINFile)
	if err != nil {
		t.Fatal(err)
	}
	d.pins["spare so"] = []byte(strings.TrimSpace(string(soPIN)))
	c := s.config(s.plan(string(data)))
	c.Custodians = d
	module := s.boards["roots"].Module
	c.Init = func(ctx context.Context, name string, uri hsm.URI, so, user []byte) (hsm.TokenInfo, error) {
		return pkcs11.Init(ctx, module, "", uri.Token, so, user)
	}
	c.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		if pin == nil {
			pin = hsm.PINBytes(d.pins["vault user"])
		}
		if name == "spare" {
			return s.open(ctx, "roots", uri, nil)
		}
		return pkcs11.Open(ctx, pkcs11.Config{Module: module, URI: uri, PIN: pin})
	}
	return s, d, c
}

func TestCustody(t *testing.T) {
	s, d, c := custodyStage(t)
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	report, err := s.verify(result.Out)
	if err != nil {
		t.Fatal(err)
	}
	if d.tests != 2 {
		t.Errorf("shares were tested %d times, want 2", d.tests)
	}
	if len(report.Keys) != 2 {
		t.Errorf("keys %+v", report.Keys)
	}
	// The first PIN no longer opens the token; what the shares hold does.
	doc, err := os.ReadFile(filepath.Join(result.Out, "shares/vault-user.json"))
	if err != nil {
		t.Fatal(err)
	}
	shares, err := quorum.ParseShares(doc)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := d.Secret(context.Background(), shares)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := secret.PIN(4, 255)
	if err != nil {
		t.Fatal(err)
	}
	uri := hsm.URI{Token: s.Vault, Serial: shares.TokenSerial()}
	open := func(pin []byte) (hsm.Token, error) {
		return pkcs11.Open(context.Background(), pkcs11.Config{Module: s.boards["roots"].Module, URI: uri, PIN: hsm.PINBytes(pin)})
	}
	if tok, err := open([]byte("first-user-pin")); err == nil {
		tok.Close()
		t.Error("the first PIN still opens the token")
	}
	tok, err := open(pin)
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if keys, err := tok.Keys(context.Background()); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are left in the vault, %v", len(keys), err)
	}
	spare, err := s.open(context.Background(), "roots", hsm.URI{Token: s.boards["roots"].Label}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer spare.Close()
	if k, err := spare.Key(context.Background(), hsm.Query{Label: "The Root restored"}); err != nil || k.Attributes().Extractable {
		t.Errorf("the restored key: %v", err)
	}
}

func TestBadCustody(t *testing.T) {
	s, _, _ := custodyStage(t)
	data, err := os.ReadFile("testdata/custody.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	s.slips(text, []slip{
		{"token initialised twice", "  - init-token: {token: vault}\n", "  - init-token: {token: vault}\n  - init-token: {token: vault}\n", RuleToken.ID},
		{"unknown token initialised", "init-token: {token: vault}", "init-token: {token: volt}", "names no serial"},
		{"token used before it is made", "  - init-token: {token: vault}\n", "  - generate-key: {name: k, token: vault, algorithm: P-256}\n  - init-token: {token: vault}\n", RuleReference.ID},
		{"threshold above the holders", "threshold: 3", "threshold: 4", RuleThreshold.ID},
		{"holder who is no officer", "purpose: so, threshold: 3", "purpose: so, threshold: 1, holders: [Mallory]", RuleThreshold.ID},
		{"unknown purpose", "purpose: so", "purpose: sow", RuleField.ID},
		{"backup of a sealed key", "class: backup", "class: sealed", RuleBackup.ID},
		{"backup of an Ed25519 key", "  - destroy-key: {key: root-key}", "  - generate-key: {name: e, token: vault, algorithm: Ed25519, class: backup}\n  - backup-key: {name: eb, key: e, shares: vault-wrap}", RuleBackup.ID},
		{"second backup", "  - destroy-key: {key: root-key}", "  - backup-key: {name: b2, key: root-key, shares: vault-wrap}", RuleBackup.ID},
		{"backup under PIN shares", "key: root-key, shares: vault-wrap", "key: root-key, shares: vault-so", RulePurpose.ID},
		{"restore of no backup", "backup: root-backup, token", "backup: no-backup, token", RuleReference.ID},
		{"restore under a taken label", "token: spare, label: The Root restored", "token: vault, label: The Root", RuleLabel.ID},
		{"restore into no token", "token: spare, label", "token: spear, label", RuleReference.ID},
		{"destroyed twice", "  - destroy-key: {key: root-key}", "  - destroy-key: {key: root-key}\n  - destroy-key: {key: root-key}", RuleReference.ID},
		{"signature by a destroyed key", "  - destroy-key: {key: root-key}", "  - destroy-key: {key: root-key}\n  - csr: {name: r2, key: root-key, subject: {common_name: x}}", RuleReference.ID},
		{"request without a name", "subject: {common_name: The Root under another}", "subject: {organization: x}", RuleField.ID},
		{"certificate for a key of this ceremony", "  - csr:", "  - import-certificate: {name: c, certificate: none}\n  - csr:", RuleReference.ID},
	})
}
