// Package softhsm makes and destroys throw-away SoftHSM tokens, for rehearsals, development and tests, and as the
// simulated key store of a device.
//
// A Store keeps everything in a folder of its own (configuration, tokens, PIN files) and never touches the user's own
// SoftHSM. It trusts that folder: an attacker who can read it has the PINs and the keys, for these are software tokens,
// and nothing made with them may be trusted outside a rehearsal. One process has one SOFTHSM2_CONF, so one Store at a time.
package softhsm

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
)

// ConfigVariable is the environment variable through which SoftHSM finds its configuration.
const ConfigVariable = "SOFTHSM2_CONF"

// marker is the file that says that a folder is a Store; Destroy removes no folder without it.
const marker, markerText = ".hanaper-softhsm", "throw-away SoftHSM tokens made by hanaper; this folder may be deleted by it\n"

// Store is a folder with SoftHSM tokens of its own.
type Store struct{ dir string }

// Board is a token of a Store: the simulated key store of a device, or an HSM in a rehearsal.
type Board struct {
	Label, Serial string
	// Module is the path of the SoftHSM library.
	Module string
	// URI names the token, its library and the user PIN's file.
	URI                string
	PIN, SOPIN         []byte
	PINFile, SOPINFile string
}

// New makes a Store in dir (mode 0700), which must be absent or empty, or opens the one that is there. Nothing global
// is set: pass Env to other programs, or call Use.
func New(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	// SoftHSM reads its configuration line by line, with "key = value" and '#'.
	if strings.ContainsAny(dir, "#\n=") {
		return nil, advice.New(advice.Usage, "choose a folder without '#', '=' and line ends", "softhsm folder %q cannot be written into SoftHSM's configuration", dir)
	}
	s := &Store{dir: dir}
	if s.made() == nil {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if len(entries) > 0 {
		return nil, advice.New(advice.Refused, "name an empty or a new folder", "softhsm folder %s holds other files", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // it may have existed, empty
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if err := os.Mkdir(s.tokens(), 0o700); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", s.tokens())
	for name, text := range map[string]string{"softhsm2.conf": conf, marker: markerText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("softhsm: %w", err)
		}
	}
	return s, nil
}

func (s *Store) tokens() string { return filepath.Join(s.dir, "tokens") }

// made says whether the folder is a Store.
func (s *Store) made() error {
	text, err := input.ReadFile(filepath.Join(s.dir, marker))
	if err == nil && string(text) != markerText {
		err = errors.New("its marker file has another text")
	}
	return err
}

// Dir is the Store's folder.
func (s *Store) Dir() string { return s.dir }

// Config is the path of the Store's softhsm2.conf.
func (s *Store) Config() string { return filepath.Join(s.dir, "softhsm2.conf") }

// Env is what other programs need in their environment to see the Store's tokens.
func (s *Store) Env() []string { return []string{ConfigVariable + "=" + s.Config()} }

// Use sets the variable in this process, for SoftHSM reads it when it is initialised. It must be called before the
// module is first opened.
func (s *Store) Use() error { return os.Setenv(ConfigVariable, s.Config()) }

// fileName is the label as the beginning of file names.
func fileName(label string) string { return strings.ReplaceAll(label, " ", "_") }

var labelShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 .+_-]{0,31}$`)

// Create initialises a new token with random PINs, kept in files of mode 0600 beside the tokens. A label that is
// there already is refused.
func (s *Store) Create(label string) (Board, error) {
	if !labelShape.MatchString(label) {
		return Board{}, advice.New(advice.Usage, "use up to 32 letters, digits, spaces, and . + _ -", "softhsm token label %q", label)
	}
	if err := s.made(); err != nil {
		return Board{}, fmt.Errorf("softhsm: %s is not a store: %w", s.dir, err)
	}
	module, err := Module()
	if err != nil {
		return Board{}, err
	}
	name := fileName(label)
	b := Board{Label: label, Module: module,
		PINFile: filepath.Join(s.dir, name+".pin"), SOPINFile: filepath.Join(s.dir, name+".so-pin")}
	if b.PIN, err = createPIN(b.PINFile); err != nil {
		return Board{}, err
	}
	if b.SOPIN, err = createPIN(b.SOPINFile); err != nil {
		return Board{}, errors.Join(err, os.Remove(b.PINFile))
	}
	if b.Serial, err = s.initialise(label, b.SOPIN, b.PIN); err != nil {
		return Board{}, errors.Join(err, os.Remove(b.PINFile), os.Remove(b.SOPINFile))
	}
	b.URI = hsm.URI{Token: label, Serial: b.Serial, ModulePath: module, PINSource: b.PINFile}.String()
	return b, nil
}

// Board finds a token that Create made earlier, perhaps in another process.
func (s *Store) Board(label string) (Board, error) {
	name := fileName(label)
	b := Board{Label: label, PINFile: filepath.Join(s.dir, name+".pin"), SOPINFile: filepath.Join(s.dir, name+".so-pin")}
	text, err := input.ReadFile(filepath.Join(s.dir, name+".serial"))
	if err != nil {
		return Board{}, fmt.Errorf("softhsm: no token %q in %s: %w", label, s.dir, err)
	}
	b.Serial = strings.TrimSpace(string(text))
	if b.Module, err = Module(); err != nil {
		return Board{}, err
	}
	if b.PIN, err = input.ReadFile(b.PINFile); err != nil {
		return Board{}, fmt.Errorf("softhsm: %w", err)
	}
	if b.SOPIN, err = input.ReadFile(b.SOPINFile); err != nil {
		return Board{}, fmt.Errorf("softhsm: %w", err)
	}
	b.PIN, b.SOPIN = bytes.TrimSpace(b.PIN), bytes.TrimSpace(b.SOPIN)
	b.URI = hsm.URI{Token: label, Serial: b.Serial, ModulePath: b.Module, PINSource: b.PINFile}.String()
	return b, nil
}

// createPIN writes 80 random bits, in 16 letters and digits, into a new file.
func createPIN(path string) ([]byte, error) {
	raw := make([]byte, 10)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	pin := []byte(strings.ToLower(base32.StdEncoding.EncodeToString(raw)))
	f, err := input.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, advice.New(advice.Refused, "choose another label, or destroy the store", "softhsm token of this label exists already: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	_, err = f.Write(append(bytes.Clone(pin), '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	return pin, nil
}

// Destroy removes the Store with all its tokens. A folder that New did not make is refused.
func (s *Store) Destroy() error {
	if err := s.made(); err != nil {
		return advice.New(advice.Refused, "remove the folder yourself if it is to go", "softhsm: %s was not made by hanaper: %w", s.dir, err)
	}
	// The marker goes last, so that a removal cut short can be taken up again.
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("softhsm: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, marker)); err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	return os.Remove(s.dir)
}

// modulePaths are where distributions put the library: Debian, Fedora, Alpine and Arch, Homebrew.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// Module finds the SoftHSM library.
func Module() (string, error) {
	for _, path := range modulePaths {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", advice.New(advice.Failed, "install it: apt-get install softhsm2 (Debian), dnf install softhsm (Fedora)",
		"the SoftHSM library libsofthsm2.so is not on this machine")
}
