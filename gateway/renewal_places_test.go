package gateway_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

// TestRenewalPlacesOfOneDevice: while hanaperd is slow, one device that asks again and again does not keep the others from renewing.
func TestRenewalPlacesOfOneDevice(t *testing.T) {
	s, b := renewingStand(t)
	release := make(chan struct{})
	b.respond = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Client-Cert") != "" {
			<-release
		}
		w.WriteHeader(http.StatusOK)
	}
	greedy, other := s.fleet.Device(t, "device-1"), s.fleet.Device(t, "device-2")
	var done sync.WaitGroup
	post := func(c *http.Client) (*http.Response, error) {
		return c.Post("https://"+s.addr+reenroll, "application/pkcs10", strings.NewReader("MIIB"))
	}
	var mu sync.Mutex
	got := map[int]int{}
	for range 40 {
		done.Go(func() {
			if resp, err := post(s.client(greedy, false)); err == nil {
				resp.Body.Close()
				mu.Lock()
				got[resp.StatusCode]++
				mu.Unlock()
			}
		})
	}
	busy := func() int {
		mu.Lock()
		defer mu.Unlock()
		return got[429] + got[503]
	}
	for end := time.Now().Add(time.Minute); busy() < 8; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("they do not come")
		}
	}
	answers := make(chan int, 1)
	done.Go(func() {
		status := 0
		if resp, err := post(s.client(other, true)); err == nil {
			resp.Body.Close()
			status = resp.StatusCode
		}
		answers <- status
	})
	select {
	case status := <-answers:
		t.Errorf("the other device is answered %d", status)
		answers <- status
	case <-time.After(500 * time.Millisecond):
		// It waits for hanaperd, as it should.
	}
	close(release)
	if status := <-answers; status != 200 {
		t.Errorf("the other device is answered %d", status)
	}
	done.Wait()
	if got[429] != 38 || got[200] != 2 {
		t.Errorf("answers: %v", got)
	}
	s.counted(gateway.DeviceBusy, 38)
	// What it held was given back.
	if resp, err := post(s.client(greedy, true)); err != nil || resp.StatusCode != 200 {
		t.Errorf("afterwards: %v %v", resp, err)
	}
}
