package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
)

// standingRow is one rule of one document in the output of status.
type standingRow struct {
	File      string   `json:"file"`
	Role      string   `json:"role"`
	Version   int      `json:"version"`
	Expires   string   `json:"expires"`
	Expired   bool     `json:"expired"`
	Rule      string   `json:"rule,omitempty"`
	Threshold int      `json:"threshold,omitempty"`
	Signed    []string `json:"signed"`
	Missing   []string `json:"missing"`
	Invalid   []string `json:"invalid,omitempty"`
	Complete  bool     `json:"complete"`
	Digest    string   `json:"digest"`
}

func uptaneStatusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "versions, who has signed, who is missing, and what expires when", ArgsUsage: "FILE...",
		Description: "FILE is a request, or a document: a root is held against its own keys and, with --root, against those of the root before it; other documents need --root.\n\n" +
			"Example:\n  hanaper uptane status --root root.json targets.json",
		Flags: []cli.Flag{
			repositoryFlag, jsonFlag, uptaneTimeFlag,
			&cli.StringFlag{Name: "root", Usage: "the root.json `FILE` in force"},
			&cli.StringSliceFlag{Name: "response", Usage: "count the signatures of this response `FILE` to the one request; may be repeated"},
		},
		Action: uptaneStatus,
	}
}

func uptaneStatus(c *cli.Context) error {
	if c.NArg() == 0 {
		return advice.New(advice.Usage, "see 'hanaper uptane status --help'", "FILE is missing")
	}
	now, err := timeNow(c)
	if err != nil {
		return err
	}
	responses, err := readResponses(c.StringSlice("response"))
	if err != nil {
		return err
	}
	if len(responses) > 0 && c.NArg() > 1 {
		return advice.New(advice.Usage, "name the one request", "responses belong to one request")
	}
	rows := []standingRow{}
	for _, path := range c.Args().Slice() {
		doc, a, err := statusOf(c, path, responses)
		if err != nil {
			return err
		}
		row := standingRow{
			File: path, Role: string(doc.Role()), Version: doc.Version(), Expires: doc.Expires().Format(time.RFC3339),
			Expired: uptane.CheckExpiry(doc, now) != nil, Digest: hexDigest(doc.Digest()), Signed: []string{}, Missing: []string{},
		}
		standing := a.Standing(doc)
		if len(standing) == 0 {
			for _, s := range doc.Signatures() {
				row.Signed = append(row.Signed, s.KeyID)
			}
			rows = append(rows, row)
		}
		for _, s := range standing {
			one := row
			one.Rule, one.Threshold, one.Complete, one.Signed, one.Missing = s.Rule, s.Threshold, s.Met(), keyIDs(s.Signed), keyIDs(s.Missing)
			for id := range s.Invalid {
				one.Invalid = append(one.Invalid, id)
			}
			slices.Sort(one.Invalid)
			rows = append(rows, one)
		}
	}
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, rows)
	}
	var table [][]string
	for _, r := range rows {
		expires := r.Expires
		if r.Expired {
			expires += " EXPIRED"
		}
		table = append(table, []string{r.File, r.Role, fmt.Sprint(r.Version), expires, r.Rule,
			fmt.Sprintf("%d of %d", len(r.Signed), r.Threshold), abbreviated(r.Signed), abbreviated(r.Missing)})
	}
	shell.Table(c.App.Writer, []string{"file", "role", "version", "expires", "rule", "signatures", "signed by", "not by"}, table)
	return nil
}

func statusOf(c *cli.Context, path string, responses []*uptane.Response) (uptane.Document, uptane.Authority, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, uptane.Authority{}, err
	}
	if strings.Contains(string(data[:min(len(data), 200)]), `"delegation":`) {
		r, err := uptane.ParseRequest(data)
		if err != nil {
			return nil, uptane.Authority{}, fmt.Errorf("%s: %w", path, err)
		}
		doc, err := uptane.Merge(r, responses...)
		return doc, r.Authority(), err
	}
	if len(responses) > 0 {
		return nil, uptane.Authority{}, advice.New(advice.Usage, "name the request", "%s is no request", path)
	}
	which, err := repositoryOf(c)
	if err != nil {
		return nil, uptane.Authority{}, err
	}
	doc, _, err := readDocument(which, path)
	if err != nil {
		return nil, uptane.Authority{}, err
	}
	var root *uptane.Root
	if p := c.String("root"); p != "" {
		if root, err = readRoot(p); err != nil {
			return nil, uptane.Authority{}, err
		}
	}
	switch d := doc.(type) {
	case *uptane.Root:
		if root != nil && root.Version() != d.Version()-1 {
			root = nil
		}
		return d, uptane.RootAuthority(root, d), nil
	default:
		if root == nil {
			return doc, uptane.Authority{}, nil
		}
		return doc, uptane.RoleAuthority(root, doc.Role()), nil
	}
}

func keyIDs(keys []uptane.Key) []string {
	out := []string{}
	for _, k := range keys {
		out = append(out, k.ID())
	}
	return out
}

// abbreviated shortens key ids for a table; --json has them whole.
func abbreviated(ids []string) string {
	if len(ids) == 0 {
		return "-"
	}
	var out []string
	for _, id := range ids {
		out = append(out, id[:min(12, len(id))])
	}
	return strings.Join(out, " ")
}
