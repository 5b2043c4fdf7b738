package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/uptane"
)

func beginFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "from", Usage: "begin WORK after the officers' part in this `FOLDER`: a ceremony's trust/, or what hanaper-repo publishes"},
		rootPinFlag(false),
	}
}

// editTrust opens or begins a working folder, and lays its draft out anew with what change makes of its content.
func editTrust(c *cli.Context, change func(*cli.Context, *trust.Content) error) error {
	args, pin, now, err := trustArgs(c, "WORK")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(args[0]); err == nil {
		unlock, err := lockWork(args[0])
		if err != nil {
			return err
		}
		defer unlock()
	}
	e, err := editable(c, args[0], pin, now)
	if err != nil {
		return err
	}
	if c.IsSet("expires") || c.IsSet("expire-after") {
		if e.expires, err = expiryOf(c, uptane.Period{}); err != nil {
			return err
		}
	}
	if err := change(c, &e.content); err != nil {
		return err
	}
	e.content.Policy = e.content.Policy.WithFormat()
	signed, keep := 0, e.begin
	if e.draft != nil {
		keep = e.keepDraft
		// A version that was signed is used; one that was not is made anew.
		if signed = len(e.draft.Standing().Signed); signed > 0 {
			e.content.UsedTargets = e.draft.Version()
		} else {
			e.content.UsedTargets = e.draft.Version() - 1
		}
	}
	if e.draft, err = trust.NewDraft(e.inForce, e.content, e.expires, now); err != nil {
		return err
	}
	if err := keep(); err != nil {
		return err
	}
	if signed > 0 {
		fmt.Fprintf(c.App.ErrWriter, "hanaper: the draft had %d signatures; they were for version %d, and this is version %d\n", signed, e.draft.Version()-1, e.draft.Version())
	}
	tellDraft(c.App.Writer, e.work)
	return nil
}

// edited is a working folder whose draft is laid out anew. One that begins has no draft yet.
type edited struct {
	*work
	inForce *trust.Repository
	// content and expires are those of the draft or, in a folder that begins, of the part in force.
	content trust.Content
	expires time.Time
}

// editable opens the folder or, where there is none, begins one after the part in force that --from names.
func editable(c *cli.Context, dir string, pin *trust.Pin, now time.Time) (*edited, error) {
	from := c.String("from")
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		if from != "" {
			return nil, advice.New(advice.Refused, "leave --from out, or name a folder that does not exist", "%s is there already", show.Text(dir))
		}
		w, err := openWork(dir, pin, now)
		if err != nil {
			return nil, err
		}
		next, err := w.draft.Files()
		if err != nil {
			return nil, err
		}
		content, err := w.draft.Next().Content(next)
		return &edited{w, w.draft.Previous(), content, w.draft.Expires()}, err
	}
	if from == "" || pin == nil {
		return nil, advice.New(advice.Usage, "add --from FOLDER (a ceremony's trust/, or what hanaper-repo publishes) and --root, which you keep", "there is no %s to go on with", show.Text(dir))
	}
	files := input.Dir(from)
	prev, err := trust.OpenRepository(files, *pin, now)
	if err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", show.Text(from), err), advice.Hint(err))
	}
	part, err := prev.Part(files)
	if err != nil {
		return nil, err
	}
	content, err := prev.Content(part)
	return &edited{&work{dir: filepath.Clean(dir), pin: *pin, previous: part}, prev, content, prev.Expires()}, err
}

// signedBy says whether a CRL is of a CA.
func signedBy(der []byte, ca *x509.Certificate) bool {
	list, err := x509.ParseRevocationList(der)
	return err == nil && bytes.Equal(list.RawIssuer, ca.RawSubject) && list.CheckSignatureFrom(ca) == nil
}

func dropRule(t *trust.Content, ca string) bool {
	return drop(&t.Policy.CRLs, func(r trust.CRLRule) bool { return r.CA == ca })
}

// drop removes from a list, and says whether anything was there.
func drop[E any](list *[]E, is func(E) bool) bool {
	n := len(*list)
	*list = slices.DeleteFunc(*list, is)
	return len(*list) < n
}

func releaseOf(text string) (trust.Release, error) {
	ca, serial, _ := strings.Cut(text, "=")
	id, err := trust.ParseID(ca)
	n, ok := new(big.Int).SetString(serial, 16)
	if err != nil || !ok {
		return trust.Release{}, advice.New(advice.Usage, "for example --release ID=1a2b", "--release %s is not CA=SERIAL", show.Text(text))
	}
	return trust.Release{Issuer: id, Serial: n}, nil
}
