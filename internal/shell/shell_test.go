package shell

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"prog group ok", 0, ""},
		{"prog group fail", 1, "prog: it broke\n"},
		{"prog group paint", 1, `prog: label "\x1b]0;x\x07", prog: done\r \u202e; next` + "\nprog: hint: ask\\x1b[2J\n"},
		{"prog group refuse", 3, "prog: no: \"x\"\nprog: hint: ask\n"},
		{"prog group verify", 4, "prog: bad signature\n"},
		{"prog group ok --nope", 2, "prog: flag provided but not defined: -nope\nprog: hint: see 'prog group ok --help'\n"},
		{"prog group nope", 2, "prog: no such command: prog group nope\nprog: hint: see 'prog group --help'\n"},
		{"prog nope", 2, "prog: no such command: prog nope\nprog: hint: see 'prog --help'\n"},
		{"prog --nope", 2, "prog: flag provided but not defined: -nope\nprog: hint: see 'prog --help'\n"},
		{"prog group need", 2, "prog: required flag \"f\" not set\nprog: hint: give it; flags stand before the file or name that is worked on\n"},
		{"prog", 2, "prog: a command is missing\n"},
		{"prog group", 2, "prog: a command is missing\n"},
		{"prog completion tcsh", 2, "prog: no completion for the shell \"tcsh\"\nprog: hint: one of bash, zsh, fish\n"},
		{"prog completion bash", 0, ""},
		{"prog completion zsh", 0, ""},
		{"prog completion fish", 0, ""},
		{"prog man", 0, ""},
		{"prog --help", 0, ""},
		{"prog --version", 0, ""},
	} {
		var out, errs strings.Builder
		app := &cli.App{Name: "prog", Writer: &out, ErrWriter: &errs, Commands: []*cli.Command{{Name: "group", Subcommands: []*cli.Command{
			{Name: "ok", Action: func(*cli.Context) error { return nil }},
			{Name: "fail", Action: func(*cli.Context) error { return errors.New("it broke") }},
			{Name: "paint", Action: func(*cli.Context) error {
				return advice.New(advice.Failed, "ask\x1b[2J", "label \"\x1b]0;x\a\", prog: done\r \u202e\nnext")
			}},
			{Name: "refuse", Action: func(*cli.Context) error { return advice.New(advice.Refused, "ask", "no: %q", "x") }},
			{Name: "verify", Action: func(*cli.Context) error { return advice.New(advice.Unverified, "", "bad signature") }},
			{Name: "need", Flags: []cli.Flag{&cli.StringFlag{Name: "f", Required: true}}, Action: func(*cli.Context) error { return nil }},
		}}}}
		code := Run(app, strings.Fields(c.args))
		if code != c.code || errs.String() != c.stderr {
			t.Errorf("%s: exit %d, %q; want %d, %q", c.args, code, errs.String(), c.code, c.stderr)
		}
		if code == 0 && c.args != "prog group ok" && out.Len() == 0 {
			t.Errorf("%s: printed nothing", c.args)
		}
	}
}

// short is an output that takes so many bytes.
type short int

func (s *short) Write(p []byte) (int, error) {
	if len(p) > int(*s) {
		return 0, syscall.ENOSPC
	}
	*s -= short(len(p))
	return len(p), nil
}

// TestCutShort: a verb whose output was cut short by a full disk does not end with 0, whether it looked or not; and a full disk without any other advice has one.
func TestCutShort(t *testing.T) {
	for _, c := range []struct {
		room   short
		verb   func(*cli.Context) error
		code   int
		stderr string
	}{
		{8, func(c *cli.Context) error { fmt.Fprint(c.App.Writer, "one\n"); return nil }, 0, ""},
		{5, func(c *cli.Context) error {
			fmt.Fprint(c.App.Writer, "one\n")
			fmt.Fprint(c.App.Writer, "two\n")
			return nil
		}, 1, "prog: standard output: no space left on device\nprog: hint: what was to be written there is not whole; all else is done\n"},
		{5, func(c *cli.Context) error { _, _ = show.Raw(c.App.Writer, []byte("signed bytes")); return nil }, 1,
			"prog: standard output: no space left on device\nprog: hint: what was to be written there is not whole; all else is done\n"},
		{0, func(*cli.Context) error { return advice.New(advice.Refused, "", "backup: %w", syscall.ENOSPC) }, 3,
			"prog: backup: no space left on device\nprog: hint: a disk is full: make room on it, and give the command again\n"},
		{0, func(*cli.Context) error {
			return advice.New(advice.Failed, "nothing was done", "act: %w", syscall.ENOSPC)
		}, 1,
			"prog: act: no space left on device\nprog: hint: nothing was done\n"},
	} {
		var errs strings.Builder
		code := Run(&cli.App{Name: "prog", Writer: &c.room, ErrWriter: &errs, Commands: []*cli.Command{{Name: "verb", Action: c.verb}}}, []string{"prog", "verb"})
		if code != c.code || errs.String() != c.stderr {
			t.Errorf("exit %d, %q; want %d, %q", code, errs.String(), c.code, c.stderr)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, []string{"label", "serial"}, [][]string{{"root", "1"}})
	if b.String() != "LABEL  SERIAL\nroot   1\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	Table(&b, []string{"label", "uri"}, [][]string{{"root", "pkcs11:token=root"}, {"root", ""}})
	if b.String() != "LABEL  URI\nroot   pkcs11:token=root\nroot\n" {
		t.Errorf("blanks at the end of a line, which a narrow terminal shows as a line of their own: %q", b.String())
	}
	b.Reset()
	Table(&b, []string{"label"}, [][]string{{"a\x1b[2K\nroot\tb"}, {"größer als 1"}})
	if b.String() != `LABEL
"a\x1b[2K\nroot\tb"
größer als 1
` {
		t.Errorf("%q", b.String())
	}
}
