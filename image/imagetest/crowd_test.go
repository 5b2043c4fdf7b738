package imagetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImageCrowd plugs in two of everything: media of an image, sticks of memory, sticks with tokens in files. People are told or asked which
// is meant, by UUID and serial; what they did not choose is not used, and not written to; and a stick of memory can be made of an empty one.
// It is long: HANAPER_SOAK asks for it.
func TestImageCrowd(t *testing.T) {
	iso := filepath.Join(image(t), "hanaper.iso")
	if os.Getenv("HANAPER_SOAK") == "" {
		t.Skip("make soak")
	}
	d := newDesk(t)
	s := d.sticks()
	other := d.again(s, "other")
	host(t, "tune2fs", "-U", "11111111-2222-4333-8444-555555555555", other.state)
	empty := sized(t, d.path("empty.img"), 32)
	iso1, iso2 := copied(t, iso, d.path("one.iso")), copied(t, iso, d.path("two.iso"))
	unused := []string{other.state, other.token, iso1, iso2}
	before := digests(t, unused)
	g := boot(t, "", s.fleet, s.token, s.state, other.token, other.state, iso1, iso2, empty)
	g.menu("1")
	g.sees("2 MEDIA that start an image are plugged in")
	for g.sees("shows the next page", "Press Enter to go on.") == 0 {
		g.types("")
	}
	g.types("")

	g.menu("3")
	if g.sees("2 STICKS of memory are plugged in") != 0 {
		t.Error("the page does not say that there are two")
	}
	g.answers("Type a number and Enter", "5")
	g.sees("which stick is this machine's memory?")
	g.picks("HANAPER-STATE", "11111111-2222")
	g.sees("anchor: the memory you chose: sd")
	g.answers("Type a number and Enter", "")

	g.menu("7")
	g.answers("Type a number and Enter", "1")
	g.answers("lines 1 to", "q")
	g.answers("Enter takes it", "")
	d.people(g)
	g.sees("which stick's tokens in files?")
	g.picks("TOKEN")
	g.sees("Tokens in files: ")
	g.answers("Type go and Enter", "")
	if said := strings.Join(strings.Fields(g.shown()), " "); !strings.Contains(said, "Anchor: the memory you chose: sd") {
		t.Error("the page on which people say go does not name the memory")
	}

	g.menu("3")
	g.answers("Type a number and Enter", "3")
	g.picks("32 MB", "FLEET", "TOKEN", "HANAPER-STATE")
	g.sees("Type ERASE ")
	g.sees(" to lose")
	typed := g.shown()
	if !strings.Contains(typed, "Not offered, since machines are started from them:") {
		t.Error("nobody is told what is not offered")
	}
	device, _, _ := strings.Cut(typed[strings.LastIndex(typed, "Type ERASE ")+len("Type ERASE "):], " ")
	g.types("ERASE " + device)
	g.sees("3 STICKS of memory are plugged in")
	g.answers("Type a number and Enter", "")
	g.off()
	if after := digests(t, unused); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("a stick that nobody chose was written to: %q, then %q", before, after)
	}
	if said := host(t, "blkid", "-p", "-o", "value", "-s", "LABEL", empty); strings.TrimSpace(said) != "HANAPER-STATE" {
		t.Errorf("the stick that was to be made has the label %q", said)
	}
}
