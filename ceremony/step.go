package ceremony

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// Step is one kind of step with its fields as written. A kind owns all that concerns it, in files of its own: Validate,
// the printed form, Run, Resume, Abort and Verify ask it. It is made known by its line in StepConfig.
type Step interface {
	// describe says in plain words what the step does.
	describe(s *Session) string
	// people says who acts in the step.
	people() people
	// needs says what the step asks of tokens, so that it is known before the first act whether they can.
	needs(p *Plan) []need
	// perform does it, or says which rule it breaks. The same perform runs on specimens, on tokens and along a journal; it
	// acts only through the session.
	perform(s *Session) error
	// left adds what the step leaves if the ceremony is aborted, by the entries that it wrote.
	left(o *leftover, own []entry)
}

// people says who acts in a step.
type people struct {
	// act says it in plain words, for the printed form.
	act string
	// witness is somebody of the roster who must be present, by name; empty where none must.
	witness string
}

// watch ends what a form says of an act at which everybody looks on.
const watch = "; all others present watch"

// byProgram is a step in which nobody does anything by hand.
var byProgram = people{act: "The program acts on the token; the administrator and one officer compare with the screen" + watch}

// place is where a key is: a token by its name, and a label in it.
type place struct{ token, label string }

// need is what a step asks of a token.
type need struct {
	token string
	// label of a key that the step makes, and that the token must not hold before.
	label string
	// able asks the token whether it can do what the step has it do.
	able func(hsm.Token) error
}

// tokenMaker is a step that makes a token.
type tokenMaker interface{ makesToken() string }

// maker is a leaf of a key that is made, or may have been.
type maker interface{ makes() place }

// StepConfig holds exactly one step under the name of its kind.
type StepConfig struct {
	InitToken         *InitToken         `yaml:"init-token"`
	GenerateKey       *GenerateKey       `yaml:"generate-key"`
	RootCertificate   *RootCertificate   `yaml:"root-certificate"`
	Certificate       *Certificate       `yaml:"certificate"`
	CRL               *CRL               `yaml:"crl"`
	Request           *Request           `yaml:"csr"`
	ImportCertificate *ImportCertificate `yaml:"import-certificate"`
	ImportArtefact    *ImportArtefact    `yaml:"import-artefact"`
	BackupKey         *BackupKey         `yaml:"backup-key"`
	RestoreKey        *RestoreKey        `yaml:"restore-key"`
	RewrapBackup      *RewrapBackup      `yaml:"rewrap-backup"`
	ManualClone       *ManualClone       `yaml:"manual-clone"`
	HoldSecret        *HoldSecret        `yaml:"hold-secret"`
	DestroyKey        *DestroyKey        `yaml:"destroy-key"`
	UptaneRoot        *UptaneRoot        `yaml:"uptane-root"`
	UptaneTargets     *UptaneTargets     `yaml:"uptane-targets"`
	TrustRepository   *TrustRepository   `yaml:"trust-repository"`
	SignRelease       *SignRelease       `yaml:"sign-release"`
}

// one gives the one step that is set, and the name of its kind.
func (c *StepConfig) one() (kind string, step Step, err error) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsNil() {
			continue
		}
		if step != nil {
			return "", nil, errors.New("is of two kinds at once: write each step as an item of its own")
		}
		kind, step = v.Type().Field(i).Tag.Get("yaml"), v.Field(i).Interface().(Step)
	}
	if step == nil {
		return "", nil, fmt.Errorf("is of no kind; known are %s", strings.Join(StepKinds(), ", "))
	}
	return kind, step, nil
}

// StepKinds lists the kinds of steps.
func StepKinds() []string {
	t := reflect.TypeFor[StepConfig]()
	kinds := make([]string, t.NumField())
	for i := range kinds {
		kinds[i] = t.Field(i).Tag.Get("yaml")
	}
	return kinds
}

// tokensAtStart are the tokens that are opened before the first step, by name.
func (s *Script) tokensAtStart() []string {
	return slices.DeleteFunc(sortedKeys(s.tokens), s.Initialises)
}

// maxBackdate and maxFuture bound what a date of a certificate may be, as seen from the script's window.
const (
	maxBackdate = 366 * 24 * time.Hour
	maxFuture   = 50 * 366 * 24 * time.Hour
)

// period reads the two dates of something that must be valid when the ceremony is over.
func (s *Session) period(from, until string) (nb, na time.Time, err error) {
	if nb, err = s.date("not_before", from); err != nil {
		return
	}
	if na, err = s.date("not_after", until); err != nil {
		return
	}
	switch {
	case !na.After(nb):
		err = refuse(RuleDate, "not_after %s does not follow not_before %s", show.Text(until), show.Text(from))
	case nb.Before(s.script.from.Add(-maxBackdate)):
		err = refuse(RuleDate, "not_before %s is more than a year before the ceremony", show.Text(from))
	case nb.After(s.script.until.Add(maxBackdate)):
		err = refuse(RuleDate, "not_before %s is more than a year after the ceremony", show.Text(from))
	case !na.After(s.script.until):
		err = refuse(RuleDate, "not_after %s is over before the ceremony's window is", show.Text(until))
	case na.After(s.script.until.Add(maxFuture)):
		err = refuse(RuleDate, "not_after %s is more than 50 years ahead", show.Text(until))
	}
	return
}

func (s *Session) date(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, malformed("%s is missing", field)
	}
	t, err := parseTime(text)
	if err != nil {
		return t, malformed("%s: %w", field, err)
	}
	return t, nil
}

// expiry reads a date until which metadata is good.
func (s *Session) expiry(field, text string) (time.Time, error) {
	t, err := s.date(field, text)
	if err != nil {
		return t, err
	}
	if !t.After(s.script.until) {
		return t, refuse(RuleDate, "%s %s is over before the ceremony's window is", field, show.Text(text))
	}
	if t.After(s.script.until.Add(maxFuture)) {
		return t, refuse(RuleDate, "%s %s is more than 50 years ahead", field, show.Text(text))
	}
	return t, nil
}
