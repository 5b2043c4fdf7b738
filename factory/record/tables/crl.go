package tables

import (
	"context"

	"github.com/hanaper/hanaper/factory/record"
)

// Do runs steps in one transaction of the store.
type Do func(ctx context.Context, steps func(Tx) error) error

// NextCRL implements record.Store inside the issuer's lock, which the caller holds. What decides is not that lock but the number: it is
// taken only if it is still the one that was there when the revocations were read, and the list is stored only while nobody took
// another since. A lock that was lost on the way costs a signature, never a list that lacks a revocation.
func (r *Reader) NextCRL(ctx context.Context, issuer [32]byte, do Do, make func(context.Context, record.ListTurn) (*record.CRL, error)) (*record.CRL, error) {
	var id, taken int64
	err := do(ctx, func(tx Tx) (err error) {
		if id, err = Issuer(tx, issuer); err != nil {
			return err
		}
		taken, err = number(tx, `SELECT crl_number FROM issuer WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The revocations are read after the number: who takes it later than we read it makes ours fail.
	turn := record.ListTurn{}
	if turn.UpTo, err = r.RevokedUpTo(ctx, issuer); err != nil {
		return nil, err
	}
	turn.Revoked = func(ctx context.Context, after int64) ([]record.Revocation, int64, error) {
		return r.revoked(ctx, issuer, after)
	}
	last, err := r.LatestCRL(ctx, issuer)
	switch err {
	case nil:
		turn.Last = &last
	case record.ErrNotFound:
	default:
		return nil, err
	}
	turn.Number = func(ctx context.Context, above int64) (int64, error) {
		next, was := max(above, taken)+1, taken
		err := do(ctx, func(tx Tx) error {
			rows, err := tx.Exec(`UPDATE issuer SET crl_number = ? WHERE id = ? AND crl_number = ?`, next, id, was)
			if err == nil && rows == 0 {
				err = record.ErrOvertaken
			}
			return err
		})
		if err == nil {
			taken = next
		}
		return next, err
	}
	list, err := make(ctx, turn)
	if err != nil || list == nil {
		return nil, err
	}
	// What was signed is stored, also where its caller hung up meanwhile.
	err = do(context.WithoutCancel(ctx), func(tx Tx) error {
		// The row is written, not only read, so that two who store at the same time meet here.
		rows, err := tx.Exec(`UPDATE issuer SET crl_number = crl_number WHERE id = ? AND crl_number = ?`, id, list.Number)
		if err != nil {
			return err
		}
		if rows == 0 {
			return record.ErrOvertaken
		}
		rows, err = tx.Exec(`INSERT INTO crl (issuer, number, der, this_update, next_update, up_to) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
			id, list.Number, list.DER, list.ThisUpdate.Unix(), list.NextUpdate.Unix(), list.UpTo)
		if err != nil {
			return err
		}
		if rows == 0 {
			return record.ErrOvertaken
		}
		_, err = tx.Exec(`DELETE FROM crl WHERE issuer = ? AND number NOT IN (SELECT number FROM crl WHERE issuer = ? ORDER BY number DESC LIMIT ?)`, id, id, record.KeepCRLs)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
