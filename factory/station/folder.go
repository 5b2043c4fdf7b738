package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// folder is what aktualizr reads from /var/sota/import, and the sota.toml that points it there.
type folder struct {
	c *Config
	// files that do not depend on the device, by path inside the folder.
	files map[string][]byte
	done  func(format string, args ...any)
	// uptane are the roots among the files, where the officers' trust metadata vouches for them.
	uptane *officersRoots
	now    func() time.Time
}

// newFolder reads what the folder will hold besides the device's own.
func newFolder(c *Config, now func() time.Time, done func(string, ...any)) (*folder, error) {
	f := &folder{c: c, done: done, now: now, files: map[string][]byte{"gateway.url": []byte(c.Gateway.URL)}}
	roots, err := factory.LoadCertificates(c.Gateway.Root)
	if err != nil {
		return nil, err
	}
	f.files["root.crt"] = encode(roots)
	for name, path := range map[string]string{"repo/root.json": c.Uptane.ImageRoot, "director/root.json": c.Uptane.DirectorRoot} {
		if path == "" {
			continue
		}
		b, err := input.ReadFile(path)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "")
		}
		var root struct {
			Signed struct {
				Type string `json:"_type"`
			} `json:"signed"`
		}
		if err := json.Unmarshal(b, &root); err != nil || root.Signed.Type != "Root" {
			return nil, advice.New(advice.Usage, "it is the root.json of the ceremony's uptane folder", "%s is no Uptane root", show.Text(path))
		}
		f.files[name] = b
	}
	if c.Uptane.Trust != nil {
		if f.uptane, err = c.Uptane.Trust.roots(now, done); err != nil {
			return nil, err
		}
		for name, b := range f.uptane.files() {
			f.files[name] = b
		}
	}
	return f, nil
}

func encode(certs []*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// lay puts the folder in place in one step: it is made beside its final name and renamed. A folder that is there and
// says the same is left alone; one of an earlier certificate of the device is moved aside; any other is refused.
func (f *folder) lay(ctx context.Context, chain []*x509.Certificate, key crypto.Signer) error {
	files := map[string][]byte{"client.pem": encode(chain)}
	for name, b := range f.files {
		files[name] = b
	}
	if f.c.Device.KeyStore == storeFile {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		files["pkey.pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		defer clear(files["pkey.pem"])
		defer clear(der)
	}
	if f.c.Device.KeyStore == storeTPM {
		file, ok := key.(interface{ File() []byte })
		if !ok {
			return advice.New(advice.Failed, "", "the device's key has no file that its TPM could load")
		}
		files["pkey.pem"] = file.File()
	}
	sota, err := f.sota(ctx)
	if err != nil {
		return err
	}
	defer clear(sota)
	files["sota.toml"] = sota
	if err := f.makeRoom(chain[0]); err != nil {
		return err
	}
	if err := place(f.c.Import, files); err != nil {
		return err
	}
	// What was written is read again, as the device will.
	there, err := compare(filepath.Clean(f.c.Import), files)
	if err == nil && !there {
		err = advice.New(advice.Unverified, "look at the disk, and run it again", "import folder %s is not there after it was laid out", show.Text(f.c.Import))
	}
	return err
}

// check refuses a folder that lay would refuse, as far as that is known before there is a certificate.
func (f *folder) check(ctx context.Context) error {
	if f.uptane != nil {
		if err := f.uptane.valid(f.now()); err != nil {
			return err
		}
	}
	sota, err := f.sota(ctx)
	if err != nil {
		return err
	}
	defer clear(sota)
	files := map[string][]byte{"client.pem": nil, "sota.toml": sota}
	for name, b := range f.files {
		files[name] = b
	}
	if f.c.Device.KeyStore != storePKCS11 {
		files["pkey.pem"] = nil
	}
	_, err = compare(filepath.Clean(f.c.Import), files)
	if err != nil && f.earlier() != nil {
		return nil // lay decides, when it knows the device's certificate
	}
	return err
}

// earlier is the certificate of a folder that this device has already, whichever board had it, with nothing in it that is none of ours. In the
// file key store there is none: the folder holds the only copy of a key.
func (f *folder) earlier() *x509.Certificate {
	if f.c.Device.KeyStore == storeFile {
		return nil
	}
	chain, err := factory.LoadCertificates(filepath.Join(f.c.Import, "client.pem"))
	if err != nil || chain[0].Subject.CommonName != f.c.Device.ID {
		return nil
	}
	files := map[string][]byte{"client.pem": nil, "sota.toml": nil}
	for name := range f.files {
		files[name] = nil
	}
	if f.c.Device.KeyStore == storeTPM {
		files["pkey.pem"] = nil
	}
	if there, err := compare(filepath.Clean(f.c.Import), files); err != nil || !there {
		return nil
	}
	return chain[0]
}

// makeRoom moves aside the folder of an earlier certificate of the same device: hanaperd gives an id another certificate only where an operator
// permitted it, and the folder of a certificate that is revoked is of no use to the device.
func (f *folder) makeRoom(cert *x509.Certificate) error {
	before := f.earlier()
	if before == nil || before.Equal(cert) || older(cert, before) {
		return nil
	}
	from := filepath.Clean(f.c.Import)
	to := from + ".old-" + serialOf(before)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Refused, "move one of them away", "import folder %s is that of an earlier certificate, and %s is there already", show.Text(from), show.Text(to))
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	f.done("%s: the folder of its earlier certificate is %s now", show.Text(f.c.Device.ID), show.Text(to))
	return durable.SyncDir(filepath.Dir(from))
}

// modeOf is who may read a file of the folder: what holds a key or a PIN, its owner only.
func modeOf(name string) fs.FileMode {
	if name == "pkey.pem" || name == "sota.toml" {
		return 0o600
	}
	return 0o644
}

// place puts files into a new folder, in one step.
func place(folder string, files map[string][]byte) error {
	to := filepath.Clean(folder)
	if there, err := compare(to, files); there || err != nil {
		return err
	}
	if err := durable.Mkdir(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // gone already when all went well
	for name, b := range files {
		if err := durable.Mkdir(filepath.Dir(filepath.Join(temp, name)), 0o755); err != nil {
			return err
		}
		if err := durable.Create(filepath.Join(temp, name), b, modeOf(name)); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, to); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// compare says whether the folder is there with exactly these files; nil stands for any content. An empty folder counts
// as none.
func compare(dir string, files map[string][]byte) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	other := func(format string, args ...any) (bool, error) {
		return false, advice.New(advice.Refused, "it may be another device's; move it away, or name another folder with --import",
			"import folder %s is there and %w", show.Text(dir), fmt.Errorf(format, args...))
	}
	seen := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[filepath.ToSlash(name)]
		if !ok {
			return fmt.Errorf("holds %s, which is none of ours", show.Text(name))
		}
		if want == nil {
			seen++
			return nil
		}
		have, err := input.Open(path)
		if err != nil {
			return err
		}
		defer have.Close()
		b, err := io.ReadAll(io.LimitReader(have, int64(len(want))+1))
		if err != nil {
			return err
		}
		defer clear(b)
		if !bytes.Equal(b, want) {
			return fmt.Errorf("its %s says something else", show.Text(name))
		}
		seen++
		return nil
	})
	if err != nil {
		return other("%w", err)
	}
	if seen != len(files) {
		return other("lacks some of the files")
	}
	return true, nil
}

// holds says that the folder is there with the certificate of this serial for this device.
func (f *folder) holds(id, serial string) bool {
	chain, err := factory.LoadCertificates(filepath.Join(f.c.Import, "client.pem"))
	return err == nil && chain[0].Subject.CommonName == id && serial != "" && serialOf(chain[0]) == serial
}

// serialOf is a certificate's serial as hanaperd writes it.
func serialOf(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }
