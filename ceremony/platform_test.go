package ceremony

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
)

var thisImage = Image{Version: "v2.0.0", Manifest: hexSHA256([]byte("manifest")), Medium: hexSHA256([]byte("medium"))}

// measuredBy is a machine with a TPM that was started from thisImage.
func measuredBy(t testing.TB, chip *tpmtest.Chip, acts ...PlatformAct) func(context.Context, []byte) (*Platform, error) {
	return func(ctx context.Context, qualifying []byte) (*Platform, error) {
		m, err := tpm.Measure(ctx, chip.Socket, qualifying)
		if err != nil {
			t.Fatal(err)
		}
		p := &Platform{Image: &thisImage, Acts: acts, Measured: &Measured{AttestationKey: m.AttestationKey, Statement: m.Statement, Signature: m.Signature, Endorsement: m.Endorsement}}
		for _, v := range m.PCRs {
			p.Measured.PCRs = append(p.Measured.PCRs, fmt.Sprintf("%x", v))
		}
		return p, nil
	}
}

// measuredCeremony is a ceremony on a machine with a TPM, cut short and resumed after a shell was opened.
func measuredCeremony(t testing.TB, chip *tpmtest.Chip) (*stage, string) {
	t.Helper()
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Platform = measuredBy(t, chip)
	appending = func(entry int64) error {
		if entry == 9 {
			return errCut
		}
		return nil
	}
	_, err := Run(context.Background(), c)
	appending = nil
	if !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if err := unfinished(&c); err != nil {
		t.Fatal(err)
	}
	c.Asserted = c.Asserted.Add(time.Hour)
	c.Platform = measuredBy(t, chip, PlatformAct{What: ActClock, At: "2026-11-21T09:00:00Z", Before: "1970-01-01T00:00:09Z"}, PlatformAct{What: ActShell, At: "2026-11-21T09:30:00Z"})
	result, err := Resume(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s, result.Out
}

func published(image Image, pcrs map[int]string) Published {
	return Published{Version: image.Version, Manifest: image.Manifest, Files: map[string]string{"hanaper.iso": image.Medium}, PCRs: pcrs}
}

// TestPlatform: the transcript says what the machine was started from, what its TPM measured, and what people did to it, at the beginning
// and where it was taken up again; verify holds that to what the release published, and names what differs.
func TestPlatform(t *testing.T) {
	chip := tpmtest.New(t)
	s, out := measuredCeremony(t, chip)
	roster := [32]byte(s.roster.Digest())
	r, err := Verify(context.Background(), os.DirFS(out), Anchors{Roster: &roster})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Platforms) != 2 || r.Platforms[0].When != "begin" || r.Platforms[1].When != "resumed" || len(r.Platforms[0].Key) != 64 || r.Platforms[0].Key != r.Platforms[1].Key {
		t.Fatalf("%+v", r.Platforms)
	}
	if words := strings.Join(r.Platforms[1].Words(), "\n"); !strings.Contains(words, "a SHELL WAS OPENED at 2026-11-21T09:30:00Z") || !strings.Contains(words, "clock was set by hand, from 1970-01-01T00:00:09Z to 2026-11-21T09:00:00Z") {
		t.Errorf("the report says %s", words)
	}
	d, err := Record(context.Background(), os.DirFS(out), Anchors{Roster: &roster})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", d); strings.Count(text, "SHELL WAS OPENED") < 2 {
		t.Error("the record does not say that a shell was opened")
	}

	now := r.Platforms[0].Measured.PCRs
	pcrs := map[int]string{11: now[11], 4: now[4]}
	found, err := r.HoldTo(published(thisImage, pcrs))
	if err != nil || len(found) != 2 || !strings.Contains(found[0], "as the TPM with the attestation key "+r.Platforms[0].Key+" measured it") || !strings.Contains(found[0], "the medium was hanaper.iso") {
		t.Errorf("%v, %v", found, err)
	}
	// Where something else was started first, the other registers say nothing: it can write into them what an image would.
	for _, four := range []string{strings.Repeat("4", 64), ""} {
		p := map[int]string{11: now[11]}
		if four != "" {
			p[4] = four
		}
		found, err := r.HoldTo(published(thisImage, p))
		if err != nil || len(found) != 2 || strings.Contains(found[0], "measured it") || !strings.Contains(found[0], "the machine's own word") || !strings.Contains(found[0], "register 4 is "+now[4]+", published is "+cmp.Or(four, "none")) ||
			!strings.Contains(found[0], r.Platforms[0].Key) || !strings.Contains(found[0], "the medium was hanaper.iso") {
			t.Errorf("register 4 published as %q: %v, %v", four, found, err)
		}
	}
	changed, medium := thisImage, thisImage
	changed.Manifest, medium.Medium = hexSHA256([]byte("another manifest")), hexSHA256([]byte("another medium"))
	for _, c := range []struct {
		published Published
		want      string
	}{
		{published(thisImage, map[int]string{11: strings.Repeat("1", 64)}), "the TPM measured something else than image v2.0.0: register 11 is " + now[11] + ", published is 1111"},
		{published(changed, pcrs), "published is v2.0.0, manifest " + changed.Manifest},
		{published(medium, pcrs), "is that of no published file"},
	} {
		if _, err := r.HoldTo(c.published); !errors.Is(err, ErrImage) || advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}

	// Without a TPM it is the machine's word, and so it is told.
	bare := newStage(t)
	c := bare.config(bare.plan(keysOnly))
	c.Platform = func(context.Context, []byte) (*Platform, error) {
		return &Platform{Image: &thisImage, Unmeasured: "there is no TPM"}, nil
	}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	digest := [32]byte(bare.roster.Digest())
	if r, err = Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &digest}); err != nil {
		t.Fatal(err)
	}
	if found, err = r.HoldTo(published(thisImage, pcrs)); err != nil || len(found) != 1 || !strings.Contains(found[0], "the machine's own word: no TPM measured it (there is no TPM)") {
		t.Errorf("%v, %v", found, err)
	}
	// A machine that says nothing passes for no image.
	plain := newStage(t)
	if result, err = Run(context.Background(), plain.config(plain.plan(keysOnly))); err != nil {
		t.Fatal(err)
	}
	digest = [32]byte(plain.roster.Digest())
	if r, err = Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &digest}); err != nil || r.Platforms != nil {
		t.Fatal(err)
	}
	if found, err := r.HoldTo(published(thisImage, pcrs)); found != nil || advice.KindOf(err) != advice.Unverified {
		t.Errorf("%v, %v", found, err)
	}
}

// TestShellTakenBack: a shell whose note was removed is seen in register 15, by who reads the transcript and by who holds it to a release.
func TestShellTakenBack(t *testing.T) {
	chip := tpmtest.New(t)
	if err := tpm.Extend(context.Background(), chip.Socket, ShellRegister, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	for name, acts := range map[string][]PlatformAct{"removed": nil, "another note": {{What: ActClock, At: "2026-11-21T09:00:00Z", Before: "1970-01-01T00:00:09Z"}}, "there": {{What: ActShell, At: "2026-11-21T09:30:00Z"}}} {
		s := newStage(t)
		c := s.config(s.plan(keysOnly))
		c.Platform = measuredBy(t, chip, acts...)
		result, err := Run(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		roster := [32]byte(s.roster.Digest())
		r, err := Verify(context.Background(), os.DirFS(result.Out), Anchors{Roster: &roster})
		if err != nil {
			t.Fatal(err)
		}
		const said = "register 15 of its TPM tells of a SHELL of which the machine says nothing"
		if told := strings.Contains(strings.Join(r.Platforms[0].Words(), "\n"), said); told != (name != "there") {
			t.Errorf("%s: told is %v: %v", name, told, r.Platforms[0].Words())
		}
		now := r.Platforms[0].Measured.PCRs
		found, err := r.HoldTo(published(thisImage, map[int]string{4: now[4], 11: now[11]}))
		if name == "there" {
			if err != nil || !strings.Contains(found[0], "measured it") {
				t.Errorf("%s: %v, %v", name, found, err)
			}
		} else if !errors.Is(err, ErrImage) || advice.KindOf(err) != advice.Unverified || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}

// TestPlatformRefused: what is not well formed, or was not signed for this beginning, is refused before anything is written, and by verify.
func TestPlatformRefused(t *testing.T) {
	chip := tpmtest.New(t)
	good := measuredBy(t, chip)
	shell := PlatformAct{What: ActShell, At: "2026-11-21T09:30:00Z"}
	for name, spoil := range map[string]func(*Platform){
		"another register":         func(p *Platform) { p.Measured.PCRs[11] = strings.Repeat("1", 64) },
		"a register too few":       func(p *Platform) { p.Measured.PCRs = p.Measured.PCRs[:15] },
		"a register in capitals":   func(p *Platform) { p.Measured.PCRs[0] = strings.Repeat("A", 64) },
		"no signature":             func(p *Platform) { p.Measured.Signature = nil },
		"another statement":        func(p *Platform) { p.Measured.Statement[40] ^= 1 },
		"a key that signs all":     func(p *Platform) { p.Measured.AttestationKey[5] ^= 1 },
		"measured and why not":     func(p *Platform) { p.Unmeasured = "there is no TPM" },
		"neither":                  func(p *Platform) { p.Measured = nil },
		"a version that is long":   func(p *Platform) { p.Image = &Image{Version: strings.Repeat("v", 65), Manifest: thisImage.Manifest} },
		"no manifest":              func(p *Platform) { p.Image = &Image{Version: "v2"} },
		"an unknown act":           func(p *Platform) { p.Acts = []PlatformAct{{What: "dance", At: shell.At}} },
		"an act at no time":        func(p *Platform) { p.Acts = []PlatformAct{{What: ActShell, At: "noon"}} },
		"a shell before":           func(p *Platform) { p.Acts = []PlatformAct{{What: ActShell, At: shell.At, Before: shell.At}} },
		"a clock that was not set": func(p *Platform) { p.Acts = []PlatformAct{{What: ActClock, At: shell.At}} },
		"too many acts":            func(p *Platform) { p.Acts = slices.Repeat([]PlatformAct{shell}, maxActs+1) },
	} {
		s := newStage(t)
		c := s.config(s.plan(keysOnly))
		c.Platform = func(ctx context.Context, q []byte) (*Platform, error) {
			p, err := good(ctx, q)
			image := thisImage
			p.Image = &image
			spoil(p)
			return p, err
		}
		if _, err := Run(context.Background(), c); err == nil {
			t.Errorf("%s: was written", name)
		}
		if _, err := os.Stat(c.Out); err == nil {
			t.Errorf("%s: left a folder", name)
		}
		if empty, err := c.Anchor.State.Empty(); err != nil || !empty {
			t.Errorf("%s: the machine remembers a run (%v)", name, err)
		}
	}
	// A quote of another ceremony, or of another time of this one, is not taken.
	s := newStage(t)
	c := s.config(s.plan(keysOnly))
	c.Platform = func(ctx context.Context, q []byte) (*Platform, error) { return good(ctx, q[:31]) }
	if _, err := Run(context.Background(), c); !errors.Is(err, attest.ErrStale) {
		t.Errorf("a statement for something else: %v", err)
	}
	if _, err := os.Stat(c.Out); err == nil {
		t.Error("a statement for something else left a folder")
	}
}
