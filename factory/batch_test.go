package factory_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
)

const ndjson = "application/x-ndjson"

// batchAnswer is a line of an answer as somebody reads it who has only docs/spec/factory-api.md.
type batchAnswer struct {
	Index      *int         `json:"index"`
	Status     int          `json:"status"`
	DeviceID   string       `json:"device_id"`
	Serial     string       `json:"serial"`
	Error      string       `json:"error"`
	Code       factory.Code `json:"code"`
	RetryAfter int          `json:"retry_after"`
	End        bool         `json:"end"`
	Lines      int          `json:"lines"`
}

// lines reads an answer: the lines by index, and the last one.
func batchLines(t testing.TB, body io.Reader) (map[int]batchAnswer, *batchAnswer) {
	t.Helper()
	got := map[int]batchAnswer{}
	in := bufio.NewScanner(body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var a batchAnswer
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			t.Errorf("%v: %s", err, in.Text())
			continue
		}
		if a.End {
			if in.Scan() {
				t.Errorf("after the end: %s", in.Text())
			}
			return got, &a
		}
		if _, twice := got[*a.Index]; twice {
			t.Errorf("line %d is answered twice", *a.Index)
		}
		got[*a.Index] = a
	}
	return got, nil
}

func ndjsonOf(t testing.TB, requests ...factory.EnrollRequest) string {
	var b strings.Builder
	for _, q := range requests {
		b.Write(body(t, q))
		b.WriteByte('\n')
	}
	return b.String()
}

// TestBatch: every line gets what it would get alone, a bad one ends nothing, and the line that ends it all is there.
func TestBatch(t *testing.T) {
	r := serve(t, newPlant(t))
	station := r.station(t, "line-1")
	key := newKey(t)
	good := ndjsonOf(t, deviceRequest(t, newKey(t), "dev-1"), deviceRequest(t, key, "dev-2"))
	text := good + "{\"csr\":\n" + "[]\n" + "\n \r\n" + ndjsonOf(t, deviceRequest(t, newKey(t), "dev/../3"), deviceRequest(t, key, "dev-4")) +
		`{"csr":"` + strings.Repeat("x", 33<<10) + "\"}\n" + `{"csr":"x","csr":"y"}` + "\n" + strings.TrimSuffix(ndjsonOf(t, deviceRequest(t, newKey(t), "dev-8")), "\n")
	status, header, got, err := r.raw(station, "POST", "/v1/enroll/batch", ndjson, []byte(text))
	if err != nil || status != 200 || header.Get("Content-Type") != ndjson || header.Get("Cache-Control") != "no-store" {
		t.Fatal(status, header, err)
	}
	answers, end := batchLines(t, strings.NewReader(got))
	if end == nil || end.Lines != 9 || end.Error != "" || len(answers) != 9 {
		t.Fatalf("%+v, %d lines: %s", end, len(answers), got)
	}
	want := map[int]struct {
		status int
		code   factory.Code
	}{0: {201, ""}, 2: {400, factory.CodeRequest}, 3: {400, factory.CodeRequest}, 4: {422, factory.CodePolicy}, 6: {413, factory.CodeTooLarge}, 7: {400, factory.CodeRequest}, 8: {201, ""}}
	for i, w := range want {
		if a := answers[i]; a.Status != w.status || a.Code != w.code || (a.Error == "") != (w.code == "") {
			t.Errorf("line %d: %+v, want %+v", i, a, w)
		}
	}
	// Two lines with one key: the first that comes has it.
	if one, two := answers[1], answers[5]; one.Status+two.Status != 201+409 || one.Code+two.Code != factory.CodeKeyKnown {
		t.Errorf("%+v and %+v", one, two)
	}
	// The same again is the same.
	_, _, again, err := r.raw(station, "POST", "/v1/enroll/batch", ndjson, []byte(good[:strings.IndexByte(good, '\n')+1]))
	if answers2, end := batchLines(t, strings.NewReader(again)); err != nil || end == nil || end.Lines != 1 || answers2[0].Status != 200 || answers2[0].Serial != answers[0].Serial {
		t.Errorf("%v: %s", err, again)
	}
	if status, _, got, err := r.raw(station, "POST", "/v1/enroll/batch", ndjson, nil); err != nil || status != 200 || got != "{\"end\":true,\"lines\":0}\n" {
		t.Errorf("an empty batch: %d %q %v", status, got, err)
	}
}

// TestBatchRefused: a batch that may not be is refused whole, as JSON, and writes nothing.
func TestBatchRefused(t *testing.T) {
	r := serve(t, newPlant(t))
	station := r.station(t, "line-1")
	good := []byte(ndjsonOf(t, deviceRequest(t, newKey(t), "dev-1")))
	for _, c := range []struct {
		name         string
		who          identity
		method, kind string
		status       int
		code         factory.Code
	}{
		{"an operator", r.operator(t, "olga"), "POST", ndjson, 403, factory.CodeForbidden},
		{"GET", station, "GET", ndjson, 405, factory.CodeMethod},
		{"JSON", station, "POST", "application/json", 415, factory.CodeContent},
		{"no type", station, "POST", "", 415, factory.CodeContent},
	} {
		before := r.rows()
		status, _, got, err := r.raw(c.who, c.method, "/v1/enroll/batch", c.kind, good)
		var no struct{ Code factory.Code }
		if jsonErr := json.Unmarshal([]byte(got), &no); err != nil || jsonErr != nil || status != c.status || no.Code != c.code || r.rows() != before {
			t.Errorf("%s: %d %s %v", c.name, status, got, err)
		}
	}
	before := r.rows()
	if got := r.exchange(station, fmt.Sprintf("POST /v1/enroll/batch HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", ndjson, len(good), good)); !strings.HasPrefix(got, "HTTP/1.1 415 ") || r.rows() != before {
		t.Errorf("compressed: %s", got)
	}
}

// begin opens a batch and sends these bytes of its body, without an end.
func (r *running) begin(who identity, text string) *tls.Conn {
	c := r.dial(who)
	if err := c.NetConn().(*net.TCPConn).SetReadBuffer(4096); err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /v1/enroll/batch HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", ndjson, len(text), text)
	return c
}

// tight is a listener whose connections hold little of what is not read.
type tight struct{ net.Listener }

func (l tight) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

func answerOf(t testing.TB, c net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestBatchStreams: a line is answered while the next has not been sent.
func TestBatchStreams(t *testing.T) {
	r := serve(t, newPlant(t))
	c := r.begin(r.station(t, "line-1"), ndjsonOf(t, deviceRequest(t, newKey(t), "dev-0")))
	resp := answerOf(t, c)
	in := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := in.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf(`"index":%d,"status":201,"device_id":"dev-%d"`, i, i)) {
			t.Fatalf("%v: %s", err, line)
		}
		next := ndjsonOf(t, deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", i+1)))
		fmt.Fprintf(c, "%x\r\n%s\r\n", len(next), next)
	}
	fmt.Fprint(c, "0\r\n\r\n")
	if answers, end := batchLines(t, in); end == nil || end.Lines != 4 || len(answers) != 1 {
		t.Errorf("%+v, %+v", answers, end)
	}
}

// TestBatchSlowCallers: who sends nothing, drips, breaks off or does not read is ended, keeps what was answered, and holds up nobody: one slot
// is enough for another station meanwhile.
func TestBatchSlowCallers(t *testing.T) {
	r := serve(t, newPlant(t))
	t.Cleanup(factory.SetBatchTimes(2*time.Second, 6*time.Second))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- factory.Serve(ctx, tight{l}, factory.NewHandler(r.service, r.callers, 1), r.callers.TLS(r.server.tls()), slog.New(slog.DiscardHandler))
	}()
	r.url = "https://" + l.Addr().String()
	station := r.station(t, "slow")
	request := func(id string) string { return ndjsonOf(t, deviceRequest(t, newKey(t), id)) }

	silent := r.begin(station, request("dev-silent"))
	drips := r.begin(station, request("dev-drips"))
	var group sync.WaitGroup
	group.Go(func() {
		for range 100 {
			if _, err := fmt.Fprint(drips, "1\r\n \r\n"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	// A line just in time, without end: the whole has its bound too.
	steady := r.begin(station, request("dev-steady"))
	group.Go(func() {
		for range 100 {
			if _, err := fmt.Fprint(steady, "2\r\n{\n\r\n"); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	broken := r.begin(station, request("dev-broken")+`{"csr":"`)
	broken.Close()
	// One who sends much and reads nothing.
	deaf := r.begin(station, request("dev-deaf")+strings.Repeat("{\n", 9000))
	if _, _, err := r.client(r.station(t, "line-1")).Enroll(ctx, deviceRequest(t, newKey(t), "dev-1")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"silent": silent, "drips": drips, "steady": steady} {
		answers, end := batchLines(t, answerOf(t, c).Body)
		if end == nil || end.Code != factory.CodeTimeout || answers[0].Status != 201 || answers[0].DeviceID != "dev-"+name {
			t.Errorf("%s: %+v, %+v", name, answers, end)
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
	}
	group.Wait()
	if got, _ := io.ReadAll(answerOf(t, deaf).Body); bytes.Contains(got, []byte(`"end":true`)) || bytes.Count(got, []byte("\n")) > 8000 {
		t.Errorf("%d lines were answered to one who reads nothing", bytes.Count(got, []byte("\n")))
	}
	if d, err := r.service.Device(ctx, "dev-broken"); err != nil || d.Status != "issued" {
		t.Errorf("the whole line before half a one: %+v, %v", d, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestBatchStopped: a server that is being stopped finishes the lines that it has, says so, and reads no more.
func TestBatchStopped(t *testing.T) {
	r := serve(t, newPlant(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- factory.Serve(ctx, l, factory.NewHandler(r.service, r.callers, 8), r.callers.TLS(r.server.tls()), slog.New(slog.DiscardHandler))
	}()
	r.url = "https://" + l.Addr().String()
	c := r.begin(r.station(t, "line-1"), ndjsonOf(t, deviceRequest(t, newKey(t), "dev-1")))
	resp := answerOf(t, c)
	in := bufio.NewReader(resp.Body)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"status":201`) {
		t.Fatal(line, err)
	}
	stop()
	if _, end := batchLines(t, in); end == nil || end.Code != factory.CodeUnavailable || end.RetryAfter == 0 || end.Lines != 1 {
		t.Errorf("%+v", end)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestEnrollBatch: the client sends what hanaperd could not answer again, and tells of each request once.
func TestEnrollBatch(t *testing.T) {
	p := newPlant(t)
	flaky := &awayKey{Signer: p.key}
	var err error
	if p.issuer, err = ca.NewIssuer(p.issuing, flaky, p.fleet.cert); err != nil {
		t.Fatal(err)
	}
	r := serve(t, p)
	station := r.station(t, "line-1")
	client := func(tries int, note func(error, time.Duration)) *factory.Client {
		c, err := factory.NewClient(factory.ClientConfig{URL: r.url, CA: roots(r), Identity: station.tls(), Timeout: 20 * time.Second, Tries: tries, Note: note})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var requests []factory.EnrollRequest
	for i := range 40 {
		requests = append(requests, deviceRequest(t, newKey(t), fmt.Sprintf("dev-%d", i)))
	}
	requests[7].CSR = "nonsense"
	run := func(c *factory.Client) (map[int]factory.BatchResult, error) {
		got := map[int]factory.BatchResult{}
		_, err := c.EnrollBatch(t.Context(), requests, 0, func(b factory.BatchResult) {
			if _, twice := got[b.Index]; twice || (b.Err == nil) != (b.Answer != nil) {
				t.Errorf("%+v", b)
			}
			got[b.Index] = b
		})
		if len(got) != len(requests) {
			t.Errorf("told of %d requests", len(got))
		}
		return got, err
	}
	flaky.away.Store(true)
	if got, err := run(client(1, nil)); err != nil || got[3].Err == nil || !strings.Contains(got[3].Err.Error(), "token") {
		t.Errorf("%v, %+v", err, got[3])
	}
	tries := 0
	got, err := run(client(3, func(error, time.Duration) { tries++; flaky.away.Store(false) }))
	if err != nil || tries == 0 {
		t.Errorf("%v after %d tries", err, tries)
	}
	for i, b := range got {
		if i == 7 {
			if b.Err == nil {
				t.Error("nonsense was enrolled")
			}
		} else if b.Err != nil || b.Answer.DeviceID != fmt.Sprintf("dev-%d", i) {
			t.Errorf("%d: %+v", i, b)
		}
	}
	r.url = "https://127.0.0.1:1"
	if got, err := run(client(1, nil)); err == nil || got[0].Err == nil {
		t.Errorf("nobody is there: %v, %+v", err, got[0])
	}
}
