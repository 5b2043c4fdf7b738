package apart

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
	"github.com/hanaper/hanaper/internal/signature"
	"github.com/hanaper/hanaper/softhsm"
)

// lieVariable makes the child one that lies; see lies_test.go.
const lieVariable = "HANAPER_APART_LIE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == argument && os.Getenv(lieVariable) != "" {
		signal.Ignore(syscall.SIGINT)
		lie(os.Getenv(lieVariable))
		return
	}
	Main()
	if len(os.Args) > 1 && os.Args[1] == parentArgument {
		beParent()
		return
	}
	softhsm.Main(m)
}

var boards atomic.Int32

func newBoard(t testing.TB) softhsm.Board {
	t.Helper()
	b, err := softhsm.ForTest(t).Create("apart-" + string(rune('a'+boards.Add(1)-1)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shimVariables are what the lying module needs of the environment.
var shimVariables = []string{"HANAPER_SHIM_REAL", "HANAPER_SHIM_PLAN", "HANAPER_SHIM_LOG"}

func shimmed(s *shimtest.Shim, b softhsm.Board) Config {
	return Config{Module: s.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN), Limits: Limits{Environment: shimVariables}}
}

func plain(b softhsm.Board) Config {
	return Config{Module: b.Module, URI: hsm.URI{Token: b.Label, Serial: b.Serial}, PIN: hsm.PINBytes(b.PIN)}
}

func mustOpen(t testing.TB, c Config) *Token {
	t.Helper()
	if c.Tell == nil {
		c.Tell = func(said string) { t.Log(said) }
	}
	token, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

func mustGenerate(t testing.TB, token hsm.Token, label string, a hsm.Algorithm) hsm.Key {
	t.Helper()
	k, err := token.Generate(context.Background(), hsm.GenerateSpec{Label: label, Algorithm: a})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign makes and verifies a signature over a message that nobody else signs.
func sign(ctx context.Context, k hsm.Key) error {
	var message [32]byte
	rand.Read(message[:])
	digest := sha256.Sum256(message[:])
	sig, err := k.SignContext(ctx, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !signature.Verify(k.Public(), digest[:], crypto.SHA256, sig) {
		return errWrong
	}
	return nil
}

var errWrong = errWrongType("a wrong signature was handed out")

type errWrongType string

func (e errWrongType) Error() string { return string(e) }

func mustSign(t testing.TB, k hsm.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := sign(ctx, k); err != nil {
		t.Fatal(err)
	}
}

// pid is the process of the child at work.
func (t *Token) pid() int {
	for {
		t.mu.Lock()
		c := t.at
		t.mu.Unlock()
		if c != nil {
			return c.cmd.Process.Pid
		}
		time.Sleep(time.Millisecond)
	}
}

func says(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v\nsays nothing of %q", err, p)
		}
	}
}
