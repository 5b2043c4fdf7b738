package station

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// archive is the file of the certificates that this station got, in PEM, one after another. A hanaperd whose store was lost, or put back
// from an older copy, learns from it what it had handed out. The file decides nothing by itself: hanaperd checks its own signature on each.
type archive struct {
	path string
	// mutex orders those who add while a run of many boards goes on.
	mutex sync.Mutex
}

// tail is how much of the end of the file holds its last certificate for certain.
const tail = 32 << 10

// last is the last certificate, in PEM; empty where there is none.
func (a *archive) last() (string, error) {
	if a.path == "" {
		return "", nil
	}
	f, err := input.Open(a.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(max(0, size-tail), io.SeekStart)
	}
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, tail))
	if err != nil {
		return "", err
	}
	// What a power cut left of a line is not decoded, and the certificate before it stands.
	var last string
	for begin := []byte("-----BEGIN CERTIFICATE-----"); ; {
		at := bytes.Index(b, begin)
		if at < 0 {
			return last, nil
		}
		block, rest := pem.Decode(b[at:])
		if block == nil {
			return last, nil
		}
		if block.Type == "CERTIFICATE" {
			last = string(pem.EncodeToMemory(block))
		}
		b = rest
	}
}

// add puts a certificate at the end, durably, unless it is the last one there.
func (a *archive) add(cert *x509.Certificate) error {
	if a.path == "" {
		return nil
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if last, err := a.last(); err != nil || last == string(text) {
		return err
	}
	_, err := os.Lstat(a.path)
	isNew := errors.Is(err, fs.ErrNotExist)
	f, err := input.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	// A line that was cut short is ended first.
	_, err = f.Write(append([]byte("\n"), text...))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil && isNew {
		err = durable.SyncDir(filepath.Dir(a.path))
	}
	return err
}

// all are the certificates in the file.
func (a *archive) all() ([]*x509.Certificate, error) {
	b, err := input.Read(a.path, 1<<30)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "it is made with the first device that is enrolled")
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return certs, nil
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
}

// Report shows hanaperd every certificate that this station got; it tells how many there were, and how many hanaperd's record lacked.
func (c *Config) Report(ctx context.Context) (sent, lacked int, err error) {
	if c.Factory.Got == "" {
		return 0, 0, advice.New(advice.Usage, "name the file in which this station keeps the certificates that it got", "factory.got is missing")
	}
	certs, err := (&archive{path: c.Factory.Got}).all()
	if err != nil {
		return 0, 0, err
	}
	if len(certs) == 0 {
		return 0, 0, advice.New(advice.Failed, "is it the right file?", "%s holds no certificate", show.Text(c.Factory.Got))
	}
	client, err := c.client(nil)
	if err != nil {
		return 0, 0, err
	}
	return client.Report(ctx, certs)
}
