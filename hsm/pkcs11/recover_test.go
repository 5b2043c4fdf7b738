package pkcs11_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/peertest"
	"github.com/hanaper/hanaper/softhsm"
)

// network is SoftHSM behind p11-kit's server: a network HSM that can be cut off.
type network struct {
	*peertest.Server
	t *testing.T
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	return &network{peertest.NewServer(t), t}
}

// behind opens a board through the network.
func (n *network) open(b softhsm.Board, pin hsm.PINSource) *pkcs11.Token {
	n.t.Helper()
	u := uri(n.t, b.URI)
	u.ModulePath = n.Module
	token, err := pkcs11.Open(n.t.Context(), pkcs11.Config{URI: u, PIN: pin})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := token.Close(); err != nil {
			n.t.Error(err)
		}
	})
	return token
}

func mustSign(t *testing.T, k hsm.Key) {
	t.Helper()
	sum := sha256.Sum256([]byte("sign"))
	sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), sum[:], sig) {
		t.Fatal("signature does not verify")
	}
}

func TestRecoverFromOutage(t *testing.T) {
	b := board(t)
	n := newNetwork(t)
	var asked atomic.Int32
	token := n.open(b, func(ctx context.Context, info hsm.TokenInfo) ([]byte, error) {
		asked.Add(1)
		return append([]byte(nil), b.PIN...), nil
	})
	k := generate(t, token, "k", hsm.P256)
	mustSign(t, k)

	// Cut while eight callers sign; back after half a second. Nobody sees an error, and nobody is asked again.
	var made, failed atomic.Int32
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			sum := sha256.Sum256([]byte("x"))
			for {
				select {
				case <-stop:
					return
				default:
				}
				sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
				if err != nil || !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), sum[:], sig) {
					t.Error(err)
					failed.Add(1)
					return
				}
				made.Add(1)
			}
		})
	}
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		n.Stop()
		time.Sleep(500 * time.Millisecond)
		before := made.Load()
		n.Start()
		for end := time.Now().Add(10 * time.Second); made.Load() < before+20; {
			if time.Now().After(end) {
				t.Fatal("no signatures after the token came back")
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	close(stop)
	wg.Wait()
	if failed.Load() > 0 || asked.Load() != 1 {
		t.Errorf("%d failed, PIN asked %d times", failed.Load(), asked.Load())
	}

	// A call with a deadline ends with it, and says what is wrong.
	n.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := k.(*pkcs11.Key).SignContext(ctx, make([]byte, 32), crypto.SHA256)
	if !errors.Is(err, hsm.ErrGone) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), b.Serial) {
		t.Errorf("during the outage: %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("answered after %s", took)
	}
	n.Start()
	mustSign(t, k)
	if _, err := token.Keys(t.Context()); err != nil {
		t.Error(err)
	}
	generate(t, token, "after", hsm.P256)
}

// TestRecoverChangedPIN: the PIN was changed while the token was away. One try is spent, and none after it.
func TestRecoverChangedPIN(t *testing.T) {
	b := board(t)
	n := newNetwork(t)
	token := n.open(b, hsm.PINBytes(b.PIN))
	k := generate(t, token, "k", hsm.P256)
	n.Stop()
	tool(t, "pkcs11-tool", "--module", b.Module, "--token-label", b.Label, "--login", "--pin", string(b.PIN), "--change-pin", "--new-pin", "another-pin")
	n.Start()
	for range 5 {
		_, err := k.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		if !errors.Is(err, hsm.ErrPIN) || !strings.Contains(err.Error(), b.Serial) {
			t.Fatalf("%v", err)
		}
	}
	infos, err := pkcs11.List(b.Module)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.Serial == b.Serial && (i.PINFinalTry || i.PINLocked) {
			t.Errorf("more than one try was spent: %+v", i)
		}
	}
}

// TestRecoverTokenVanished: the token's folder goes away under SoftHSM, and comes back.
func TestRecoverTokenVanished(t *testing.T) {
	b := board(t)
	n := newNetwork(t)
	token := n.open(b, hsm.PINBytes(b.PIN))
	k := generate(t, token, "k", hsm.P256)
	mustSign(t, k)
	tokens := filepath.Join(softhsm.ForTest(t).Dir(), "tokens")
	n.Stop()
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	n.Start()
	// The recovery goes on between the calls; on a busy machine the first ones end before it has found out that the token is not there.
	for end := time.Now().Add(20 * time.Second); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err := k.(*pkcs11.Key).SignContext(ctx, make([]byte, 32), crypto.SHA256)
		cancel()
		if !errors.Is(err, hsm.ErrGone) || !strings.Contains(err.Error(), b.Label) {
			t.Errorf("with the token gone: %v", err)
		}
		if errors.Is(err, hsm.ErrNoToken) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("with the token gone: %v", err)
		}
	}
	n.Stop()
	if err := os.RemoveAll(tokens); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	n.Start()
	mustSign(t, k)
}

// TestRecoverFolderMoved: SoftHSM's folder is moved away under a library that stays loaded, and put back. (The errors that the library answers
// meanwhile are what a restart is for; a key that is merely not found any more is TestRecoverVanishedKey's.)
func TestRecoverFolderMoved(t *testing.T) {
	b := board(t)
	token := open(t, b)
	k := generate(t, token, "k", hsm.P256)
	mustSign(t, k)
	tokens := filepath.Join(softhsm.ForTest(t).Dir(), "tokens")
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := k.(*pkcs11.Key).SignContext(ctx, make([]byte, 32), crypto.SHA256)
		cancel()
		if err == nil || !strings.Contains(err.Error(), b.Label) {
			t.Errorf("with the folder gone: %v", err)
		}
	}
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	mustSign(t, k)
	mustSign(t, k)
}

// TestRecoverLibraryRestart: another user of the library finalised it (or the process's only module was restarted); two
// tokens share it and both recover.
func TestRecoverLibraryRestart(t *testing.T) {
	a, b := board(t), board(t)
	ta, tb := open(t, a), open(t, b)
	ka, kb := generate(t, ta, "k", hsm.P256), generate(t, tb, "k", hsm.P256)
	for range 3 {
		pkcs11.RestartLibrary(ta)
		mustSign(t, ka)
		mustSign(t, kb)
		pkcs11.FinalizeLibrary(tb)
		mustSign(t, kb)
		mustSign(t, ka)
		pkcs11.CloseSessions(ta)
		mustSign(t, ka)
		pkcs11.LogOut(ta)
		mustSign(t, ka)
		pkcs11.ForgetHandles(ka)
		mustSign(t, ka)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		k := []hsm.Key{ka, kb}[i%2]
		wg.Go(func() {
			for range 200 {
				mustSign(t, k)
			}
		})
	}
	for range 10 {
		time.Sleep(10 * time.Millisecond)
		pkcs11.RestartLibrary(ta)
		pkcs11.CloseSessions(tb)
	}
	wg.Wait()
}

func TestCloseDuringOutage(t *testing.T) {
	b := board(t)
	n := newNetwork(t)
	u := uri(t, b.URI)
	u.ModulePath = n.Module
	token, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	if err != nil {
		t.Fatal(err)
	}
	k := generate(t, token, "k", hsm.P256)
	n.Stop()
	answer := make(chan error, 1)
	go func() {
		_, err := k.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		answer <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := token.Close(); err != nil {
		t.Error(err)
	}
	if err := <-answer; !errors.Is(err, hsm.ErrClosed) {
		t.Errorf("the waiting call got %v", err)
	}
	if pkcs11.InUse(n.Module) {
		t.Error("the library is still in use")
	}
}
