package ceremony

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/journal"
	"github.com/hanaper/hanaper/quorum"
)

// openHeld opens tokens by what the script says of their PINs, as the program does.
func (y *years) openHeld(script *Script) Opener {
	return func(ctx context.Context, name string, uri hsm.URI, pin hsm.PINSource) (hsm.Token, error) {
		for _, b := range y.boards {
			if b.Serial != uri.Serial {
				continue
			}
			shares, err := script.Shares(name, quorum.PurposeUser)
			switch {
			case err != nil:
				return nil, err
			case pin == nil && shares != nil:
				pin = func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) { return pinOf(ctx, y.desk, shares, info) }
			case pin == nil:
				pin = hsm.PINFile(b.PINFile)
			}
			return pkcs11.Open(ctx, pkcs11.Config{Module: b.Module, URI: uri, PIN: pin})
		}
		return y.open(ctx, name, uri, nil)
	}
}

// cutOff begins the ceremony of a plan, which is cut short after the first entry of a kind, and aborts it.
func (y *years) cutOff(p *Plan, after string) {
	y.t.Helper()
	c := y.config(p)
	c.Open = y.openHeld(p.script)
	appending = func(int64) error {
		data, err := os.ReadFile(filepath.Join(c.Out, transcriptFile))
		if err != nil {
			return nil // the first entry
		}
		record, _, err := journal.ParseCrashed(data)
		if err != nil || record.Size() == 0 {
			return err
		}
		if h, err := headOf(record.Leaf(record.Size() - 1)); err != nil || h.Kind == after {
			return errors.Join(errCut, err)
		}
		return nil
	}
	_, err := Run(context.Background(), c)
	if appending = nil; err == nil {
		y.t.Fatal("the run was not cut short")
	}
	if err := unfinished(&c); err != nil {
		y.t.Fatal(err)
	}
	c.Open = y.openHeld(c.Plan.script)
	if _, err := Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }, Leave: func(string, error) error { return nil }}); err != nil {
		y.t.Fatal(err)
	}
	if r := y.ended(); !r.Aborted {
		y.t.Fatal("it was not aborted")
	}
}

// TestSharesOfAborted: a turnover is aborted when it had changed the user PIN. The token opens only with shares that no file of the folder
// holds: they are taken out of the verified transcript, and the living quorum finishes the turnover with them.
func TestSharesOfAborted(t *testing.T) {
	y := newYears(t)
	pin, err := os.ReadFile(y.boards["roots"].PINFile)
	if err != nil {
		t.Fatal(err)
	}
	y.desk.pins["roots user"] = bytes.TrimSpace(pin)
	y.hold("- hold-secret: {name: user-1, token: roots, purpose: user}\n" + wrapped)
	from := y.day()
	y.turnover()
	next := Next{Kind: "officers", From: from, Folder: y.folder(1)}
	next.Officers = &NamedFile{Name: "roster", File: filepath.Join(y.dir, "roster-4.json"), Data: y.roster.Data()}
	for _, n := range []string{"approval-4-0.json", "approval-4-1.json"} {
		data, err := os.ReadFile(filepath.Join(y.dir, n))
		if err != nil {
			t.Fatal(err)
		}
		next.Approvals = append(next.Approvals, NamedFile{File: filepath.Join(y.dir, n), Data: data})
	}
	if list := y.status().Withheld; len(list) != 0 {
		t.Errorf("a ceremony that was not aborted withholds %+v", list)
	}
	_, p, err := drafted(t, y.dir, y.status(), next)
	if err != nil {
		t.Fatal(err)
	}
	y.cutOff(p, kindPIN)

	s := y.status()
	list := s.Withheld
	if len(list) != 1 || list[0].Name != "user-2" || list[0].Purpose != "user" || list[0].PIN != PINSet || !list[0].Opens || len(list[0].Data) == 0 {
		t.Fatalf("withheld: %d, %+v", len(list), s.Problems)
	}
	if all := strings.Join(s.Problems, "\n"); !strings.Contains(all, "hanaper ceremony shares") {
		t.Errorf("the status names no way out: %s", all)
	}
	// The last folder's roster is that of the new officers: the turnover goes on with it.
	next = Next{Kind: "officers", From: y.day(), Folder: y.folder(2)}
	if _, _, err := drafted(t, y.dir, s, next); err == nil || !strings.Contains(advice.Hint(err), "hanaper ceremony shares") {
		t.Fatalf("without the shares: %v, %q", err, advice.Hint(err))
	}
	file := filepath.Join(y.dir, "user-2.json")
	if err := os.WriteFile(file, list[0].Data, 0o644); err != nil {
		t.Fatal(err)
	}
	next.Shares = []NamedFile{{Name: "user-2", File: file, Data: list[0].Data}}
	text, p, err := drafted(t, y.dir, s, next)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "rewrap-backup") || strings.Contains(text, "purpose: user") {
		t.Errorf("the rest of the turnover: %s", text)
	}
	// Those who left are not there: Officer 1 and the new one open the token and the backup.
	y.desk.keys = append(y.desk.keys[:2:2], y.desk.keys[3])
	y.desk.pins[p.script.TokenNames()[0]+" so"] = y.desk.pins["roots so"]
	c := y.config(p)
	c.Open = y.openHeld(p.script)
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	y.ended()
	s = y.status()
	if list := s.Withheld; len(list) != 0 {
		t.Errorf("what the next ceremony pinned is withheld: %+v", list)
	}
	if len(s.Problems) > 0 {
		for _, problem := range s.Problems {
			if !strings.Contains(problem, "which root-backup-2 replaced") {
				t.Errorf("after the turnover: %s", problem)
			}
		}
	}
	// The shares of the first year open the token no more, and check knows.
	y.inputs, y.pins, y.rosterLine = map[string]string{"user-1": "out-1/shares/user-1.json"}, map[string]string{"roots": ", user_shares: user-1"}, `{{file "roster.json"}}`
	y.refused("shares from before the aborted ceremony", "- import-artefact: {certificate: root}", "CER-031")
}

// TestSharesPerhaps: the ceremony is aborted when nobody knows whether the token took its new PIN: both shares are named, and the next
// script can be written with either.
func TestSharesPerhaps(t *testing.T) {
	y := newYears(t)
	pin, err := os.ReadFile(y.boards["roots"].PINFile)
	if err != nil {
		t.Fatal(err)
	}
	y.desk.pins["roots user"] = bytes.TrimSpace(pin)
	y.hold("- hold-secret: {name: user-1, token: roots, purpose: user}\n" + firstRoot)
	y.inputs["user-1"], y.pins["roots"] = "out-1/shares/user-1.json", ", user_shares: user-1"
	y.cutOff(y.must("- hold-secret: {name: user-2, token: roots, purpose: user, previous: user-1}"), kindPINIntent)
	s := y.status()
	list := s.Withheld
	if len(list) != 1 || list[0].PIN != PINPerhaps {
		t.Fatalf("withheld: %d, %+v", len(list), s.Problems)
	}
	if all := strings.Join(s.Problems, "\n"); !strings.Contains(all, "user-1") || !strings.Contains(all, "user-2") || !strings.Contains(all, "hanaper ceremony shares") {
		t.Errorf("the status does not name both: %s", all)
	}
	opens := map[string]bool{}
	for _, name := range []string{"user-1", "user-2"} {
		file := filepath.Join(y.dir, "user-2.json")
		if err := os.WriteFile(file, list[0].Data, 0o644); err != nil {
			t.Fatal(err)
		}
		y.inputs = map[string]string{"user-1": "out-1/shares/user-1.json", "user-2": "user-2.json"}
		y.pins["roots"] = ", user_shares: " + name
		p := y.must("- import-artefact: {key: root-key, token: roots}\n- import-artefact: {certificate: root}\n- crl: {name: crl-1, issuer: root, number: 1, this_update: FROM, next_update: UNTIL}")
		tok, err := y.openHeld(p.script)(context.Background(), "roots", p.script.tokens["roots"], nil)
		if err == nil {
			opens[name] = true
			tok.Close()
		}
	}
	if len(opens) != 1 {
		t.Errorf("the token opens with %v", opens)
	}
}
