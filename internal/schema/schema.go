// Package schema holds a SQLite file to the tables, indexes and triggers that a release makes, and no others.
//
// A file may come from a backup that somebody else had in hand. What is in its rows is for its reader to judge; but a trigger acts by itself, in every
// later statement and in every later backup: it can take back a hold or a revocation as it is written. A view in the place of a table, and a constraint
// that is not there, do as much.
package schema

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// Asker is a connection or a transaction.
type Asker interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// own are the tables that SQLite makes by itself, as it makes them: for AUTOINCREMENT, and for an administrator's ANALYZE.
var own = map[string]bool{
	"table sqlite_sequence on sqlite_sequence: CREATE TABLE sqlite_sequence(name,seq)":           true,
	"table sqlite_stat1 on sqlite_stat1: CREATE TABLE sqlite_stat1(tbl,idx,stat)":                true,
	"table sqlite_stat4 on sqlite_stat4: CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)": true,
}

var comment = regexp.MustCompile(`--[^\n]*`)

// Same refuses a file that has other objects than the statements of script make in an empty one; blanks and comments (--) do not count. The driver
// "sqlite" is the caller's.
func Same(ctx context.Context, file Asker, script string) error {
	fresh, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer fresh.Close()
	fresh.SetMaxOpenConns(1) // each connection has a memory of its own
	if _, err := fresh.ExecContext(ctx, script); err != nil {
		return err
	}
	want, err := objects(ctx, fresh)
	if err != nil {
		return err
	}
	have, err := objects(ctx, file)
	if err != nil {
		return err
	}
	for o := range have {
		if !want[o] && !own[o] {
			return differs(o, "is there")
		}
	}
	for o := range want {
		if !have[o] && !own[o] {
			return differs(o, "is missing")
		}
	}
	return nil
}

func differs(object, how string) error {
	name, _, _ := strings.Cut(object, ":")
	return fmt.Errorf("its tables, indexes and triggers are not those of Hanaper: %s %s, or says something else", show.Text(name), how)
}

func objects(ctx context.Context, file Asker) (map[string]bool, error) {
	rows, err := file.QueryContext(ctx, "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]bool{}
	for rows.Next() {
		var kind, name, table, text string
		if err := rows.Scan(&kind, &name, &table, &text); err != nil {
			return nil, err
		}
		all[strings.TrimSpace(fmt.Sprintf("%s %s on %s: %s", kind, name, table, strings.Join(strings.Fields(comment.ReplaceAllString(text, "")), " ")))] = true
	}
	return all, rows.Err()
}
