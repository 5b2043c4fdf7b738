package ceremony

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
)

// step is a step of the form.
func (p *Plan) step(st scriptStep, entries []entry) paper.Step {
	page := p.script.printed(st)
	page.Text = describedBy(ofStep(entries, st.number))
	prefix := fmt.Sprintf("step %d: ", st.number)
	for _, w := range p.Warnings {
		if rest, ok := strings.CutPrefix(w, prefix); ok {
			page.Warning = strings.TrimSpace(page.Warning + " " + rest)
		}
	}
	view := p.View(st.number)
	page.Warning = strings.TrimSpace(strings.Join(append(view.Remarks, page.Warning), " "))
	if seen := p.shown[st.number]; seen != nil {
		page.Facts = append(page.Facts, seen.blank()...)
	}
	page.Facts = append(page.Facts, paper.Fact{Label: TranscriptLabel})
	for _, q := range view.Asks {
		page.Facts = append(page.Facts, paper.Fact{Label: "asks", Value: q})
	}
	page.Boxes = []paper.Box{{Label: "Time (UTC)"}, {Label: "Done by (initials)"}, {Label: "Seen by (initials)"}, {Label: "As expected: yes / exception no.", Weight: 1.4}}
	return page
}

// printed is what the script itself says of a step.
func (s *Script) printed(st scriptStep) paper.Step {
	page := paper.Step{Number: st.number, Kind: st.kind, Place: fmt.Sprintf("%s, line %d", filepath.Base(s.name), st.line), Who: st.step.people().act}
	all := fields(st.step)
	for _, f := range all {
		page.Facts = append(page.Facts, paper.Fact{Label: strings.ReplaceAll(f.path, "_", " "), Value: f.value})
	}
	if u, ok := s.tokens[get(all, "token")]; ok {
		value := fmt.Sprintf("label %q", u.Token)
		if u.Serial != "" {
			value += ", serial " + u.Serial
		}
		page.Facts = append(page.Facts, paper.Fact{Label: "token " + get(all, "token"), Value: value})
	}
	var seen []string
	for _, f := range all {
		for _, n := range strings.Split(f.value, ", ") {
			data, ok := s.inputs[n]
			if !ok || slices.Contains(seen, n) {
				continue
			}
			seen = append(seen, n)
			page.Facts = append(page.Facts, paper.Fact{Label: "input " + n + ", SHA-256", Value: hexSHA256(data), Code: true})
			page.Facts = append(page.Facts, requestFacts(n, data)...)
		}
	}
	return page
}

// requestFacts says whom a certification request is for.
func requestFacts(name string, data []byte) []paper.Fact {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	r, err := x509.ParseCertificateRequest(data)
	if err != nil {
		return nil
	}
	return []paper.Fact{{Label: "subject in " + name, Value: r.Subject.String()},
		{Label: "public key in " + name + ", SHA-256", Value: hexSHA256(r.RawSubjectPublicKeyInfo), Code: true}}
}
