package factory_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record/sqlite"
)

// TestDamagedCertificate: a certificate that changed on the disk in a way that the database does not notice is not handed out.
func TestDamagedCertificate(t *testing.T) {
	ctx := context.Background()
	r := serve(t, newPlant(t))
	q := deviceRequest(t, newKey(t), "dev-1")
	a, _, err := r.service.Enroll(ctx, "line-1", q)
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, a)
	path := filepath.Join(t.TempDir(), "copy")
	if err := r.store.Backup(ctx, path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, leaf.Signature)
	if at < 0 {
		t.Fatal("the signature does not stand in the file")
	}
	b[at+20] ^= 1
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.File), b, 0o600); err != nil {
		t.Fatal(err)
	}
	harmed := serveAt(t, r.plant, dir)
	if err := harmed.store.Check(ctx); err != nil {
		t.Fatalf("the database noticed: %v; the test shows nothing", err)
	}
	if _, _, err := harmed.service.Enroll(ctx, "line-1", q); code(t, err) != factory.CodeInternal {
		t.Errorf("handed out: %v", err)
	}
}
