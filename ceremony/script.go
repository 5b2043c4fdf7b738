package ceremony

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/format"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/strict"
)

// ScriptConfig is a script as it is written; docs/spec/script.md is its manual.
type ScriptConfig struct {
	// Version of the form: 1.
	Version int `yaml:"version"`
	// Ceremony is the id of this ceremony, used once.
	Ceremony string `yaml:"ceremony"`
	// Environment that the ceremony is for, such as "plant-7-prod".
	Environment string `yaml:"environment"`
	// Title in plain words; optional.
	Title string `yaml:"title"`
	// Window in which the asserted time must lie.
	Window WindowConfig `yaml:"window"`
	// Roster of officers, pinned.
	Roster RosterConfig `yaml:"roster"`
	// Earlier is the transcript that this ceremony carries on from; optional.
	Earlier *EarlierConfig `yaml:"earlier"`
	// Tokens by the names that steps use.
	Tokens map[string]TokenConfig `yaml:"tokens"`
	// Inputs by the names that steps use, each pinned.
	Inputs map[string]FileConfig `yaml:"inputs"`
	// Steps in the order in which they are performed.
	Steps []StepConfig `yaml:"steps"`
}

// WindowConfig bounds the asserted time.
type WindowConfig struct {
	From  string `yaml:"from"`
	Until string `yaml:"until"`
}

// FileConfig pins a file, named relative to the script.
type FileConfig struct {
	File   string `yaml:"file"`
	SHA256 string `yaml:"sha256"`
}

// RosterConfig pins the roster. One that replaces the earlier ceremony's comes with the approvals of that one's officers.
type RosterConfig struct {
	File      string       `yaml:"file"`
	SHA256    string       `yaml:"sha256"`
	Approvals []FileConfig `yaml:"approvals"`
}

// EarlierConfig pins an earlier ceremony's folder, named relative to the script, by the digest of its checkpoint.
type EarlierConfig struct {
	Folder     string `yaml:"folder"`
	Checkpoint string `yaml:"checkpoint"`
}

// TokenConfig names a token by URI: label and serial, never a module, slot or PIN.
type TokenConfig struct {
	URI string `yaml:"uri"`
	// UserShares and SOShares are inputs: the shares that hold the token's PINs. Without, the PINs are asked for.
	UserShares string `yaml:"user_shares"`
	SOShares   string `yaml:"so_shares"`
	// Bag and Seal are the numbers of the bag and the seal in which the token lies, as the last record has them; optional.
	Bag  string `yaml:"bag"`
	Seal string `yaml:"seal"`
	// Birth asks a TPM to certify the keys that are generated in it; optional.
	Birth *BirthConfig `yaml:"birth"`
}

// Script is a script that is well formed and whose inputs are those it pins. Validate says whether it can be performed.
type Script struct {
	name   string
	raw    []byte
	config ScriptConfig
	from   time.Time
	until  time.Time
	roster []byte
	// rosterApprovals are envelopes by which officers of the earlier roster approved this one.
	rosterApprovals [][]byte
	inputs          map[string][]byte
	tokens          map[string]hsm.URI
	births          map[string]*birth
	steps           []scriptStep
	earlier         *earlier
	// asOf is the format of the transcript that the script is verified with: keys are judged by what was known then.
	asOf format.Version
}

type scriptStep struct {
	number int // from 1
	kind   string
	line   int
	step   Step
}

// LoadScript reads the script at file and the inputs that it pins, which lie beside or below it or are named by an
// absolute path.
func LoadScript(file string) (*Script, error) {
	raw, err := input.Read(file, strict.MaxSize)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "name a script that exists and that you may read")
	}
	dir := filepath.Dir(file)
	read := func(_, name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return readBounded(input.Dir(filepath.Dir(name)), filepath.Base(name))
	}
	open := func(name string) (fs.FS, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return input.Dir(name), nil
	}
	return parseScript(file, raw, read, open)
}

// loadCopy reads the script and inputs as a finished folder keeps them.
func loadCopy(files map[string][]byte) (*Script, error) {
	read := func(name, _ string) ([]byte, error) {
		data, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return data, nil
	}
	open := func(string) (fs.FS, error) { return memory(under(files, earlierDir)), nil }
	return parseScript(scriptFile, files[scriptFile], read, open)
}

// parseScript reads the script in raw. read gives a pinned file by its place in a finished folder or by the name in
// the script; open gives the earlier ceremony's folder.
func parseScript(name string, raw []byte, read func(place, file string) ([]byte, error), open func(string) (fs.FS, error)) (*Script, error) {
	s := &Script{name: name, raw: raw, inputs: map[string][]byte{}, tokens: map[string]hsm.URI{}, births: map[string]*birth{}}
	if err := strict.Unmarshal(name, raw, &s.config); err != nil {
		return nil, err
	}
	lines := linesOf(raw)
	fail := func(key string, format string, args ...any) error {
		return advice.New(advice.Usage, "see docs/spec/script.md", "%s:%d: %w", name, lines.of(key), fmt.Errorf(format, args...))
	}
	c := &s.config
	if c.Version != 1 {
		return nil, fail("version", "version %d is unknown; this program reads version 1", c.Version)
	}
	if !nameForm.MatchString(c.Ceremony) {
		return nil, fail("ceremony", "ceremony id %q: use 1 to 64 of a-z, 0-9, '.' and '-'", c.Ceremony)
	}
	if !nameForm.MatchString(c.Environment) {
		return nil, fail("environment", "environment %q: use 1 to 64 of a-z, 0-9 and '-'", c.Environment)
	}
	var err error
	if s.from, err = parseTime(c.Window.From); err != nil {
		return nil, fail("window", "window.from: %w", err)
	}
	if s.until, err = parseTime(c.Window.Until); err != nil {
		return nil, fail("window", "window.until: %w", err)
	}
	if !s.until.After(s.from) || s.until.Sub(s.from) > maxWindow {
		return nil, fail("window", "window: until must follow from, by 31 days at most")
	}
	if s.roster, err = pinned(FileConfig{c.Roster.File, c.Roster.SHA256}, rosterFile, read); err != nil {
		return nil, fail("roster", "roster: %w", err)
	}
	for i, a := range c.Roster.Approvals {
		data, err := pinned(a, rosterApproval(i), read)
		if err != nil {
			return nil, fail("roster", "approval of the roster: %w", err)
		}
		s.rosterApprovals = append(s.rosterApprovals, data)
	}
	if len(c.Tokens) > maxTokens || len(c.Inputs) > maxInputs {
		return nil, fail("tokens", "more than %d tokens or %d inputs", maxTokens, maxInputs)
	}
	for _, n := range sortedKeys(c.Tokens) {
		uri, err := checkToken(n, c.Tokens[n])
		if err != nil {
			return nil, fail("tokens."+n, "token %q: %w", n, err)
		}
		for other, u := range s.tokens {
			if u.Token == uri.Token && u.Serial == uri.Serial {
				return nil, fail("tokens."+n, "tokens %q and %q are the same token", other, n)
			}
		}
		s.tokens[n] = uri
	}
	for _, n := range sortedKeys(c.Inputs) {
		if !nameForm.MatchString(n) {
			return nil, fail("inputs."+n, "input name %q: use 1 to 64 of a-z, 0-9, '.' and '-'", n)
		}
		if s.inputs[n], err = pinned(c.Inputs[n], path.Join(inputsDir, n), read); err != nil {
			return nil, fail("inputs."+n, "input %q: %w", n, err)
		}
	}
	if err := s.checkShares(); err != nil {
		return nil, fail("tokens", "%w", err)
	}
	if err := s.checkBirths(); err != nil {
		return nil, advice.Wrap(advice.Usage, fail("tokens", "%w", err), advice.Hint(err))
	}
	if len(c.Steps) == 0 || len(c.Steps) > maxSteps {
		return nil, fail("steps", "%d steps; a script has 1 to %d", len(c.Steps), maxSteps)
	}
	for i := range c.Steps {
		kind, step, err := c.Steps[i].one()
		if err != nil {
			return nil, fail(fmt.Sprintf("steps.%d", i), "step %d: %w", i+1, err)
		}
		s.steps = append(s.steps, scriptStep{i + 1, kind, lines.of(fmt.Sprintf("steps.%d", i)), step})
	}
	for _, n := range sortedKeys(s.tokens) {
		if s.tokens[n].Serial == "" && !s.Initialises(n) {
			return nil, fail("tokens."+n, "token %q: the URI names no serial (`hanaper token list` prints it), and no step initialises it", n)
		}
	}
	if c.Earlier != nil {
		if err := s.loadEarlier(open); err != nil {
			return nil, fail("earlier", "earlier: %w", err)
		}
	}
	return s, nil
}

// Digest is the SHA-256 of the script's bytes, and hence of every input it pins.
func (s *Script) Digest() [32]byte { return sha256.Sum256(s.raw) }

// Ceremony is the script's id.
func (s *Script) Ceremony() string { return s.config.Ceremony }

// Environment is the environment that the script is for.
func (s *Script) Environment() string { return s.config.Environment }

// Roster is the roster's bytes as pinned.
func (s *Script) Roster() []byte { return bytes.Clone(s.roster) }

// Window is the time in which the ceremony may be held.
func (s *Script) Window() (from, until time.Time) { return s.from, s.until }

// InputDigests are the SHA-256 of all inputs by name, the roster ("roster") and the earlier checkpoint ("earlier")
// included.
func (s *Script) InputDigests() map[string][32]byte {
	d := map[string][32]byte{"roster": sha256.Sum256(s.roster)}
	for n, data := range s.inputs {
		d["inputs/"+n] = sha256.Sum256(data)
	}
	for i, data := range s.rosterApprovals {
		d[rosterApproval(i)] = sha256.Sum256(data)
	}
	if s.earlier != nil {
		d["earlier"] = s.earlier.checkpoint
	}
	return d
}

// TokenNames lists the names by which the steps know tokens.
func (s *Script) TokenNames() []string { return sortedKeys(s.tokens) }

// TokenURI is the URI by which the script names a token.
func (s *Script) TokenURI(name string) hsm.URI { return s.tokens[name] }
