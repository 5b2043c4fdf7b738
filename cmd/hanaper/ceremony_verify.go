package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/image/published"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func ceremonyVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "check a finished ceremony's folder, without token, network or clock",
		Description: "With --chain, each DIR is the folder of a ceremony, or one in which such folders lie, and they are verified as one chain, in any order: " +
			"no fork, each roster approved by the one before, each number above the last. The last folder holds copies of those before it, which need not be given. " +
			"Then --checkpoint is that of the last ceremony: without it nobody can know that none was held after.\n\n" +
			"Example:\n  hanaper ceremony verify --roster $(cat roster.sha256) ceremony-1\n" +
			"  hanaper ceremony verify --chain --roster $(cat roster.sha256) ceremony-1 ceremony-2",
		ArgsUsage: "DIR...",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "chain", Usage: "verify the ceremonies of several folders as one chain"},
			&cli.StringFlag{Name: "since", Usage: "with --chain: the SHA-256 `DIGEST` of the checkpoint up to which you verified the chain before; it stands in the place of --roster"},
			&cli.StringFlag{Name: "image", Usage: "hold what the machine said of itself, and what its TPM measured, to the release's image.json, a `FILE`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		}, anchorFlags()...),
		Action: func(c *cli.Context) error {
			if c.Bool("chain") && c.String("image") != "" {
				return advice.New(advice.Usage, "verify each folder by itself with it", "--image is for one ceremony")
			}
			if c.Bool("chain") {
				return verifyChain(c)
			}
			if c.String("since") != "" {
				return advice.New(advice.Usage, "add --chain", "--since is for a chain")
			}
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return verify(c, args[0])
		},
	}
}

// anchorFlags are those of every verb that reads a finished folder.
func anchorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "roster", Usage: "the roster's SHA-256 `DIGEST`, as people compared it: these officers approved it, and signed it"},
		&cli.StringFlag{Name: "checkpoint", Usage: "the SHA-256 `DIGEST` of the checkpoint, as people wrote it down when the ceremony ended: it is this folder and no other"},
		&cli.StringFlag{Name: "earlier", Usage: "in place of --roster: the SHA-256 `DIGEST` of the checkpoint of an earlier ceremony that this one carries on from"},
	}
}

// anchors are the digests that the flags give, whose names begin with prefix.
func anchors(c *cli.Context, prefix string) (a ceremony.Anchors, err error) {
	for name, d := range map[string]**[32]byte{"roster": &a.Roster, "checkpoint": &a.Checkpoint, "earlier": &a.Earlier} {
		if *d, err = digestFlag(c, prefix+name); err != nil {
			return a, err
		}
	}
	return a, nil
}

func verify(c *cli.Context, dir string) error {
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if err := notARelease(dir); err != nil {
		return err
	}
	r, err := ceremony.Verify(c.Context, input.Dir(dir), held)
	if r == nil {
		return err
	}
	if c.Bool("json") {
		if jerr := shell.JSON(c.App.Writer, r); jerr != nil {
			return jerr
		}
		if err == nil {
			err = holdToImage(c, c.App.ErrWriter, r)
		}
		return err
	}
	tellReport(c.App.Writer, r)
	if err == nil {
		err = holdToImage(c, c.App.Writer, r)
	}
	if err == nil {
		fmt.Fprintf(c.App.Writer, "verified: script, transcript and artefacts agree, %s\n", heldTo(c))
	}
	return err
}

// holdToImage holds what the machine said to what a release published, and says what was found.
func holdToImage(c *cli.Context, w io.Writer, r *ceremony.Report) error {
	path := c.String("image")
	if path == "" {
		return nil
	}
	i, err := published.Read(path)
	if err != nil {
		return err
	}
	p := ceremony.Published{Version: i.Version, Manifest: i.Files["manifest"].SHA256, Files: map[string]string{}, PCRs: map[int]string{}}
	for name, f := range i.Files {
		if name != "manifest" {
			p.Files[name] = f.SHA256
		}
	}
	for n, v := range i.PCRs {
		if number, err := strconv.Atoi(n); err == nil {
			p.PCRs[number] = v
		}
	}
	found, err := r.HoldTo(p)
	for _, line := range found {
		fmt.Fprintf(w, "image, %s\n", show.Line(line))
	}
	return err
}

// heldTo says which anchors were given.
func heldTo(c *cli.Context) string {
	var held []string
	for _, a := range [][2]string{{"roster", "under the roster given"}, {"checkpoint", "and it is the folder of the checkpoint given"}, {"earlier", "and it carries on from the checkpoint given"}} {
		if c.String(a[0]) != "" {
			held = append(held, a[1])
		}
	}
	return strings.Join(held, ", ")
}

// tellReport prints what a verified folder says.
func tellReport(w io.Writer, r *ceremony.Report) {
	fmt.Fprintf(w, "ceremony %s for environment %s (%s), from %s to %s as asserted, answers from the %s, %d entries, %d artefacts\n",
		show.Text(r.Ceremony), show.Text(r.Environment), show.Text(r.Mode), show.Text(r.Asserted), show.Text(r.Ended), show.Text(r.Answers), r.Entries, len(r.Artefacts))
	fmt.Fprintf(w, "script %s\nroster %s\ncheckpoint %s\ntool %s %s\n", show.Text(r.Script), show.Text(r.Roster), show.Text(r.Checkpoint), show.Text(r.Tool.Version), show.Text(r.Tool.SHA256))
	for _, t := range r.Tokens {
		fmt.Fprintf(w, "token %s: label %s, serial %s, maker %s, model %s, firmware %s\n", show.Text(t.Name), show.Text(t.Token.Label), show.Text(t.Token.Serial),
			show.Text(t.Token.Manufacturer), show.Text(t.Token.Model), show.Text(t.Token.Firmware))
	}
	for _, k := range r.Keys {
		if b := k.Birth; b != nil {
			fmt.Fprintf(w, "key %s was born in a TPM of %s (%s), endorsement certificate %.16s; the TPM answered challenges by %s: believe it if you believe that one of them was made away from the ceremony's machine\n",
				show.Text(k.Name), show.Text(b.Manufacturer), show.Line(b.Chip), show.Text(b.Endorsement), show.List(b.Makers))
		}
	}
	for _, s := range r.Releases {
		fmt.Fprintf(w, "release %s of commit %s: manifest %s, signed by key %s, SHA-256 %s\n", show.Text(s.Version), show.Text(s.Commit), show.Text(s.SHA256), show.Text(s.Key), show.Text(s.Fingerprint))
	}
	for _, o := range r.Approvals {
		fmt.Fprintf(w, "approved by %s (%s, key %.16s)\n", show.Text(o.Name), show.Text(o.Role), show.Text(o.KeyID))
	}
	for _, o := range r.Signers {
		fmt.Fprintf(w, "signed as performed by %s (%s, key %.16s)\n", show.Text(o.Name), show.Text(o.Role), show.Text(o.KeyID))
	}
	for _, o := range r.Late {
		fmt.Fprintf(w, "signed later by %s (%s, key %.16s)\n", show.Text(o.Name), show.Text(o.Role), show.Text(o.KeyID))
	}
	for _, o := range r.Witnesses {
		fmt.Fprintf(w, "witnessed by %s: step %d, %s\n", show.Text(o.Name), o.Step, show.Line(o.Saw))
	}
	for _, m := range r.Remarks {
		fmt.Fprintf(w, "%s: %s\n", show.Text(m.About), show.Text(m.Text))
	}
	for _, e := range r.Exceptions {
		fmt.Fprintf(w, "exception %d after step %d, reported by %s: expected %s, happened %s, decided %s\n", e.Number, e.Step,
			show.Text(e.ReportedBy), show.Text(e.Expected), show.Text(e.Happened), show.Text(e.Decided))
	}
	for _, p := range r.Platforms {
		for _, text := range p.Words() {
			fmt.Fprintf(w, "machine, at %s: %s\n", show.Text(p.When), show.Line(text))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", show.Text(n))
	}
	if r.Resumed > 0 {
		fmt.Fprintf(w, "cut short and resumed %d times\n", r.Resumed)
	}
	if r.Aborted {
		fmt.Fprintln(w, "ABORTED: the ceremony ended without a result; numbers in it count as used")
	}
	for _, k := range r.Stays {
		fmt.Fprintf(w, "NOT REMOVED: %s is there still\n", show.Text(k))
	}
}
