package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/release"
)

func releaseCommand() *cli.Command {
	return &cli.Command{
		Name:        "release",
		Usage:       "check a release of Hanaper, before it is installed and after",
		Subcommands: []*cli.Command{releaseVerifyCommand()},
	}
}

func releaseVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "hold a release's folder, and this program, to what a ceremony signed",
		Description: "FOLDER has the release and, in ceremony/, the folder of the ceremony that signed it. What you hold yourself is named by one of --checkpoint, --roster, --earlier and --key at least, and " +
			"each that is named must hold; nothing in FOLDER says whether FOLDER is the right one. The account that runs it remembers in --state the newest release of each line of officers that it verified.\n\n" +
			"Example:\n  hanaper release verify --roster $(cat roster.sha256) --not-installed /media/hanaper-v0.2.0\n  hanaper release verify --roster $(cat roster.sha256) /media/hanaper-v0.2.0",
		ArgsUsage: "FOLDER",
		Flags: append(releaseAnchorFlags(""),
			&cli.StringFlag{Name: "not-below", Usage: "the oldest `VERSION` that you take"},
			&cli.BoolFlag{Name: "older", Usage: "go back: take a version that is older than the one that this account remembers, and remember it in the place of that"},
			&cli.BoolFlag{Name: "not-installed", Usage: "leave this program out: the release is not installed yet"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			stateFlag),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "FOLDER")
			if err != nil {
				return err
			}
			return verifyRelease(c, args[0])
		},
	}
}

// releaseAnchorFlags are what somebody holds against whom a release's folder is verified.
func releaseAnchorFlags(prefix string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: prefix + "checkpoint", Usage: "the SHA-256 `DIGEST` of the checkpoint of the ceremony that signed the release, as people wrote it down: it is this release and no other"},
		&cli.StringFlag{Name: prefix + "roster", Usage: "the SHA-256 `DIGEST` of the roster of the officers who hold ceremonies that sign releases"},
		&cli.StringFlag{Name: prefix + "earlier", Usage: "in place of a roster: the SHA-256 `DIGEST` of the checkpoint of an earlier ceremony that this one carries on from, such as that of the last release"},
		&cli.StringFlag{Name: prefix + "key", Usage: "the SHA-256 `DIGEST` of the release key's public half, from paper. Alone it says least: who stole the key passes"},
	}
}

// releaseReport is what a release verifies as.
type releaseReport struct {
	Verified    bool   `json:"verified"`
	Version     string `json:"version"`
	Commit      string `json:"commit"`
	Date        string `json:"date"`
	Platform    string `json:"platform"`
	Manifest    string `json:"manifest_sha256"`
	Key         string `json:"spki_sha256"`
	Ceremony    string `json:"ceremony"`
	Environment string `json:"environment"`
	Checkpoint  string `json:"checkpoint_sha256"`
	// Roster is the SHA-256 of the roster of those who signed, SignedBy the names of the officers.
	Roster   string   `json:"roster_sha256"`
	SignedBy []string `json:"signed_by"`
	// HeldTo are the flags that named what the ceremony was held against.
	HeldTo   []string          `json:"held_to"`
	Programs map[string]string `json:"programs"`
	Files    int               `json:"files"`
	// Installed is true where this program was found to be the release's.
	Installed bool `json:"installed"`
	// Notes are what a reader should know, Differences what is not as it was signed.
	Notes       []string `json:"notes,omitempty"`
	Differences []string `json:"differences,omitempty"`

	manifest *release.Manifest
	// firstRoster is that of the chain's first ceremony, prefix that of the names of the flags.
	firstRoster, prefix string
}

// heldTo says whether the flag was given.
func (r *releaseReport) heldTo(name string) bool { return slices.Contains(r.HeldTo, name) }

var errNoAnchor = advice.New(advice.Usage, "give what you wrote down or were given on another way than the folder: --checkpoint, --roster or --earlier; or --key",
	"nothing says whose release this is: nothing in the folder can")

// readRelease verifies the ceremony in a release's folder, takes the manifest from there, and holds the folder to it. A report comes with an
// error where it is known what is said to be released.
func readRelease(ctx context.Context, c *cli.Context, prefix, dir string) (*releaseReport, error) {
	given, err := anchors(c, prefix)
	if err != nil {
		return nil, err
	}
	var heldTo []string
	for _, name := range []string{"checkpoint", "roster", "earlier"} {
		if c.String(prefix+name) != "" {
			heldTo = append(heldTo, name)
		}
	}
	key, err := digestFlag(c, prefix+"key")
	if err != nil {
		return nil, err
	}
	if key != nil {
		heldTo = append(heldTo, "key")
	}
	if len(heldTo) == 0 {
		return nil, errNoAnchor
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, advice.New(advice.Usage, "name the folder of a release, in which manifest.json and ceremony lie", "%s is no folder", show.Text(dir))
	}
	if _, err := os.Stat(filepath.Join(dir, release.CeremonyDir)); err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "a release that was signed has the ceremony's folder in it, as "+release.CeremonyDir)
	}
	held, err := ceremony.Verify(ctx, input.Dir(filepath.Join(dir, release.CeremonyDir)), given)
	if errors.Is(err, ceremony.ErrNotAuthenticated) && held.Attested && given == (ceremony.Anchors{}) {
		err = nil // the key is the anchor
	} else if errors.Is(err, ceremony.ErrNotAuthenticated) {
		err = advice.New(advice.Unverified, "have more officers sign with `hanaper ceremony attest`", "%w: fewer officers signed it than must agree", ceremony.ErrNotAttested)
	}
	if err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s/%w", release.CeremonyDir, err), advice.Hint(err))
	}
	s, err := signedIn(held, dir)
	if err != nil {
		return nil, err
	}
	if key != nil && s.Fingerprint != hexDigest(*key) {
		return nil, advice.New(advice.Unverified, "if the officers named a new key, take its digest from them, on another way than the folder",
			"release %s is signed by the key with SHA-256 %s, not by that of --%skey", show.Text(s.Version), show.Text(s.Fingerprint), prefix)
	}
	m, err := release.Parse("what the ceremony signed", s.Manifest)
	if err != nil {
		return nil, advice.Wrap(advice.Unverified, err, advice.Hint(err))
	}
	r := &releaseReport{Version: m.Version, Commit: m.Commit, Date: m.Date, Platform: m.Platform, Manifest: s.SHA256, Key: s.Fingerprint, Ceremony: held.Ceremony, Environment: held.Environment,
		Checkpoint: held.Checkpoint, Roster: held.Roster, HeldTo: heldTo, Programs: m.Programs, Files: len(m.Files), manifest: m, Notes: held.Notes, firstRoster: held.FirstRoster(), prefix: prefix}
	for _, o := range append(slices.Clone(held.Signers), held.Late...) {
		if o.Role == string(quorum.RoleOfficer) {
			r.SignedBy = append(r.SignedBy, o.Name)
		}
	}
	if given := strings.ToLower(c.String(prefix + "roster")); given != "" && given != r.Roster {
		r.Notes = append(r.Notes, fmt.Sprintf("the roster is another now than that of your --%sroster, whose officers approved the one that followed: SHA-256 %s; signed by %s", prefix, show.Text(r.Roster), show.List(r.SignedBy)))
	}
	r.Differences, err = m.Check(dir, s.Manifest)
	if err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "")
	}
	return r, r.differs()
}

// signedIn finds what the ceremony signed for this folder: of several releases the one whose manifest lies there.
func signedIn(held *ceremony.Report, dir string) (s ceremony.ReleaseRecord, err error) {
	if len(held.Releases) == 0 {
		return s, advice.New(advice.Unverified, "lay the folder of the ceremony with the step sign-release there", "%s: the ceremony %s signed no release", release.CeremonyDir, show.Text(held.Ceremony))
	}
	data, err := input.Read(filepath.Join(dir, release.ManifestFile), release.MaxSize)
	if err != nil && !errors.Is(err, input.ErrTooLarge) {
		return s, advice.Wrap(advice.Unverified, err, "fetch the release again")
	}
	for _, s := range held.Releases {
		if bytes.Equal(s.Manifest, data) {
			return s, nil
		}
	}
	if len(held.Releases) > 1 {
		return s, advice.New(advice.Unverified, "fetch the release again", "%s is none of those that the ceremony signed", release.ManifestFile)
	}
	return held.Releases[0], nil // what differs is told with all else
}

func (r *releaseReport) differs() error {
	if len(r.Differences) == 0 {
		return nil
	}
	return advice.New(advice.Unverified, "install nothing of it; fetch the release again, and find out who had it in hand",
		"this is not release %s as it was signed: %s", show.Text(r.Version), show.Line(strings.Join(r.Differences, "; ")))
}

// installed holds this program to the release.
func (r *releaseReport) installed() error {
	want, err := r.manifest.OnPlatform(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return err
	}
	tool, err := thisTool()
	if err != nil {
		return err
	}
	if r.Installed = tool.SHA256 == want; !r.Installed {
		r.Differences = append(r.Differences, fmt.Sprintf("this program: is not the hanaper of this release: SHA-256 %s, want %s", tool.SHA256, want))
		return advice.New(advice.Unverified, "to check the release before it is installed, add --not-installed", "%s", show.Line(strings.Join(r.Differences, "; ")))
	}
	return nil
}

func verifyRelease(c *cli.Context, dir string) error {
	r, err := readRelease(c.Context, c, "", dir)
	if err == nil {
		err = r.take(c)
	}
	if r == nil {
		return err
	}
	r.Verified = err == nil
	if c.Bool("json") {
		if jerr := shell.JSON(c.App.Writer, r); jerr != nil {
			return jerr
		}
	} else if err == nil {
		r.tell(c.App.Writer)
	}
	return err
}

// notBelow holds the release to the oldest version that is taken; empty takes any.
func (r *releaseReport) notBelow(text string) error {
	if text == "" {
		return nil
	}
	least, err := release.ParseVersion(text)
	if err != nil {
		return err
	}
	if release.Older(r.Version, least) {
		return advice.New(advice.Refused, "somebody shows you an older release: fetch the newest one", "it is release %s, and you take none below %s", show.Text(r.Version), show.Text(least))
	}
	return nil
}

// take holds the release to what must be true of it here, and remembers it.
func (r *releaseReport) take(c *cli.Context) error {
	if err := r.notBelow(c.String("not-below")); err != nil {
		return err
	}
	state, err := stateFolder(c)
	if err != nil {
		return err
	}
	// What is refused is refused before anything is written.
	m, err := recallReleases(state)
	if err != nil {
		return err
	}
	if _, _, err := r.weigh(m, c.Bool("older")); err != nil {
		return err
	}
	if !c.Bool("not-installed") {
		if err := r.installed(); err != nil {
			return err
		}
	}
	notes, err := r.remember(state, c.Bool("older"))
	r.Notes = append(r.Notes, notes...)
	return err
}

func (r *releaseReport) tell(w io.Writer) {
	fmt.Fprintf(w, "release %s of commit %s, of %s, for %s\nmanifest %s\nsigned by key %s in the ceremony %s of environment %s, checkpoint %s\n", show.Text(r.Version), show.Text(r.Commit), show.Text(r.Date), show.Text(r.Platform),
		show.Text(r.Manifest), show.Text(r.Key), show.Text(r.Ceremony), show.Text(r.Environment), show.Text(r.Checkpoint))
	fmt.Fprintf(w, "signed as performed by %s, of the roster %s\n", show.List(r.SignedBy), show.Text(r.Roster))
	for _, p := range r.manifest.ProgramNames() {
		fmt.Fprintf(w, "program %s %s\n", show.Text(p), show.Text(r.Programs[p]))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", show.Line(n))
	}
	what := "and this program is that of the release"
	if !r.Installed {
		what = "and this program was left out"
	}
	fmt.Fprintf(w, "verified: %d files are what was signed, held to your --%s, %s\n", r.Files, show.Line(strings.Join(r.HeldTo, ", --")), what)
}

// notARelease tells who names the folder of a release where that of a ceremony is meant.
func notARelease(dir string) error {
	inner := filepath.Join(dir, release.CeremonyDir)
	for _, path := range []string{filepath.Join(dir, release.ManifestFile), inner} {
		if _, err := os.Stat(path); err != nil {
			return nil
		}
	}
	return advice.New(advice.Usage, "name that of its ceremony: "+show.Text(inner), "%s is the folder of a release", show.Text(dir))
}
