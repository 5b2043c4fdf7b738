package ceremony

import (
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/ceremony/machine"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// The kinds of leaves that frame a ceremony and its steps.
const (
	kindBegin    = "begin"
	kindToken    = "token"
	kindStep     = "step"
	kindArtefact = "artefact"
	kindStepDone = "step-done"
	kindResumed  = "resumed"
	kindEnd      = "end"
)

var _ = register[beginLeaf](kindBegin) && register[tokenLeaf](kindToken) && register[stepLeaf](kindStep) && register[artefactLeaf](kindArtefact) &&
	register[stepDoneLeaf](kindStepDone) && register[resumedLeaf](kindResumed) && register[endLeaf](kindEnd)

// beginLeaf says what is performed, by what and under whom.
type beginLeaf struct {
	Head
	// Format of the transcript, such as 1.0.
	Format      string            `json:"format"`
	Ceremony    string            `json:"ceremony"`
	Environment string            `json:"environment"`
	Script      string            `json:"script_sha256"`
	Roster      string            `json:"roster_sha256"`
	Inputs      map[string]string `json:"inputs_sha256"`
	Tool        Tool              `json:"tool"`
	Asserted    string            `json:"asserted"`
	// Mode is "real" or "rehearsal".
	Mode string `json:"mode"`
	// Answers is "terminal" or "file": where the answers of the people present came from.
	Answers string `json:"answers"`
	// Nonce and Expires are those of the approvals, and Approvals says whose they are.
	Nonce     string          `json:"nonce"`
	Expires   string          `json:"expires"`
	Approvals []officerRecord `json:"approvals"`
	// Officers present, who sign the checkpoint at the end.
	Officers []officerRecord `json:"officers"`
	// Platform is what the machine says of itself; nil where it was not asked.
	Platform *Platform `json:"platform,omitempty" since:"1.3"`
}

type officerRecord struct {
	Name  string `json:"name"`
	Role  string `json:"role"`
	KeyID string `json:"key_id"`
}

// Tool is the program that performs a ceremony.
type Tool struct {
	Version string `json:"version"`
	// SHA256 of the program's file, hex.
	SHA256 string `json:"sha256"`
}

// tokenLeaf is a token as it was found when it was opened.
type tokenLeaf struct {
	Head
	Name  string        `json:"name"`
	Token hsm.TokenInfo `json:"token"`
}

func (l *tokenLeaf) show(s *shown) {
	s.box("serial of token "+l.Name+", as read back", l.Token.Serial)
}

func (l *tokenLeaf) record() string {
	return fmt.Sprintf("%s: %s, %s %s, firmware %s", l.Name, l.Token.Name(), l.Token.Manufacturer, l.Token.Model, l.Token.Firmware)
}

// stepLeaf opens a step, in the words in which check explained it.
type stepLeaf struct {
	Head
	What     string `json:"what"`
	Describe string `json:"describe" prose:"yes"`
}

// artefactLeaf: a file of the result. It is written when the ceremony has ended.
type artefactLeaf struct {
	Head
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
}

func (l *artefactLeaf) show(s *shown) { s.writes = append(s.writes, l.Path) }

func (l *artefactLeaf) record() string {
	return fmt.Sprintf("%s, %d bytes, SHA-256 %s", l.Path, l.Size, l.SHA256)
}

type stepDoneLeaf struct{ Head }

// resumedLeaf: the run was cut short here and another went on.
type resumedLeaf struct {
	Head
	Asserted string          `json:"asserted"`
	Tool     Tool            `json:"tool"`
	Officers []officerRecord `json:"officers"`
	// Anchor says against what the folder was held: "run", what the machine remembers, or "roster", the digest that people gave.
	Anchor string `json:"anchor,omitempty"`
	// Platform is that of a beginLeaf.
	Platform *Platform `json:"platform,omitempty" since:"1.3"`
}

func (l *resumedLeaf) record() string {
	return fmt.Sprintf("Taken up again, at %s as asserted, by %s; %s. Program: %s%s", show.Text(l.Asserted), presentWords(l.Officers), heldTo(l.Anchor), toolWords(l.Tool), l.Platform.record())
}

// presentWords are people for people.
func presentWords(list []officerRecord) string {
	var names []string
	for _, o := range list {
		names = append(names, show.Text(o.Name)+" ("+show.Text(o.Role)+")")
	}
	return strings.Join(names, ", ")
}

// heldTo says against what a folder was held that was taken up again.
func heldTo(anchor string) string {
	if anchor == machine.ByRoster {
		return "the machine did not remember the folder: the officers gave digests from their paper"
	}
	return "the folder was the one that the machine wrote last"
}

func toolWords(t Tool) string { return show.Text(t.Version) + ", SHA-256 " + show.Text(t.SHA256) }

// endLeaf closes a transcript.
type endLeaf struct {
	Head
	Manifest string `json:"manifest_sha256"`
}
