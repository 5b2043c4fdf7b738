package tpm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
)

// NewStore says what store to make.
type NewStore struct {
	// Device is the TPM; DefaultDevice where it is empty.
	Device string
	// Folder is made; it must not be there, or be empty.
	Folder string
	// Label is the store's name, up to 32 bytes as other tokens' labels are.
	Label string
	// PCRs are registers to whose values of now all keys are bound, besides the PIN: after a change of firmware or boot loader no
	// key can be used any more. Empty binds to none.
	PCRs []int
	// Persistent keeps each key in the TPM, too; a TPM has room for a few.
	Persistent bool
}

// Describe says what TPM is there, as a token that is not initialised yet. It asks for no PIN.
func Describe(ctx context.Context, device string) (hsm.TokenInfo, error) {
	c := newChip(device, 0)
	type seen struct {
		st state
		ek endorsement
	}
	v, err := operate(ctx, c, func(w *wire) (seen, error) {
		st, err := readState(w)
		if err != nil {
			return seen{}, err
		}
		ek, err := findEndorsement(w)
		return seen{st, ek}, err
	})
	if err != nil {
		return hsm.TokenInfo{}, failed(err, "TPM "+show.Text(c.path), "describe it")
	}
	info := v.st.info("", v.ek.serial(), c.path)
	info.Initialized, info.PINSet = false, false
	return info, nil
}

// Init makes a store: a folder with a secret that the TPM gives out for the PIN. It makes no key. What is there is never changed.
func Init(ctx context.Context, n NewStore, pin []byte) (hsm.TokenInfo, error) {
	c := newChip(n.Device, 0)
	info, err := initStore(ctx, c, n, pin)
	if err != nil {
		return hsm.TokenInfo{}, failed(err, "TPM "+show.Text(c.path), "make store %q in %s", n.Label, show.Text(n.Folder))
	}
	return info, nil
}

func initStore(ctx context.Context, c *chip, n NewStore, pin []byte) (hsm.TokenInfo, error) {
	none := hsm.TokenInfo{}
	if err := checkLabel(n.Label); err != nil {
		return none, advice.New(advice.Usage, "choose a label of one line", "%w", err)
	}
	if len(n.Label) > 32 {
		return none, advice.New(advice.Usage, "choose a shorter one", "its label is longer than 32 bytes")
	}
	if !filepath.IsAbs(n.Folder) {
		return none, advice.New(advice.Usage, "name it from the root, for key URIs hold it", "the folder is not an absolute path")
	}
	if err := hsm.CheckNewPIN(pin, hsm.TokenInfo{MinPIN: minPIN, MaxPIN: maxPIN}); err != nil {
		return none, advice.New(advice.Usage, fmt.Sprintf("choose a PIN of %d to %d bytes", minPIN, maxPIN), "the PIN: %w", err)
	}
	if err := emptyFolder(n.Folder); err != nil {
		return none, err
	}
	type made struct {
		doc   storeDocument
		login *blob
		st    state
	}
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	m, err := operate(ctx, c, func(w *wire) (m made, err error) {
		if m.st, err = readState(w); err != nil {
			return m, err
		}
		if m.st.locked {
			return m, fmt.Errorf("%w: %s", hsm.ErrPINLocked, m.st.words())
		}
		ek, err := findEndorsement(w)
		if err != nil {
			return m, err
		}
		root, err := makeRoot(w)
		if err != nil {
			return m, err
		}
		m.doc = storeDocument{Version: 1, Label: n.Label, Serial: ek.serial(), EK: ek.kind, SRK: tpm2.Marshal(tpm2.New2B(*root.public)), Persistent: n.Persistent}
		if len(n.PCRs) > 0 {
			if m.doc.PCRs, err = readPCRs(w, n.PCRs); err != nil {
				return m, err
			}
		}
		policy, err := policyOf(m.doc.PCRs, true)
		if err != nil {
			return m, err
		}
		m.login, err = create(w, root, sealedTemplate(policy, true), pin, key)
		return m, err
	})
	if err != nil {
		return none, err
	}
	s := &store{dir: n.Folder, storeDocument: m.doc}
	if err := s.seal(key); err != nil {
		return none, err
	}
	for _, dir := range []string{n.Folder, filepath.Join(n.Folder, keysDir), filepath.Join(n.Folder, certificatesDir)} {
		if err := durable.Mkdir(dir, 0o700); err != nil {
			return none, err
		}
	}
	if err := durable.WriteFile(filepath.Join(n.Folder, loginFile), m.login.pem(), 0o600); err != nil {
		return none, err
	}
	if err := s.write(); err != nil { // last: a folder without it is no store
		return none, err
	}
	return m.st.info(n.Label, m.doc.Serial, c.path), nil
}

// Vacant says whether Init would take a folder, so that nobody types a PIN in vain.
func Vacant(folder string) error {
	return failed(emptyFolder(folder), "TPM store", "look at %s", show.Text(folder))
}

// emptyFolder refuses a folder that holds something, but for what an Init left that was cut short.
func emptyFolder(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case e.Name() == keysDir, e.Name() == certificatesDir:
			inside, err := os.ReadDir(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			if len(inside) == 0 {
				continue
			}
		case e.Name() == loginFile, durable.Temporary(e.Name()), e.Name() == lockFile:
			if _, err := os.Stat(filepath.Join(dir, storeFile)); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		return advice.New(advice.Refused, "name a folder that is not there yet", "%s holds something (%s): %w", show.Text(dir), show.Text(e.Name()), hsm.ErrExists)
	}
	return nil
}
