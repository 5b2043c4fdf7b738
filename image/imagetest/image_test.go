package imagetest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/softhsm"
)

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	softhsm.Main(m)
}

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

// carriesOn answers whatever the program asks until it has ended, or until one of some texts is shown: it is the number of that text then, and
// -1 at the end.
func (d *desk) carriesOn(g *guest, asserted time.Duration, until ...string) int {
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
	texts := slices.Clone(until)
	for _, q := range asks {
		texts = append(texts, q.asks)
	}
	for {
		n := g.sees(texts...)
		if n < len(until) {
			return n
		}
		q := asks[n-len(until)]
		g.types(q.says)
		if q.asks == "Press Enter to go on." {
			return -1
		}
	}
}

// resumes goes through the menu to the folder that was cut short.
func (d *desk) resumes(g *guest) {
	if g.menu("8") == 0 {
		g.t.Error("no stick was cut off while it was written, although the plug was pulled")
	}
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
	if d.carriesOn(g, time.Hour, "DONE: step 2 of 4") < 0 {
		t.Fatal("the ceremony ended before the plug was pulled")
	}
	g.pull()
	// What is cut off now is looked at by the auditor below.
	cutOff := copied(t, s.token, d.path("cut-off.img"))

	first := g
	g = boot(t, tpm(t), s.all()...)
	d.resumes(g)
	d.carriesOn(g, 2*time.Hour)
	if !strings.Contains(g.shown(), "signed by ada, grace") {
		t.Fatal("the ceremony did not end")
	}
	g.saves()
	g.off()
	d.noSecrets(s, first, g)

	// The auditor brings the saved stick, one of which somebody changed a byte, and one that was cut off while it was written, which is to be
	// left as it is.
	changed := d.changed(s.copy, "artefacts/fleet-root.pem")
	brought := []string{s.copy, changed, cutOff}
	before := digests(t, brought)
	g = boot(t, "", brought...)
	g.alone = true
	if g.menu("4") != 1 {
		t.Error("nobody was asked about the stick that was cut off")
	}
	g.answers("Type a number and Enter", libraryNumber)
	g.answers("Press Enter to go on.", "")
	g.menu("3")
	g.sees("NOT mounted: it was CUT OFF while it was written")
	g.answers("Type a number and Enter", "")
	// The sticks come in any order.
	if one, two := d.audits(g, 1), d.audits(g, 2); one == two {
		t.Errorf("both sticks verify: %v, or neither does", one)
	}
	for _, want := range []string{"cut short and resumed 1 times", "machine, at begin: image ", "machine, at resumed: image ", "measured by the TPM whose attestation key has the SHA-256", "anchor: NO MEMORY"} {
		if !strings.Contains(regexp.MustCompile(`\s+`).ReplaceAllString(g.shown(), " "), want) {
			t.Errorf("the auditor does not read %q", want)
		}
	}
	d.closed(g)
	g.off()
	if after := digests(t, brought); !slices.Equal(before, after) {
		t.Errorf("a stick that was only read was written to: %q, then %q", before, after)
	}
	t.Logf("figure image: the short form took %.0f s", time.Since(begun).Seconds())
}

// saves saves the folder of the ceremony to the stick COPY.
func (g *guest) saves() {
	g.t.Helper()
	g.menu("9")
	g.answers("Type a number and Enter", "3")
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", "1")
	g.picks("COPY, UUID")
	g.sees("read back: they are the same")
	g.answers("Press Enter to go on.", "")
}

// listItem is an item of a list: a number, and text that may go on in lines below it.
var listItem = regexp.MustCompile(`(?m)^ {0,3}(\d+)  (.*(?:\n {5,}\S.*)*)`)

// picks chooses the item of a list that holds a text, and none of some others: sticks come in any order. The list may have several pages.
func (g *guest) picks(text string, others ...string) {
	g.t.Helper()
	for range 10 {
		g.mu.Lock()
		from := g.read
		g.mu.Unlock()
		g.sees("Type a number and Enter")
		more := g.sees("; Enter alone goes back", ", m for more") == 1
		g.mu.Lock()
		page := steering.ReplaceAllString(string(g.screen[from:g.read]), "")
		g.mu.Unlock()
		for _, m := range listItem.FindAllStringSubmatch(page, -1) {
			is := func(s string) bool { return strings.Contains(strings.Join(strings.Fields(m[2]), " "), s) }
			if is(text) && !slices.ContainsFunc(others, is) {
				g.types(m[1])
				return
			}
		}
		if !more {
			break
		}
		g.types("m")
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
func (d *desk) audits(g *guest, number int) (verified bool) {
	g.t.Helper()
	g.menu("5")
	g.sees("ceremony-1")
	g.answers("Type a number and Enter", fmt.Sprint(number))
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
	// Any TCP or UDP socket would be a line below the heads of these tables.
	heads := 0
	for _, l := range strings.Split(g.does("cat /proc/net/tcp /proc/net/udp /proc/net/raw; cat /proc/net/tcp6 /proc/net/udp6 /proc/net/packet 2>/dev/null"), "\n") {
		switch f := strings.Fields(l); {
		case len(f) > 1 && (f[1] == "local_address" || f[1] == "RefCnt"):
			heads++
		case len(f) > 0:
			t.Errorf("a socket: %s", l)
		}
	}
	if heads < 3 {
		t.Errorf("only %d tables of sockets were read", heads)
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
