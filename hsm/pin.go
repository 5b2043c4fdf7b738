package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// maxPIN bounds a PIN in bytes; no token takes a longer one.
const maxPIN = 255

// PINFile reads the PIN from a file (an absolute path, or "file:" and one), anew at each login. It refuses what
// others could have read or put there: a file that group or others may read or write, one owned by neither this user nor
// root, and anything but a regular file. A symbolic link is followed, as secret mounts use them; what it leads to is checked.
// One newline at the end is cut off. Every other byte belongs to the PIN, so that a file with a byte that an editor put
// there (see checkWritten) is refused before the token counts a wrong try.
//
// The final try before a token locks is not spent on a file: a service that is started again and again would lock it.
//
// After "credential:" stands the name of a credential of this service, and after "sealed:" the path of a sealed PIN, which only programs open that link what can (package hsm/tpm).
func PINFile(source string) PINSource {
	return func(ctx context.Context, t TokenInfo) ([]byte, error) {
		path, err := pinPath(source)
		if err != nil {
			return nil, err
		}
		if t.PINFinalTry {
			return nil, advice.New(advice.Refused, "find out who gave wrong PINs; then give the PIN once by hand, with the URI without pin-source, which sets the count back",
				"%s: %w is left, and a file does not spend it", t.Name(), errFinalTry)
		}
		if !strings.HasPrefix(source, SealedPrefix) {
			return readPIN(path, t)
		}
		if openSealed == nil {
			return nil, advice.New(advice.Usage, "give a file with mode 0600 that holds the PIN", "PIN of %s: this program opens no sealed PINs", t.Name())
		}
		return openSealed(path)(ctx, t)
	}
}

var errFinalTry = errors.New("the final try before the PIN locks")

// SealedPrefix stands before the path of a sealed PIN.
const SealedPrefix = "sealed:"

// openSealed opens sealed PINs; nil where nothing that can is linked.
var openSealed func(path string) PINSource

// OpenSealedWith says what opens sealed PINs. The package that can calls it once, when it is initialised.
func OpenSealedWith(f func(path string) PINSource) { openSealed = f }

// CredentialPrefix stands before the name of a credential: a file of that name in the folder that systemd made for this service
// ($CREDENTIALS_DIRECTORY; LoadCredential= and LoadCredentialEncrypted= in its unit). Where there is no such folder, as at an operator's terminal,
// the PIN is asked for.
const CredentialPrefix = "credential:"

var credentialName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$`)

// checkPINSource refuses what names no file, whatever files there are.
func checkPINSource(source string) error {
	if name, is := strings.CutPrefix(source, CredentialPrefix); is {
		if !credentialName.MatchString(name) {
			return advice.New(advice.Usage, "give the name that LoadCredential= has in the unit", "pin-source names no credential")
		}
		return nil
	}
	_, err := pinPath(source)
	return err
}

func pinPath(source string) (string, error) {
	if name, is := strings.CutPrefix(source, CredentialPrefix); is {
		if err := checkPINSource(source); err != nil {
			return "", err
		}
		folder := os.Getenv("CREDENTIALS_DIRECTORY")
		if !filepath.IsAbs(folder) {
			return "", advice.New(advice.Usage, "run it as a service with LoadCredential=, or at a terminal, where the PIN is asked for", "pin-source is the credential %s, and there is no folder of credentials here", show.Text(name))
		}
		return filepath.Join(folder, name), nil
	}
	path := strings.TrimPrefix(strings.TrimPrefix(source, SealedPrefix), "file:")
	path = strings.TrimPrefix(path, "//") // file:///run/pin, as in RFC 8089
	if !strings.HasPrefix(path, "/") {
		return "", advice.New(advice.Usage, "give the path of a file with mode 0600 that holds the PIN",
			"pin-source is not an absolute path of a file")
	}
	return path, nil
}

func readPIN(path string, t TokenInfo) ([]byte, error) {
	fail := func(kind advice.Kind, hint, format string, args ...any) ([]byte, error) {
		return nil, advice.New(kind, hint, "PIN file %s of %s: %w", show.Text(path), t.Name(), fmt.Errorf(format, args...))
	}
	f, err := input.Open(path)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		if errors.Is(err, input.ErrNotFile) {
			return fail(advice.Usage, "point pin-source at a file", "%w", err)
		}
		return fail(advice.Failed, "check the path and who may read it", "%w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return fail(advice.Failed, "", "%w", err)
	case input.LetsOthersIn(path, st):
		return fail(advice.Refused, "run: chmod 600 "+path+" (and change the PIN if others could read it)",
			"mode %04o lets group or others in", st.Mode().Perm())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return fail(advice.Refused, "run: chown it to the user that runs this program", "owned by user %d", sys.Uid)
	}
	buf := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return fail(advice.Failed, "", "%w", err)
	}
	pin := bytes.TrimSuffix(buf[:n], []byte("\n"))
	err = CheckPIN(pin)
	if err == nil {
		err = checkWritten(pin)
	}
	if err != nil {
		clear(buf)
		return fail(advice.Usage, "write the PIN, and nothing else, into the file", "%w", err)
	}
	return pin, nil
}

// CheckPIN refuses what no token takes as a PIN: nothing, more than 255 bytes, or a NUL byte, where C code cuts it off.
func CheckPIN(pin []byte) error {
	switch {
	case len(pin) == 0:
		return errors.New("the PIN is empty")
	case len(pin) > maxPIN:
		return fmt.Errorf("the PIN is longer than %d bytes", maxPIN)
	case bytes.IndexByte(pin, 0) >= 0:
		return errors.New("the PIN holds a NUL byte")
	}
	return nil
}

// CheckNewPIN refuses a PIN that the token would not take as its new one.
func CheckNewPIN(pin []byte, t TokenInfo) error {
	if err := CheckPIN(pin); err != nil {
		return err
	}
	if n := len(pin); n < t.MinPIN || t.MaxPIN > 0 && n > t.MaxPIN {
		return fmt.Errorf("it has %d bytes, the token takes %d to %d", n, t.MinPIN, t.MaxPIN)
	}
	return nil
}

// checkWritten refuses what editors and other systems leave in a file and nobody types: a byte order mark, line ends of
// Windows, blanks at either end, a second line. The error names the byte, and not where in the PIN it stands.
func checkWritten(pin []byte) error {
	for mark, name := range map[string]string{"\xef\xbb\xbf": "UTF-8", "\xff\xfe": "UTF-16", "\xfe\xff": "UTF-16"} {
		if bytes.HasPrefix(pin, []byte(mark)) {
			return fmt.Errorf("the file begins with the byte 0x%02x, of a byte order mark of %s", mark[0], name)
		}
	}
	if bytes.HasSuffix(pin, []byte("\r")) {
		return errors.New("the line ends with the byte 0x0d (carriage return), as Windows writes lines")
	}
	for _, c := range pin {
		if c < ' ' || c == 0x7f {
			return fmt.Errorf("the file holds the byte 0x%02x%s, which no PIN has", c, nameOf(c))
		}
	}
	for place, c := range map[string]byte{"begins": pin[0], "ends": pin[len(pin)-1]} {
		if c == ' ' {
			return fmt.Errorf("the line %s with the byte 0x20 (a blank)", place)
		}
	}
	return nil
}

func nameOf(c byte) string {
	return map[byte]string{'\n': " (a line end)", '\r': " (carriage return)", '\t': " (a tab)"}[c]
}

// PINPrompt asks a person; ask shows the prompt on the terminal and reads without echo (term.Prompter's Secret). The
// prompt names the token and says when tries are low.
func PINPrompt(ask func(prompt string) ([]byte, error)) PINSource {
	return func(ctx context.Context, t TokenInfo) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		prompt := "PIN of " + t.Name() + ": "
		if forSignature(ctx) {
			prompt = "PIN of " + t.Name() + ", once more for the next signature: "
		}
		if warning := t.PINWarning(); warning != "" {
			// On a line of its own, so that it stays when the answer is given and the question is erased.
			prompt = "Take care: " + warning + ".\n" + prompt
		}
		return ask(prompt)
	}
}

type signatureKey struct{}

// ForSignature marks a context in which a PIN is asked for that counts for one signature (CKA_ALWAYS_AUTHENTICATE), so that the
// prompt can say so: a person who is asked again would else think that the first PIN was wrong.
func ForSignature(ctx context.Context) context.Context {
	return context.WithValue(ctx, signatureKey{}, true)
}

func forSignature(ctx context.Context) bool { return ctx.Value(signatureKey{}) != nil }

// PINBytes gives a copy of a PIN already at hand, such as one that a quorum derived. The caller wipes pin when the
// token is closed.
func PINBytes(pin []byte) PINSource {
	return func(ctx context.Context, t TokenInfo) ([]byte, error) { return bytes.Clone(pin), nil }
}

// PINFromURI is the URI's pin-source, or otherwise (which may be nil) where the URI has none.
func PINFromURI(u URI, otherwise PINSource) PINSource {
	atTerminal := strings.HasPrefix(u.PINSource, CredentialPrefix) && os.Getenv("CREDENTIALS_DIRECTORY") == "" && otherwise != nil
	if u.PINSource != "" && !atTerminal {
		return PINFile(u.PINSource)
	}
	return otherwise
}

// PINWarning says in words what the token's flags say about the tries left; empty when all is well.
func (t TokenInfo) PINWarning() string {
	switch {
	case t.PINState != "":
		return t.PINState
	case t.PINLocked:
		return "the PIN is LOCKED"
	case t.PINFinalTry:
		return "this is the FINAL try before the PIN locks"
	case t.PINLow:
		return "a wrong PIN was given since the last login: tries are low"
	}
	return ""
}
