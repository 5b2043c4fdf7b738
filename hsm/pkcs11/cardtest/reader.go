package cardtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Count is how many readers there are; they are numbered from 0. A vpcd device has two.
const Count = 4

// socketVariable is where libpcsclite looks for the socket of pcscd, where it is not the system's own.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// patience is how long pcscd may take to start, or to see that a card came or went. It looks every 0.4 s.
const patience = 20 * time.Second

// Readers are this process's readers. There is one set, for libpcsclite reads the path of the socket once a process.
type Readers struct {
	dir     string
	pcscd   *exec.Cmd
	log     bytes.Buffer // read it when pcscd has ended
	ended   chan struct{}
	readers [Count]reader
}

// reader is one slot of vpcd. A card in it is a connection to vpcd.
type reader struct {
	mu   sync.Mutex
	card *Card
	conn net.Conn
	gone time.Time // when the last card was pulled
}

var shared struct {
	sync.Mutex
	readers *Readers
}

// New gives this process's readers, which it starts at the first call, and pulls all cards out, now and at the test's end.
func New(t testing.TB) *Readers {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.readers == nil {
		r, err := start()
		if err != nil {
			t.Fatal(err)
		}
		shared.readers = r
	}
	r := shared.readers
	empty := func() {
		for i := range r.readers {
			r.Pull(t, i)
		}
	}
	empty()
	t.Cleanup(empty)
	return r
}

// Module is the path of OpenSC's PKCS#11 library, through which cards are used.
func Module(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*-linux-gnu/opensc-pkcs11.so")
	if len(found) == 0 {
		t.Fatal("no opensc-pkcs11.so: install the packages of scripts/packages-test.txt")
	}
	return found[0]
}

// Main is a package's tests with an end that stops pcscd: func TestMain(m *testing.M) { os.Exit(cardtest.Main{m}.Run()) }, or
// softhsm.Main(cardtest.Main{m}).
type Main struct{ Tests interface{ Run() int } }

// Run runs the tests, then stops pcscd and removes its folder.
func (m Main) Run() int {
	code := m.Tests.Run()
	if r := shared.readers; r != nil {
		r.stop()
	}
	return code
}

const driver = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

// firstPort is vpcd's, in the namespace.
const firstPort = 35963

//go:embed testdata/bridge.py
var bridge []byte

// start starts pcscd and the bridge.
func start() (r *Readers, err error) {
	r = &Readers{ended: make(chan struct{})}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "hanaper-cards-"); err != nil {
		return r, err
	}
	if err := r.write(); err != nil {
		return r, err
	}
	if err := r.run(); err != nil {
		return r, err
	}
	return r, os.Setenv(socketVariable, r.Socket())
}

// write makes the folder's files. Each device has a copy of the driver, which keeps its two slots in variables of its own.
func (r *Readers) write() error {
	vpcd, err := os.ReadFile(driver)
	if err != nil {
		return fmt.Errorf("install the packages of scripts/packages-test.txt: %w", err)
	}
	var config strings.Builder
	files := map[string][]byte{"bridge.py": bridge}
	for i := 0; i < Count; i += 2 {
		library := fmt.Sprintf("vpcd%d.so", i/2)
		files[library] = vpcd
		fmt.Fprintf(&config, "FRIENDLYNAME \"%s\"\nDEVICENAME /dev/null:%d\nLIBPATH %s\nCHANNELID %d\n", family(i), firstPort+i, filepath.Join(r.dir, library), firstPort+i)
	}
	files["conf/readers"] = []byte(config.String())
	for _, name := range []string{"conf", "socket"} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o755); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func family(i int) string { return fmt.Sprintf("Reader %c", 'A'+i/2) }

// Name is the reader's name, as PC/SC and OpenSC know it.
func (r *Readers) Name(i int) string { return fmt.Sprintf("%s 00 0%d", family(i), i%2) }

// Socket is the path of pcscd's socket.
func (r *Readers) Socket() string { return filepath.Join(r.dir, "socket", "pcscd.comm") }

// Env is what a program needs in its environment to use these readers; this process has it already.
func (r *Readers) Env() []string { return []string{socketVariable + "=" + r.Socket()} }

// namespace runs pcscd in namespaces of its own. It has one place for its socket, which there is our folder; vpcd listens on every
// address, which there is loopback alone.
const namespace = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/pcscd
mount --bind "$1/socket" /run/pcscd
ip link set lo up
python3 "$1/bridge.py" "$1" "$2" "$3" &
exec pcscd --foreground --error --config "$1/conf"`

// run starts pcscd, which ends with this process.
func (r *Readers) run() error {
	args := []string{"--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", namespace, "sh", r.dir, fmt.Sprint(firstPort), fmt.Sprint(Count)}
	if os.Geteuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	r.pcscd = exec.Command("unshare", args...)
	r.pcscd.Stdout, r.pcscd.Stderr = &r.log, &r.log
	r.pcscd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig is sent when the thread ends that started the process
		err := r.pcscd.Start()
		started <- err
		if err == nil {
			_ = r.pcscd.Wait()
		}
		close(r.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("pcscd in namespaces of its own: %w", err)
	}
	for _, socket := range []string{r.Socket(), r.bridge(Count - 1)} {
		if err := r.await(socket); err != nil {
			return err
		}
	}
	return nil
}

// await waits until a socket is there, which no program takes away as long as it runs.
func (r *Readers) await(socket string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		select {
		case <-r.ended:
			return fmt.Errorf("pcscd ended: install the packages of scripts/packages-test.txt, and allow unshare\n%s", r.log.String())
		default:
		}
		if _, err := os.Stat(socket); err == nil {
			return nil
		}
	}
	return fmt.Errorf("pcscd made no %s within %s", filepath.Base(socket), patience)
}

func (r *Readers) bridge(i int) string { return filepath.Join(r.dir, fmt.Sprintf("reader%d", i)) }

// stop ends pcscd and removes the folder.
func (r *Readers) stop() {
	if r.pcscd != nil && r.pcscd.Process != nil {
		_ = r.pcscd.Process.Kill()
		<-r.ended
	}
	_ = os.RemoveAll(r.dir)
}

// Insert puts the card into reader i, in the place of what was there, and waits until pcscd has taken it.
func (r *Readers) Insert(t testing.TB, i int, c *Card) {
	t.Helper()
	r.Pull(t, i)
	if err := r.insert(i, c); err != nil {
		t.Fatalf("%s: %v", r.Name(i), err)
	}
}

func (r *Readers) insert(i int, c *Card) error {
	one := &r.readers[i]
	one.mu.Lock()
	defer one.mu.Unlock()
	for range insertions {
		// A card that comes before pcscd has seen the last one go would be taken for it, and get no power. Under load it looks less often:
		// then the card is taken out and put in again.
		time.Sleep(time.Until(one.gone.Add(absence)))
		conn, err := net.Dial("unix", r.bridge(i))
		if err != nil {
			return err
		}
		c.powerOff()
		taken := c.whenPowered()
		one.card, one.conn = c, conn
		go c.talk(conn)
		select {
		case <-taken:
			time.Sleep(100 * time.Millisecond) // pcscd tells others a moment later
			return nil
		case <-time.After(patience / 2):
		}
		_ = conn.Close()
		one.card, one.conn, one.gone = nil, nil, time.Now().Add(2*absence)
	}
	return fmt.Errorf("pcscd did not take the card, which was put in %d times", insertions)
}

// insertions is how often a card is put in before that is a failure.
const insertions = 6

// Pull takes the card out of reader i and waits until pcscd has seen that it is gone. A command in progress gets no answer.
func (r *Readers) Pull(t testing.TB, i int) {
	t.Helper()
	if r.Snatch(i) {
		time.Sleep(absence)
	}
}

// Snatch is Pull that does not wait, and says whether a card was there.
func (r *Readers) Snatch(i int) bool {
	one := &r.readers[i]
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.card == nil {
		return false
	}
	_ = one.conn.Close()
	one.card, one.conn, one.gone = nil, nil, time.Now()
	return true
}

// absence is more than the time between two looks of pcscd.
const absence = 900 * time.Millisecond
