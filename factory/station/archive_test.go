package station

import (
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/ca"
)

// TestArchive: what a station got is kept, each once, and what a power cut left of a line takes nothing else along.
func TestArchive(t *testing.T) {
	root := newRoot(t, "fleet-root")
	leaf := func(id string) identity {
		return root.issue(t, "server", ca.Template{Subject: pkix.Name{CommonName: id}, DNSNames: []string{id + ".example"}})
	}
	a := &archive{path: filepath.Join(t.TempDir(), "got.pem")}
	if last, err := a.last(); last != "" || err != nil {
		t.Fatal(last, err)
	}
	if _, err := a.all(); err == nil {
		t.Fatal("read what is not there")
	}
	var want []string
	for n, id := range []string{"one", "two", "three"} {
		i := leaf(id)
		for range 2 {
			if err := a.add(i.cert); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, id)
		certs, err := a.all()
		if err != nil || len(certs) != len(want) || certs[len(want)-1].Subject.CommonName != id {
			t.Fatalf("%d certificates after %v: %v", len(certs), want, err)
		}
		if last, err := a.last(); err != nil || last != string(encode(certs[len(certs)-1:])) {
			t.Errorf("last is %q, %v", last, err)
		}
		if n == 1 { // cut short, in the middle of a certificate
			f, err := os.OpenFile(a.path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			cut := encode(certs[:1])
			if _, err := f.Write(cut[:len(cut)/2]); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if last, err := a.last(); err != nil || last != string(encode(certs[1:])) {
				t.Errorf("after a cut: %q, %v", last, err)
			}
		}
	}
	st, err := os.Stat(a.path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}
