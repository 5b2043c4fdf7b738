// Package office keeps a release engineer's local repository and its server in step: it fetches roots and targets and
// verifies them, sends what was signed here, moves the server's keys offline, and copies a target from one environment
// to another. It asks nobody and prints nothing: whoever calls it passes in what to tell, what to confirm and the time.
//
// # What it trusts
//
// The local repository (see package repo): the root that it holds is where every chain of roots begins. A repository
// without a root takes the server's first one as it comes, with a warning; an attacker who controls that first answer
// chooses the keys.
//
// Nothing that the server sends, before it is verified. An attacker who controls the server, or the line to it, can
// withhold metadata, answer with errors, and show roots and targets that the present keys have signed. He cannot make
// the repository believe others, nor go back to an older root, nor to targets older than those pulled last. While keys
// move offline he can keep copies of the old keys, for they were his to keep; that is why the new root must be in force
// before the old keys are deleted. He can also claim that a key was deleted that he kept: no root lists it any more.
//
// The keys that are opened by name: an attacker who controls a token is found out by the signature check before anything
// is kept. An attacker who can change the local repository can make it follow another root, and has won.
//
// An attacker who controls the clock can hide that metadata has expired, and no more.
package office

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// Config says what an Office works with.
type Config struct {
	Repo   *repo.Repository
	Server *reposerver.Client
	// Say tells a person what was done, Warn what to look at. nil tells nobody.
	Say, Warn func(format string, args ...any)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Reached is called where a crash would leave another state behind. Tests end the work there; nil does nothing.
	Reached func(state string)
}

// Office is a local repository together with its server.
type Office struct {
	r         *repo.Repository
	server    *reposerver.Client
	say, warn func(format string, args ...any)
	now       func() time.Time
	reached   func(state string)
}

// New makes an Office.
func New(c Config) *Office {
	o := &Office{r: c.Repo, server: c.Server, say: c.Say, warn: c.Warn, now: c.Now, reached: c.Reached}
	if o.say == nil {
		o.say = func(string, ...any) {}
	}
	if o.warn == nil {
		o.warn = func(string, ...any) {}
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.reached == nil {
		o.reached = func(string) {}
	}
	return o
}

// ErrOptions is for options that do not fit together: a program tells it as a call that is not well formed.
var ErrOptions = errors.New("options do not fit together")

// optionError is an ErrOptions with a text of its own.
type optionError struct{ err error }

func (e *optionError) Error() string        { return e.err.Error() }
func (e *optionError) Unwrap() error        { return e.err }
func (e *optionError) Is(target error) bool { return target == ErrOptions }

func badOptions(format string, args ...any) error {
	return &optionError{advice.New(advice.Usage, "try --help", format, args...)}
}

// Lifetimes of new metadata for which nobody names a date.
var (
	RootLifetime    = uptane.Period{Days: 365}
	TargetsLifetime = uptane.Period{Days: 31}
)

// Lifetime is that of a role's new metadata for which nobody names a date.
func Lifetime(role uptane.Role) *uptane.Period {
	life := TargetsLifetime
	if role == uptane.RoleRoot {
		life = RootLifetime
	}
	return &life
}

// Standing says who has signed and who is missing, a line for each rule.
func Standing(standing []uptane.Standing) []string {
	var lines []string
	for _, s := range standing {
		line := fmt.Sprintf("%s: signed by %d of the %d keys that must sign", s.Rule, len(s.Signed), s.Threshold)
		if !s.Met() {
			line += "; not yet by " + keyIDs(s.Missing)
		}
		lines = append(lines, line)
	}
	return lines
}

func (o *Office) tellStanding(standing []uptane.Standing) {
	for _, line := range Standing(standing) {
		o.say("%s", show.Line(line))
	}
}

// NoDirector refuses what a director repository has no use for.
func NoDirector(kind uptane.Repository, what string) error {
	if kind != uptane.Director {
		return nil
	}
	return advice.New(advice.Usage, "the director's targets are made by the server, with an online key", "%s does not work on a director repository", what)
}

// unpushed is the root that is being signed here and that the server does not have yet; nil if there is none.
func (o *Office) unpushed(server *uptane.Root) (*uptane.Root, error) {
	have, err := o.r.Root()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || have.Version() <= server.Version() {
		return nil, err
	}
	return have, nil
}
