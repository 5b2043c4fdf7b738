package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// maxInput bounds the files that a user names, in bytes.
const maxInput = 64 << 20

func repoDir(c *cli.Context) string { return filepath.Join(c.String("home-dir"), c.String("repo")) }

func openRepo(c *cli.Context) (*repo.Repository, error) {
	r, err := repo.Open(repoDir(c), openKey)
	if err != nil {
		return nil, err
	}
	for _, w := range r.Warnings() {
		warn(c, "%s", w)
	}
	return r, nil
}

func userKeys(c *cli.Context) *repo.Keys {
	dir := c.String("keys-path")
	if dir == "" {
		dir = filepath.Join(c.String("home-dir"), "user-keys")
	}
	return repo.NewKeys(dir, openKey)
}

// pins keeps the PINs that were typed in, so that a person is asked once for a token and not once for each key.
var pins = struct {
	sync.Mutex
	of map[string][]byte
}{of: map[string][]byte{}}

func forgetPINs() {
	pins.Lock()
	defer pins.Unlock()
	for _, p := range pins.of {
		clear(p)
	}
	clear(pins.of)
}

func askPIN(ctx context.Context, t hsm.TokenInfo) ([]byte, error) {
	pins.Lock()
	defer pins.Unlock()
	id := t.Serial + "/" + t.Label
	if p, ok := pins.of[id]; ok {
		return append([]byte(nil), p...), nil
	}
	p, err := hsm.PINPrompt(term.TTY().Secret)(ctx, t)
	if err == nil {
		pins.of[id] = append([]byte(nil), p...)
	}
	return p, err
}

// openKey opens a key in a token by its URI.
func openKey(ctx context.Context, uri string) (crypto.Signer, io.Closer, error) {
	if scheme, _, _ := strings.Cut(uri, ":"); scheme != hsm.SchemePKCS11 && scheme != hsm.SchemeTPM {
		return nil, nil, advice.New(advice.Usage, "name it as pkcs11:token=...;object=..., or tpm:", "keys of scheme %q cannot sign Uptane metadata here", scheme)
	}
	u, err := hsm.ParseURI(uri)
	if err != nil {
		return nil, nil, err
	}
	if u, err = onThisMachine(u); err != nil {
		return nil, nil, err
	}
	key, closer, err := open.Key(ctx, u, askPIN)
	if err != nil {
		return nil, nil, err
	}
	return key, closer, nil
}

// openServer makes a client of the repository's server.
func openServer(c *cli.Context, r *repo.Repository) (*reposerver.Client, error) {
	config := r.Config()
	auth, err := login(r, config.Auth)
	if err != nil {
		return nil, err
	}
	roots, err := extraRoots(c)
	if err != nil {
		return nil, err
	}
	return reposerver.NewClient(reposerver.ClientConfig{
		URL: config.Reposerver, Director: config.Kind == uptane.Director, Auth: auth, Roots: roots, Progress: showProgress(),
	})
}

// extraRoots are the certificates of --cacert, where a command has it; nil otherwise, for the system's.
func extraRoots(c *cli.Context) (*x509.CertPool, error) {
	path := c.String("cacert")
	if path == "" {
		return nil, nil
	}
	b, err := readInput(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, advice.New(advice.Usage, "", "%s holds no PEM certificate", path)
	}
	return pool, nil
}

func login(r *repo.Repository, a repo.Auth) (reposerver.Auth, error) {
	switch {
	case a.OAuth2 != nil:
		scope := a.OAuth2.Scope
		if scope == "none" {
			scope = ""
		}
		return reposerver.OAuth2{Server: a.OAuth2.Server, ClientID: a.OAuth2.ClientID, ClientSecret: a.OAuth2.ClientSecret, Scope: scope}, nil
	case a.Basic != nil:
		return reposerver.Basic{User: a.Basic.User, Password: a.Basic.Password}, nil
	case a.TLS != nil:
		return mutualTLS(r, a.TLS)
	}
	return reposerver.NoAuth{}, nil
}

func mutualTLS(r *repo.Repository, t *repo.MutualTLS) (reposerver.Auth, error) {
	b, err := readInput(r.Path(t.CertPath))
	if err != nil {
		return nil, err
	}
	key, chain, err := repo.ReadClientCertificate(r.Path(t.CertPath), b)
	if err != nil {
		return nil, err
	}
	var out reposerver.MTLS
	out.Certificate.PrivateKey, out.Certificate.Leaf = key, chain[0]
	for _, x := range chain {
		out.Certificate.Certificate = append(out.Certificate.Certificate, x.Raw)
	}
	if t.ServerCertPath == "" {
		return out, nil
	}
	if b, err = readInput(r.Path(t.ServerCertPath)); err != nil {
		return nil, err
	}
	trusted, err := repo.ReadServerCertificates(r.Path(t.ServerCertPath), b)
	if err != nil {
		return nil, err
	}
	out.Roots = x509.NewCertPool()
	for _, x := range trusted {
		out.Roots.AddCert(x)
	}
	return out, nil
}

// readInput reads a file that a flag names.
func readInput(path string) ([]byte, error) {
	b, err := input.Read(path, maxInput)
	return b, advice.Wrap(advice.Usage, err, "name a file that exists and that you may read")
}

// showProgress draws an upload's progress on standard error.
func showProgress() func(done, total int64) {
	p := term.Stderr()
	last := int64(-1)
	return func(done, total int64) {
		if total <= 0 {
			return
		}
		percent := done * 100 / total
		if percent/5 == last/5 && done != total && last >= 0 {
			return
		}
		last = percent
		text := fmt.Sprintf("uploaded %d of %d bytes (%d%%)", done, total, percent)
		if done == total {
			p.Done("%s", text)
		} else {
			p.Step("%s", text)
		}
	}
}
