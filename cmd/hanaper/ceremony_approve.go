package main

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

func ceremonyApproveCommand() *cli.Command {
	return &cli.Command{
		Name:  "approve",
		Usage: "sign that you approve this script, with exactly these inputs, for one run",
		Description: "Example:\n  hanaper ceremony approve --officer ada.key --out approval-ada.json script.yaml\n  hanaper ceremony approve --officer grace.key --with approval-ada.json --out approval-grace.json script.yaml\n" +
			"  hanaper ceremony approve --officer ada.key --release /media/hanaper-v0.2.0 --release-roster $(cat releases.roster.sha256) --out approval-ada.json script.yaml",
		ArgsUsage: "SCRIPT",
		Flags: append([]cli.Flag{
			officerFlag(),
			&cli.StringFlag{Name: "out", Usage: "write the approval to `FILE`", Required: true},
			&cli.StringFlag{Name: "with", Usage: "join the approval in `FILE`: same nonce, expiry and tool"},
			&cli.StringFlag{Name: "expires", Usage: "void from `TIME` on; by default the end of the script's window"},
			&cli.StringFlag{Name: "tool", Usage: "the published `SHA256` of the program that will run; by default this one's"},
			&cli.StringFlag{Name: "release", Usage: "take the digest of the program that will run from the release in `FOLDER`, verified as by hanaper release verify"},
			&cli.StringFlag{Name: "release-not-below", Usage: "with --release: the oldest `VERSION` that you take"},
			&cli.BoolFlag{Name: "release-older", Usage: "with --release: take a version that is older than the one that this account remembers, which stays what it remembers"},
			answersFlag, stateFlag,
		}, releaseAnchorFlags("release-")...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "SCRIPT")
			if err != nil {
				return err
			}
			return approve(c, args[0])
		},
	}
}

func approve(c *cli.Context, path string) error {
	plan, err := loadPlan(c, path)
	if err != nil {
		return err
	}
	s := plan.Script()
	if err := oneOfficer(c); err != nil {
		return err
	}
	digest, from, err := toolToApprove(c)
	if err != nil {
		return err
	}
	nonce := ""
	_, expires := s.Window()
	expires = expires.Add(time.Second)
	var joined []string // keys that signed the approval that this one joins, by its own word
	with := c.String("with")
	if with != "" {
		data, err := readFile(with)
		if err != nil {
			return err
		}
		other, err := quorum.ReadApproval(data)
		if err != nil {
			return err
		}
		if got := other.ToolDigest.String(); got != digest {
			return advice.New(advice.Refused, "find out which program will run. If it is that one, say so with --tool "+got,
				"the approval in %s is for the program with SHA-256 %s, not for %s", with, got, show.Text(digest))
		}
		if joined, err = quorum.UnverifiedKeyIDs(data, quorum.ApprovalPayload); err != nil {
			return err
		}
		nonce, expires = other.Nonce, other.Expires
	} else if nonce, err = quorum.NewNonce(rand.Reader); err != nil {
		return err
	}
	if text := c.String("expires"); text != "" {
		if expires, err = time.Parse("2006-01-02T15:04:05Z", text); err != nil {
			return advice.New(advice.Usage, "write it in UTC, as 2026-11-21T09:00:00Z", "--expires %q is not a date", text)
		}
	}
	st, err := s.Statement(digest, nonce, expires)
	if err != nil {
		return err
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	explain(c.App.Writer, plan)
	fmt.Fprintf(c.App.Writer, "\nThis approval is for one run before %s, by the program with SHA-256\n  %s\n%s", expires.Format(time.RFC3339), show.Text(digest), show.Lines(from))
	if answer, err := ask.Line("Compare the words with the printed script. Type Yes to approve: "); err != nil {
		return err
	} else if answer != "Yes" {
		return advice.New(advice.Refused, "", "not approved: the answer was not Yes")
	}
	key, closer, err := openOfficer(c.Context, c.StringSlice("officer"), ask)
	if err != nil {
		return err
	}
	defer closer()
	signer, officer, err := plan.Roster().Signer(key[0])
	if err != nil {
		return err
	}
	if slices.Contains(joined, officer.KeyID) {
		return advice.New(advice.Refused, "another officer joins it", "the approval in %s is by %s already, who counts once", show.Text(with), show.Text(officer.Name))
	}
	env, err := quorum.Approve(st, signer)
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), env, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "approved by %s (%s); written to %s\n", show.Text(officer.Name), show.Text(officer.Role), c.String("out"))
	return nil
}

// oneOfficer sees, before anything is read aloud or asked, that one officer's key is named and its file is there, and that --out is new.
func oneOfficer(c *cli.Context) error {
	refs := c.StringSlice("officer")
	if len(refs) != 1 {
		return advice.New(advice.Usage, "each officer approves alone: call it once for each", "one officer approves at a time, and --officer names %d", len(refs))
	}
	if err := keysThere(refs); err != nil {
		return err
	}
	return absent(c.String("out"))
}

// toolToApprove is the digest of the program that will run, and in words where it is from, if that is neither this program nor what was typed.
func toolToApprove(c *cli.Context) (digest, from string, err error) {
	dir := c.String("release")
	for _, name := range []string{"release-checkpoint", "release-roster", "release-earlier", "release-key", "release-not-below", "release-older"} {
		if dir == "" && c.IsSet(name) {
			return "", "", advice.New(advice.Usage, "add --release FOLDER", "--%s is for a release, and none is named", name)
		}
	}
	switch {
	case dir != "" && c.String("tool") != "":
		return "", "", advice.New(advice.Usage, "leave one of both out", "--tool and --release both say which program will run")
	case c.String("tool") != "":
		return c.String("tool"), "", nil
	case dir == "":
		tool, err := thisTool()
		return tool.SHA256, "", err
	}
	r, err := readRelease(c.Context, c, "release-", dir)
	if err != nil {
		return "", "", err
	}
	if err := r.notBelow(c.String("release-not-below")); err != nil {
		return "", "", err
	}
	state, err := stateFolder(c)
	if err != nil {
		return "", "", err
	}
	m, err := recallReleases(state)
	if err != nil {
		return "", "", err
	}
	_, notes, err := r.weigh(m, c.Bool("release-older"))
	if err != nil {
		return "", "", err
	}
	if digest, err = r.manifest.OnPlatform(runtime.GOOS, runtime.GOARCH); err != nil {
		return "", "", err
	}
	d, err := quorum.ParseDigest(digest)
	if err != nil {
		return "", "", err
	}
	from = fmt.Sprintf("%s\nof release %s for %s, commit %s, held to your --release-%s\n", aloud(d), show.Text(r.Version), show.Text(r.Platform), show.Text(r.Commit), show.Line(strings.Join(r.HeldTo, ", --release-")))
	for _, n := range append(r.Notes, notes...) {
		from += "note: " + show.Line(n) + "\n"
	}
	return digest, from, nil
}
