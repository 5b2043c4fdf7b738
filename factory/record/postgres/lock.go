package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// lock is an advisory lock of a session: it ends with its connection, so that a server that died holds nobody up.
type lock struct {
	conn *pgxpool.Conn
	id   int64
}

// retryLock is how often a lock that somebody else has is tried again.
const retryLock = 50 * time.Millisecond

// acquire waits for the lock of a name, no longer than ctx. It asks again and again, for a wait inside of the server would hold a
// connection, and could not be told from a server that hangs.
func (s *Store) acquire(ctx context.Context, name string) (*lock, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	digest := sha256.Sum256([]byte("hanaper " + name))
	id := int64(binary.BigEndian.Uint64(digest[:]))
	for {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		var got bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", id).Scan(&got); err != nil {
			drop(conn)
			return nil, err
		}
		if got {
			return &lock{conn, id}, nil
		}
		conn.Release()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryLock):
		}
	}
}

// release frees the lock; a connection that cannot be asked to is closed, which frees it too.
func (l *lock) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var freed bool
	if err := l.conn.QueryRow(ctx, "SELECT pg_advisory_unlock($1)", l.id).Scan(&freed); err != nil || !freed {
		drop(l.conn)
		return
	}
	l.conn.Release()
}

// drop closes a connection that nobody shall get again.
func drop(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Hijack().Close(ctx)
}
