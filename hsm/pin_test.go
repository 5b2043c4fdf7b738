package hsm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

var token = hsm.TokenInfo{Label: "fleet", Serial: "77"}

// TestPINFile: what is no PIN never reaches the token, which would count a try.
func TestPINFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", "1234 5678\n", 0o600)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{good, "file:" + good, "file://" + good, link, write("readonly", "1234 5678", 0o400)} {
		pin, err := hsm.PINFile(source)(t.Context(), token)
		if err != nil || string(pin) != "1234 5678" {
			t.Errorf("%s: %q, %v", source, pin, err)
		}
	}
	for name, c := range map[string]struct{ text, names string }{
		"line ends of Windows":   {"secret\r\n", "0x0d"},
		"without a line end":     {"secret\r", "0x0d"},
		"a byte order mark":      {"\xef\xbb\xbfsecret\n", "0xef"},
		"UTF-16":                 {"\xff\xfes\x00", "NUL"},
		"UTF-16 with no NUL":     {"\xff\xfe\x34\x12", "0xff"},
		"a blank at the end":     {"secret \n", "ends with the byte 0x20"},
		"a blank and no end":     {"secret ", "ends with the byte 0x20"},
		"a blank before":         {" secret\n", "begins with the byte 0x20"},
		"a tab":                  {"secret\t\n", "0x09"},
		"two lines":              {"secret\nsecret\n", "0x0a"},
		"an empty line":          {"secret\n\n", "0x0a"},
		"a carriage return":      {"sec\rret\n", "0x0d"},
		"an escape":              {"\x1bsecret\n", "0x1b"},
		"blanks alone":           {"  \n", "0x20"},
		"a delete":               {"secret\x7f\n", "0x7f"},
		"only a line of Windows": {"\r\n", "0x0d"},
	} {
		pin, err := hsm.PINFile(write("written", c.text, 0o600))(t.Context(), token)
		if err == nil || pin != nil || !strings.Contains(err.Error(), c.names) || strings.Contains(err.Error(), "secret") || advice.KindOf(err) != advice.Usage {
			t.Errorf("%s: %q, %v", name, pin, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	loose := write("loose", "secret-pin\n", 0o644)
	looseLink := filepath.Join(dir, "loose-link")
	if err := os.Symlink(loose, looseLink); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"readable by others": loose, "through a link": looseLink, "readable by the group": write("group", "secret-pin", 0o640), "writable by others": write("w", "secret-pin", 0o602),
		"empty": write("empty", "", 0o600), "only a newline": write("nl", "\n", 0o600), "NUL": write("nul", "secret\x00pin", 0o600),
		"too long": write("long", strings.Repeat("secret-pin", 26), 0o600), "folder": dir, "absent": filepath.Join(dir, "absent"), "fifo": fifo,
		"relative": "good", "command": "|echo secret-pin",
	} {
		pin, err := hsm.PINFile(path)(t.Context(), token)
		if err == nil || pin != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if strings.Contains(err.Error(), "secret") || advice.Hint(err) == "" {
			t.Errorf("%s: %v (hint %q)", name, err, advice.Hint(err))
		}
		if strings.HasPrefix(path, "/") && !strings.Contains(err.Error(), `"fleet"`) {
			t.Errorf("%s: does not name the token: %v", name, err)
		}
	}
}

func TestPINPrompt(t *testing.T) {
	var shown string
	ask := hsm.PINPrompt(func(prompt string) ([]byte, error) { shown = prompt; return []byte("x"), nil })
	for flags, want := range map[*hsm.TokenInfo]string{
		{Label: "fleet", Serial: "77"}:                                  `PIN of token "fleet" (serial 77): `,
		{Label: "fleet", Serial: "77", PINLow: true}:                    "low",
		{Label: "fleet", Serial: "77", PINLow: true, PINFinalTry: true}: "FINAL",
	} {
		if _, err := ask(t.Context(), *flags); err != nil || !strings.Contains(shown, want) {
			t.Errorf("%q does not say %q (%v)", shown, want, err)
		}
	}
	shown = ""
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(ctx, token); !errors.Is(err, context.Canceled) || shown != "" {
		t.Errorf("asked %q although it was cancelled: %v", shown, err)
	}
}

func TestPINFromURI(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte("in the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := hsm.PINBytes([]byte("other"))
	for u, want := range map[string]string{"": "other", path: "in the file"} {
		pin, err := hsm.PINFromURI(hsm.URI{PINSource: u}, other)(t.Context(), token)
		if err != nil || string(pin) != want {
			t.Errorf("%q: %q, %v", u, pin, err)
		}
	}
	if hsm.PINFromURI(hsm.URI{}, nil) != nil {
		t.Error("a source out of nothing")
	}
}
