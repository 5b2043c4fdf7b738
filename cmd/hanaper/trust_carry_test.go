package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
)

// TestTrustArchives: hostile archives are refused, and nothing of them is written.
func TestTrustArchives(t *testing.T) {
	d := newTrustDesk(t, 3)
	d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "a.example", "@work")
	d.ok("export", "--out", "@good.tar", "@work")
	good, err := unpack(bytes.NewReader(d.read(d.path("good.tar"))))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(h tar.Header, data string) func(*tar.Writer) error {
		return func(w *tar.Writer) error {
			if h.Size == 0 && h.Typeflag == tar.TypeReg {
				h.Size = int64(len(data))
			}
			if err := w.WriteHeader(&h); err != nil {
				return err
			}
			_, err := w.Write([]byte(data))
			return err
		}
	}
	regular := func(name, data string) func(*tar.Writer) error {
		return entry(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, data)
	}
	archive := func(files trust.Files, more ...func(*tar.Writer) error) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := regular(name, string(files[name]))(w); err != nil {
				t.Fatal(err)
			}
		}
		for _, add := range more {
			if err := add(w); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		return b.Bytes()
	}
	hash := strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no archive":         {[]byte("hello"), "cannot be read"},
		"empty":              {archive(nil), "work.json"},
		"up and out":         {archive(good, regular("../evil", "x")), "which no working folder has"},
		"up within":          {archive(good, regular("next/../../evil", "x")), "which no working folder has"},
		"absolute":           {archive(good, regular("/etc/evil", "x")), "which no working folder has"},
		"a device":           {archive(good, entry(tar.Header{Typeflag: tar.TypeChar, Name: "next/metadata/9.targets.json"}, "")), "which is no file"},
		"a link":             {archive(good, entry(tar.Header{Typeflag: tar.TypeSymlink, Name: "next/metadata/9.targets.json", Linkname: "/etc/passwd"}, "")), "which is no file"},
		"a hard link":        {archive(good, entry(tar.Header{Typeflag: tar.TypeLink, Name: "next/metadata/9.targets.json", Linkname: "work.json"}, "")), "which is no file"},
		"a folder":           {archive(good, entry(tar.Header{Typeflag: tar.TypeDir, Name: "next/metadata/"}, "")), "which is no file"},
		"twice":              {archive(good, regular("work.json", string(good["work.json"]))), "twice"},
		"a name in capitals": {archive(good, regular("next/targets/"+strings.ToUpper(hash)+".policy.json", "x")), "which no working folder has"},
		"a backslash":        {archive(good, regular(`next\evil`, "x")), "which no working folder has"},
		"a sparse file":      {archive(good, entry(tar.Header{Typeflag: tar.TypeReg, Name: "next/targets/" + hash + ".x", PAXRecords: map[string]string{"VENDOR.x": "1"}}, "x")), "in a form that no program needs"},
		"a lock":             {archive(good, regular(".lock", "x")), "which no working folder has"},
		"an empty file":      {archive(good, regular("next/targets/"+hash+".x", "")), "with 0 bytes"},
		"cut off":            {d.read(d.path("good.tar"))[:2000], "the archive"},
		"a changed draft": {archive(func() trust.Files {
			f := maps.Clone(good)
			f["next/metadata/2.targets.json"] = append(bytes.Clone(f["next/metadata/2.targets.json"]), ' ')
			return f
		}()), "malformed"},
		"a target that nothing names": {archive(good, regular("next/targets/"+hash+".x", "x")), "holds next/targets/" + hash + ".x, which nothing in it names"},
		"a list that nothing names":   {archive(good, regular("previous/targets/officers-crl/"+hash+".x", "x")), "holds previous/targets/officers-crl/" + hash + ".x, which nothing in it names"},
		"an older draft beside":       {archive(good, regular("next/metadata/1.targets.json", string(good["next/metadata/2.targets.json"]))), "holds next/metadata/1.targets.json, which nothing in it names"},
		"a root that nobody leads to": {archive(good, regular("previous/metadata/7.root.json", string(good["previous/metadata/1.root.json"]))), "holds previous/metadata/7.root.json, which nothing in it names"},
		"terminal in a name":          {archive(good, regular("next/\x1b[2Jevil", "x")), "which no working folder has"},
		"a long name":                 {archive(good, regular("next/targets/"+hash+"."+strings.Repeat("a", 300), "x")), "which no working folder has"},
	} {
		d.write("bad.tar", c.data)
		for _, to := range []string{"@fresh", "@work"} {
			code, out, errs := d.run("import", "--root", "@pin.json", "@bad.tar", to)
			if code == 0 || !strings.Contains(errs, c.want) || strings.Contains(errs, "\x1b") {
				t.Errorf("%s: exit code %d, want %q: %s%s", name, code, c.want, out, errs)
			}
		}
		if _, err := os.Lstat(d.path("fresh")); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
	// More than is promised, and more than may be: an endless archive is not read to its end.
	if _, err := unpack(&endless{}); err == nil {
		t.Error("an endless archive")
	}
	d.refused(2, "no root to hold the archive against", "import", "@good.tar", "@fresh")
	d.refused(4, "and yours is", "import", "--root", hash, "@good.tar", "@fresh")
	// A draft that says something else does not lend its signatures.
	d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "b.example", "@other")
	d.ok(d.sign(1, "Unremembered", "@other")...)
	d.ok("export", "--out", "@other.tar", "@other")
	d.refused(3, "say different things", "import", "@other.tar", "@work")
}

// TestTrustReaders: who only reads a working folder changes nothing in it, not even what another is about to write or what a crash left, sees the draft
// before a change or the one after, and waits for nobody who signs.
func TestTrustReaders(t *testing.T) {
	d := newTrustDesk(t, 3)
	d.ok("add", "--from", "@inforce", "--root", "@pin.json", "--gateway-name", "a.example", "@work")
	// Another is at work: he holds the folder, and has a new draft half written.
	unlock, err := lockWork(d.path("work"))
	if err != nil {
		t.Fatal(err)
	}
	half := func(name string) {
		if err := os.MkdirAll(d.path("work/"+name+"/metadata"), 0o755); err != nil {
			t.Fatal(err)
		}
		d.write("work/"+name+"/metadata/2.targets.json", []byte("half"))
	}
	half("next.new")
	before := d.files()
	for _, verb := range []string{"show", "status"} {
		if out := d.ok(verb, "@work"); !strings.Contains(out, "version 2") {
			t.Errorf("%s: %s", verb, out)
		}
	}
	d.ok("export", "--out", "@one.tar", "@work")
	delete(before, d.path("one.tar"))
	after := d.files()
	delete(after, d.path("one.tar"))
	if !maps.Equal(before, after) {
		t.Error("reading changed the folder")
	}
	unlock()
	if err := os.RemoveAll(d.path("work/next.new")); err != nil {
		t.Fatal(err)
	}
	// A crash between taking the old draft away and putting the new one in its place: the new one is read where it is, and put there by the next who writes.
	for _, step := range []string{"next.new", "next.old"} {
		if err := os.Rename(d.path("work/next"), d.path("work/next.new")); err != nil {
			t.Fatal(err)
		}
		if step == "next.old" {
			half("next.old")
		}
		before = d.files()
		d.ok("show", "@work")
		if after := d.files(); !maps.Equal(before, after) {
			t.Errorf("%s: reading changed the folder", step)
		}
		d.ok("add", "--gateway-name", step+".example", "@work")
		for _, name := range []string{"next.new", "next.old"} {
			if _, err := os.Lstat(d.path("work/" + name)); err == nil {
				t.Errorf("%s: %s is left", step, name)
			}
		}
	}
	// One writes again and again, another reads: neither fails, and each draft is read whole.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			w, err := viewWork(d.path("work"), &d.world.Pin, time.Now())
			if err != nil {
				t.Errorf("reading beside a writer: %v", err)
				return
			}
			files, err := w.files()
			if err == nil {
				_, err = readArchive("what was read", files, &d.world.Pin, time.Now())
			}
			if err != nil {
				t.Errorf("what was read beside a writer: %v", err)
				return
			}
		}
	}()
	for n := range 30 {
		d.ok("add", "--gateway-name", fmt.Sprintf("g%d.example", n), "@work")
	}
	close(stop)
	<-stopped
}

// endless is one small file after another.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	e.n++
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("next/metadata/%d.root.json", e.n), Size: 512})
	_, _ = w.Write(make([]byte, 512))
	return copy(p, b.Bytes()), nil
}
