package ceremony

import (
	"fmt"
	"reflect"
	"regexp"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/show"
)

// newest is the format of transcripts that this program writes; it reads every older one. docs/spec/formats.md says what
// may change with it. An addition raises its minor number: a new kind of step or leaf, an optional field, a new rule.
var newest = format.Must("1.4")

// Format is the format of transcripts that this program writes.
func Format() string { return newest.String() }

// A field of a leaf has one of these tags where it needs one.
const (
	// proseTag marks a sentence for people: recorded, and never compared.
	proseTag = "prose"
	// sinceTag has the format from which a field exists. Such a field is left out of the JSON where it is empty.
	sinceTag = "since"
)

// readFormat reads the format of a transcript. One of another major number cannot be read.
func readFormat(s string) (format.Version, error) {
	v, err := format.Parse(s)
	if err != nil {
		return v, err
	}
	if v.Major != newest.Major {
		return v, tooNew(v)
	}
	return v, nil
}

func tooNew(v format.Version) error {
	if v.Major < newest.Major {
		return fmt.Errorf("it is of format %s, which this program no longer reads", v)
	}
	return advice.New(advice.Unverified, "verify it with that release", "it was made by a newer release of Hanaper: format %s, and this program knows %s", v, newest)
}

// settle gives l what is not compared with the recorded leaf: sentences for people, and fields that its format did not have.
func settle(l, recorded leaf, v format.Version) {
	settleStruct(reflect.ValueOf(l).Elem(), reflect.ValueOf(recorded).Elem(), v)
}

func settleStruct(l, recorded reflect.Value, v format.Version) {
	for i := range l.NumField() {
		f := l.Type().Field(i)
		switch {
		case f.Tag.Get(proseTag) != "" || f.Tag.Get(sinceTag) != "" && v.Before(format.Must(f.Tag.Get(sinceTag))):
			l.Field(i).Set(recorded.Field(i))
		case f.Type.Kind() == reflect.Struct:
			settleStruct(l.Field(i), recorded.Field(i), v)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && l.Field(i).Len() == recorded.Field(i).Len():
			for j := range l.Field(i).Len() {
				settleStruct(l.Field(i).Index(j), recorded.Field(i).Index(j), v)
			}
		}
	}
}

// edition is the set of the rules of package ca that the session holds certificates and CRLs to.
func (s *Session) edition() ca.Edition { return ca.EditionOf(s.format) }

// held says whether a rule holds for this ceremony.
func (s *Session) held(r Rule) bool { return !s.format.Before(r.Since) }

// hold refuses what breaks a rule. An old ceremony, of a format without the rule, gets a note.
func (s *Session) hold(r Rule, ok bool, what string, args ...any) error {
	switch {
	case ok:
		return nil
	case s.held(r):
		return refuse(r, what, args...)
	}
	s.note("rule "+r.ID+", which is newer than this ceremony: "+what, args...)
	return nil
}

// today notes what today's rules of package ca would refuse in a certificate or CRL that passed those of its time.
func (s *Session) today(check func(ca.Edition) error) {
	if !s.format.Before(newest) {
		return // they are the same rules
	}
	for _, v := range ca.Violations(check(ca.Edition{})) {
		s.note("it would be refused today: %s", v)
	}
}

// note keeps what a reader of the report should know, and what is no failure.
func (s *Session) note(what string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf("step %d: ", s.step)+fmt.Sprintf(what, args...))
}

// versionForm is that of a program's version, which is shown to people as it is.
var versionForm = regexp.MustCompile(`^[!-~]([ -~]{0,62}[!-~])?$`)

// maxProse bounds a sentence for people, in bytes.
const maxProse = 4096

// checkTexts asks that versions of programs are short, and that sentences for people are of one line and cannot steer what shows them: nobody compares what they say.
func checkTexts(l reflect.Value) error {
	for i := range l.NumField() {
		f, v := l.Type().Field(i), l.Field(i)
		switch {
		case f.Type == reflect.TypeFor[Tool]():
			if version := v.Interface().(Tool).Version; !versionForm.MatchString(version) {
				return fmt.Errorf("names a tool of version %s: use 1 to 64 printable ASCII characters", show.Text(version))
			}
		case f.Tag.Get(proseTag) != "":
			if err := checkSentences(f.Name, v); err != nil {
				return err
			}
		case f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct && !v.IsNil():
			if err := checkTexts(v.Elem()); err != nil {
				return err
			}
		case f.Type.Kind() == reflect.Struct:
			if err := checkTexts(v); err != nil {
				return err
			}
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			for j := range v.Len() {
				if err := checkTexts(v.Index(j)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func checkSentences(field string, v reflect.Value) error {
	if v.Kind() == reflect.Slice {
		for j := range v.Len() {
			if err := checkSentences(field, v.Index(j)); err != nil {
				return err
			}
		}
		return nil
	}
	if s := v.String(); len(s) > maxProse || s != show.Line(s) {
		return fmt.Errorf("holds a sentence (%s) that is too long or holds control characters", field)
	}
	return nil
}
