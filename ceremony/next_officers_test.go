package ceremony

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/quorum"
)

// onePIN are custodians who give every blank token the same first PINs.
type onePIN struct{ *desk }

func (onePIN) PIN(context.Context, string, string, hsm.TokenInfo) ([]byte, error) {
	return []byte("first-pin"), nil
}

// TestNextOfficers: an officer goes after a token has died and its keys are in another one.
func TestNextOfficers(t *testing.T) {
	t.Parallel()
	s, d, c := custodyStage(t)
	from := s.now.Truncate(24 * 3600e9)
	held := func(out string, p *Plan) *Status {
		t.Helper()
		h := s.config(p)
		h.Out, h.Init, h.Custodians = out, c.Init, onePIN{d}
		h.Open = func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
			if pin == nil {
				pin = hsm.PINBytes([]byte("first-pin"))
				if shares, err := p.script.Shares(name, quorum.PurposeUser); err == nil && shares != nil {
					pin = func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) { return pinOf(ctx, d, shares, info) }
				}
			}
			return pkcs11.Open(ctx, pkcs11.Config{Module: s.boards["roots"].Module, URI: uri, PIN: pin})
		}
		if _, err := Run(context.Background(), h); err != nil {
			t.Fatal(err)
		}
		anchor := s.roster.Digest()
		status, err := ReadStatus(context.Background(), os.DirFS(out), out, Anchors{Roster: &anchor})
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	roster := joining(t, s.dir, "roster", "first", s.roster.Data())
	text, p, err := drafted(t, s.dir, nil, Next{Kind: "first", From: from, Officers: &roster, Token: s.Vault})
	if err != nil || strings.Contains(text, "# \n") {
		t.Fatalf("first: %v\n%s", err, text)
	}
	status := held(s.dir+"/1", p)
	dead := status.Tokens[0].Serial
	_, p, err = drafted(t, s.dir, status, Next{Kind: "restore", From: from, Folder: s.dir + "/1", Names: []string{s.Vault}})
	if err != nil {
		t.Fatal(err)
	}
	status = held(s.dir+"/2", p)

	n, next := s.officerGoes(from, s.now, s.dir+"/2")
	text, _, err = drafted(t, s.dir, status, n)
	if err != nil || !strings.Contains(text, dead) || !strings.Contains(text, "--without") {
		t.Fatalf("no folder knows that the token is dead: %v\n%s", err, text)
	}
	n.Without = []string{dead}
	if text, p, err = drafted(t, s.dir, status, n); err != nil || strings.Contains(text, dead) {
		t.Fatalf("the dead token is named: %v\n%s", err, text)
	}
	s.roster = next
	d.keys = d.keys[:2]
	status = held(s.dir+"/3", p)
	n.Folder = s.dir + "/3"
	if _, err := WriteNext(status, Next{Kind: n.Kind, From: from, Days: 1, Folder: n.Folder, Officers: n.Officers, Approvals: n.Approvals}); err == nil || !strings.Contains(err.Error(), "is the roster of today") {
		t.Errorf("the roster of today: %v", err)
	}
	if slices.ContainsFunc(status.Problems, func(p string) bool { return strings.Contains(p, "backup") }) {
		t.Error(status.Problems)
	}
}
