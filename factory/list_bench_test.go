package factory_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/sqlite"
	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/internal/programtest"
)

// longList is how many serials the list of the figures has.
const longList = 100_000

// serialOf is the n-th of the serial numbers that the tests revoke: 20 octets, as ours are.
func serialOf(n int) []byte {
	b := make([]byte, 20)
	b[0] = 0x5f
	binary.BigEndian.PutUint64(b[12:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	return b
}

// revokeMany puts so many revocations into the store in dir, as operators would one after another.
func revokeMany(t testing.TB, dir string, issuer [32]byte, n int) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var group sync.WaitGroup
	for w := range 256 {
		group.Go(func() {
			for i := w; i < n; i += 256 {
				v := record.Revocation{Issuer: issuer, Serial: serialOf(i), Reason: 1, At: time.Now().Add(-time.Minute), Who: "operator olga"}
				if _, _, err := s.Revoke(context.Background(), v); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// opensslList has openssl make a list of as many entries from an index of its own, and gives the time.
func opensslList(b *testing.B, p *plant, dir string) func() float64 {
	var index strings.Builder
	for n := range longList {
		fmt.Fprintf(&index, "R\t361126000000Z\t261126000000Z,keyCompromise\t%X\tunknown\t/CN=device-%d\n", serialOf(n), n)
	}
	cert, key := p.fleet.write(b, dir, "peer")
	for name, text := range map[string]string{"index.txt": index.String(), "crlnumber": "1000\n", "peer.cnf": fmt.Sprintf(`[ca]
default_ca = peer
[peer]
database = %[1]s/index.txt
crlnumber = %[1]s/crlnumber
default_md = sha256
default_crl_days = 7
crl_extensions = crl
[crl]
authorityKeyIdentifier = keyid
`, dir)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return func() float64 {
		begin := time.Now()
		openssl(b, "ca", "-config", filepath.Join(dir, "peer.cnf"), "-gencrl", "-keyfile", key, "-cert", cert, "-out", filepath.Join(dir, "peer.crl"))
		return time.Since(begin).Seconds()
	}
}

// BenchmarkCompareList: from the call that revokes one more certificate to the answer that names a list of 100,000 which carries it, and
// that is signed, checked, stored and published; a process by itself, and while 16 stations enrol at it. openssl makes one of as
// many entries from an index of its own, with a key in memory and no store.
func BenchmarkCompareList(b *testing.B) {
	p, bin, dir := newPlant(b), programtest.Dir(b), b.TempDir()
	config, address := p.writeConfig(b, dir)
	text, err := os.ReadFile(config)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "crl: {", "crl: {interval: 100ms, ", 1)), 0o600); err != nil {
		b.Fatal(err)
	}
	revokeMany(b, filepath.Join(dir, "state"), factory.IssuerID(p.issuing), longList)
	d := start(b, bin, config)
	b.Cleanup(func() { d.stop() })
	client := func(who identity) *factory.Client {
		c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + address, CA: []*x509.Certificate{p.operations.cert}, Identity: who.tls(), Timeout: 20 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	olga, next := client(p.operator(b, "olga")), longList
	list := func() float64 {
		time.Sleep(200 * time.Millisecond) // the interval
		begin := time.Now()
		next++
		for {
			a, err := olga.Revoke(b.Context(), factory.RevokeRequest{Serial: fmt.Sprintf("%x", serialOf(next)), Reason: "keyCompromise", Unknown: true})
			if err != nil {
				b.Fatal(err, d.log.String())
			}
			if a.CRLNumber != 0 {
				return time.Since(begin).Seconds()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	several := func() float64 {
		var took []float64
		for range 2 * bench.Rounds() {
			took = append(took, list())
		}
		return bench.Median(took)
	}
	list()
	peer := opensslList(b, p, b.TempDir())
	bench.Compare(b, "list/openssl", "lists of 100,000 entries/s", bench.Side{Name: "list", Rate: func() (float64, error) { return 1 / list(), nil }},
		bench.Side{Name: "list-openssl", Rate: func() (float64, error) { return 1 / peer(), nil }})
	bench.Figure("list-idle", several(), "s from the revocation to a list of 100,000 that carries it")
	ctx, stop := context.WithCancel(b.Context())
	var group sync.WaitGroup
	pile := newPile(b, 40_000)
	for i := range connections {
		c := client(p.station(b, fmt.Sprintf("line-%d", i)))
		group.Go(func() {
			for ctx.Err() == nil {
				q, ok := pile.take()
				if !ok {
					return
				}
				if _, _, err := c.Enroll(ctx, q); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			}
		})
	}
	begin, before := time.Now(), pile.next.Load()
	busy := several()
	rate := float64(pile.next.Load()-before) / time.Since(begin).Seconds()
	stop()
	group.Wait()
	bench.Figure("list-enrolling", busy, "s, the same while stations enrol")
	bench.Figure("list-enrolling-rate", rate, "enrolments/s meanwhile")
}
