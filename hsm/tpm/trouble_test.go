package tpm_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/hsm/tpm/tpmtest"
	"github.com/hanaper/hanaper/internal/advice"
)

// TestStoreChanged: whoever can write into the folder and has no PIN cannot exchange keys or their names, and gets the folder refused.
func TestStoreChanged(t *testing.T) {
	maker := tpmtest.NewManufacturer(t)
	c, other := maker.New(t), maker.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	u2, _ := newStore(t, other, tpm.NewStore{})
	tok := open(t, u)
	var keys []hsm.Key
	for _, label := range []string{"one", "two"} {
		k, err := tok.Generate(bg, hsm.GenerateSpec{Label: label, Algorithm: hsm.P256})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	file := func(k hsm.Key) string { return filepath.Join(u.Store, "keys", hexOf(k.Attributes().ID)+".pem") }
	one, two := readFile(t, file(keys[0])), readFile(t, file(keys[1]))
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"another label":       strings.Replace(one, `"one"`, `"two"`, 1),
		"another key inside":  one[:strings.Index(one, "-----BEGIN")] + two[strings.Index(two, "-----BEGIN"):],
		"the file of another": two,
		"no code":             one[:strings.Index(one, "code: ")+6] + one[strings.Index(one, "-----BEGIN")-1:],
		"a byte less":         one[:len(one)-30],
		"nothing":             "",
		"a link to elsewhere": "",
	} {
		write(file(keys[0]), text)
		if _, err := tok.Key(bg, hsm.Query{ID: keys[0].Attributes().ID}); err == nil || errors.Is(err, hsm.ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := tok.Keys(bg); err != nil || len(list) != 1 {
			t.Errorf("%s: %d keys: %v", name, len(list), err)
		}
		// A name that is taken by a file that cannot be read is taken.
		if _, err := tok.Generate(bg, hsm.GenerateSpec{Label: "new", ID: keys[0].Attributes().ID, Algorithm: hsm.P256}); !errors.Is(err, hsm.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(file(keys[0]), one)
	if _, err := tok.Key(bg, hsm.Query{Label: "one"}); err != nil {
		t.Fatal(err)
	}
	// The store, and what is in it, in another TPM.
	moved := u
	moved.Device = other.Socket
	_, err := tpm.Open(bg, tpm.Config{URI: moved, PIN: hsm.PINBytes([]byte(pin))})
	if !errors.Is(err, hsm.ErrNoToken) || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("the store in another TPM: %v", err)
	}
	config := filepath.Join(u.Store, "store.json")
	text := readFile(t, config)
	for name, changed := range map[string]string{
		"another label":     strings.Replace(text, `"roots"`, `"stoor"`, 1),
		"keys in the TPM":   strings.Replace(text, `"storage_root_key"`, `"persistent": true, "storage_root_key"`, 1),
		"no code":           text[:strings.Index(text, `,`+"\n"+`  "code"`)] + "\n}\n",
		"a key it does not": strings.Replace(text, `"label"`, `"lable": "x", "label"`, 1),
		"another root key":  readFile(t, filepath.Join(u2.Store, "store.json")),
	} {
		write(config, changed)
		v := u
		v.Token, v.Serial = "", ""
		if _, err := tpm.Open(bg, tpm.Config{URI: v, PIN: hsm.PINBytes([]byte(pin))}); err == nil {
			t.Errorf("store.json with %s: opened", name)
		}
	}
	write(config, text)
	// The TPM is cleared, which its owner can do: all keys are gone, and the message says so.
	_ = tok.Close()
	run(t, c, "tpm2_clear", "-c", "l")
	_, err = tpm.Open(bg, tpm.Config{URI: u, PIN: hsm.PINBytes([]byte(pin))})
	if !errors.Is(err, hsm.ErrNoToken) || !strings.Contains(err.Error(), "was cleared") {
		t.Errorf("after a clear: %v", err)
	}
}

// TestParallel: many callers, in several tokens, take turns at three places.
func TestParallel(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	if _, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key", Algorithm: hsm.P256}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		mine := open(t, u)
		k, err := mine.Key(bg, hsm.Query{Label: "key"})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			all.Go(func() {
				for range 5 {
					signs(t, k, crypto.SHA256)
				}
			})
		}
	}
	all.Wait()
	if left := run(t, c, "tpm2_getcap", "handles-transient") + run(t, c, "tpm2_getcap", "handles-loaded-session"); strings.TrimSpace(left) != "" {
		t.Errorf("left in the TPM: %s", left)
	}
}

// TestHung: a TPM that does not answer ends the wait of its caller, and is used again when it answers.
func TestHung(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{})
	tok := open(t, u)
	k, err := tok.Generate(bg, hsm.GenerateSpec{Label: "key", Algorithm: hsm.P256})
	if err != nil {
		t.Fatal(err)
	}
	c.Signal(syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(bg, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := k.SignContext(ctx, make([]byte, 32), crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, hsm.ErrGone) {
		t.Errorf("a TPM that hangs: %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	c.Signal(syscall.SIGCONT)
	signs(t, k, crypto.SHA256)
	waiting := open(t, u)
	other, err := waiting.Key(bg, hsm.Query{Label: "key"})
	if err != nil {
		t.Fatal(err)
	}
	c.Signal(syscall.SIGSTOP)
	brief, end := context.WithTimeout(bg, 100*time.Millisecond)
	defer end()
	_, _ = other.SignContext(brief, make([]byte, 32), crypto.SHA256)
	start = time.Now()
	_ = waiting.Close()
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("closing took %v", took)
	}
	c.Signal(syscall.SIGCONT)
	signs(t, k, crypto.SHA256)
	c.Stop()
	short, done := context.WithTimeout(bg, time.Second)
	defer done()
	if _, err := k.SignContext(short, make([]byte, 32), crypto.SHA256); !errors.Is(err, hsm.ErrGone) || advice.Hint(err) == "" {
		t.Errorf("a TPM that is gone: %v", err)
	}
	c.Start()
	signs(t, k, crypto.SHA256)
}

// childStore is the URI of the store that a child of TestKilled works in.
const childStore = "HANAPER_TPM_CHILD"

// TestMain lets the test program be that child.
func TestMain(m *testing.M) {
	if text := os.Getenv(childStore); text != "" {
		child(text)
		return
	}
	os.Exit(m.Run())
}

func child(text string) {
	u, err := hsm.ParseURI(text)
	if err != nil {
		panic(err)
	}
	tok, err := tpm.Open(bg, tpm.Config{URI: u, PIN: hsm.PINBytes([]byte(pin))})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	for i := 0; ; i++ {
		k, err := tok.Generate(bg, hsm.GenerateSpec{Label: fmt.Sprintf("%d-%d", os.Getpid(), i), Algorithm: hsm.P256})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if i%2 == 0 {
			if err := tok.Destroy(bg, k.URI().Query()); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
}

// TestKilled: a process that is killed at any moment leaves neither the TPM full nor the store broken; every key file is whole, and each persistent key
// belongs to a file or is taken over.
func TestKilled(t *testing.T) {
	c := tpmtest.New(t)
	for _, persistent := range []bool{false, true} {
		u, _ := newStore(t, c, tpm.NewStore{Persistent: persistent})
		for i := range 15 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childStore+"="+u.String())
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 200)
			n, _ := out.Read(first)
			if string(first[:n]) != "open\n" {
				t.Fatalf("%s", first[:n])
			}
			time.Sleep(time.Duration(i*7) * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			tok := open(t, u)
			objects, err := tok.KeyObjects(bg)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if o.Key == nil {
					t.Fatalf("kill %d: %s", i, o.NotUsable)
				}
				signs(t, o.Key, crypto.SHA256)
				if _, err := tok.Adopt(bg, hsm.GenerateSpec{Label: o.Attributes.Label, ID: o.Attributes.ID, Algorithm: hsm.P256}); err != nil {
					t.Fatal(err)
				}
				if err := tok.Destroy(bg, o.Key.URI().Query()); err != nil {
					t.Fatal(err)
				}
			}
			_ = tok.Close()
		}
		if left := strings.Count(run(t, c, "tpm2_getcap", "handles-persistent"), "0x8102"); left != 0 {
			t.Errorf("%d persistent keys belong to no file", left)
		}
	}
}

// TestAdopt: what an earlier generation made is taken over whole, and what somebody else made is left alone.
func TestAdopt(t *testing.T) {
	c := tpmtest.New(t)
	u, _ := newStore(t, c, tpm.NewStore{Persistent: true})
	tok := open(t, u)
	spec := hsm.GenerateSpec{Label: "root", ID: []byte("twenty random octets"), Algorithm: hsm.P384}
	if k, err := tok.Adopt(bg, spec); k != nil || err != nil {
		t.Fatalf("nothing is there: %v, %v", k, err)
	}
	k, err := tok.Generate(bg, spec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(t, u).Adopt(bg, spec)
	if err != nil || !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
		t.Fatal(err)
	}
	other := spec
	other.ID = []byte("another id, of others")
	if _, err := tok.Adopt(bg, other); !errors.Is(err, hsm.ErrExists) || advice.KindOf(err) != advice.Refused {
		t.Errorf("a key of somebody else: %v", err)
	}
	wrong := spec
	wrong.Algorithm = hsm.P256
	if _, err := tok.Adopt(bg, wrong); !errors.Is(err, hsm.ErrAttributes) {
		t.Errorf("another algorithm: %v", err)
	}
	if _, err := tok.Key(bg, hsm.Query{Label: "root"}); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	for i, want := range []bool{true, false} {
		if found, err := tok.Remove(bg, hsm.Query{Label: "root", ID: spec.ID}); found != want || err != nil {
			t.Errorf("removal %d: %t, %v", i, found, err)
		}
	}
	if found, err := tok.Remove(bg, hsm.Query{Label: "root"}); err == nil || found {
		t.Error("removed by label alone")
	}
}
