package repo

import (
	"bytes"
	"context"
	"crypto"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	keys "github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/softhsm"
	"github.com/hanaper/hanaper/uptane"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

func openToken(ctx context.Context, uri string) (crypto.Signer, io.Closer, error) {
	u, err := hsm.ParseURI(uri)
	if err != nil {
		return nil, nil, err
	}
	k, c, err := keys.Key(ctx, u, nil)
	if err != nil {
		return nil, nil, err
	}
	return k, c, nil
}

// TestKeysInTokens signs a root with RSA and Ed25519 keys that never leave a real PKCS#11 token, and has openssl judge.
func TestKeysInTokens(t *testing.T) {
	ctx := context.Background()
	board, err := softhsm.ForTest(t).Create("uptane")
	if err != nil {
		t.Fatal(err)
	}
	u := must(hsm.ParseURI(board.URI))
	token := must(pkcs11.Open(ctx, pkcs11.Config{URI: u}))
	defer token.Close()
	r := newRepo(t, openToken)
	if err := r.StoreRoot(serverRoot(t)); err != nil {
		t.Fatal(err)
	}
	for label, alg := range map[string]hsm.Algorithm{"root-rsa": hsm.RSA2048, "root-ed": hsm.Ed25519, "root-p256": hsm.P256} {
		if _, err := token.Generate(ctx, hsm.GenerateSpec{Label: label, Algorithm: alg}); err != nil {
			t.Fatal(err)
		}
		at := u
		at.Object = label
		_, err := r.Keys().Link(ctx, label, at.String())
		if (err == nil) != (alg != hsm.P256) {
			t.Fatalf("%s: %v", label, err)
		}
	}
	if _, err := os.Lstat(r.Path("keys/root-p256.pub")); err == nil {
		t.Error("a key that cannot sign Uptane was written")
	}
	must(r.AddKeys(uptane.RoleRoot, "root-rsa", "root-ed"))
	must(r.SignRoot(SignOptions{Context: ctx, Keys: []string{"root-ed"}, Now: noon}))
	s, err := r.SignRoot(SignOptions{Context: ctx, Keys: []string{"root-rsa"}, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Document.Signatures()) != 2 {
		t.Fatalf("%d signatures", len(s.Document.Signatures()))
	}
	rsa := must(r.Keys().Public("root-rsa"))
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, sig := range s.Document.Signatures() {
		if sig.KeyID != rsa.ID() {
			continue
		}
		out, err := exec.Command("openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32",
			"-verify", write("pub.pem", []byte(rsa.Value())), "-signature", write("sig", sig.Sig), write("signed", s.Document.Signed())).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Verified OK")) {
			t.Errorf("openssl: %s", out)
		}
	}
	// Nothing private is on the disk.
	err = filepath.WalkDir(r.Dir(), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if b := must(os.ReadFile(p)); strings.HasSuffix(p, ".sec") && !strings.Contains(string(b), `"uri"`) || bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOfficersWithTokens has three officers with a token each sign one root, in all six orders, by bundles alone.
func TestOfficersWithTokens(t *testing.T) {
	ctx := context.Background()
	var signers []crypto.Signer
	rk := uptane.RoleKeys{Threshold: 3}
	for i, alg := range []hsm.Algorithm{hsm.RSA2048, hsm.Ed25519, hsm.RSA2048} {
		board := must(softhsm.ForTest(t).Create("officer-" + string(rune('a'+i))))
		token := must(pkcs11.Open(ctx, pkcs11.Config{URI: must(hsm.ParseURI(board.URI))}))
		defer token.Close()
		k := must(token.Generate(ctx, hsm.GenerateSpec{Label: "root", Algorithm: alg}))
		signers = append(signers, k)
		rk.Keys = append(rk.Keys, must(uptane.NewKey(k.Public())))
	}
	first := serverRoot(t)
	c := first.Config()
	c.Version, c.Roles[uptane.RoleRoot] = 2, rk
	request := must(uptane.NewRequest(uptane.RequestConfig{Repository: uptane.Director, Document: must(uptane.NewRoot(c)), Root: first})).Bytes()
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		own := must(uptane.ParseRequest(request))
		var responses []*uptane.Response
		for _, i := range order {
			carried := must(uptane.SignRequest(must(uptane.NewReview(must(uptane.ParseRequest(request)), uptane.Director, first)), signers[i])).Bytes()
			responses = append(responses, must(uptane.ParseResponse(carried)))
		}
		// The server's old key signs last.
		doc := must(uptane.AddSignatures(must(uptane.Merge(own, responses...)), seedKey("server root")))
		out, err := uptane.Emit(doc, own.Authority())
		if err != nil || !bytes.Equal(doc.Signed(), own.Document().Signed()) {
			t.Fatalf("order %v: %v", order, err)
		}
		if err := uptane.VerifyRoot(must(uptane.ParseRoot(out))); err != nil {
			t.Errorf("order %v: %v", order, err)
		}
	}
}
