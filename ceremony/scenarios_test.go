package ceremony

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// What a second ceremony does to the root of the first, whose key is in the token roots and in a backup under wrap-1.
var secondYears = []struct {
	name, steps string
	turnover    bool
}{
	{"a CRL", "- import-artefact: {key: root-key, token: roots}\n- import-artefact: {certificate: root}\n- crl: {name: crl-2, issuer: root, number: 2, this_update: FROM, next_update: UNTIL}", false},
	{"a new CA", "- import-artefact: {key: root-key, token: roots}\n- import-artefact: {certificate: root}\n- generate-key: {name: sub-key, token: online, algorithm: P-256}\n- certificate: {name: sub, issuer: root, profile: factory-ca, key: sub-key, subject: {common_name: Sub}, not_before: FROM, not_after: 2036-11-21T00:00:00Z}", false},
	{"an officer leaves", "- hold-secret: {name: wrap-2, token: roots, purpose: wrap, previous: wrap-1}\n- rewrap-backup: {name: root-backup-2, backup: root-backup, shares: wrap-1, new_shares: wrap-2, token: online}", true},
	{"the key moves to another token", "- restore-key: {name: root-key-2, backup: root-backup, token: online, shares: wrap-1}\n- import-artefact: {key: root-key, token: roots}\n- destroy-key: {key: root-key}", false},
	{"the key moves, and is backed up anew", "- restore-key: {name: root-key-2, backup: root-backup, token: online, shares: wrap-1, class: restored-backup}\n- hold-secret: {name: wrap-2, token: online, purpose: wrap}\n- backup-key: {name: root-backup-2, key: root-key-2, shares: wrap-2}\n- import-artefact: {key: root-key, token: roots}\n- destroy-key: {key: root-key}", false},
	{"the security officer's PIN goes into the officers' hands", "- hold-secret: {name: so-1, token: roots, purpose: so}", false},
	{"a key that is not needed", "- generate-key: {name: other-key, token: online, algorithm: P-256}\n- root-certificate: {name: other, key: other-key, profile: fleet-root, subject: {common_name: Other}, not_before: FROM, not_after: 2046-11-21T00:00:00Z}\n- destroy-key: {key: other-key}", false},
}

// How the second ceremony comes to its end.
var endings = []string{"as planned", "killed, and resumed", "killed, and aborted", "the tokens die and come back", "the tokens die, and it is aborted without them"}

// TestScenarios: two and three ceremonies, in most of which the second is killed or meets a dead token. Afterwards every key is accounted
// for: in a token, in a backup that the living quorum opens, or destroyed; no token holds a key that nobody knows of; and the root signs the
// next CRL, by whatever copy of its key is left. With -short every third of them is performed.
func TestScenarios(t *testing.T) {
	if n := len(secondYears) * len(endings); n < 30 {
		t.Fatalf("only %d scenarios", n)
	}
	shim := shimtest.New(t)
	// SoftHSM behind the shim sees the tokens that there are when it is started.
	stages := make([]*years, len(secondYears)*len(endings))
	for i := range stages {
		stages[i] = newYears(t)
	}
	performed, disturbed := 0, 0
	for i, second := range secondYears {
		for j, ending := range endings {
			if testing.Short() && (i+j)%3 != 0 {
				continue
			}
			t.Run(second.name+", "+ending, func(t *testing.T) {
				y := stages[i*len(endings)+j]
				y.t = t
				y.hold(wrapped)
				y.inputs["wrap-1"] = "out-1/shares/wrap-1.json"
				if second.turnover {
					y.turnover()
				}
				performed++
				if y.endsAs(shim, ending, second.steps, i+j) {
					disturbed++
				}
				y.rosterLine = `{{file "roster.json"}}`
				y.accounted(true)
				y.signsOn()
				y.accounted(true)
			})
		}
	}
	if disturbed*2 < performed {
		t.Errorf("of %d scenarios only %d were disturbed after their first act", performed, disturbed)
	}
}

// endsAs holds the next ceremony, which ends in one of the ways, and says whether it was disturbed after its first act; seed chooses where.
func (y *years) endsAs(shim *shimtest.Shim, ending, steps string, seed int) (disturbed bool) {
	y.t.Helper()
	p := y.must(steps)
	c := y.config(p)
	at := int64(3 + (seed*5)%max(1, len(p.leaves)-4))
	dies := strings.HasPrefix(ending, "the tokens die")
	switch {
	case strings.HasPrefix(ending, "killed"):
		appending = func(entry int64) error {
			if entry == at {
				return errCut
			}
			return nil
		}
	case dies:
		c.Open = func(ctx context.Context, name string, uri hsm.URI, _ hsm.PINSource) (hsm.Token, error) {
			t, err := pkcs11.Open(ctx, pkcs11.Config{Module: shim.Module, URI: uri, PIN: hsm.PINFile(y.boards[name].PINFile), Patience: time.Second})
			if err != nil {
				return nil, err
			}
			return t, nil
		}
		// When an entry is about to be written: CKR_DEVICE_REMOVED from then on.
		appending = func(entry int64) error {
			if entry == at {
				shim.Plan(y.t, fault{what: "ckr 0x32", onwards: true}.at(1))
			}
			return nil
		}
	}
	_, err := Run(context.Background(), c)
	appending = nil
	if dies && !strings.Contains(ending, "without them") {
		shim.Plan(y.t)
	}
	if _, left := os.Stat(filepath.Join(c.Out, incompleteFile)); err == nil || left != nil {
		if ending == "as planned" && err != nil || strings.HasPrefix(ending, "killed") {
			y.t.Fatalf("%s: %v", ending, err)
		}
		shim.Plan(y.t)
		if err != nil { // the token was dead before the first act: nothing began, and it is held again
			if rerr := os.RemoveAll(c.Out); rerr != nil {
				y.t.Fatal(rerr)
			}
			if _, err := Run(context.Background(), y.config(p)); err != nil {
				y.t.Fatal(err)
			}
		}
		y.ended()
		return false
	}
	if err := unfinished(&c); err != nil {
		y.t.Fatal(err)
	}
	c.Asserted = c.Asserted.Add(time.Minute)
	if strings.Contains(ending, "aborted") {
		_, err = Abort(context.Background(), AbortConfig{RunConfig: c, Reason: "a test", Agree: func(Aborting) error { return nil }, Leave: func(string, error) error { return nil }})
	} else {
		_, err = Resume(context.Background(), c)
	}
	shim.Plan(y.t)
	if err != nil {
		y.t.Fatal(err)
	}
	if report := y.ended(); report.Aborted != strings.Contains(ending, "aborted") {
		y.t.Errorf("%s: aborted is %t", ending, report.Aborted)
	}
	return true
}

// inTokens are the private keys that SoftHSM itself has, by the serial of the token, label and id.
func (y *years) inTokens() map[string]bool {
	y.t.Helper()
	found := map[string]bool{}
	for name, b := range y.boards {
		t, err := y.open(context.Background(), name, hsm.URI{Token: b.Label, Serial: b.Serial}, nil)
		if err != nil {
			y.t.Fatal(err)
		}
		objects, err := t.(*pkcs11.Token).KeyObjects(context.Background())
		if err = errors.Join(err, t.Close()); err != nil {
			y.t.Fatal(err)
		}
		for _, o := range objects {
			found[b.Serial+" "+o.Attributes.Label+" "+hex.EncodeToString(o.Attributes.ID)] = true
		}
	}
	return found
}

// accounted holds the status after the last ceremony to what is in the tokens and what the living quorum opens.
func (y *years) accounted(rootLives bool) {
	y.t.Helper()
	s, there := y.status(), y.inTokens()
	for _, k := range s.Keys {
		copies, opens := 0, slices.ContainsFunc(k.Backups, func(b StatusBackup) bool { return b.Shares.Opens })
		for _, c := range k.Copies {
			for at := range there {
				if strings.HasPrefix(at, c.Serial+" "+c.Label+" ") {
					copies++
					delete(there, at)
				}
			}
		}
		// A key that an aborted ceremony could not remove may never have been made.
		left := slices.ContainsFunc(k.Copies, func(c StatusCopy) bool { return c.Left })
		if copies < len(k.Copies) && !left {
			y.t.Errorf("key %v: %d copies in tokens, and the status says %d", k.Names, copies, len(k.Copies))
		}
		if copies == 0 && !opens && len(k.Destroyed) == 0 && !left {
			y.t.Errorf("key %v is in no token and no backup, and was not destroyed: %+v", k.Names, k)
		}
		if rootLives && k.Names[0] == "root-key" && copies == 0 && !opens {
			y.t.Errorf("the root is lost: %+v", k)
		}
	}
	for _, leftOver := range y.stays() {
		delete(there, leftOver)
	}
	for at := range there {
		y.t.Errorf("%s is in a token, and no ceremony explains it", at)
	}
}

// stays are keys that aborted ceremonies could not remove, as inTokens names them.
func (y *years) stays() (list []string) {
	for n := 1; n <= y.held; n++ {
		v, err := replay(context.Background(), os.DirFS(y.folder(n)), Anchors{})
		if err != nil {
			y.t.Fatal(err)
		}
		for _, k := range v.session.stays {
			list = append(list, v.session.infos[k.Token].Serial+" "+k.Label+" "+k.ID)
		}
	}
	return list
}

// signsOn holds a ceremony in which the root signs a CRL: by a copy of its key that is in a token, or by one that is restored for it.
func (y *years) signsOn() {
	y.t.Helper()
	root := y.status().Keys[slices.IndexFunc(y.status().Keys, func(k StatusKey) bool { return slices.Contains(k.Names, "root-key") })]
	take := ""
	y.inputs = map[string]string{}
	for _, c := range root.Copies {
		for name, b := range y.boards {
			if b.Serial == c.Serial && !c.Left {
				take = fmt.Sprintf("- import-artefact: {key: %s, token: %s}\n", c.Name, name)
			}
		}
	}
	if take == "" {
		b := root.Backups[slices.IndexFunc(root.Backups, func(b StatusBackup) bool { return b.Shares.Opens && b.ReplacedBy == "" })]
		for n := 1; n <= y.held; n++ {
			file := fmt.Sprintf("out-%d/shares/%s.json", n, b.Shares.Name)
			if data, err := os.ReadFile(filepath.Join(y.dir, file)); err == nil && hexSHA256(data) == strings.TrimPrefix(b.Shares.SHA256, "sha256:") {
				y.inputs["shares"] = file
			}
		}
		take = fmt.Sprintf("- restore-key: {name: root-again, backup: %s, token: online, shares: shares}\n", b.Name)
	}
	y.hold(take + "- import-artefact: {certificate: root}\n- crl: {name: crl-9, issuer: root, number: 9, this_update: FROM, next_update: UNTIL}")
}
