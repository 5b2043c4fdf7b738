package ceremony

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony/calendar"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/quorum"
)

// goldenStatus is the status after a golden folder.
func goldenStatus(t *testing.T, name string) *Status {
	t.Helper()
	for _, g := range goldenFolders(t) {
		if g.name == name {
			s, err := ReadStatus(context.Background(), os.DirFS(g.dir), name, Anchors{Roster: &g.anchor})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("no golden folder %s", name)
	return nil
}

func (s *Status) keyNamed(name string) StatusKey {
	for _, k := range s.Keys {
		if slices.Contains(k.Names, name) {
			return k
		}
	}
	return StatusKey{}
}

func (s *Status) certificateNamed(name string) StatusCert {
	for _, c := range s.Certificates {
		if c.Name == name {
			return c
		}
	}
	return StatusCert{}
}

// TestStatus: what two ceremonies left is told whole: keys and where they lie, certificates, CRLs, versions and dates.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := goldenStatus(t, "second")
	if s.Ceremony != "second" || !slices.Equal(s.Ceremonies, []string{"first", "second"}) || !s.Authenticated || s.Roster.Threshold != 2 || len(s.Roster.Officers) != 3 {
		t.Errorf("%+v", s)
	}
	for name, state := range map[string]string{"fleet-root-key": KeyInToken, "gateway-root-key": KeyInToken, "image-root-key": KeyDestroyed, "image-root-key-2": KeyInToken} {
		k := s.keyNamed(name)
		if k.State != state || (state == KeyInToken) != (len(k.Copies) == 1) || (state == KeyDestroyed) != (len(k.Destroyed) == 1) || len(k.For) == 0 {
			t.Errorf("key %s: %+v", name, k)
		}
	}
	if c := s.certificateNamed("fleet-root"); c.Kind != "root" || !c.Anchor || c.Key != KeyInToken || c.Revoked {
		t.Errorf("fleet-root: %+v", c)
	}
	if c := s.certificateNamed("factory-ca"); c.Kind != "CA" || c.Key != "outside" || !c.Revoked || c.Published {
		t.Errorf("factory-ca: %+v", c)
	}
	if len(s.CRLs) != 1 || s.CRLs[0].Number != "2" || s.CRLs[0].Highest != "2" || s.CRLs[0].Revoked != 1 {
		t.Errorf("CRLs: %+v", s.CRLs)
	}
	if s.Trust == nil || s.Trust.TargetsVersion != 2 || !slices.Equal(s.Trust.Anchors, []string{"fleet-root"}) {
		t.Errorf("trust: %+v", s.Trust)
	}
	if len(s.Uptane) != 1 || s.Uptane[0].RootVersion != 2 || s.Uptane[0].Ceremony != "second" {
		t.Errorf("Uptane: %+v", s.Uptane)
	}
	var crl bool
	for _, e := range s.Ends {
		crl = crl || e.Kind == "crl" && e.Version == 2 && e.Expires.Equal(s.CRLs[0].NextUpdate)
	}
	if !crl || len(s.Problems) != 0 {
		t.Errorf("ends %+v, problems %v", s.Ends, s.Problems)
	}
}

// TestStatusCustody: PINs, backups and who can open them; a restored key and the one that it is of are one key.
func TestStatusCustody(t *testing.T) {
	t.Parallel()
	s := goldenStatus(t, "custody")
	k := s.keyNamed("root-key-2")
	if !slices.Equal(k.Names, []string{"root-key", "root-key-2"}) || k.State != KeyInToken || len(k.Copies) != 1 || len(k.Destroyed) != 1 || len(k.Backups) != 1 || !k.Backups[0].Shares.Opens {
		t.Errorf("%+v", k)
	}
	vault := s.Tokens[slices.IndexFunc(s.Tokens, func(t StatusToken) bool { return t.User != nil })]
	if vault.User.Threshold != 2 || len(vault.User.Holders) != 3 || vault.SO == nil || vault.SO.Threshold != 3 {
		t.Errorf("%+v", vault)
	}
	// Officers who leave: whoever is not in the roster, or has another decryption key, opens nothing.
	for _, g := range goldenFolders(t) {
		if g.name != "custody" {
			continue
		}
		v, err := replay(context.Background(), os.DirFS(g.dir), Anchors{Roster: &g.anchor})
		if err != nil {
			t.Fatal(err)
		}
		old := v.roster
		config := quorum.RosterConfig{Environment: "demo", Threshold: 2, Issued: old.Issued(), Previous: old, Officers: old.Officers()[:1:1]}
		for _, n := range []string{"Officer 3", "Officer 4"} {
			o := old.Officers()[1]
			pub, _, _ := ed25519.GenerateKey(rand.Reader)
			o.Name, o.SigningKey, o.DecryptionKey, o.Decryption = n, pub, nil, ""
			config.Officers = append(config.Officers, o)
		}
		now := *v
		if now.roster, err = quorum.NewRoster(config); err != nil {
			t.Fatal(err)
		}
		later := *v.script
		later.earlier, later.steps, now.script = &earlier{verified: v}, nil, &later
		s, err := statusOf(&now, "custody")
		if err != nil {
			t.Fatal(err)
		}
		k := s.keyNamed("root-key")
		if b := k.Backups[0].Shares; b.Opens || !slices.Equal(b.Holders, []string{"Officer 1"}) || !slices.Equal(b.Gone, []string{"Officer 2", "Officer 3"}) {
			t.Errorf("%+v", b)
		}
		if all := strings.Join(s.Problems, "\n"); !strings.Contains(all, "backup root-backup of key root-key opens with 2 shares, and of their holders only Officer 1 are in the roster") {
			t.Errorf("problems: %s", all)
		}
	}
}

// TestStatusAborted: what an aborted ceremony made is not told as there, and a folder that does not verify has no status.
func TestStatusAborted(t *testing.T) {
	t.Parallel()
	s := goldenStatus(t, "aborted")
	if !s.Aborted || len(s.Keys) != 0 || len(s.Certificates) != 0 || s.Trust != nil {
		t.Errorf("%+v", s)
	}
	first, _, roster := goldenChain(t)
	first["artefacts/fleet-root.pem"] = []byte("another")
	if s, err := ReadStatus(context.Background(), memory(first), "x", Anchors{Roster: &roster}); s != nil || advice.KindOf(err) != advice.Unverified {
		t.Errorf("a changed folder: %+v, %v", s, err)
	}
	if s, err := ReadStatus(context.Background(), os.DirFS(goldenDir+"/1.0/rehearsal"), "x", Anchors{}); s != nil || err == nil {
		t.Errorf("a rehearsal: %+v, %v", s, err)
	}
	if s, err := ReadStatus(context.Background(), os.DirFS(goldenDir+"/1.0/second"), "x", Anchors{}); s == nil || s.Authenticated || advice.KindOf(err) != advice.Unverified {
		t.Errorf("without an anchor: %+v, %v", s, err)
	}
}

// TestStatusNotes: a date says that nothing can take the place of what ends, or that something has.
func TestStatusNotes(t *testing.T) {
	t.Parallel()
	s := goldenStatus(t, "second")
	f := &inventory{certs: s.held, crls: s.lists}
	for i, k := range s.Keys {
		if slices.Contains(k.Names, "fleet-root-key") {
			s.Keys[i].State = KeyDestroyed
		}
		f.keys = append(f.keys, &s.Keys[i])
	}
	for _, c := range s.held {
		if c.Name == "gateway" {
			later := *c.cert
			later.NotBefore, later.NotAfter = later.NotAfter, later.NotAfter.AddDate(1, 0, 0)
			f.certs = append(f.certs, &heldCert{c.StatusCert, &later})
		}
	}
	notes := map[string]string{}
	for _, e := range f.noted(slices.Clone(s.Ends)) {
		notes[e.What] = e.Note
	}
	found := 0
	for what, note := range notes {
		for begin, want := range map[string]string{"root certificate CN=Fleet Root": "its key is destroyed", "CRL 2 of CN=Fleet Root": "its key is destroyed", "root certificate CN=Gateway Root": "",
			"certificate CN=localhost": calendar.Renewed, "CA certificate CN=Demo Factory CA": calendar.Revoked} {
			if strings.HasPrefix(what, begin) {
				if found++; note != want {
					t.Errorf("%s: %q, want %q", what, note, want)
				}
			}
		}
	}
	if found != 5 {
		t.Errorf("%d of 5 found in %v", found, notes)
	}
}
