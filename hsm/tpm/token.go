package tpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/secret"
	"github.com/hanaper/hanaper/internal/show"
)

// Config says which store to open and how.
type Config struct {
	// URI names the store (Store, a folder) and the TPM (Device; DefaultDevice where it is empty); Token and Serial, where given,
	// must be the store's. Its object is ignored.
	URI hsm.URI
	// PIN gives the PIN; the URI's pin-source is used where it is nil.
	PIN hsm.PINSource
	// Public opens a store without a PIN: keys are listed, and none is used.
	Public bool
	// Patience is how long a call without a deadline waits for its turn and for a TPM that went away; 0 means a minute.
	Patience time.Duration
}

// Token is an open store of TPM keys. It implements hsm.Token.
type Token struct {
	c          *chip
	s          *store
	rootPublic *tpm2.TPMTPublic
	rootName   tpm2.TPM2BName
	public     bool

	mu        sync.Mutex
	info      hsm.TokenInfo
	savedRoot *tpm2.TPMSContext
	pin       *secret.Secret
	secret    *secret.Secret // the login's: key of the codes
	closed    bool
	pss       error // what a probe of RSA-PSS said, once pssKnown
	pssKnown  bool
}

var _ hsm.Token = (*Token)(nil)

// Open opens a store and tries the PIN once. A TPM that takes no PIN for now is refused before the PIN is asked for, and a source that
// asks people is told how many wrong ones the TPM has counted.
func Open(ctx context.Context, c Config) (*Token, error) {
	s, err := openStore(c.URI.Store)
	if err != nil {
		return nil, err
	}
	t := &Token{s: s, public: c.Public, c: newChip(c.URI.Device, c.Patience), info: hsm.TokenInfo{Scheme: hsm.SchemeTPM, Label: s.Label, Serial: s.Serial}}
	if !c.URI.MatchesToken(hsm.TokenInfo{Label: s.Label, Serial: s.Serial, Manufacturer: c.URI.Manufacturer, Model: c.URI.Model}) {
		return nil, advice.New(advice.Failed, "is the folder right?", "%w: store %s holds %s, not %s", hsm.ErrNoToken, show.Text(s.dir), t.info.Name(), c.URI.TokenURI())
	}
	if t.rootPublic, err = parsePublic(s.SRK); err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(t.rootPublic)
	if err != nil {
		return nil, err
	}
	t.rootName = *name
	st, err := operate(ctx, t.c, func(w *wire) (state, error) {
		if _, err := t.root(w); err != nil {
			return state{}, err
		}
		if err := t.unchanged(w); err != nil && !c.Public {
			return state{}, err
		}
		return readState(w)
	})
	if err != nil {
		return nil, t.fail(err, "open it in %s", show.Text(t.c.path))
	}
	t.info = st.info(s.Label, s.Serial, t.c.path)
	if !c.URI.MatchesToken(t.info) {
		return nil, t.fail(hsm.ErrNoToken, "it is not %s", c.URI.TokenURI())
	}
	if c.Public {
		return t, nil
	}
	if t.info.PINLocked {
		return nil, t.fail(fmt.Errorf("%w: %s", hsm.ErrPINLocked, st.words()), "log in")
	}
	if err := t.logIn(ctx, c); err != nil {
		return nil, err
	}
	return t, nil
}

// logIn asks for the PIN and has the TPM give out the login's secret for it.
func (t *Token) logIn(ctx context.Context, c Config) error {
	source := c.PIN
	if source == nil {
		source = hsm.PINFromURI(c.URI, nil)
	}
	if source == nil {
		return advice.New(advice.Usage, "add pin-source=/FILE to the URI's query", "%s: no PIN is given", t.info.Name())
	}
	login, err := t.s.readBlob(loginFile)
	if err != nil {
		return t.fail(err, "log in")
	}
	pin, err := source(ctx, t.info)
	if err != nil {
		return err
	}
	if err := hsm.CheckPIN(pin); err != nil || len(pin) > maxPIN {
		clear(pin)
		return t.fail(cmp.Or(err, fmt.Errorf("it has %d bytes, and the TPM takes %d at most", len(pin), maxPIN)), "the PIN cannot be right")
	}
	t.pin = secret.NewUnasked(pin)
	clear(pin)
	data, err := operate(ctx, t.c, func(w *wire) ([]byte, error) { return t.unseal(w, login, t.s.PCRs) })
	if err != nil {
		t.pin.Clear()
		return t.fail(err, "log in")
	}
	t.secret = secret.NewUnasked(data)
	clear(data)
	if !t.s.genuine(t.secret.Bytes()) {
		t.wipe()
		return t.fail(advice.New(advice.Refused, "find out who changed it, and restore it from your own copy", "%s is not as it was made: its code is wrong", storeFile), "log in")
	}
	if st, err := operate(ctx, t.c, readState); err == nil {
		t.mu.Lock()
		t.info = st.info(t.s.Label, t.s.Serial, t.c.path)
		t.mu.Unlock()
	}
	return nil
}

// unseal has the TPM give out sealed data for the PIN, and for registers where the data was bound to some.
func (t *Token) unseal(w *wire, b *blob, pcrs []pcrValue) ([]byte, error) {
	root, err := t.root(w)
	if err != nil {
		return nil, err
	}
	o, err := load(w, root, b)
	if err != nil {
		return nil, err
	}
	answer, err := tpm2.Unseal{ItemHandle: o.with(t.authority(root, pcrs, out))}.Execute(w)
	if err != nil {
		return nil, t.policyFailed(w, err, pcrs)
	}
	return answer.OutData.Buffer, nil
}

// authority is the session that authorises the use of what belongs to the store.
func (t *Token) authority(root object, pcrs []pcrValue, d direction) tpm2.Session {
	if len(pcrs) > 0 {
		return policySession(root, pcrs, t.pin.Bytes(), d)
	}
	return session(root, t.pin.Bytes(), d)
}

// policyFailed says which registers changed, where that is why the TPM refused.
func (t *Token) policyFailed(w *wire, err error, pcrs []pcrValue) error {
	if len(pcrs) == 0 || !errors.Is(err, tpm2.TPMRCValue) && !errors.Is(err, tpm2.TPMRCPolicyFail) && !errors.Is(err, tpm2.TPMRCPCRChanged) {
		return err
	}
	if e := t.unchanged(w); e != nil {
		return e
	}
	return err
}

// unchanged refuses a store whose keys are bound to registers that have other values now.
func (t *Token) unchanged(w *wire) error {
	if len(t.s.PCRs) == 0 {
		return nil
	}
	err := changed(w, t.s.PCRs)
	if errors.Is(err, ErrPCRs) {
		return advice.New(advice.Refused, "start the machine as it was when the store was made; after a change that is to stay, its keys are of no use any more: make new ones in a new store", "%w", err)
	}
	return err
}

// Info describes the token as it was at the login.
func (t *Token) Info() hsm.TokenInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info
}

func (t *Token) wipe() {
	t.pin.Clear() // an operation that its caller left may still read there
	t.secret.Clear()
}

// closeTime is how long Close waits for an operation under way.
const closeTime = 5 * time.Second

// Close wipes the PIN. An operation under way ends first, unless the TPM hangs; later ones answer hsm.ErrClosed.
func (t *Token) Close() error {
	t.mu.Lock()
	was := t.closed
	t.closed = true
	t.mu.Unlock()
	if was {
		return nil
	}
	select {
	case t.c.turn <- struct{}{}:
		defer func() { <-t.c.turn }()
	case <-time.After(closeTime):
	}
	t.wipe()
	return nil
}

// usable refuses what needs a login after Close, and without one.
func (t *Token) usable() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return hsm.ErrClosed
	case t.public:
		return advice.New(advice.Usage, "open it with its PIN", "it was opened without a login")
	}
	return nil
}

func (t *Token) fail(err error, format string, args ...any) error {
	return failed(err, t.Info().Name(), format, args...)
}
