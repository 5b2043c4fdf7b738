package journal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is a statement that the journal of this origin had this size and root (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	// Extensions are further opaque lines, without newlines.
	Extensions []string
}

var (
	// ErrCheckpoint means bytes that are no checkpoint.
	ErrCheckpoint = errors.New("journal: malformed checkpoint")
	// ErrSignature means a checkpoint without a signature of every key asked for.
	ErrSignature = errors.New("journal: checkpoint not signed as required")
	// ErrMismatch means that a journal and a checkpoint do not belong together.
	ErrMismatch = errors.New("journal: does not match the checkpoint")
)

// checkOrigin allows printable ASCII without space and plus, so that an origin can be a key name of a signed note.
func checkOrigin(s string) error {
	if s == "" || len(s) > MaxOrigin {
		return fmt.Errorf("journal: origin of %d bytes; 1 to %d are allowed", len(s), MaxOrigin)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '+' {
			return fmt.Errorf("journal: origin %q: only printable ASCII without space and plus is allowed", s)
		}
	}
	return nil
}

// FormatCheckpoint returns a checkpoint body: origin, size, root in base64 and extensions, a line each.
func FormatCheckpoint(origin string, size int64, root Hash, extensions ...string) []byte {
	b := fmt.Appendf(nil, "%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	for _, e := range extensions {
		b = append(append(b, e...), '\n')
	}
	return b
}

// ParseCheckpoint reads a checkpoint body, without signatures. What it returns is claimed, not verified.
func ParseCheckpoint(body []byte) (Checkpoint, error) {
	bad := func(what string) (Checkpoint, error) { return Checkpoint{}, fmt.Errorf("%w: %s", ErrCheckpoint, what) }
	if len(body) > MaxCheckpoint || !utf8.Valid(body) {
		return bad("too large or not UTF-8")
	}
	text, ok := strings.CutSuffix(string(body), "\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 3 || len(lines) > 3+maxExtensions {
		return bad("origin, size and root must stand on a line each")
	}
	if err := checkOrigin(lines[0]); err != nil {
		return bad("origin")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return bad("size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(Hash{}) {
		return bad("root")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: Hash(root), Extensions: lines[3:]}
	for _, e := range c.Extensions {
		if e == "" {
			return bad("empty extension line")
		}
	}
	if len(c.Extensions) == 0 {
		c.Extensions = nil
	}
	// One value, one encoding: no base64 with line breaks or other liberties.
	if !bytes.Equal(body, FormatCheckpoint(c.Origin, c.Size, c.Root, c.Extensions...)) {
		return bad("not in its canonical form")
	}
	return c, nil
}

// SignCheckpoint returns the signed note over a checkpoint body (C2SP signed-note). At least one signer is needed.
func SignCheckpoint(body []byte, signers ...note.Signer) ([]byte, error) {
	if _, err := ParseCheckpoint(body); err != nil {
		return nil, err
	}
	if len(signers) == 0 {
		return nil, fmt.Errorf("%w: no signer given", ErrSignature)
	}
	data, err := note.Sign(&note.Note{Text: string(body)}, signers...)
	if err != nil {
		return nil, fmt.Errorf("journal: signing the checkpoint: %w", err)
	}
	return data, nil
}

// VerifyCheckpoint checks that every verifier given has signed the checkpoint, and returns it. Signatures of other keys
// are passed over, as C2SP signed-note asks. The caller decides whether origin and size are those expected.
func VerifyCheckpoint(data []byte, verifiers ...note.Verifier) (Checkpoint, error) {
	if len(verifiers) == 0 {
		return Checkpoint{}, fmt.Errorf("%w: no key given to verify with", ErrSignature)
	}
	if len(data) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: larger than %d bytes", ErrCheckpoint, MaxCheckpoint)
	}
	n, err := note.Open(data, note.VerifierList(verifiers...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		// x/mod's note takes base64 with stray bits at its end: one signature, one spelling.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("%w: signature line of %s", ErrCheckpoint, s.Name)
		}
	}
	for _, v := range verifiers {
		if !signedBy(n, v) {
			return Checkpoint{}, fmt.Errorf("%w: no signature of %s", ErrSignature, v.Name())
		}
	}
	return ParseCheckpoint([]byte(n.Text))
}

func signedBy(n *note.Note, v note.Verifier) bool {
	for _, s := range n.Sigs {
		if s.Name == v.Name() && s.Hash == v.KeyHash() {
			return true
		}
	}
	return false
}

// check compares a tree with a verified checkpoint; exact refuses a tree that has grown since.
func check(origin string, t *tree, c Checkpoint, exact bool) error {
	if origin != c.Origin {
		return fmt.Errorf("%w: it is %q, the checkpoint is of %q", ErrMismatch, origin, c.Origin)
	}
	if t.size < c.Size || exact && t.size != c.Size {
		return fmt.Errorf("%w: it has %d entries, the checkpoint covers %d", ErrMismatch, t.size, c.Size)
	}
	root, err := t.rootAt(c.Size)
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("%w: the root of %d entries differs: an entry was changed", ErrMismatch, c.Size)
	}
	return nil
}
