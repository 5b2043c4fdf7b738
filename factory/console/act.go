package console

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hanaper/hanaper/factory"
)

// maxNote and maxField bound what is typed, in bytes; hanaperd's API takes notes of this length.
const (
	maxNote  = 1000
	maxField = 1000
)

// act is something that an operator does: a form, a page that says what will be done and asks for a note, and what was done.
type act struct {
	// Name stands in the path, Title heads the pages, Verb is on the button, Lead says in a sentence what it is for.
	Name, Title, Verb, Lead string
	// Final says that it cannot be undone.
	Final  bool
	Fields []field
	// plan says what would be done, and changes nothing.
	plan func(ctx context.Context, who factory.Caller, v values) (*plan, error)
	// do does it. who is the operator.
	do func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error)
}

func (a *act) path() string { return Prefix + "act/" + a.Name }

// Path is where its form is.
func (a *act) Path() string { return a.path() }

// field is one question of a form.
type field struct {
	Name, Label, Hint string
	// Options makes it a choice, File an upload, Check a box to tick; else it is a line of text.
	Options []string
	File    bool
	Check   bool
	Must    bool
}

// values are what was filled in, by the name of the field; an upload's bytes as they are.
type values map[string]string

// plan is what an act would do.
type plan struct {
	Rows     []row
	Warnings []string
}

type row struct{ Name, Value string }

// outcome is what was done.
type outcome struct {
	Said string
	Rows []row
	// Device and Lot are what to look at next; one of them, or none.
	Device, Lot string
}

// form is a page that asks.
type form struct {
	Act      *act
	Values   values
	Problems []problem
}

// problem is what is wrong with what was filled in.
type problem struct{ Field, Text, Hint string }

// confirmation is a page that says what will be done, and asks again.
type confirmation struct {
	Act      *act
	Plan     *plan
	Hidden   []row
	Seal     string
	Note     string
	Problems []problem
}

// asks shows an act's form. What stands in the address fills it in; nothing is done.
func (k *Console) asks(a *act) func(*visit) (*answer, error) {
	return func(v *visit) (*answer, error) {
		filled := values{}
		for _, f := range a.Fields {
			if !f.File {
				filled[f.Name] = clip(v.r.URL.Query().Get(f.Name))
			}
		}
		return &answer{template: "form.html", title: a.Title, data: form{Act: a, Values: filled}}, nil
	}
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxField)], "") }

// acting takes an act's form: first it shows what would be done, then, when that was confirmed, it does it.
func (k *Console) acting(a *act) func(*visit) (*answer, error) {
	return func(v *visit) (*answer, error) {
		filled, err := a.read(v.r)
		if err != nil {
			return nil, err
		}
		again := func(p problem) (*answer, error) {
			return &answer{status: http.StatusUnprocessableEntity, template: "form.html", title: a.Title, data: form{Act: a, Values: filled, Problems: []problem{p}}}, nil
		}
		if p := a.lacks(filled); p != nil {
			return again(*p)
		}
		would, err := a.plan(v.ctx, v.who, filled)
		if err != nil {
			if f := faultOf(err); f.Status() < 500 {
				return again(problem{Field: a.Fields[0].Name, Text: f.Text, Hint: f.Hint})
			}
			return nil, err
		}
		what, token, note := a.digest(filled, would), v.r.PostFormValue("seal"), strings.TrimSpace(v.r.PostFormValue("note"))
		c := confirmation{Act: a, Plan: would, Hidden: a.hidden(filled), Note: note}
		if token == "" {
			c.Seal = k.seals.Make(v.leaf.Raw, what)
			return &answer{template: "confirm.html", title: a.Title, data: c}, nil
		}
		if p := checkNote(note); p != nil {
			c.Seal, c.Problems = token, []problem{*p}
			return &answer{status: http.StatusUnprocessableEntity, template: "confirm.html", title: a.Title, data: c}, nil
		}
		if err := k.seals.Spend(token, v.leaf.Raw, what); err != nil {
			return nil, &factory.Fault{Code: factory.CodeForbidden, Text: err.Error(), Hint: "nothing was done now; look at how things stand, and begin anew if need be"}
		}
		done, err := a.do(v.ctx, v.who, filled, note)
		if err != nil {
			return nil, err
		}
		k.log.Info("console: done", "act", a.Name, "operator", v.who.Name, "note", note)
		return &answer{template: "done.html", title: a.Title, data: struct {
			Act  *act
			Done *outcome
		}{a, done}}, nil
	}
}

func checkNote(note string) *problem {
	switch {
	case note == "":
		return &problem{"note", "a note is missing", "say why: it stays in the record"}
	case len(note) > maxNote:
		return &problem{"note", "the note is longer than 1000 bytes", "say it shorter"}
	case !oneLine(note):
		return &problem{"note", "the note holds characters that are no text", "write it in plain characters, on one line"}
	}
	return nil
}

// oneLine says that s is text without control characters.
func oneLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 })
}

// read takes what was filled in; of uploads, the file, or what the page that asks again carried along.
func (a *act) read(r *http.Request) (values, error) {
	// All of it stays in memory: nothing that was sent lies in a temporary file. The body's length is bounded.
	if err := r.ParseMultipartForm(maxForm); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, &factory.Fault{Code: factory.CodeTooLarge, Text: "what was sent is too long", Hint: "nothing was done; a page takes 16 MB"}
		}
		return nil, &factory.Fault{Code: factory.CodeRequest, Text: "what was sent cannot be read", Hint: "nothing was done; begin anew"}
	}
	v := values{}
	for _, f := range a.Fields {
		carried := r.PostFormValue(f.Name)
		if !f.File {
			v[f.Name] = strings.TrimSpace(carried)
			continue
		}
		if data, err := carriedForm.DecodeString(carried); carried != "" && err == nil {
			v[f.Name] = string(data)
			continue
		}
		if r.MultipartForm == nil || len(r.MultipartForm.File[f.Name]) != 1 {
			continue
		}
		data, err := upload(r.MultipartForm.File[f.Name][0])
		if err != nil {
			return nil, &factory.Fault{Code: factory.CodeRequest, Text: "the file cannot be read", Hint: "nothing was done; choose it again"}
		}
		v[f.Name] = string(data)
	}
	return v, nil
}

func upload(h *multipart.FileHeader) ([]byte, error) {
	f, err := h.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// lacks says which answer is missing or no answer.
func (a *act) lacks(v values) *problem {
	for _, f := range a.Fields {
		s := v[f.Name]
		switch {
		case s == "" && f.Must:
			return &problem{f.Name, f.Label + " is missing", f.Hint}
		case f.File:
		case len(s) > maxField || !oneLine(s):
			return &problem{f.Name, f.Label + " is too long, or no text", f.Hint}
		case s != "" && f.Options != nil && !slices.Contains(f.Options, s), f.Check && s != "" && s != "yes":
			return &problem{f.Name, f.Label + " is none of the choices", ""}
		}
	}
	return nil
}

// hidden are the answers as the page that asks again carries them.
func (a *act) hidden(v values) (rows []row) {
	for _, f := range a.Fields {
		s := v[f.Name]
		if f.File {
			s = carriedForm.EncodeToString([]byte(s))
		}
		rows = append(rows, row{f.Name, s})
	}
	return rows
}

// digest is what a confirmation is bound to: the act, what was filled in, and what the page said that it would do.
func (a *act) digest(v values, p *plan) [32]byte {
	h := sha256.New()
	put := func(texts ...string) {
		for _, s := range texts {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(s)))
			h.Write(n[:])
			io.WriteString(h, s)
		}
	}
	put(a.Name)
	for _, f := range a.Fields {
		put(f.Name, v[f.Name])
	}
	for _, r := range p.Rows {
		put(r.Name, r.Value)
	}
	put(p.Warnings...)
	return [32]byte(h.Sum(nil))
}

// carriedForm is how a file that was shown is carried on by a form.
var carriedForm = base64.RawURLEncoding
