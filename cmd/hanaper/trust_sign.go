package main

import (
	"crypto"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/trust"
)

func trustSignCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "show what the draft changes, ask, and sign it with keys in tokens; keeps a log", ArgsUsage: "WORK",
		Description: "The part in force is held against the root that you keep, and against what this machine remembers: an older one is refused. The draft is laid out anew here, with every check, and what it changes is shown. " +
			"You type Yes; where the machine remembers otherwise, another word.\n\n" +
			"Example:\n  hanaper trust sign --root 1.root.json --key \"pkcs11:token=ada;object=trust-targets?module-path=/usr/lib/softhsm/libsofthsm2.so\" --transcript ada.log work",
		Flags: []cli.Flag{
			rootPinFlag(true),
			&cli.StringSliceFlag{Name: "key", Required: true, Usage: "`URI` of your key (pkcs11:...), or an encrypted key file; may be repeated"},
			&cli.StringFlag{Name: "transcript", Required: true, Usage: "the log `FILE` to add to, or to begin, which nobody signs and which proves nothing"},
			stateFlag, uptaneTimeFlag, answersFlag,
		},
		Action: signTrust,
	}
}

// stateFolder is --state, or where this machine remembers by default.
func stateFolder(c *cli.Context) (string, error) {
	if dir := c.String("state"); dir != "" {
		return dir, nil
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", advice.Wrap(advice.Usage, err, "name a folder with --state")
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "hanaper"), nil
}

func signTrust(c *cli.Context) error {
	args, pin, now, err := trustArgs(c, "WORK")
	if err != nil {
		return err
	}
	if err := keysThere(c.StringSlice("key")); err != nil {
		return err
	}
	unlock, err := lockWork(args[0])
	if err != nil {
		return err
	}
	defer unlock()
	w, err := openWork(args[0], pin, now)
	if err != nil {
		return err
	}
	state, err := stateFolder(c)
	if err != nil {
		return err
	}
	memory, known, err := recallTrust(state, w.draft.Previous().Environment())
	if err != nil {
		return err
	}
	findings, err := memory.weigh(known, w.pin, w.draft)
	if err != nil {
		return err
	}
	ask, scripted, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	tellDraft(c.App.Writer, w)
	tellClock(c.App.Writer, w, now)
	for _, f := range findings {
		fmt.Fprintf(c.App.Writer, "warning: %s\n", show.Line(f))
	}
	if err := confirmDraft(ask, findings); err != nil {
		return err
	}
	keys, closer, err := openOfficer(c.Context, c.StringSlice("key"), ask)
	if err != nil {
		return err
	}
	defer closer()
	leaf, err := w.intent(keys, findings, scripted)
	if err != nil {
		return err
	}
	opened, err := openKeyLog(c, c.String("transcript"), "hanaper.invalid/trust")
	if err != nil {
		return err
	}
	log := trustLog{opened}
	defer log.Close()
	if err := log.write(leaf); err != nil {
		return err
	}
	if err := log.outcome(leaf, w.sign(state, memory, keys)); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed version %d with %d key(s); log %s, which nobody signs and which proves nothing\n", w.draft.Version(), len(keys), show.Text(c.String("transcript")))
	tellSignatures(c.App.Writer, w, now)
	return nil
}

// intent is what the log says before the draft is signed. Keys that may not sign it are refused.
func (w *work) intent(keys []crypto.Signer, findings []string, scripted bool) (trustLeaf, error) {
	before, next := w.draft.Previous(), w.draft.Next()
	leaf := trustLeaf{Kind: "trust-sign-intent", Environment: before.Environment(), Root: w.pin.String(), Previous: before.TargetsVersion(), Version: w.draft.Version(),
		Digest: hexDigest(w.draft.Digest()), Changes: trust.Changes(before, next), Findings: findings, Scripted: scripted}
	for _, k := range keys {
		if err := w.draft.MaySign(k.Public()); err != nil {
			return leaf, err
		}
		id, err := trust.KeyID(k.Public())
		if err != nil {
			return leaf, err
		}
		leaf.Keys = append(leaf.Keys, id)
	}
	return leaf, nil
}

// sign signs the draft, and keeps it. It is remembered before anything is signed, in the place of what it was weighed against: a signature that got away must not be
// forgotten.
func (w *work) sign(state string, weighed trustMemory, keys []crypto.Signer) error {
	before := w.draft.Previous()
	if err := (trustMemory{1, before.Environment(), w.pin.String(), markOf(before), markOf(w.draft.Next())}).keep(state, weighed); err != nil {
		return err
	}
	if err := w.draft.Sign(keys...); err != nil {
		return err
	}
	return w.keepDraft()
}

// confirmDraft asks for a word. Where the machine remembers otherwise it is another than the usual one, so that a habit does not sign it.
func confirmDraft(ask term.Prompter, findings []string) error {
	word, why := "Yes", "Compare the digest with the other officers."
	if len(findings) > 0 {
		word, why = "Unremembered", "Read the warnings. If you know that the part before it is the one in force, and compared the digest,"
	}
	answer, err := ask.Line(fmt.Sprintf("%s Type %s to sign: ", why, word))
	if err != nil {
		return err
	}
	if answer != word {
		return advice.New(advice.Refused, "", "not signed: the answer was not %s", word)
	}
	return nil
}

// tellDraft writes all that an officer needs to judge.
func tellDraft(out io.Writer, w *work) {
	d, prev := w.draft, w.draft.Previous()
	digest := d.Digest()
	fmt.Fprintf(out, "environment %s: version %d of the officers' part, after version %d in force\ndigest %x\n  %s\n", show.Text(prev.Environment()), d.Version(), prev.TargetsVersion(), digest[:], quorum.Words(digest[:]))
	lines := trust.Changes(prev, d.Next())
	if len(lines) == 0 {
		lines = []string{"nothing changes but the version and the date"}
	}
	for _, line := range lines {
		fmt.Fprintf(out, "  %s\n", show.Line(line))
	}
	s := d.Standing()
	fmt.Fprintf(out, "good until %s (was %s); %d of %d signatures, of %d keys\n", stampOf(d.Expires()), stampOf(prev.TargetsExpires()), len(s.Signed), s.Threshold, len(s.Signed)+len(s.Missing))
}

// tellClock says by which time the draft was judged, and what ends soon.
func tellClock(out io.Writer, w *work, now time.Time) {
	fmt.Fprintf(out, "judged at %s; the root is good until %s, which only a ceremony extends\n", stampOf(now), stampOf(w.draft.Previous().RootExpires()))
}

func tellSignatures(out io.Writer, w *work, now time.Time) {
	s := w.draft.Standing()
	if !s.Met() {
		fmt.Fprintf(out, "%d of %d signatures: the next officer signs the same draft ('hanaper trust export' carries it)\n", len(s.Signed), s.Threshold)
		return
	}
	if err := w.draft.Verify(w.pin, now); err != nil {
		fmt.Fprintf(out, "%d of %d signatures, and it does not verify: %v\n", len(s.Signed), s.Threshold, err)
		return
	}
	fmt.Fprintf(out, "%d of %d signatures: 'hanaper-repo import %s' publishes it\n", len(s.Signed), s.Threshold, show.Text(filepath.Join(w.dir, workNext)))
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }
