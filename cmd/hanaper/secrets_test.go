package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/softhsm"
)

const secretsScript = `version: 1
ceremony: custody
environment: production
window: {from: 2026-11-21T00:00:00Z, until: 2026-11-22T00:00:00Z}
roster: {file: roster.json, sha256: %s}
tokens:
  vault: {uri: "pkcs11:token=%s"}
  spare: {uri: "%s"}
steps:
  - init-token: {token: vault}
  - hold-secret: {name: vault-user, token: vault, purpose: user}
  - hold-secret: {name: vault-so, token: vault, purpose: so, threshold: 3}
  - hold-secret: {name: vault-wrap, token: vault, purpose: wrap}
  - generate-key: {name: root-key, token: vault, algorithm: P-384, class: backup}
  - backup-key: {name: root-backup, key: root-key, shares: vault-wrap}
  - restore-key: {name: root-key-2, backup: root-backup, token: spare, label: restored, shares: vault-wrap}
  - destroy-key: {key: root-key}
`

// TestSecrets holds a ceremony in which PINs and passphrases are typed and read from files, PINs are moved into the
// officers' hands, and a key is backed up, while it looks at the arguments and environment of every process. Afterwards
// no passphrase, PIN, share or what is derived from shares is found there, on the screen, or in any file.
func TestSecrets(t *testing.T) {
	d := desk{t, t.TempDir()}
	bin := programtest.Path(t, "hanaper")
	for _, dir := range []string{"home", "tmp", "sources"} {
		if err := os.Mkdir(d.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	watch := watchProcesses()
	defer watch.stop()
	secrets := map[string][]byte{}
	screen := ""
	at := func(args ...string) *sitting {
		cmd := exec.Command(bin, args...)
		cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "HOME="+d.path("home"), "TMPDIR="+d.path("tmp"), "XDG_STATE_HOME=")
		watch.pid(0)
		s := sit(t, cmd)
		watch.pid(cmd.Process.Pid)
		return s
	}

	names := []string{"ada", "berta", "clara"}
	args := []string{"roster", "new", "--environment", "production", "--threshold", "2", "--time", "2026-11-20T09:00:00Z", "--out", "roster.json"}
	key := func(name, use string) string {
		if name == "clara" {
			return name + use + ".key?pin-source=sources/clara"
		}
		return name + use + ".key"
	}
	var asked [][2]string
	for _, name := range names {
		passphrase := name + "'s very own passphrase"
		secrets["passphrase of "+name] = []byte(passphrase)
		d.write("sources/"+name, passphrase+"\n")
		asked = append(asked, [2]string{"assphrase for " + name, passphrase}, [2]string{"The same again: ", passphrase}, [2]string{"Passphrase of " + name, passphrase})
		s := at("officer", "enroll", "--name", name, "--key", key(name, ""), "--decryption-key", key(name, "-shares"), "--out", name+".officer.json")
		screen += s.plays(0, asked[len(asked)-3:])
		args = append(args, name+".officer.json")
	}
	screen += at(args...).plays(0, nil)

	spare, err := softhsm.ForTest(t).Create("secret spare")
	if err != nil {
		t.Fatal(err)
	}
	text := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	secrets["PIN of spare"], secrets["SO PIN of spare"] = []byte(text(spare.PINFile)), []byte(text(spare.SOPINFile))
	secrets["first PIN"], secrets["first SO PIN"] = []byte("first-user-pin-4711"), []byte("first-so-pin-4711")
	d.write("sources/spare-so", text(spare.SOPINFile)+"\n")
	d.write("bindings.yaml", "tokens: {}\npins:\n  spare: {so: "+d.path("sources/spare-so")+"}\n")
	d.write("script.yaml", fmt.Sprintf(secretsScript, d.digest("roster.json"), "secret%20vault", hsm.URI{Token: spare.Label, Serial: spare.Serial}))
	asked = append(asked, [][2]string{
		{"Type Yes to approve: ", "Yes"}, {"Read the time aloud", "2026-11-21T09:00:00Z"}, {"Type Yes to begin: ", "Yes"}, {"Type Yes: ", "Yes"}, {"Type next, exception or stop: ", "next"},
		{`PIN of token "secret spare"`, text(spare.PINFile)},
		{"Somebody else", ""}, {"A bag or seal", ""}, {"An exception", ""}, {"A deviation", ""},
	}...)
	screen += at("ceremony", "approve", "--officer", "ada.key", "--out", "ada.json", "script.yaml").plays(0, asked)
	screen += at("ceremony", "approve", "--officer", "berta.key", "--with", "ada.json", "--out", "berta.json", "script.yaml").plays(0, asked)
	run := at("ceremony", "run", "--out", "out", "--module", spare.Module, "--bindings", "bindings.yaml", "--approval", "ada.json", "--approval", "berta.json",
		"--officer", "ada.key", "--officer", "berta.key", "--custodian", key("ada", "-shares"), "--custodian", key("berta", "-shares"), "--custodian", key("clara", "-shares"), "script.yaml")
	// First PINs are typed twice, and again where they differ. They are never asked for again.
	screen += run.plays(0, asked, [][2]string{
		{`The security officer (SO) PIN of token "vault"`, "sp1"}, {"it has 3 bytes, the token takes 4 to", "first-so-pin-4711"}, {"The same again: ", "first-so-pin-4712"},
		{"They differ.", "first-so-pin-4711"}, {"The same again: ", "first-so-pin-4711"},
		{`The user PIN of token "vault"`, "first-user-pin-4711"}, {"The same again: ", "first-user-pin-4711"},
	}...)
	watch.stop()

	for name, secret := range d.shared(names) {
		secrets[name] = secret
	}
	if len(secrets) < 20 {
		t.Fatalf("only %d secrets are known", len(secrets))
	}
	if watch.looks < 10 || !strings.Contains(watch.seen.String(), "ceremony\x00run") {
		t.Fatalf("the processes were looked at %d times only, or the run was not met", watch.looks)
	}
	find := func(where string, data []byte) {
		for name, secret := range secrets {
			for _, form := range [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret))),
				[]byte(base64.StdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret))} {
				if bytes.Contains(data, form) {
					t.Errorf("%s: %s is there", where, name)
				}
			}
		}
	}
	find("the screen", []byte(screen))
	find("the processes' arguments and environments", watch.seen.Bytes())
	files := 0
	err = filepath.WalkDir(d.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Base(filepath.Dir(name)) == "sources" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		find(name, data)
		info, err := e.Info()
		if bytes.Contains(data, []byte("PRIVATE KEY")) && info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds a private key and has mode %o", name, info.Mode().Perm())
		}
		return err
	})
	if err != nil || files < 20 {
		t.Errorf("%d files were looked at: %v", files, err)
	}
	left, err := os.ReadDir(d.path("tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in TMPDIR: %v, %v", left, err)
	}
	if watch.core != "0 0" {
		t.Errorf("core dumps of up to %q", watch.core)
	}
	if os.Geteuid() == 0 && watch.locked == 0 {
		t.Error("no memory is locked")
	}
}

// shared opens the shares that the ceremony made, with the officers' keys: what must be nowhere.
func (d desk) shared(names []string) map[string][]byte {
	d.Helper()
	known, keys := map[string][]byte{}, map[string]crypto.Signer{}
	for _, name := range names {
		// By openssl: all the rounds of a key file take 8 s in a test that looks for races.
		der, err := exec.Command("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", d.path(name+"-shares.key"), "-passin", "file:"+d.path("sources/"+name), "-outform", "DER").Output()
		if err != nil {
			d.Fatal(err)
		}
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			d.Fatal(err)
		}
		keys[name] = key.(crypto.Signer)
	}
	for _, n := range []string{"vault-user", "vault-so", "vault-wrap"} {
		shares, err := quorum.ParseShares([]byte(d.read("out/shares/" + n + ".json")))
		if err != nil {
			d.Fatal(err)
		}
		var opened []*quorum.Share
		for _, name := range names {
			share, err := shares.Open(keys[name])
			if err != nil {
				d.Fatal(err)
			}
			known[name+"'s share of "+n] = hidden(d.T, share, "value")
			opened = append(opened, share)
		}
		secret, err := shares.Combine(opened[:shares.Threshold()]...)
		if err != nil {
			d.Fatal(err)
		}
		known["the secret "+n] = hidden(d.T, secret, "scalar")
		derived, err := secret.Key()
		if n != "vault-wrap" {
			derived, err = secret.PIN(4, 255)
		}
		if err != nil {
			d.Fatal(err)
		}
		known["what is derived from "+n] = derived
	}
	return known
}

// hidden reads an unexported scalar.
func hidden(t *testing.T, of any, field string) []byte {
	t.Helper()
	f := reflect.ValueOf(of).Elem().FieldByName(field)
	data, err := reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem().Interface().(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(data) < 16 {
		t.Fatalf("%s: %v", field, err)
	}
	return data
}

// TestHardened: a program that waits for a passphrase makes no core dump, is nobody else's to look into, and has its
// memory locked, or says that it has not.
func TestHardened(t *testing.T) {
	d := desk{t, t.TempDir()}
	bin := programtest.Path(t, "hanaper")
	waiting := func(cmd *exec.Cmd) (dir string, s *sitting) {
		s = sit(t, cmd)
		s.sees("New passphrase for ")
		return fmt.Sprintf("/proc/%d/", cmd.Process.Pid), s
	}
	dir, s := waiting(exec.Command(bin, "officer", "enroll", "--name", "eve", "--key", d.path("eve.key"), "--out", d.path("eve.json")))
	if core := coreLimit(dir); core != "0 0" {
		t.Errorf("core dumps of up to %q", core)
	}
	if os.Geteuid() == 0 && lockedMemory(dir) == 0 {
		t.Error("no memory is locked")
	}
	if err := s.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.CoreDump() {
		t.Error("a core was dumped")
	}
	d.nothing("eve.key", "eve.json")

	// As an ordinary user with a small limit. What is not dumpable belongs to root in /proc.
	cmd := exec.Command("/bin/sh", "-c", `ulimit -l 64; exec "$0" "$@"`, bin, "officer", "enroll", "--name", "eve", "--key", "/none/eve.key", "--out", "/none/eve.json")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		for _, open := range []string{bin, filepath.Dir(bin), filepath.Dir(filepath.Dir(bin))} {
			if err := os.Chmod(open, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir, _ = waiting(cmd)
	if n := lockedMemory(dir); n != 0 {
		t.Errorf("%d KiB are locked against the limit", n)
	}
	info, err := os.Stat(dir + "environ")
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 {
		t.Errorf("the process can be looked into by user %d", st.Uid)
	}
	if data, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err == nil {
		t.Logf("core_pattern %q", data)
	}
}

// watcher looks at the arguments and environments of all processes, again and again, and at the limits of one of them.
type watcher struct {
	seen   bytes.Buffer
	known  map[[32]byte]bool
	looks  int
	core   string
	locked int

	of   chan int
	quit chan struct{}
	done chan struct{}
}

func watchProcesses() *watcher {
	w := &watcher{known: map[[32]byte]bool{}, of: make(chan int), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		pid := 0
		for {
			select {
			case pid = <-w.of:
			case <-w.quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			w.look(pid)
		}
	}()
	return w
}

func (w *watcher) pid(n int) { w.of <- n }

func (w *watcher) stop() {
	select {
	case <-w.quit:
	default:
		close(w.quit)
	}
	<-w.done
}

func (w *watcher) look(pid int) {
	w.looks++
	for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			data, _ := os.ReadFile(name) // A process may have ended, or be somebody else's.
			if sum := sha256.Sum256(data); !w.known[sum] {
				w.known[sum] = true
				w.seen.Write(data)
				w.seen.WriteByte('\n')
			}
		}
	}
	if pid == 0 {
		return
	}
	dir := fmt.Sprintf("/proc/%d/", pid)
	if core := coreLimit(dir); core != "" {
		w.core = core
	}
	w.locked = max(w.locked, lockedMemory(dir))
}

var (
	coreLine = regexp.MustCompile(`(?m)^Max core file size +(\S+) +(\S+)`)
	lockLine = regexp.MustCompile(`(?m)^VmLck:\s+(\d+) kB`)
)

func coreLimit(dir string) string {
	data, _ := os.ReadFile(dir + "limits")
	if m := coreLine.FindSubmatch(data); m != nil {
		return string(m[1]) + " " + string(m[2])
	}
	return ""
}

// lockedMemory is in KiB.
func lockedMemory(dir string) int {
	data, _ := os.ReadFile(dir + "status")
	if m := lockLine.FindSubmatch(data); m != nil {
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	return 0
}

// plays answers the questions that it knows, whatever their order, until the program ends; those inOrder one after the
// other, each once, and before all else.
func (s *sitting) plays(code int, answers [][2]string, inOrder ...[2]string) string {
	s.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		select {
		case <-s.ended:
			return s.leaves(code)
		default:
		}
		s.mu.Lock()
		// A question stands at the end of the screen, and ends in ": ".
		question, line, found := s.screen[s.read:], "", false
		if bytes.HasSuffix(question, []byte(": ")) {
			if len(inOrder) > 0 && bytes.Contains(question, []byte(inOrder[0][0])) {
				line, found, inOrder = inOrder[0][1], true, inOrder[1:]
			}
			for i := 0; i < len(answers) && !found; i++ {
				line, found = answers[i][1], bytes.Contains(question, []byte(answers[i][0]))
			}
		}
		if found {
			s.read = len(s.screen)
		}
		s.mu.Unlock()
		if found {
			if _, err := s.keys.WriteString(line + "\n"); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.t.Fatalf("the program waits for what nobody answers:\n%s", s.shown())
	return ""
}
