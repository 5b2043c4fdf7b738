package imagetest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) { softhsm.Main(m) }

// libraryNumber chooses SoftHSM in the menu: OpenSC's library stands before it.
const libraryNumber = "2"

// performs goes through the menu up to the program's first question.
func (d *desk) performs(g *guest) {
	g.menu("7")
	g.sees("script.yaml")
	g.answers("Type a number and Enter", "1")
	g.sees("ceremony check")
	g.answers("lines 1 to", "q")
	g.sees("approval-ada.json")
	g.sees("approval-grace.json")
	g.answers("Enter takes it", "")
	d.people(g)
	g.sees("This will be run:")
	g.answers("Type go and Enter", "go")
}

// people names the library and the keys of ada and grace.
func (d *desk) people(g *guest) {
	g.sees("by which library")
	g.answers("Type a number and Enter", libraryNumber)
	g.sees("Keys that SIGN")
	g.answers("One more, or Enter", "1")
	g.sees("Named so far: 1")
	g.answers("One more, or Enter", "2")
	g.sees("Named so far: 2")
	g.answers("One more, or Enter", "")
	g.sees("Keys that OPEN SHARES")
	g.answers("One more, or Enter", "")
}

// question is one that the program asks in a run, and what people say.
type question struct{ asks, says string }

// carriesOn answers whatever the program asks until it has ended, and gives how often it stopped. Where at is above 0 the plug is pulled
// after as many answers, and after delay; it is false then.
func (d *desk) carriesOn(g *guest, asserted time.Duration, at int, delay time.Duration) (ended bool) {
	g.t.Helper()
	asks := []question{
		{"Read the time aloud", d.at(asserted)},
		{"Type Yes", "Yes"},
		{"Passphrase of ", d.passphrase},
		{"PIN of ", d.pin},
		{"Type next, exception or stop:", "next"},
		{"Somebody else who is present", ""},
		{"A bag or seal number", ""},
		{"An exception (empty", ""},
		{"A deviation from", ""},
		{"Press Enter to go on.", ""},
	}
	var texts []string
	for _, q := range asks {
		texts = append(texts, q.asks)
	}
	for n := 1; ; n++ {
		q := asks[g.sees(texts...)]
		if q.asks == "Press Enter to go on." {
			g.types("")
			return true
		}
		g.types(q.says)
		if n == at {
			time.Sleep(delay)
			g.pull()
			return false
		}
	}
}

// resumes goes through the menu to the folder that was cut short.
func (d *desk) resumes(g *guest) {
	g.menu("8")
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", "1")
	g.sees("this machine's memory, on the stick")
	g.answers("Type a number and Enter", "1")
	d.people(g)
	g.answers("Type go and Enter", "go")
}

// TestImage is the short form: a ceremony of two of three is held by the menu, its plug is pulled, it goes on after a new start, is saved to
// another stick, and an auditor verifies it on a machine started anew; a changed byte is named; and the machine is as closed as it is
// said to be.
func TestImage(t *testing.T) {
	begun := time.Now()
	d := newDesk(t)
	s := d.sticks()
	chip := tpm(t)
	g := boot(t, chip, s.all()...)
	g.sees("What do you want to do?")
	t.Logf("figure image: menu after %.1f s", time.Since(g.began).Seconds())
	g.types("")
	g.sees("this machine's memory, on the stick sd")
	d.performs(g)
	if d.carriesOn(g, time.Hour, 9, 300*time.Millisecond) {
		t.Fatal("the ceremony ended before the plug was pulled")
	}

	g = boot(t, tpm(t), s.all()...)
	d.resumes(g)
	d.carriesOn(g, 2*time.Hour, 0, 0)
	if !strings.Contains(g.shown(), "signed by ada, grace") {
		t.Fatal("the ceremony did not end")
	}
	g.menu("9")
	g.answers("Type a number and Enter", "3")
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", "1")
	g.picks(" COPY,")
	g.sees("read back: they are the same")
	g.answers("Press Enter to go on.", "")
	g.off()
	d.noSecrets(s)

	// The auditor brings the saved stick, and one of which somebody changed a byte.
	changed := d.changed(s.copy, "artefacts/fleet-root.pem")
	g = boot(t, "", s.copy, changed)
	// The sticks come in any order.
	if one, two := d.audits(g, "1"), d.audits(g, "2"); one == two {
		t.Errorf("both sticks verify: %v, or neither does", one)
	}
	for _, want := range []string{"cut short and resumed 1 times", "machine, at begin: image ", "machine, at resumed: image ", "measured by the TPM whose attestation key has the SHA-256", "anchor: NO MEMORY"} {
		if !strings.Contains(regexp.MustCompile(`\s+`).ReplaceAllString(g.shown(), " "), want) {
			t.Errorf("the auditor does not read %q", want)
		}
	}
	d.closed(g)
	g.off()
	t.Logf("figure image: the short form took %.0f s", time.Since(begun).Seconds())
}

// picks chooses the line of a list that holds a text: sticks come in any order.
func (g *guest) picks(text string) {
	g.t.Helper()
	g.mu.Lock()
	from := g.read
	g.mu.Unlock()
	g.sees("Type a number and Enter")
	g.mu.Lock()
	page := string(g.screen[from:g.read])
	g.mu.Unlock()
	for l := range strings.Lines(page) {
		if f := strings.Fields(l); len(f) > 0 && strings.Trim(f[0], "0123456789") == "" && strings.Contains(l, text) {
			g.types(f[0])
			return
		}
	}
	g.t.Fatalf("%q is not in the list", text)
}

// changed is a copy of a stick in which a file has another last byte.
func (d *desk) changed(stick, name string) string {
	d.t.Helper()
	to := copied(d.t, stick, d.path("changed.img"))
	file := d.path("changed")
	host(d.t, "mcopy", "-n", "-i", to, "::ceremony-1/"+name, file)
	data, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		d.t.Fatal(err)
	}
	host(d.t, "mcopy", "-o", "-i", to, file, "::ceremony-1/"+name)
	return to
}

// audits verifies the folder with a number in the menu's list, and says whether it does; a changed one must be named.
func (d *desk) audits(g *guest, number string) (verified bool) {
	g.t.Helper()
	g.menu("5")
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", number)
	g.answers("The roster's SHA-256", strings.ToUpper(d.roster[:32])+" "+d.roster[32:])
	g.answers("The checkpoint's SHA-256", "")
	g.mu.Lock()
	from := g.read
	g.mu.Unlock()
	for g.sees("shows the next page", "Press Enter to go on.", "That was the last page") == 0 {
		g.types("")
	}
	g.mu.Lock()
	report := strings.Join(strings.Fields(steering.ReplaceAllString(string(g.screen[from:g.read]), "")), " ")
	g.mu.Unlock()
	g.types("")
	verified = strings.Contains(report, "verified: script, transcript and artefacts agree")
	if named := strings.Contains(report, "artefacts/fleet-root.pem: is not the file that the ceremony wrote"); named == verified {
		g.t.Errorf("the auditor reads neither, or both: %s", report)
	}
	return verified
}

// closed asks for a shell, twice, and looks at the machine from within.
func (d *desk) closed(g *guest) {
	t := g.t
	t.Helper()
	g.menu("s")
	g.answers("type shell:", "no")
	g.menu("s")
	g.answers("type shell:", "shell")
	g.answers("Type yes, open a shell:", "yes, open a shell")
	g.sees("The transcripts will say so.")
	g.sees("Leave it with: exit")
	if said := strings.Fields(g.does("ls /sys/class/net")); len(said) != 1 || said[0] != "lo" {
		t.Errorf("network interfaces: %v", said)
	}
	// State 0A of a TCP socket is LISTEN; any UDP socket would take packets.
	for _, l := range strings.Split(g.does("cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 /proc/net/raw /proc/net/packet 2>/dev/null"), "\n") {
		if f := strings.Fields(l); len(f) > 3 && strings.HasSuffix(f[0], ":") {
			t.Errorf("a socket: %s", l)
		}
	}
	writable := 0
	for _, l := range strings.Split(g.does("cat /proc/mounts"), "\n") {
		f := strings.Fields(l)
		if len(f) < 4 {
			continue
		}
		options := "," + strings.TrimSpace(f[3]) + ","
		if strings.Contains(options, ",rw,") {
			if writable++; !strings.Contains(options, ",noexec,") {
				t.Errorf("what is on %s can be written and executed: %s", f[1], l)
			}
		}
		if strings.HasPrefix(f[1], "/media/") && (!strings.Contains(options, ",ro,") || !strings.Contains(options, ",nosuid,") || !strings.Contains(options, ",nodev,") || !strings.Contains(options, ",noexec,")) {
			t.Errorf("a stick is mounted otherwise: %s", l)
		}
	}
	if writable < 3 {
		t.Errorf("only %d file systems can be written: /proc/mounts was not read", writable)
	}
	if said := g.does("for d in /run /tmp /media /dev/shm /run/home; do cp /usr/bin/busybox $d/sh 2>/dev/null && $d/sh true && echo EXECUTED $d; done; echo x >/usr/bin/new && echo WRITTEN"); strings.Contains(said, "EXECUTED") || strings.Contains(said, "WRITTEN") {
		t.Errorf("a program was brought in: %s", said)
	}
	if said := g.does("cat /proc/swaps | wc -l"); strings.TrimSpace(said) != "1" {
		t.Errorf("swap: %s", said)
	}
	if said := g.does("insmod /usr/lib/modules/*/*.ko 2>&1; cat /proc/sys/kernel/modules_disabled"); !strings.Contains(said, "1") {
		t.Errorf("modules can be loaded: %s", said)
	}
	g.types("exit")
	g.sees("A SHELL WAS OPENED")
}

// places are those at which the plug is pulled: after how many answers, and how long after.
var places = []struct {
	answers int
	delay   time.Duration
}{
	{1, 0}, {3, 0}, {5, 100 * time.Millisecond}, {6, 20 * time.Millisecond}, {8, 0}, {8, 60 * time.Millisecond}, {8, 250 * time.Millisecond}, {9, 40 * time.Millisecond}, {10, 120 * time.Millisecond}, {11, 500 * time.Millisecond},
}

// TestImageKill pulls the plug at ten places, each on sticks as they were before the ceremony, and has it go on after a new start: to its
// end, with one key of each name, and verified. It is long: HANAPER_SOAK asks for it.
func TestImageKill(t *testing.T) {
	image(t)
	if os.Getenv("HANAPER_SOAK") == "" {
		t.Skip("make soak")
	}
	d := newDesk(t)
	fresh := d.sticks()
	for n, p := range places {
		s := d.again(fresh, string(rune('a'+n)))
		g := boot(t, "", s.all()...)
		d.performs(g)
		if d.carriesOn(g, time.Hour, p.answers, p.delay) {
			t.Fatalf("place %d: the ceremony ended before the plug was pulled", n)
		}
		g = boot(t, "", s.all()...)
		g.menu("8")
		if g.sees("ceremony-1", "No folder of a ceremony that was cut short") == 0 {
			g.answers("Type a number and Enter", "1")
			g.sees("this machine's memory, on the stick")
			g.answers("Type a number and Enter", "1")
			d.people(g)
			g.answers("Type go and Enter", "go")
			if g.sees("Read the time aloud", "holds no ceremony that began") == 1 {
				t.Errorf("place %d: the ceremony had not begun, and its folder is in the way", n)
				g.pull()
				continue
			}
			g.mu.Lock()
			g.read -= len("Read the time aloud")
			g.mu.Unlock()
			d.carriesOn(g, 2*time.Hour, 0, 0)
			t.Logf("place %d: resumed", n)
		} else {
			// Nothing had begun: the approvals are still good.
			g.answers("Press Enter to go on.", "")
			d.performs(g)
			d.carriesOn(g, 2*time.Hour, 0, 0)
			t.Logf("place %d: run anew, nothing had begun", n)
		}
		if !strings.Contains(g.shown(), "signed by ada, grace") {
			t.Fatalf("place %d: the ceremony did not end", n)
		}
		g.off()
		d.noSecrets(s)
		out := d.path("out-" + filepath.Base(s.fleet))
		host(t, "mkdir", out)
		host(t, "mcopy", "-s", "-n", "-i", s.fleet, "::fleet/ceremony-1", out)
		if said := d.run(d.program, "ceremony", "verify", "--roster", d.roster, filepath.Join(out, "ceremony-1")); !strings.Contains(said, "verified: script, transcript and artefacts agree") {
			t.Errorf("place %d: %s", n, said)
		}
	}
}
