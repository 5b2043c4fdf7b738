package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// keyPair is the gateway's TLS identity, from two files that may be replaced while it runs.
type keyPair struct {
	// section is where the config names the files.
	section           string
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	mu                sync.Mutex
	stamps            [2]stamp
}

// stamp tells a replaced file from the one that was read.
type stamp struct {
	size     int64
	modified time.Time
}

func loadKeyPair(section string, c TLSConfig) (*keyPair, error) {
	k := &keyPair{section: section, certFile: c.Certificate, keyFile: c.Key}
	return k, k.reload()
}

// reload reads both files; on an error the pair in force stays.
func (k *keyPair) reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	certPEM, certStamp, err := readOwn(k.certFile, false)
	if err != nil {
		return fmt.Errorf("%s.certificate: %w", show.Line(k.section), err)
	}
	keyPEM, keyStamp, err := readOwn(k.keyFile, true)
	if err != nil {
		return fmt.Errorf("%s.key: %w", show.Line(k.section), err)
	}
	defer clear(keyPEM)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return advice.New(advice.Usage, "the certificate comes first in its file, and the key must be its own",
			"%s.certificate %s with %s.key %s: %w", show.Line(k.section), show.Text(k.certFile), show.Line(k.section), show.Text(k.keyFile), err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return err
		}
	}
	k.stamps = [2]stamp{certStamp, keyStamp}
	k.current.Store(&pair)
	return nil
}

// readOwn reads a file of at most 1 MiB. One that is private must not let others in.
func readOwn(path string, private bool) ([]byte, stamp, error) {
	f, err := input.Open(path)
	if err != nil {
		return nil, stamp{}, advice.Wrap(advice.Usage, err, "name a file that exists and that the gateway may read")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if mode := info.Mode().Perm(); private && input.LetsOthersIn(path, info) {
		return nil, stamp{}, advice.New(advice.Usage, "chmod 600 "+path, "%s may be read or written by others (mode %04o)", show.Text(path), mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return data, stamp{info.Size(), info.ModTime()}, err
}

// expired says that the certificate is of no use any more.
func (k *keyPair) expired(now time.Time) error {
	if leaf := k.current.Load().Leaf; now.After(leaf.NotAfter) {
		return advice.New(advice.Usage, "is this machine's clock right? It shows "+now.UTC().Format(time.RFC3339)+". If it is, put a new certificate there", "%s.certificate %s expired at %s", show.Line(k.section), show.Text(k.certFile), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// changed says whether a file has another size or time than what was read.
func (k *keyPair) changed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, path := range []string{k.certFile, k.keyFile} {
		info, err := os.Stat(path)
		if err == nil && (stamp{info.Size(), info.ModTime()}) != k.stamps[i] {
			return true
		}
	}
	return false
}

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current.Load(), nil }
