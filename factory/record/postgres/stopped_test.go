package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/factory/record/recordtest"
	"github.com/hanaper/hanaper/internal/postgrestest"
)

// TestStoppedServer: a server that is stopped while it makes a list (SIGSTOP, a frozen container) keeps its connection, and so its lock. Another
// passes it by before a request's time is over; and what the first has made when it goes on again is not stored. (Before: no server could
// sign a list any more until somebody ended that process.)
func TestStoppedServer(t *testing.T) {
	ctx, c := context.Background(), postgrestest.Start(t)
	base := c.Database()
	one, two := opened(t, base), opened(t, base)
	defer one.Close()
	defer two.Close()
	numbered, goOn, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	signed := func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
		n, err := turn.Number(ctx, 0)
		return &record.CRL{Number: n, DER: []byte{byte(recordtest.Revoked(t, turn))}, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), UpTo: turn.UpTo}, err
	}
	go func() {
		_, err := one.NextCRL(ctx, recordtest.Issuer, func(ctx context.Context, turn record.ListTurn) (*record.CRL, error) {
			l, err := signed(ctx, turn)
			close(numbered)
			<-goOn
			return l, err
		})
		first <- err
	}()
	<-numbered
	if _, _, err := two.Revoke(ctx, record.Revocation{Issuer: recordtest.Issuer, Serial: []byte{7}, At: time.Now(), Reason: 1, Who: "operator olga"}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	request, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	l, err := two.NextCRL(request, recordtest.Issuer, signed)
	if err != nil || l == nil || l.DER[0] != 1 {
		t.Errorf("after %s: %+v, %v", time.Since(begun), l, err)
	}
	close(goOn)
	if err := <-first; !errors.Is(err, record.ErrOvertaken) {
		t.Errorf("the one that was stopped: %v", err)
	}
	if last, err := two.LatestCRL(ctx, recordtest.Issuer); err != nil || last.DER[0] != 1 {
		t.Errorf("%+v, %v", last, err)
	}
}
