package factory_test

import (
	"context"
	"crypto/x509"
	"sync"
	"testing"

	"github.com/hanaper/hanaper/factory"
)

func roots(r *running) []*x509.Certificate { return []*x509.Certificate{r.operations.cert} }

// TestEveryWayAtOnce: one request, 1,000 times on 16 connections, by JSON, in batches and by EST: one certificate, and one event.
func TestEveryWayAtOnce(t *testing.T) {
	r := serve(t, newPlant(t))
	q := deviceRequest(t, newKey(t), "dev-1")
	clients, ests := stations(t, r), estClients(t, r)
	form := estBody(t, q)
	var mu sync.Mutex
	times, isNew, got := 0, 0, map[string]int{}
	note := func(text string, first bool) {
		mu.Lock()
		defer mu.Unlock()
		times++
		got[text]++
		if first {
			isNew++
		}
	}
	var group sync.WaitGroup
	for w := range connections {
		group.Go(func() {
			switch w % 3 {
			case 0:
				for range 63 {
					a, first, err := clients[w].Enroll(context.Background(), q)
					if err != nil {
						t.Error(err)
						return
					}
					note(a.Certificate, first)
				}
			case 1:
				some := make([]factory.EnrollRequest, 21)
				for i := range some {
					some[i] = q
				}
				for range 3 {
					if _, err := clients[w].EnrollBatch(context.Background(), some, 0, func(b factory.BatchResult) {
						if b.Err != nil {
							t.Error(b.Err)
							return
						}
						note(b.Answer.Certificate, b.New)
					}); err != nil {
						t.Error(err)
					}
				}
			default:
				for range 63 {
					status, text, err := postEST(ests[w], r.url+"/.well-known/est/lot-1/simpleenroll", form)
					if err != nil || status != 200 {
						t.Error(status, text, err)
						return
					}
					note(text, false)
				}
			}
		})
	}
	group.Wait()
	a, _, err := clients[0].Enroll(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	if want := byOpenSSL(t, a.Certificate); times < 1000 || isNew > 1 || len(got) != 2 || got[a.Certificate] == 0 || got[want] == 0 {
		t.Errorf("%d answers, %d of them new, %d different", times, isNew, len(got))
	}
	if n, err := r.store.Sequence(context.Background()); err != nil || n != 1 {
		t.Errorf("%d events, %v", n, err)
	}
}
