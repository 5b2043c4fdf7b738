package calendar

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const icsTime = "20060102T150405Z"

// ICS writes the entries as an iCalendar object (RFC 5545), an event and an alarm 30 days before it each. What is revoked
// or renewed is left out. stamp is the time of writing.
func ICS(w io.Writer, list []Entry, stamp time.Time) error {
	var b strings.Builder
	line := func(name, value string) { fold(&b, name+":"+value) }
	line("BEGIN", "VCALENDAR")
	line("VERSION", "2.0")
	line("PRODID", "-//hanaper//calendar//EN")
	line("CALSCALE", "GREGORIAN")
	for _, e := range list {
		if e.Note == Revoked || e.Note == Renewed {
			continue
		}
		summary := "Expires: " + e.What
		if e.Kind == "card" {
			summary = "Due: " + e.What
		}
		line("BEGIN", "VEVENT")
		line("UID", e.UID)
		line("DTSTAMP", stamp.UTC().Format(icsTime))
		line("DTSTART", e.Expires.UTC().Format(icsTime))
		line("SEQUENCE", fmt.Sprint(e.Version&0x7fffffff))
		line("SUMMARY", escape(summary))
		line("DESCRIPTION", escape(describe(e)))
		line("CATEGORIES", escape(e.Kind))
		line("TRANSP", "TRANSPARENT")
		line("BEGIN", "VALARM")
		line("ACTION", "DISPLAY")
		line("TRIGGER", "-P30D")
		line("DESCRIPTION", escape(summary))
		line("END", "VALARM")
		line("END", "VEVENT")
	}
	line("END", "VCALENDAR")
	_, err := io.WriteString(w, b.String())
	return err
}

func describe(e Entry) string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"environment", e.Environment}, {"file", e.File}, {"note", e.Note}} {
		if p.value != "" {
			parts = append(parts, p.name+": "+p.value)
		}
	}
	return strings.Join(parts, "\n")
}

// escape writes a TEXT value (RFC 5545, section 3.3.11); controls, which it may not hold, become spaces.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "?"))
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// fold writes a content line of at most 75 octets a line, its end aside, and breaks no character (section 3.1).
func fold(b *strings.Builder, line string) {
	for limit := 75; len(line) > limit; limit = 74 {
		n := limit
		for !utf8.RuneStart(line[n]) {
			n--
		}
		b.WriteString(line[:n] + "\r\n ")
		line = line[n:]
	}
	b.WriteString(line + "\r\n")
}
