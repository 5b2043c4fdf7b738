// Package page is what our programs' pages for operators share: the looks, the headers that protect them, the tokens in their forms, and the words for times.
// Pages are made on the server and run no script. Whatever others chose (ids, names, notes) goes through html/template and package show.
package page

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Style is the only style sheet, Icon the icon (SVG).
var (
	//go:embed style.css
	Style []byte
	//go:embed icon.svg
	Icon []byte
)

// Protect sets the headers that every answer has: nothing is loaded but our own style sheet and icon, no script runs, nobody frames a page or
// keeps it, and addresses, which hold device ids, go to no other site.
func Protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// Write writes the page that a template makes of data; on an error nothing was written. status 0 is 200.
func Write(w http.ResponseWriter, pages *template.Template, name string, status int, data any) error {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if status != 0 {
		w.WriteHeader(status)
	}
	// The last net: a character that steers how its neighbours are read reaches no page, wherever it came from.
	_, _ = w.Write([]byte(show.Lines(b.String())))
	return nil
}

// Functions are what templates call.
func Functions(now func() time.Time) template.FuncMap {
	return template.FuncMap{
		"text":     func(s string) string { return show.Text(s) },
		"line":     show.Line,
		"when":     When,
		"ago":      func(t time.Time) string { return Span(now().Sub(t)) + " ago" },
		"in":       func(t time.Time) string { return Span(t.Sub(now())) },
		"span":     Span,
		"sentence": Sentence,
		"dict":     dict,
	}
}

// When shows a time, UTC to the second, for people and for programs.
func When(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	t = t.UTC()
	// #nosec: both are made of digits and signs by package time.
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339) + `">` + t.Format("2006-01-02 15:04:05") + `</time>`)
}

// Span shows how long something lasts, in the two largest units that matter.
func Span(d time.Duration) string {
	sign := ""
	if d < 0 {
		d, sign = -d, "-"
	}
	days, hours, minutes := int(d/(24*time.Hour)), int(d/time.Hour)%24, int(d/time.Minute)%60
	switch {
	case days >= 30:
		return fmt.Sprintf("%s%d days", sign, days)
	case days > 0:
		return fmt.Sprintf("%s%d d %d h", sign, days, hours)
	case hours > 0:
		return fmt.Sprintf("%s%d h %d min", sign, hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%s%d min", sign, minutes)
	}
	return fmt.Sprintf("%s%d s", sign, int(d/time.Second))
}

// Sentence begins with a capital letter and ends with a full stop.
func Sentence(s string) string {
	s = show.Line(s)
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if strings.ContainsAny(s[len(s)-1:], ".!?") {
		return s
	}
	return s + "."
}

// dict passes several values to a template.
func dict(pairs ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}
