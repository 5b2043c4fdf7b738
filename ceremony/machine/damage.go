package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// Damaged is a file of runs/ that cannot be read to its end. It may say of its ceremony less than what was done, so nothing
// that it says lets anybody do anything; it can only forbid.
type Damaged struct {
	Path string
	// Begun is the first entry, which says of which ceremony the file is; nil if that is damaged too. Each entry has a
	// hash of its own, so damage further on leaves it as it was written.
	Begun *Begun
	Why   error
}

func (d Damaged) String() string {
	of := "of which ceremony it is cannot be read"
	if d.Begun != nil {
		of = fmt.Sprintf("it is of ceremony %s, environment %s", show.Text(d.Begun.Ceremony), show.Text(d.Begun.Environment))
	}
	return fmt.Sprintf("%s cannot be read: %v; %s", show.Text(d.Path), d.Why, of)
}

// may says whether the file may be the memory of a run for which is is true. One that cannot be read may be any.
func (d Damaged) may(is func(Begun) bool) bool { return d.Begun == nil || is(*d.Begun) }

// which is how people find out of which ceremony a file is that cannot be read.
func (d Damaged) which() string {
	return "`grep -l " + show.Text(nonceOf(d.Path)) + " */transcript.log` names the folder that it is about"
}

// all reads what is remembered of every run, and changes nothing. A damaged file keeps nobody from reading the others.
func (s Store) all() (whole []*Memory, damaged []Damaged, err error) {
	dir := filepath.Join(s.dir, "runs")
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, s.failed(err)
	}
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".log") {
			continue
		}
		m, err := s.read(filepath.Join(dir, e.Name()))
		switch {
		case err != nil:
			d := Damaged{Path: filepath.Join(dir, e.Name()), Why: err}
			if m != nil && m.roots != nil {
				d.Begun = &m.begun
			}
			damaged = append(damaged, d)
		case m != nil:
			whole = append(whole, m)
		}
	}
	return whole, damaged, nil
}

// Damaged lists the files that cannot be read to their end.
func (s Store) Damaged() ([]Damaged, error) {
	_, damaged, err := s.all()
	return damaged, err
}

// Stranger refuses a folder of which nothing is remembered under its approvals, where the same ceremony is remembered under
// others: it is then another run of it, or what is left of the one that was held here.
func (s Store) Stranger(b Begun) error {
	whole, damaged, err := s.all()
	if err != nil {
		return err
	}
	same := func(o Begun) bool {
		return o.Ceremony == b.Ceremony && o.Environment == b.Environment && o.Nonce != b.Nonce
	}
	for _, m := range whole {
		if !same(m.begun) || !m.acted() {
			continue
		}
		how := "is not ended: resume or abort that one"
		if m.ended != nil {
			how = "has ended there (" + m.ended.How + "), with the checkpoint " + m.ended.Checkpoint
		}
		return advice.New(advice.Refused, "find the folder that this machine wrote, and ask who had this one. Only if you know that it is another ceremony of the same name: name an empty state folder with --state",
			"this machine remembers ceremony %s under other approvals (%s), where it %s", show.Text(b.Ceremony), show.Text(m.path), show.Text(how))
	}
	for _, d := range damaged {
		if d.may(same) {
			return advice.New(advice.Unverified, "keep the file. "+d.which()+". Only if that is another ceremony than this one: move the file out of runs/, and try again",
				"%s: it may be what this machine remembers of ceremony %s", d, show.Text(b.Ceremony))
		}
	}
	return nil
}
