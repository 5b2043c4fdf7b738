package main

import (
	"bytes"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// trustDesk is an environment whose targets keys are in the tokens of three officers, or of the first two, two of whom must sign.
type trustDesk struct {
	*officers
	world *trusttest.World
}

func newTrustDesk(t *testing.T, named int) *trustDesk {
	t.Helper()
	d := &trustDesk{newOfficers(t), trusttest.NewAt(t, time.Now().UTC().Truncate(time.Second))}
	keys, done, err := openOfficer(t.Context(), d.uris[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	w := d.world
	w.TargetsKeys = keys[:named]
	w.Keys.Targets = trust.Role{Threshold: 2}
	for _, k := range w.TargetsKeys {
		w.Keys.Targets.Keys = append(w.Keys.Targets.Keys, k.Public())
	}
	d.begin(w.Content.Environment)
	return d
}

// begin makes the first part in force, in the folder "inforce".
func (d *trustDesk) begin(environment string) {
	d.t.Helper()
	w := d.world
	w.Content.Environment = environment
	w.Offline = nil
	w.Rebuild()
	w.Pin = trust.PinRoot(w.Offline["metadata/1.root.json"])
	d.write("pin.json", w.Offline["metadata/1.root.json"])
	d.inForce("inforce")
}

func (d *trustDesk) inForce(name string) {
	d.t.Helper()
	if err := writeTree(d.path(name), d.world.Offline); err != nil {
		d.t.Fatal(err)
	}
}

func (d *trustDesk) run(args ...string) (code int, out, errs string) {
	d.t.Helper()
	var o, e bytes.Buffer
	code = shell.Run(&cli.App{Name: "hanaper", Commands: []*cli.Command{trustCommand()}, Writer: &o, ErrWriter: &e}, append([]string{"hanaper", "trust"}, d.args(args)...))
	return code, o.String(), e.String()
}

func (d *trustDesk) ok(args ...string) (out string) {
	d.t.Helper()
	code, out, errs := d.run(args...)
	if code != 0 {
		d.t.Fatalf("%s: exit code %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	return out + errs
}

// refused runs a verb that must end with a code and leave no file changed, but for locks.
func (d *trustDesk) refused(want int, text string, args ...string) {
	d.t.Helper()
	before := d.files()
	code, out, errs := d.run(args...)
	if code != want || !strings.Contains(errs, text) {
		d.t.Errorf("%s: exit code %d, want %d with %q: %s%s", strings.Join(args, " "), code, want, text, out, errs)
	}
	if after := d.files(); !maps.Equal(before, after) {
		d.t.Errorf("%s: refused, but files have changed: %v", strings.Join(args, " "), slices.Collect(maps.Keys(after)))
	}
}

func (d *trustDesk) files() map[string]string {
	d.t.Helper()
	all := map[string]string{}
	for _, dir := range append([]string{d.dir}, d.dirs[:]...) {
		err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && e.Name() != ".lock" {
				all[p] = string(d.read(p))
			}
			return err
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return all
}

// sign has officer n sign a working folder, with their own memory and log.
func (d *trustDesk) sign(n int, answer, work string) []string {
	d.write("answer-"+answer, []byte(answer+"\n"))
	return []string{"sign", "--root", "@pin.json", "--key", d.uris[n], "--transcript", filepath.Join(d.dirs[n], "log"), "--state", d.dirs[n], "--answers", "@answer-" + answer, work}
}
