package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// TestRevocationIsPushed: what another process publishes, and what a CRL's file says, is in force at a gateway that would look only in an hour; and
// 'serve' ends at once although gateways wait.
func TestRevocationIsPushed(t *testing.T) {
	d := newDesk(t)
	w := d.world
	d.config("crls: [{file: factory.crl}]\nserve: {listen: \"127.0.0.1:0\", interval: 1h}\n")
	d.ok("init", d.path("officers"))
	d.ok("crl", "add", d.write("one.crl", w.MakeCRL(w.Issuing, 1, 5)))
	url, stop := d.serve()
	f, err := feed.New(feed.Config{Source: url, Pin: w.Pin, StateDir: t.TempDir(), Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	views := make(chan *trust.View, 10)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx, func(v *trust.View) { views <- v }) }()
	next := func() *trust.View {
		select {
		case v := <-views:
			return v
		case <-time.After(time.Minute):
			t.Fatal("nothing came")
			return nil
		}
	}
	if v := next(); v.Revoked(w.Issuing.Cert, big.NewInt(6)) {
		t.Fatal("revoked already")
	}
	d.ok("crl", "add", d.write("two.crl", w.MakeCRL(w.Issuing, 2, 5, 6)))
	published := time.Now()
	if v := next(); !v.Revoked(w.Issuing.Cert, big.NewInt(6)) {
		t.Error("not revoked")
	}
	t.Logf("in force %v after the verb had ended", time.Since(published).Round(time.Millisecond))
	if err := os.Rename(d.write("three.crl", w.MakeCRL(w.Issuing, 3, 5, 6, 7)), d.path("factory.crl")); err != nil {
		t.Fatal(err)
	}
	published = time.Now()
	if v := next(); !v.Revoked(w.Issuing.Cert, big.NewInt(7)) {
		t.Error("not revoked")
	}
	t.Logf("in force %v after the file was there", time.Since(published).Round(time.Millisecond))
	// It waits again; the server does not wait for it. stop wants exit code 0, which a server that had to cut somebody off does not give.
	time.Sleep(200 * time.Millisecond)
	stop()
	cancel()
	<-ended
}

// TestPlacesForWaiters: who waits has one of so many places; without one the answer comes at once and does not promise to wait.
func TestPlacesForWaiters(t *testing.T) {
	w := trusttest.NewAt(t, time.Now().Truncate(time.Second))
	w.Import()
	p, err := trust.NewPublisher(w.PublisherConfig())
	if err != nil {
		t.Fatal(err)
	}
	site, err := newSite(w.Dir, p, func() string { return "ok" })
	if err != nil {
		t.Fatal(err)
	}
	defer site.Close()
	mux := http.NewServeMux()
	site.Routes(mux)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ReadTimeout = 200 * time.Millisecond // shorter than the wait: it is for reading the request
	server.Start()
	defer server.Close()
	ask := func(tag, prefer string) (*http.Response, string) {
		req, _ := http.NewRequest(http.MethodGet, server.URL+"/metadata/timestamp.json", nil)
		if tag != "" {
			req.Header.Set("If-None-Match", tag)
		}
		req.Header.Set("Prefer", prefer)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return &http.Response{}, ""
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res, string(body)
	}
	first, body := ask("", "wait=30")
	tag := first.Header.Get("ETag")
	if first.StatusCode != 200 || len(tag) != 66 || !strings.Contains(body, "timestamp") || first.Header.Get("Preference-Applied") != "" {
		t.Fatalf("%v %q", first, body)
	}
	// Another tag, a list with it, a weak one, any; and nobody asked to wait.
	for given, want := range map[string]int{`"other"`: 200, `"other", ` + tag: 304, "W/" + tag: 304, "*": 304} {
		if res, body := ask(given, "respond-async"); res.StatusCode != want || (want == 304) != (body == "") {
			t.Errorf("%s: %v", given, res.Status)
		}
	}
	if res, _ := ask(tag, `foo=bar, wait=1`); res.StatusCode != 304 || res.Header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("%v", res)
	}
	var all sync.WaitGroup
	answers := make(chan string, maxWaitersOf)
	for range maxWaitersOf {
		all.Go(func() {
			res, _ := ask(tag, "wait=600")
			answers <- fmt.Sprint(res.StatusCode, res.Header.Get("Preference-Applied"))
		})
	}
	eventually(t, "waiters", func() bool {
		site.waiters.mu.Lock()
		defer site.waiters.mu.Unlock()
		return site.waiters.all == maxWaitersOf
	})
	if res, _ := ask(tag, "wait=600"); res.StatusCode != 304 || res.Header.Get("Preference-Applied") != "" {
		t.Errorf("one more: %v", res)
	}
	if err := p.AddCRL(w.MakeCRL(w.Issuing, 1, 5)); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for range maxWaitersOf {
		if a := <-answers; a != "200wait=60" && a != "200 wait=60" {
			t.Errorf("a waiter got %s", a)
		}
	}
	if site.waiters.all != 0 || len(site.waiters.of) != 0 {
		t.Errorf("places that are not given back: %d", site.waiters.all)
	}
	// Files that never change have a tag too.
	v := p.View()
	name := fmt.Sprintf("metadata/%d.targets.json", v.Versions().Targets)
	req, _ := http.NewRequest(http.MethodGet, server.URL+"/"+name, nil)
	digest := v.Files()[name]
	req.Header.Set("If-None-Match", fmt.Sprintf(`"%x"`, digest))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 304 {
		t.Errorf("%s: %v", name, res.Status)
	}
}

// TestListNotSentAgain: a CRL behind a URL that is the same is not sent again.
func TestListNotSentAgain(t *testing.T) {
	sent := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		if r.Header.Get("If-None-Match") == `"a"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		_, _ = io.WriteString(w, "list")
	}))
	defer server.Close()
	r := &remote{client: server.Client(), url: server.URL}
	for range 3 {
		files, err := r.fetch(t.Context())
		if err != nil || string(files[server.URL]) != "list" {
			t.Errorf("%v, %q", err, files)
		}
	}
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}
