package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/softhsm"
)

// TestTerminal is a ceremony at a terminal, with everything asked and nothing in files: passphrases, the time, the words,
// the token's PIN, who is present. What is not exactly Yes, and a wrong PIN, leave nothing behind.
func TestTerminal(t *testing.T) {
	d := desk{t, t.TempDir()}
	bin := programtest.Path(t, "hanaper")
	secrets := map[string]string{"ada": "a-passphrase-of-ada", "berta": "a-passphrase-of-berta"}
	at := func(args ...string) *sitting {
		cmd := exec.Command(bin, args...)
		cmd.Dir = d.dir
		return sit(t, cmd)
	}

	s := at("officer", "enroll", "--name", "ada", "--key", "ada.key", "--out", "ada.officer.json")
	s.answers("New passphrase for ada.key: ", secrets["ada"])
	s.answers("The same again: ", secrets["ada"]+"x")
	if out := s.leaves(2); !strings.Contains(out, "the two passphrases differ") {
		t.Error(out)
	}
	d.nothing("ada.key", "ada.officer.json")
	for _, name := range []string{"ada", "berta"} {
		s = at("officer", "enroll", "--name", name, "--key", name+".key", "--out", name+".officer.json")
		s.answers("New passphrase for "+name+".key: ", secrets[name])
		s.answers("The same again: ", secrets[name])
		s.leaves(0)
	}
	d.ok("roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", d.path("roster.json"),
		d.path("ada.officer.json"), d.path("berta.officer.json"))

	board, err := softhsm.ForTest(t).Create("at the terminal")
	if err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(board.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	secrets["token"] = strings.TrimSpace(string(pin))
	script := strings.Replace(smallScript, "%s", d.digest("roster.json"), 1)
	d.write("script.yaml", strings.Replace(script, "%s\"}", hsm.URI{Token: board.Label, Serial: board.Serial}.String()+"\", bag: B-4711, seal: S 0815}", 1))
	digest, _ := hex.DecodeString(d.digest("script.yaml"))
	words := quorum.Digest(digest).Words()

	s = at("ceremony", "approve", "--officer", "ada.key", "--out", "ada.json", "script.yaml")
	s.answers("Type Yes to approve: ", "yes")
	s.leaves(3)
	d.nothing("ada.json")
	s = at("ceremony", "approve", "--officer", "ada.key", "--out", "ada.json", "script.yaml")
	s.answers("Type Yes to approve: ", "Yes")
	s.answers("Passphrase of ada.key: ", "not "+secrets["ada"])
	if out := s.leaves(1); !strings.Contains(out, "ada.key: key file: cannot be decrypted") {
		t.Error(out)
	}
	d.nothing("ada.json")
	for _, name := range []string{"ada", "berta"} {
		args := []string{"ceremony", "approve", "--officer", name + ".key", "--out", name + ".json"}
		if name == "berta" {
			args = append(args, "--with", "ada.json")
		}
		s = at(append(args, "script.yaml")...)
		s.answers("Type Yes to approve: ", "Yes")
		s.answers("Passphrase of "+name+".key: ", secrets[name])
		if out := s.leaves(0); !strings.Contains(squeeze(out), squeeze(words)) {
			t.Errorf("the words %q are not shown:\n%s", words, out)
		}
	}

	run := func() *sitting {
		return at("ceremony", "run", "--out", "out", "--state", "state", "--module", board.Module, "--officer", "ada.key",
			"--approval", "ada.json", "--approval", "berta.json", "script.yaml")
	}
	begins := func(s *sitting) {
		s.answers("Read the time aloud", "2026-11-21T09:00:00Z")
		for _, w := range strings.Fields(words) {
			s.sees(w)
		}
		s.answers("Type Yes to begin: ", "Yes")
		s.answers("Passphrase of ada.key: ", secrets["ada"])
	}
	for _, c := range []struct {
		name, says string
		code       int
		play       func(*sitting)
	}{
		{"no date", "interrupted", 1, func(s *sitting) {
			s.answers("Read the time aloud", "21.11.2026 9:00")
			s.sees("21.11.2026 9:00 is not a time")
			s.sees("Read the time aloud")
			_, _ = s.keys.WriteString("\x03")
		}},
		{"yes", "was not Yes", 3, func(s *sitting) {
			s.answers("Read the time aloud", "2026-11-21T09:00:00Z")
			s.answers("Type Yes to begin: ", "yes")
		}},
		{"the day after", "CER-007", 3, func(s *sitting) {
			s.answers("Read the time aloud", "2026-11-23T09:00:00Z")
		}},
		{"Ctrl-C at the PIN", "interrupted", 1, func(s *sitting) {
			begins(s)
			s.sees("PIN of ")
			_, _ = s.keys.WriteString("12\x03")
		}},
		{"wrong PIN", `"at the terminal"`, 1, func(s *sitting) {
			begins(s)
			s.answers("PIN of ", "0000-wrong")
		}},
	} {
		s := run()
		c.play(s)
		out := s.leaves(c.code)
		if !strings.Contains(out, c.says) {
			t.Errorf("%s: %q is not said:\n%s", c.name, c.says, out)
		}
		if c.name == "wrong PIN" {
			if !strings.Contains(out, board.Serial) || !strings.Contains(out, "tries") || strings.Contains(out, "0000-wrong") {
				t.Errorf("a wrong PIN: %s", out)
			}
		}
		d.nothing("out", "state")
	}

	s = run()
	begins(s)
	s.sees("tries are low")
	s.answers(": ", secrets["token"])
	s.answers("Somebody else who is present", "Eve, auditor")
	s.answers("Somebody else who is present", "")
	s.sees("Bags and seals as the script expects them:")
	s.sees("bag B-4711 with seal S 0815")
	s.answers("A bag or seal number", "A 0012345")
	s.answers("A bag or seal number", "")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "exception")
	s.answers(ceremony.AskReportedBy, "berta")
	s.answers(ceremony.AskExpected, "a quiet room")
	s.answers(ceremony.AskHappened, "the telephone rang")
	s.answers(ceremony.AskDecided, "taken uot; went on")
	s.sees("This will be written:")
	s.sees("What happened: the telephone rang")
	s.answers(ceremony.AskRight, "no")
	s.answers(ceremony.AskReportedBy, "berta")
	s.answers(ceremony.AskExpected, "a quiet room")
	s.answers(ceremony.AskHappened, "the telephone rang")
	s.answers(ceremony.AskDecided, "taken out; went on")
	s.answers(ceremony.AskRight, "Yes")
	s.answers(ceremony.AskStop, "yes")
	s.answers(ceremony.AskStop, "")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "next")
	s.answers(ceremony.AskStop, "next")
	s.answers("An exception", "the lamp went out")
	s.answers("An exception", "")
	s.answers("A deviation", "")
	out := s.leaves(0)
	for _, want := range []string{"writes at the end: artefacts/root.pem", "SHA-256 of the public key (DER, SubjectPublicKeyInfo) of root-key", "bag B-4711 with seal S 0815"} {
		if !strings.Contains(squeeze(out), want) {
			t.Errorf("%q is not on the screen:\n%s", want, out)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(out, secret) {
			t.Error("a secret is on the screen")
		}
	}
	// Ada alone signed. That is a ceremony of one officer, and does not count until berta signed too.
	if !strings.Contains(squeeze(out), "performed, NOT attested: signatures of officers that are missing: 1") {
		t.Errorf("nothing is said of the signature that is missing:\n%s", out)
	}
	d.refused(4, "performed, not attested: 1 of the 2 officers who are needed signed the transcript; not signed by berta, of whom 1 must", "", "ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	attest := func(more ...string) *sitting {
		return at(append(append([]string{"ceremony", "attest"}, more...), "out")...)
	}
	s = attest("--roster", d.digest("roster.json"), "--officer", "berta.key")
	s.sees("signed as performed by ada")
	s.answers("Type Yes to sign: ", "no")
	s.leaves(3)
	if out := attest("--officer", "berta.key").leaves(2); !strings.Contains(out, "nothing says whose folder this is") {
		t.Error(out)
	}
	if out := attest("--roster", strings.Repeat("0", 64), "--officer", "berta.key").leaves(4); !strings.Contains(out, "is not the roster of the digest given") {
		t.Error(out)
	}
	d.nothing("out/attestations")
	s = attest("--checkpoint", checkpointIn(out), "--officer", "berta.key")
	s.answers("Type Yes to sign: ", "Yes")
	s.answers("Passphrase of berta.key: ", secrets["berta"])
	if out := s.leaves(0); !strings.Contains(out, "signed; written to attestations/1.dsse.json") {
		t.Error(out)
	}
	formAndScreen(t, d.path("script.yaml"), out)
	if strings.Contains(d.read("out/transcript.log"), "uot") {
		t.Error("what was taken back is in the transcript")
	}
	report := d.ok("ceremony", "verify", "--roster", d.digest("roster.json"), d.path("out"))
	for _, want := range []string{`present: "Eve, auditor"`, "seal: A 0012345", "exception: the lamp went out", "answers from the terminal",
		`exception 1 after step 1, reported by berta: expected a quiet room, happened the telephone rang`} {
		if !strings.Contains(report, want) {
			t.Errorf("%q is not told: %s", want, report)
		}
	}
	if n := keysIn(t, board); n != 1 {
		t.Errorf("%d keys are in the token, want 1", n)
	}
	sum := sha256.Sum256([]byte(d.read("out/checkpoint")))
	if !strings.Contains(out, hex.EncodeToString(sum[:])) {
		t.Error("the checkpoint's digest is not told")
	}
}

// checkpointIn finds the checkpoint's digest in what a run said.
func checkpointIn(out string) string {
	_, after, _ := strings.Cut(out, "checkpoint SHA-256")
	digest, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	return strings.TrimSpace(digest)
}

// formAndScreen holds the printed form against a session: each box that a step has for a value, and each at the end, has
// its label and a value on the screen, whole, and each question of the form was asked.
func formAndScreen(t *testing.T, script, screen string) {
	t.Helper()
	s, err := ceremony.LoadScript(script)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Validate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	boxes, questions := 0, 0
	look := func(where string, facts paper.Facts) {
		for _, f := range facts {
			switch {
			case f.Label == "asks" && !strings.HasPrefix(f.Value, "the passphrase") && !strings.Contains(f.Value, "PIN of"):
				if questions++; !strings.Contains(squeeze(screen), squeeze(f.Value)) {
					t.Errorf("%s: the form has the question %q, which was not asked", where, f.Value)
				}
			case f.Value == "" && f.Label != "time answered (UTC)" && !strings.HasPrefix(f.Label, "Copies"):
				boxes++
				_, rest, ok := strings.Cut(squeeze(screen), squeeze(f.Label)+":")
				if value, _, _ := strings.Cut(strings.TrimSpace(rest), " "); !ok || value == "" {
					t.Errorf("%s: the form has a box %q, and the screen no value", where, f.Label)
				}
			}
		}
	}
	for _, sec := range plan.Paper(ceremony.Tool{}).Sections {
		for _, b := range sec.Blocks {
			switch b := b.(type) {
			case paper.Facts:
				look(sec.Title, b)
			case paper.Step:
				look(b.Kind, b.Facts)
			}
		}
	}
	if boxes < 8 || questions < 8 {
		t.Errorf("only %d boxes and %d questions are on the form", boxes, questions)
	}
}

func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

// nothing asserts that none of these exists.
func (d desk) nothing(names ...string) {
	d.Helper()
	for _, n := range names {
		if _, err := os.Lstat(d.path(n)); !errors.Is(err, fs.ErrNotExist) {
			d.Errorf("%s was written", n)
		}
	}
}

// keysIn counts the private keys in a token.
func keysIn(t *testing.T, b softhsm.Board) int {
	t.Helper()
	token, err := pkcs11.Open(context.Background(), pkcs11.Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINFile(b.PINFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer token.Close()
	keys, err := token.Keys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range keys {
		// SoftHSM, killed while it generates, may leave a shell: no label, no id, no key in it. Nobody can say whose it is.
		if a := k.Attributes(); a.Label != "" || len(a.ID) > 0 {
			n++
		}
	}
	return n
}
