package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func ceremonySharesCommand() *cli.Command {
	return &cli.Command{
		Name:      "shares",
		Usage:     "write out the shares of an aborted ceremony, which only its transcript holds",
		ArgsUsage: "DIR",
		Description: "An aborted ceremony releases no file, but a PIN that it changed stays changed, and the token opens only with the new shares. DIR is the folder of that " +
			"ceremony, or of a later one, which is verified as by 'hanaper ceremony verify': a folder that nothing vouches for gives nothing. Each share is encrypted to its holder. " +
			"The files are called CEREMONY/NAME.json; no file is ever overwritten, and the folder of the ceremony stays as it is.\n\n" +
			"Example:\n  hanaper ceremony shares --roster $(cat roster.sha256) --out shares ceremony-3\n" +
			"  hanaper ceremony new --shares shares/ceremony-3/vault-user-2.json ...",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write below the folder `DIR`, which is made where there is none", Required: true},
		}, anchorFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return writeShares(c, args[0])
		},
	}
}

func writeShares(c *cli.Context, dir string) error {
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return advice.Wrap(advice.Usage, err, "name the folder of a ceremony")
	}
	out := c.String("out")
	if inside(dir, out) {
		return advice.New(advice.Usage, "name another folder with --out", "%s is in the folder of the ceremony, which must stay as it is", show.Text(out))
	}
	if err := notARelease(dir); err != nil {
		return err
	}
	s, err := ceremony.ReadStatus(c.Context, input.Dir(dir), dir, held)
	if err != nil {
		return err
	}
	if len(s.Withheld) == 0 {
		return advice.New(advice.Refused, "see 'hanaper ceremony status': the shares that count lie in the folders", "no transcript in %s holds shares that are in no file", show.Text(dir))
	}
	file := func(w ceremony.WithheldShares) string { return filepath.Join(out, w.Ceremony, w.Name+".json") }
	for _, w := range s.Withheld {
		if _, err := os.Lstat(file(w)); !errors.Is(err, fs.ErrNotExist) {
			return advice.New(advice.Usage, "name another folder with --out", "%s is there already", show.Text(file(w)))
		}
	}
	for _, w := range s.Withheld {
		if err := durable.Mkdir(filepath.Dir(file(w)), 0o755); err != nil {
			return err
		}
		if err := durable.Create(file(w), w.Data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(c.App.Writer, "written to %s\n  %s; %s\n", show.Text(file(w)), withheldText(w), show.Line(sharesText(w.StatusShares)))
	}
	return nil
}

// withheldText says what shares are for.
func withheldText(w ceremony.WithheldShares) string {
	pin := "the user PIN of token " + show.Text(w.Token)
	if w.Purpose == "so" {
		pin = "the security officer PIN of token " + show.Text(w.Token)
	}
	switch w.PIN {
	case ceremony.PINSet:
		return pin + ": it opens with these alone"
	case ceremony.PINPerhaps:
		return pin + ": it opens with these, or with the ones before"
	case ceremony.PINNotSet:
		return pin + ": it was not changed, and opens with the ones before"
	}
	return "a wrapping key under which no backup was left"
}

// inside says whether a path lies in a folder, or is it.
func inside(dir, path string) bool {
	real := func(p string) string {
		p = absolute(p)
		for rest := ""; ; {
			if found, err := filepath.EvalSymlinks(p); err == nil {
				return filepath.Join(found, rest)
			}
			up := filepath.Dir(p)
			if up == p {
				return filepath.Join(p, rest)
			}
			p, rest = up, filepath.Join(filepath.Base(p), rest)
		}
	}
	rel, err := filepath.Rel(real(dir), real(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
