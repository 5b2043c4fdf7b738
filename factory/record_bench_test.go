package factory_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/bench"
	"github.com/hanaper/hanaper/internal/postgrestest"
	"github.com/hanaper/hanaper/internal/programtest"
)

// running servers, as processes, and the stations that speak to them in turn.
type fleetOfServers struct {
	daemons []*daemon
	clients []*factory.Client
}

// serversFor starts so many hanaperd on one record: SQLite where database is empty.
func serversFor(b *testing.B, servers int, database string) *fleetOfServers {
	return serversOn(b, servers, database, nil)
}

// serversOn is serversFor with something done to the folder before they start.
func serversOn(b *testing.B, servers int, database string, before func(dir string)) *fleetOfServers {
	p, bin, dir := newPlant(b), programtest.Dir(b), b.TempDir()
	f := &fleetOfServers{}
	if before != nil {
		before(dir)
	}
	var addresses []string
	for n := range servers {
		config, address := p.writeConfigFor(b, dir, n, database)
		f.daemons, addresses = append(f.daemons, start(b, bin, config)), append(addresses, address)
	}
	b.Cleanup(func() {
		for _, d := range f.daemons {
			d.stop()
		}
	})
	for i := range connections * servers {
		c, err := factory.NewClient(factory.ClientConfig{URL: "https://" + addresses[i%servers], CA: []*x509.Certificate{p.operations.cert},
			Identity: p.station(b, fmt.Sprintf("line-%d", i)).tls(), Timeout: 20 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Health(context.Background()); err != nil {
			b.Fatal(err)
		}
		f.clients = append(f.clients, c)
	}
	return f
}

func (f *fleetOfServers) side(b *testing.B, name string) bench.Side {
	return bench.Side{Name: name, Rate: func() (float64, error) {
		pile := newPile(b, 2000)
		return pile.drain(b, len(f.clients), func(w int, q factory.EnrollRequest) error {
			_, _, err := f.clients[w].Enroll(context.Background(), q)
			return err
		}), nil
	}}
}

// BenchmarkCompareRecord prints the figures of make bench BENCH=record: enrolments over HTTPS on 16 connections to each server, all
// durable, with servers, database and load in processes of their own.
func BenchmarkCompareRecord(b *testing.B) {
	cluster := postgrestest.Start(b, "-c", "shared_buffers=256MB")
	one := serversFor(b, 1, cluster.Database()).side(b, "record/postgres")
	file := serversFor(b, 1, "").side(b, "record/sqlite")
	bench.Compare(b, "postgres/sqlite", "certificates/s", one, file)
	two := serversFor(b, 2, cluster.Database()).side(b, "record/postgres-two-servers")
	bench.Compare(b, "two/one", "certificates/s", two, one)
}
