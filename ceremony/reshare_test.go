package ceremony

import (
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/quorum"
)

const reshareScript = `version: 1
ceremony: reshare
environment: demo
window: {from: 2026-12-01T00:00:00Z, until: 2026-12-02T00:00:00Z}
roster: {{file "roster.json"}}
earlier: {folder: out, checkpoint: {{checkpoint "out"}}}
tokens:
  vault: {uri: "pkcs11:token={{.Vault}};serial={{.VaultSerial}}", user_shares: user-1, so_shares: so-1}
  spare: {uri: "{{token "roots"}}"}
inputs:
  user-1: {{file "out/shares/vault-user.json"}}
  so-1: {{file "out/shares/vault-so.json"}}
  wrap-1: {{file "out/shares/vault-wrap.json"}}
steps:
  - hold-secret: {name: user-2, token: vault, purpose: user, previous: user-1, threshold: 2, holders: [Officer 1, Officer 2]}
  - hold-secret: {name: so-2, token: vault, purpose: so, previous: so-1, threshold: 2}
  - generate-key: {name: again, token: vault, algorithm: P-256, class: backup}
  - backup-key: {name: again-backup, key: again, shares: wrap-1}
  - restore-key: {name: root-key-3, backup: root-backup, token: vault, shares: wrap-1}
  - import-artefact: {key: root-key-2, token: spare}
  - csr: {name: proof, key: root-key-2, subject: {common_name: The restored root signs}}
`

// byShares opens a token by what the script says of its PIN, as the program does.
func byShares(s *stage, d *desk, script *Script) Opener {
	return func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		if name == "spare" {
			return s.open(ctx, "roots", uri, nil)
		}
		if pin == nil {
			shares, err := script.Shares(name, quorum.PurposeUser)
			if err != nil {
				return nil, err
			}
			pin = func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) { return pinOf(ctx, d, shares, info) }
		}
		return pkcs11.Open(ctx, pkcs11.Config{Module: s.boards["roots"].Module, URI: uri, PIN: pin})
	}
}

// noWrap is a token that says that it cannot wrap.
type noWrap struct{ *pkcs11.Token }

func (noWrap) CanWrap(a hsm.Algorithm) error { return errCut }

// TestReshare: a later ceremony opens a token by the officers' shares, gives the PINs into other hands, and backs up and
// restores under the old wrapping key. Too few cards, or a share that was changed, never cost a PIN try.
func TestReshare(t *testing.T) {
	s, d, c := custodyStage(t)
	first, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(first.Out, "shares/vault-user.json"))
	if err != nil {
		t.Fatal(err)
	}
	shares, err := quorum.ParseShares(doc)
	if err != nil {
		t.Fatal(err)
	}
	s.VaultSerial = shares.TokenSerial()
	s.now = asserted.AddDate(0, 0, 10)
	p := s.plan(reshareScript)
	c = s.config(p)
	c.Out += "-2"
	c.Custodians = d
	c.Open = byShares(s, d, p.script)

	all := d.keys
	for name, keys := range map[string][]crypto.Signer{"one card": all[:1], "one card twice": {all[0], all[0]}, "nobody's card": nil} {
		d.keys = keys
		if _, err := Run(context.Background(), c); err == nil {
			t.Fatalf("%s: the ceremony was held", name)
		}
		if _, err := os.Stat(c.Out); err == nil {
			t.Fatalf("%s: an output folder was made", name)
		}
	}
	if infos, err := pkcs11.List(s.boards["roots"].Module); err != nil {
		t.Fatal(err)
	} else {
		for _, i := range infos {
			if i.Serial == s.VaultSerial && i.PINLow {
				t.Error("a PIN try was burnt")
			}
		}
	}
	d.keys = all
	unable := c
	unable.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		tok, err := c.Open(ctx, name, uri, pin)
		if err != nil {
			return nil, err
		}
		return noWrap{tok.(*pkcs11.Token)}, nil
	}
	if _, err := Run(context.Background(), unable); err == nil || !strings.Contains(err.Error(), RuleBackup.ID) {
		t.Errorf("a token that cannot wrap: %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil {
		t.Error("a token that cannot wrap: an output folder was made")
	}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(result.Out); err != nil {
		t.Fatal(err)
	}
	// The old shares' PIN is no longer the token's.
	if tok, err := c.Open(context.Background(), "vault", p.script.tokens["vault"], nil); err == nil {
		tok.Close()
		t.Error("the old shares still open the token")
	}
	for _, bad := range []struct{ name, old, new, want string }{
		{"shares of another token", "serial={{.VaultSerial}}", "serial=00", "are for"},
		{"SO shares for the user", "user_shares: user-1", "user_shares: so-1", "are for"},
		{"wrap shares that are PIN shares", "key: again, shares: wrap-1", "key: again, shares: so-1", RulePurpose.ID},
		{"other wrap shares for the backup", "backup: root-backup, token: vault, shares: wrap-1", "backup: root-backup, token: vault, shares: other", RuleBackup.ID},
		{"previous shares of another purpose", "purpose: so, previous: so-1", "purpose: so, previous: user-1", RulePurpose.ID},
	} {
		text := strings.Replace(reshareScript, bad.old, bad.new, 1)
		text = strings.Replace(text, "steps:\n", "steps:\n  - hold-secret: {name: other, token: vault, purpose: wrap}\n", 1)
		if err := s.check(text); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: got %v, want %s", bad.name, err, bad.want)
		}
	}
}
