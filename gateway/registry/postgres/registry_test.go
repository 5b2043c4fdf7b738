package postgres

import (
	"context"
	"testing"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/gateway/registry/registrytest"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

func TestPostgres(t *testing.T) {
	cluster := postgrestest.Start(t)
	registrytest.Run(t, func(t *testing.T) registrytest.Opener {
		base := cluster.Database()
		return func(t *testing.T) gateway.Registry {
			r, err := Open(context.Background(), Config{Database: base, Connections: 6})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	})
}
