package factory_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/softhsm"
)

// inBatch is how many certificates a batch of the figures has.
const inBatch = 100

// rivals are a hanaperd and a step-ca of one issuing key in SoftHSM, both processes of their own.
type rivals struct {
	*plant
	t testing.TB
	// address is hanaperd's.
	address string
	// process is its number.
	process int
	step    *stepCA
	// tokens are what step-ca believes: its provisioner's key, and that key's name.
	provisioner *ecdsa.PrivateKey
	kid         string
	caller      identity
}

func newRivals(t testing.TB, p *plant, peer bool) *rivals {
	t.Helper()
	r := &rivals{plant: p, t: t, caller: p.station(t, "line-1")}
	dir := t.TempDir()
	var config string
	config, r.address = p.writeConfig(t, dir)
	r.serveQuietly(config, dir)
	if peer {
		r.startPeer()
	}
	return r
}

// serveQuietly starts hanaperd with its log in a file: reading it would be this process's work.
func (r *rivals) serveQuietly(config, dir string) {
	t := r.t
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(programtest.Path(t, "hanaperd"), "serve", "--config", config, "--log", "json")
	cmd.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.process = cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(log.Name())
		if strings.Contains(string(text), `"serving"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("hanaperd does not serve: %s", text)
		}
	}
}

// startPeer starts a step-ca as it comes: badger, its PKCS#11 key store, a provisioner of one-time tokens.
func (r *rivals) startPeer() {
	t := r.t
	s := &stepCA{dir: t.TempDir(), server: r.fleet}
	r.step = s
	var err error
	if r.provisioner, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	point, err := r.provisioner.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256(point)
	r.kid = b64(sum[:])
	pin, err := os.ReadFile(r.board.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	uri := "pkcs11:module-path=" + r.board.Module + ";token=" + url.PathEscape(r.token.Info().Label) + "?pin-value=" + url.QueryEscape(strings.TrimSpace(string(pin)))
	startStepCA(t, s, map[string]any{
		"root": writePEM(t, filepath.Join(s.dir, "root.pem"), "CERTIFICATE", r.fleet.cert.Raw), "crt": writePEM(t, filepath.Join(s.dir, "issuing.pem"), "CERTIFICATE", r.issuing.Raw),
		"key": "pkcs11:object=factory-ca", "kms": map[string]string{"type": "pkcs11", "uri": uri},
		// As 'step ca init' writes it; hanaperd's log names each enrolment too.
		"logger": map[string]string{"format": "text"},
		"authority": map[string]any{"provisioners": []any{map[string]any{"type": "JWK", "name": "line", "key": map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
			"kid": r.kid, "x": b64(point[1:33]), "y": b64(point[33:])}}}}})
}

// token is a one-time token for one device.
func (r *rivals) oneTime(id string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	now := time.Now()
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce)
	claims, err := json.Marshal(map[string]any{"aud": r.step.url + "/1.0/sign", "iss": "line", "sub": id, "sans": []string{id}, "jti": hex.EncodeToString(nonce),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	if err != nil {
		r.t.Fatal(err)
	}
	text := b64(fmt.Appendf(nil, `{"alg":"ES256","kid":%q,"typ":"JWT"}`, r.kid)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, r.provisioner, sum[:])
	if err != nil {
		r.t.Fatal(err)
	}
	sig := make([]byte, 64)
	x.FillBytes(sig[:32])
	y.FillBytes(sig[32:])
	return text + "." + b64(sig)
}

func mustJSON(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ours is the load of a pile for hanaperd, at this path and in this form.
func (r *rivals) ours(p *pile, path, kind string, fresh bool, body func(factory.EnrollRequest) []byte) load {
	l := r.hanaperd(fresh)
	for _, q := range p.requests {
		l.Requests = append(l.Requests, post(r.address, path, kind, body(q), fresh))
	}
	return l
}

func (r *rivals) hanaperd(fresh bool) load {
	l := load{Address: r.address, Roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.operations.cert.Raw}), Connections: connections, Fresh: fresh, Want: 201, server: r.process}
	l.Certificate, l.Key = r.caller.pems(r.t)
	return l
}

func (r *rivals) native(p *pile, fresh bool) load {
	l := r.ours(p, "/v1/enroll", "application/json", fresh, func(q factory.EnrollRequest) []byte { return mustJSON(r.t, q) })
	l.Each, l.Times = `"serial"`, 1
	return l
}

// est asks as RFC 7030 has it.
func (r *rivals) est(p *pile) load {
	l := r.ours(p, "/.well-known/est/simpleenroll", "application/pkcs10", false, func(q factory.EnrollRequest) []byte {
		block, _ := pem.Decode([]byte(q.CSR))
		return base64.StdEncoding.AppendEncode(nil, block.Bytes)
	})
	l.Want, l.Each, l.Times = 200, "KoZIhvcNAQcCoI", 1
	return l
}

// theirs is the load of a pile for step-ca.
func (r *rivals) theirs(p *pile, fresh bool) load {
	l := load{Address: strings.TrimPrefix(r.step.url, "https://"), Roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.fleet.cert.Raw}), Connections: connections, Fresh: fresh,
		Want: 201, Each: `"crt"`, Times: 1, server: r.step.process}
	for _, q := range p.requests {
		l.Requests = append(l.Requests, post(l.Address, "/1.0/sign", "application/json", mustJSON(r.t, map[string]string{"csr": q.CSR, "ott": r.oneTime(commonName(r.t, q))}), fresh))
	}
	return l
}

// certified is theirs for callers who have a client certificate too, which step-ca verifies in the handshake as we do.
func (r *rivals) certified(p *pile) load {
	l := r.theirs(p, true)
	l.Certificate, l.Key = r.fleet.leaf(r.t, "device", ca.Template{Subject: pkix.Name{CommonName: "caller"}}).pems(r.t)
	return l
}

func commonName(t testing.TB, q factory.EnrollRequest) string {
	block, _ := pem.Decode([]byte(q.CSR))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return request.Subject.CommonName
}

// batches is the load of a pile in batches.
func (r *rivals) batches(p *pile) load {
	l := r.hanaperd(false)
	var body []byte
	for i, q := range p.requests {
		body = append(append(body, mustJSON(r.t, q)...), '\n')
		if (i+1)%inBatch == 0 {
			l.Requests, body = append(l.Requests, post(r.address, "/v1/enroll/batch", "application/x-ndjson", body, false)), nil
		}
	}
	l.Want, l.Each, l.Times = 200, `"status":201`, inBatch
	return l
}

// contest lets sides take turns, each on a pile of its own in each round, and keeps what each reached.
type contest struct {
	t     testing.TB
	rates map[string][]float64
	p99   map[string][]float64
	// cpu is the servers' processor time for a certificate, in seconds.
	cpu map[string][]float64
}

// side is one that takes part: its load, or work in this process.
type side struct {
	name string
	load func(p *pile) load
	work func(p *pile) (perSecond float64)
}

func hold(t testing.TB, each int, sides ...side) *contest {
	t.Helper()
	c := &contest{t, map[string][]float64{}, map[string][]float64{}, map[string][]float64{}}
	for round := range bench.Rounds() + 1 {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			p := newPile(t, each)
			var l load
			if s.load != nil {
				l = s.load(p)
			}
			runtime.GC()
			rate, late, cpu := 0.0, 0.0, 0.0
			if s.load != nil {
				got := generate(t, l)
				rate, late, cpu = float64(each)/got.Seconds, got.p99(), got.server/float64(each)
			} else {
				rate = s.work(p)
			}
			if t.Failed() {
				t.FailNow()
			}
			if round > 0 { // the first one warms up
				c.rates[s.name], c.p99[s.name] = append(c.rates[s.name], rate), append(c.p99[s.name], late)
				c.cpu[s.name] = append(c.cpu[s.name], cpu)
			}
		}
	}
	for _, s := range sides {
		bench.Figure(s.name, bench.Median(c.rates[s.name]), "certificates/s")
		if s.load != nil {
			bench.Figure(s.name+"-p99", bench.Median(c.p99[s.name]), "ms")
			bench.Figure(s.name+"-processor", 1e6*bench.Median(c.cpu[s.name]), "µs")
		}
	}
	return c
}

// ratio prints the median of the rounds' ratios.
func (c *contest) ratio(name, ours, theirs string) {
	var all []float64
	for i := range c.rates[ours] {
		all = append(all, c.rates[ours][i]/c.rates[theirs][i])
	}
	bench.Ratio(name, bench.Median(all))
}

// limit is the in-process limit: parse, possession, one signature in the token.
func (r *rivals) limit() side {
	return side{name: "limit", work: func(p *pile) float64 { return inProcess(r.t, &running{plant: r.plant}, p, runtime.NumCPU()) }}
}

// BenchmarkCompareEnrol prints the figures of single enrolments: hanaperd, step-ca and the in-process limit in turn.
func BenchmarkCompareEnrol(b *testing.B) {
	r := newRivals(b, newPlant(b), true)
	fmt.Println()
	c := hold(b, 4000,
		side{name: "enrol", load: func(p *pile) load { return r.native(p, false) }},
		side{name: "step-ca", load: func(p *pile) load { return r.theirs(p, false) }},
		side{name: "enrol-est", load: r.est},
		r.limit())
	c.ratio("enrol/step-ca", "enrol", "step-ca")
	c.ratio("enrol/limit", "enrol", "limit")
	c.ratio("enrol-est/enrol", "enrol-est", "enrol")
	c = hold(b, 2000,
		side{name: "enrol-new-connection", load: func(p *pile) load { return r.native(p, true) }},
		side{name: "step-ca-new-connection", load: func(p *pile) load { return r.theirs(p, true) }},
		side{name: "step-ca-new-connection-mtls", load: r.certified})
	c.ratio("enrol-new-connection/step-ca", "enrol-new-connection", "step-ca-new-connection")
	c.ratio("enrol-new-connection/step-ca-mtls", "enrol-new-connection", "step-ca-new-connection-mtls")
}

// BenchmarkCompareBatch prints those of batches.
func BenchmarkCompareBatch(b *testing.B) {
	r := newRivals(b, newPlant(b), true)
	fmt.Println()
	c := hold(b, 6000,
		side{name: "batch", load: r.batches},
		side{name: "step-ca", load: func(p *pile) load { return r.theirs(p, false) }},
		r.limit())
	c.ratio("batch/step-ca", "batch", "step-ca")
	c.ratio("batch/limit", "batch", "limit")
	for _, a := range []struct {
		name      string
		algorithm hsm.Algorithm
		each      int
	}{{"p384", hsm.P384, 2000}, {"rsa3072", hsm.RSA3072, 1000}} {
		r := newRivals(b, newPlantOf(b, a.algorithm), false)
		signed := side{name: "sign-verify-" + a.name, work: func(p *pile) float64 { return r.signAndVerify(len(p.requests)) }}
		c := hold(b, a.each, side{name: "batch-" + a.name, load: r.batches}, side{name: "enrol-" + a.name, load: func(p *pile) load { return r.native(p, false) }}, signed)
		c.ratio("batch-"+a.name+"/sign-verify", "batch-"+a.name, signed.name)
		c.ratio("enrol-"+a.name+"/sign-verify", "enrol-"+a.name, signed.name)
	}
}

// signAndVerify has the issuing key sign, on as many sessions as hanaperd opens, and verifies each signature: what an enrolment waits for
// whatever else is done. It gives signatures a second.
func (r *rivals) signAndVerify(n int) float64 {
	digest := sha256.Sum256([]byte("a certificate"))
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for range 2 * runtime.NumCPU() {
		group.Go(func() {
			for next.Add(1) <= int64(n) {
				sig, err := r.key.Sign(rand.Reader, digest[:], crypto.SHA256)
				if err != nil || !signature.Verify(r.key.Public(), digest[:], crypto.SHA256, sig) {
					r.t.Errorf("the token's signature: %v", err)
					return
				}
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(start).Seconds()
}
