package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// module is a loaded PKCS#11 library. Every call into it is made inside its guard.
type module struct {
	path, reserved string // reserved is the string that C_Initialize is given
	ctx            *p11.Ctx
	guard          callGuard
	slow           watch
	turn           chan struct{} // not nil for a library that takes one call at a time; see enter
	refs           int           // how many open tokens and listings use it; guarded by registry
	sparse         atomic.Bool   // its templates must not name a use that is denied
	cards          atomic.Bool   // it is OpenSC, whose tokens are cards that people pull; see cure
	foreign        bool          // somebody else in this process initialised it, and must finalise it
	stuck          bool          // our C_Finalize failed: that it is initialised is no other user's doing

	// restartAfter and restartPause keep a library that is not cured by a restart from being restarted again and again; guarded by mu.
	restartAfter time.Time
	restartPause time.Duration

	// destroyed counts the key objects that were destroyed, and tells keys that their handles may mean something else now.
	destroyed atomic.Uint64

	// generation counts initialisations. It changes only while the guard is locked.
	generation uint64

	mu     sync.Mutex
	logins map[string]*login // by token; see login.go
	gone   map[string]bool   // keys that this process destroyed; see remove.go
}

// registry holds every library that this process ever loaded. A library is finalised when its last user leaves but never
// unloaded, for several crash at dlclose.
var registry = struct {
	sync.Mutex
	modules map[string]*module
}{modules: map[string]*module{}}

// acquire loads and initialises a library, named as hsm.ParseLibrary has it, or counts one more user of it. Every acquire needs one
// release.
func acquire(library string) (*module, error) {
	path, reserved, err := hsm.ParseLibrary(library)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, advice.New(advice.Usage, "name the library, as in ?module-path=/usr/lib/softhsm/libsofthsm2.so", "no PKCS#11 library is named")
	}
	if !filepath.IsAbs(path) {
		return nil, advice.New(advice.Usage, "name it by its absolute path: a relative one depends on where one stands", "PKCS#11 library %q is not an absolute path", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, advice.New(advice.Failed, "check the path, or install the package that has it", "PKCS#11 library %s: %w", show.Text(path), errors.Unwrap(err))
	}
	registry.Lock()
	defer registry.Unlock()
	m := registry.modules[real]
	if m == nil {
		m = &module{path: path, logins: map[string]*login{}, gone: map[string]bool{}}
		m.slow.enter(path)
		m.ctx = p11.New(real)
		m.slow.leave()
		if m.ctx == nil {
			return nil, advice.New(advice.Failed, "is it a PKCS#11 library for this machine's architecture? `ldd` and `file` tell", "PKCS#11 library %s cannot be loaded", show.Text(path))
		}
		if strings.Contains(filepath.Base(real), "p11-kit") {
			m.turn = make(chan struct{}, 1)
		}
		registry.modules[real] = m
	}
	if m.refs > 0 {
		if m.reserved != reserved {
			return nil, advice.New(advice.Usage, "a library is started once in a program: write the same x-init-reserved everywhere",
				"PKCS#11 library %s is in use here with another start-up string", show.Text(path))
		}
		m.refs++
		return m, nil
	}
	m.reserved = reserved
	err = m.initialize()
	if err == nil && m.foreign && m.stuck {
		m.slow.enter(m.path)
		failed := m.ctx.Finalize()
		m.slow.leave()
		if m.stuck = failed != nil; !m.stuck {
			err = m.initialize()
		}
	}
	if err != nil {
		return nil, advice.New(advice.Failed, startHint(m.path, m.reserved, err), "PKCS#11 library %s: C_Initialize: %w", show.Text(path), err)
	}
	m.refs = 1
	return m, nil
}

// enter waits until a call into the library may be made; leave ends it. p11-kit's client (0.24) gets its calls one at a
// time: when its connection breaks, only the thread that reads at the moment learns of it, and those that wait for their answers behind
// it never return. Nothing is lost, for its server answers one call at a time as well.
func (m *module) enter(ctx context.Context) error {
	if err := m.guard.enter(ctx); err != nil {
		return err
	}
	if m.turn == nil {
		m.slow.enter(m.path)
		return nil
	}
	select {
	case m.turn <- struct{}{}:
		m.slow.enter(m.path)
		return nil
	case <-ctx.Done():
		m.guard.leave()
		return context.Cause(ctx)
	}
}

// leave ends what enter began, in the opposite order.
func (m *module) leave() {
	m.slow.leave()
	if m.turn != nil {
		<-m.turn
	}
	m.guard.leave()
}

// initialize calls C_Initialize. The caller holds the lock.
func (m *module) initialize() error {
	var options []p11.InitializeOption
	if m.reserved != "" {
		args := append([]byte(m.reserved), 0)
		options = append(options, p11.InitializeWithReserved(unsafe.Pointer(&args[0])))
	}
	m.foreign = false
	m.slow.enter(m.path)
	defer m.slow.leave()
	err := m.ctx.Initialize(options...)
	if code(err) == p11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		m.foreign, err = true, nil
	}
	if err != nil {
		return err
	}
	m.generation++
	if info, err := m.ctx.GetInfo(); err == nil {
		// tpm2-pkcs11 takes "CKA_DECRYPT: false" for a wish to decrypt, and leaks one of the TPM's three object slots with
		// each template that it refuses; so it is not tried the plain way first.
		m.sparse.Store(strings.Contains(info.ManufacturerID, "tpm2-software"))
		m.cards.Store(strings.Contains(info.ManufacturerID, "OpenSC"))
	}
	return nil
}

// release counts one user less. The last one finalises the library, if this package initialised it.
func (m *module) release() {
	registry.Lock()
	defer registry.Unlock()
	if m.refs--; m.refs > 0 || m.foreign {
		return
	}
	// The last one's calls are over but for a recovery giving up; wait for it.
	if err := m.guard.lock(context.Background()); err == nil {
		m.slow.enter(m.path)
		m.stuck = m.ctx.Finalize() != nil // nothing is left to lose
		m.slow.leave()
		m.guard.unlock()
	}
}

// users is how many open tokens and listings share the library.
func (m *module) users() int {
	registry.Lock()
	defer registry.Unlock()
	return m.refs
}

// restart finalises and initialises the library, if nobody did so since generation seen. All sessions and
// handles of all its tokens die.
func (m *module) restart(ctx context.Context, seen uint64) error {
	if err := m.guard.lock(ctx); err != nil {
		return err
	}
	defer m.guard.unlock()
	if m.generation != seen {
		return nil
	}
	if m.foreign {
		// It is not ours to finalise. Whoever it belongs to may have done so: then it is ours from now on.
		before := m.generation
		err := m.initialize()
		if err == nil && m.foreign {
			m.generation = before // nothing was started anew
			return errors.New("the library was initialised by another part of this program and cannot be restarted")
		}
		m.foreign = err != nil
		return err
	}
	// After an outage C_Finalize may well answer with an error, and the library be finalised all the same. If it is not, C_Initialize
	// says so; that is no other user's doing, so the next try may finalise it again.
	m.slow.enter(m.path)
	failed := m.ctx.Finalize()
	m.slow.leave()
	err := m.initialize()
	if err == nil && m.foreign && failed != nil {
		m.foreign = false
		return fmt.Errorf("C_Finalize: %w", failed)
	}
	return err
}

// The shortest and the longest time between two restarts of a library that answers with errors while it says that all is well.
const shortestRestartPause, longestRestartPause = time.Second, time.Minute

// mayRestart says whether such a restart may be made now, and counts it. The time between two doubles unless a call succeeds
// in between.
func (m *module) mayRestart(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.restartAfter) {
		return false
	}
	m.restartPause = min(max(2*m.restartPause, shortestRestartPause), longestRestartPause)
	m.restartAfter = now.Add(m.restartPause)
	return true
}

// worked notes that a call succeeded.
func (m *module) worked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restartPause = 0
}

// InUse says whether this process has a token of the library open.
func InUse(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	registry.Lock()
	defer registry.Unlock()
	m := registry.modules[real]
	return m != nil && m.refs > 0
}
