package arch

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// design is what docs/design.md says about rooms and arrows.
type design struct {
	programs []string
	rooms    []string
	planned  []string
	// arrows are the rooms that each room may import.
	arrows map[string][]string
	// homes are the rooms that may import a package of others.
	homes map[string][]string
}

var (
	program = regexp.MustCompile("(?m)^\\| `(cmd/[a-z-]+)` \\|")
	roomRow = regexp.MustCompile(`^((?:[a-z0-9/]+ )*[a-z0-9/]+) {2,}\S`)
	remark  = regexp.MustCompile(`\(.*\)`)
)

// readDesign reads the page. Every problem with its form is an error: a line that is not understood holds nobody to
// anything.
func readDesign(page string) (d design, err error) {
	for _, m := range program.FindAllStringSubmatch(page, -1) {
		d.programs = append(d.programs, m[1])
	}
	if d.rooms, err = readRooms(block(page, "## Rooms", 0)); err != nil {
		return d, err
	}
	if d.planned, err = readRooms(block(page, "## Planned", 0)); err != nil {
		return d, err
	}
	if d.arrows, err = readArrows(block(page, "## Arrows", 0)); err != nil {
		return d, err
	}
	d.homes, err = readArrows(block(page, "## Arrows", 1))
	return d, err
}

// block is the nth block of code in a section.
func block(page, section string, nth int) []string {
	_, page, _ = strings.Cut(page, "\n"+section+"\n")
	page, _, _ = strings.Cut(page, "\n## ")
	parts := strings.Split("\n"+page+"\n", "\n```\n")
	if len(parts) < 2*nth+2 {
		return nil
	}
	return strings.Split(parts[2*nth+1], "\n")
}

func readRooms(lines []string) (rooms []string, err error) {
	for _, line := range lines {
		m := roomRow.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("not a room and what it is for: %q", line)
		}
		for _, room := range strings.Fields(m[1]) {
			if slices.Contains(rooms, room) {
				return nil, fmt.Errorf("%s is named twice", room)
			}
			rooms = append(rooms, room)
		}
	}
	return rooms, nil
}

func readArrows(lines []string) (map[string][]string, error) {
	arrows := map[string][]string{}
	for _, line := range lines {
		from, to, ok := strings.Cut(remark.ReplaceAllString(line, ""), "->")
		if !ok || len(strings.Fields(from)) == 0 || len(strings.Fields(to)) == 0 {
			return nil, fmt.Errorf("not an arrow: %q", line)
		}
		for _, room := range strings.Fields(from) {
			if _, twice := arrows[room]; twice {
				return nil, fmt.Errorf("%s has two lines of arrows", room)
			}
			arrows[room] = strings.Fields(to)
		}
	}
	return arrows, nil
}

// scaffold says of a room by its name that it is for tests only.
func scaffold(room string) bool { return strings.HasSuffix(room, "test") && room != "attest" }

// TestArrows: the rooms and the imports between them are those of the page, and the page names nothing else.
func TestArrows(t *testing.T) {
	page, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	d, err := readDesign(string(page))
	if err != nil {
		t.Fatal("docs/design.md: ", err)
	}
	pkgs := list(t, "./...")
	if len(pkgs) < 30 || len(d.programs) < 7 || len(d.rooms) < 25 || len(d.arrows) < 10 || len(d.homes) < 4 {
		t.Fatalf("%d packages; on the page %d programs, %d rooms, %d planned, %d arrows, %d homes: the test looks in the wrong place",
			len(pkgs), len(d.programs), len(d.rooms), len(d.planned), len(d.arrows), len(d.homes))
	}
	for _, p := range compare(d, pkgs) {
		t.Error(p)
	}
}

// compare says where page and code differ.
func compare(d design, pkgs []pkg) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	found, used, homes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range pkgs {
		from := room(p.ImportPath)
		found[from] = true
		inside, cmd := strings.HasPrefix(from, "internal/"), strings.HasPrefix(from, "cmd/")
		for _, i := range p.Imports {
			to := room(i)
			for outside, rooms := range d.homes {
				if i != outside && !strings.HasPrefix(i, outside+"/") {
					continue
				}
				homes[outside+" -> "+from] = true
				if !slices.Contains(rooms, from) {
					say("%s imports %s, which only %v may", from, i, rooms)
				}
			}
			if to == i {
				continue // not ours
			}
			used[from+" -> "+to] = true
			switch {
			case scaffold(to) && !scaffold(from):
				say("%s imports %s, which is for tests only", from, to)
			case strings.HasPrefix(to, "internal/"):
			case inside:
				say("%s imports %s: internal knows no room", from, to)
			case strings.HasPrefix(to, "cmd/"):
				say("%s imports %s: nothing imports a program", from, to)
			case cmd && to == "ceremony" && from != "cmd/hanaper":
				say("%s imports ceremony: only cmd/hanaper may", from)
			case cmd:
			case !slices.Contains(d.arrows[from], to):
				say("%s imports %s: the page has no such arrow", from, to)
			}
		}
	}
	for _, name := range slices.Concat(d.rooms, d.programs) {
		if !found[name] {
			say("the page names %s, which does not exist: move it to what is planned", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if !slices.Contains(d.rooms, name) && !slices.Contains(d.programs, name) {
			say("%s is not on the page", name)
		}
		if slices.Contains(d.planned, name) {
			say("%s is planned on the page, and exists", name)
		}
	}
	for what, arrows := range map[*map[string]bool]map[string][]string{&used: d.arrows, &homes: d.homes} {
		for _, from := range slices.Sorted(maps.Keys(arrows)) {
			for _, to := range arrows[from] {
				if !(*what)[from+" -> "+to] {
					say("the page has an arrow %s -> %s that no import uses", from, to)
				}
			}
		}
	}
	return problems
}

// TestPageAndCodeDiffer: each way in which the page can be wrong is told, and nothing else is.
func TestPageAndCodeDiffer(t *testing.T) {
	const page = "\n| `cmd/hanaper` | x |\n## Rooms\n```\na                   one\na/b                 two\ninternal/i          three\natest btest   four\n```\n" +
		"## Arrows\n```\na/b -> a    (why: a)\nbtest -> a\n```\nthen\n```\ngithub.com/x/y -> a\n```\n## Planned\n```\nc    later\n```\n## Next\n"
	code := func(more ...pkg) []pkg {
		return append([]pkg{{ImportPath: module + "a", Imports: []string{"fmt", "github.com/x/y/z", module + "internal/i"}}, {ImportPath: module + "a/b", Imports: []string{module + "a"}},
			{ImportPath: module + "internal/i"}, {ImportPath: module + "atest"}, {ImportPath: module + "btest", Imports: []string{module + "a"}}, {ImportPath: module + "cmd/hanaper", Imports: []string{module + "a"}}}, more...)
	}
	imports := func(from string, to ...string) []pkg {
		pkgs := code()
		at := slices.IndexFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+from })
		pkgs[at].Imports = append(slices.Clone(pkgs[at].Imports), to...)
		return pkgs
	}
	for name, c := range map[string]struct {
		old, new string
		pkgs     []pkg
		says     string
	}{
		"nothing":                         {"", "", code(), ""},
		"a room that does not exist":      {"a/b                 two", "a/b                 two\na/c                 three", code(), "names a/c, which does not exist"},
		"a program that does not exist":   {"| `cmd/hanaper` | x |", "| `cmd/hanaper` | x |\n| `cmd/gone` | x |", code(), "names cmd/gone, which does not exist"},
		"a room that is not named":        {"", "", code(pkg{ImportPath: module + "d"}), "d is not on the page"},
		"a program that is not named":     {"", "", code(pkg{ImportPath: module + "cmd/d"}), "cmd/d is not on the page"},
		"a planned room that exists":      {"internal/i          three", "internal/i          three\nc      x", code(pkg{ImportPath: module + "c"}), "c is planned on the page, and exists"},
		"an arrow that no import uses":    {"a/b -> a ", "a/b -> a internal/i ", code(), "a/b -> internal/i that no import uses"},
		"an arrow from nowhere":           {"btest -> a", "btest -> a\nd -> a", code(), "d -> a that no import uses"},
		"an import without arrow":         {"", "", imports("a", module+"a/b"), "a imports a/b: the page has no such arrow"},
		"a home that does not use it":     {"y -> a", "y -> a a/b", code(), "github.com/x/y -> a/b that no import uses"},
		"a package away from home":        {"", "", imports("a/b", "github.com/x/y"), "a/b imports github.com/x/y, which only [a] may"},
		"internal that knows a room":      {"", "", imports("internal/i", module+"a"), "internal knows no room"},
		"a room that knows a program":     {"", "", imports("a", module+"cmd/hanaper"), "nothing imports a program"},
		"a room that uses test scaffolds": {"a/b -> a ", "a/b -> a atest ", imports("a/b", module+"atest"), "for tests only"},
		"a program that does so":          {"", "", imports("cmd/hanaper", module+"atest"), "for tests only"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(page, c.old, c.new, 1)
			d, err := readDesign(text)
			if err != nil {
				t.Fatal(err)
			}
			got := compare(d, c.pkgs)
			if c.says == "" && len(got) != 0 || c.says != "" && (len(got) != 1 || !strings.Contains(got[0], c.says)) {
				t.Errorf("%q, want one problem with %q", got, c.says)
			}
		})
	}
	for name, change := range map[string][2]string{
		"a room without a word": {"a                   one", "a"},
		"a room twice":          {"a/b                 two", "a                   two"},
		"no arrow":              {"a/b -> a    (why: a)", "a/b a"},
		"an arrow to nowhere":   {"a/b -> a    (why: a)", "a/b ->   (a)"},
		"two lines for a room":  {"btest -> a", "a/b -> atest"},
	} {
		if d, err := readDesign(strings.Replace(page, change[0], change[1], 1)); err == nil {
			t.Errorf("%s: read as %+v", name, d)
		}
	}
}
