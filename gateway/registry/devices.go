package registry

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/gateway"
)

const deviceColumns = `SELECT d.name, d.first_seen, d.last_seen, d.deleted, d.why, d.old_key, d.other_key, d.rekey, lower(hex(coalesce(d.key, x''))),
	(SELECT count(DISTINCT key_sha256) FROM certificates c WHERE c.device = d.name AND c.not_after > ?1) FROM devices d `

type scanner interface{ Scan(...any) error }

func scanDevice(s scanner) (gateway.Device, error) {
	var d gateway.Device
	var first, last, deleted, oldKey, otherKey, rekey int64
	if err := s.Scan(&d.Name, &first, &last, &deleted, &d.Why, &oldKey, &otherKey, &rekey, &d.Key, &d.LiveKeys); err != nil {
		return d, err
	}
	d.State, d.FirstSeen, d.LastSeen, d.Deleted = "known", instant(first), instant(last), instant(deleted)
	if deleted != 0 {
		d.State = "deleted"
	}
	if d.LiveKeys > 1 {
		d.Flags = append(d.Flags, "two-live-keys")
	}
	if oldKey != 0 {
		d.Flags = append(d.Flags, "old-key-returned")
	}
	if otherKey != 0 {
		d.Flags = append(d.Flags, "other-key-refused")
	}
	d.RekeyAllowed = rekey != 0
	return d, nil
}

func instant(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

// Devices implements gateway.Registry.
func (r *SQLite) Devices(ctx context.Context, after string, limit int) ([]gateway.Device, error) {
	rows, err := r.read.QueryContext(ctx, deviceColumns+"WHERE d.name > ?2 ORDER BY d.name LIMIT ?3", time.Now().Unix(), after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []gateway.Device
	for rows.Next() {
		d, err := scanDevice(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// Device implements gateway.Registry.
func (r *SQLite) Device(ctx context.Context, name string) (gateway.Device, error) {
	d, err := scanDevice(r.read.QueryRowContext(ctx, deviceColumns+"WHERE d.name = ?2", time.Now().Unix(), name))
	if errors.Is(err, sql.ErrNoRows) {
		return d, fmt.Errorf("%q: %w", name, gateway.ErrNoDevice)
	}
	if err != nil {
		return d, err
	}
	rows, err := r.read.QueryContext(ctx, `SELECT sha256, key_sha256, serial, issuer, not_after, first_seen, last_seen
		FROM certificates WHERE device = ? ORDER BY turn`, name)
	if err != nil {
		return d, err
	}
	defer rows.Close()
	for rows.Next() {
		var c gateway.DeviceCertificate
		var sum, key []byte
		var notAfter, first, last int64
		if err := rows.Scan(&sum, &key, &c.Serial, &c.Issuer, &notAfter, &first, &last); err != nil {
			return d, err
		}
		c.Certificate, c.Key = hex.EncodeToString(sum), hex.EncodeToString(key)
		c.NotAfter, c.FirstSeen, c.LastSeen = instant(notAfter), instant(first), instant(last)
		d.Certificates = append(d.Certificates, c)
	}
	return d, rows.Err()
}

// Delete implements gateway.Registry.
func (r *SQLite) Delete(ctx context.Context, name, why string, at time.Time) error {
	return r.alter(ctx, func(tx *sql.Tx) error {
		result, err := tx.Exec(`INSERT INTO devices (name, deleted, why) VALUES (?1, ?2, ?3)
			ON CONFLICT (name) DO UPDATE SET deleted = excluded.deleted, why = excluded.why WHERE deleted = 0`, name, at.Unix(), why)
		return oneRow(result, err, name, gateway.ErrDeleted)
	})
}

// Release implements gateway.Registry. What was known of the device goes: it is met anew.
func (r *SQLite) Release(ctx context.Context, name string, _ time.Time) error {
	return r.alter(ctx, func(tx *sql.Tx) error {
		result, err := tx.Exec("DELETE FROM devices WHERE name = ? AND deleted <> 0", name)
		if err := oneRow(result, err, name, gateway.ErrNoDevice); err != nil {
			return err
		}
		_, err = tx.Exec("DELETE FROM certificates WHERE device = ?", name)
		return err
	})
}

// AllowRekey implements gateway.Registry.
func (r *SQLite) AllowRekey(ctx context.Context, name string) error {
	return r.alter(ctx, func(tx *sql.Tx) error {
		result, err := tx.Exec("UPDATE devices SET rekey = 1 WHERE name = ? AND deleted = 0", name)
		return oneRow(result, err, name, gateway.ErrNoDevice)
	})
}

func oneRow(result sql.Result, err error, name string, none error) error {
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%q: %w", name, none)
}

// alter makes a change of tombstones and has it seen here before it returns.
func (r *SQLite) alter(ctx context.Context, do func(*sql.Tx) error) error {
	err := r.tx(ctx, func(tx *sql.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE generation SET value = value + 1")
		return err
	})
	if err != nil {
		return err
	}
	if _, err := r.look(true); err != nil {
		return err
	}
	r.tell()
	return nil
}
