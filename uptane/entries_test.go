package uptane

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEntriesInAnyOrder: targets are read one after another; the outcome is that of the whole document in canonical form.
func TestEntriesInAnyOrder(t *testing.T) {
	w := newWorld()
	c := w.targetsConfig(40)
	// What moves the place of a custom object: a name with escapes, no custom object, null, and one that is not sorted.
	name, plain := imageTarget(7)
	for key, custom := range map[string]string{
		`a"quoted`: string(plain.Custom), "none": "", "null": "null", name: `{"version":"1","name":"n","hardwareIds":["h"],"x":{"b":1,"a":[true,null]}}`,
	} {
		x := plain
		x.Custom = []byte(custom)
		c.Targets[key] = x
	}
	doc := must(NewTargets(c))
	members := map[string]string{}
	for _, n := range doc.Names() {
		x, _ := doc.Target(n)
		custom := ""
		if len(x.Custom) > 0 {
			custom = `"custom": ` + string(x.Custom) + ","
		}
		members[n] = fmt.Sprintf("{ \"length\": %d, %s \"hashes\" : {\"sha256\":%q} }", x.Length, custom, x.SHA256)
	}
	for name, order := range map[string]func([]string){"sorted": func([]string) {}, "reversed": func(l []string) {
		for i, j := 0, len(l)-1; i < j; i, j = i+1, j-1 {
			l[i], l[j] = l[j], l[i]
		}
	}} {
		names := doc.Names()
		order(names)
		var list []string
		for _, n := range names {
			list = append(list, fmt.Sprintf(" %q : %s", n, members[n]))
		}
		text := `{"version":1,"targets":{` + strings.Join(list, ",\n") + `},"expires":"` + doc.Expires().Format(timeFormat) + `","_type":"Targets"}`
		got, err := ParseUnsignedTargets(Image, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(got.Signed()) != string(doc.Signed()) {
			t.Errorf("%s: the signed bytes differ:\n%s\n%s", name, got.Signed(), doc.Signed())
		}
		for _, n := range names {
			a, _ := got.Target(n)
			if b, _ := doc.Target(n); !a.Equal(b) {
				t.Errorf("%s: %q is %+v, want %+v", name, n, a, b)
			}
		}
		if again := must(NewTargets(got.Config())); string(again.Signed()) != string(doc.Signed()) {
			t.Errorf("%s: built anew it differs", name)
		}
		twice := strings.Replace(text, list[0], list[0]+","+list[len(list)-1]+","+list[0], 1)
		if _, err := ParseUnsignedTargets(Image, []byte(twice)); !errors.Is(err, ErrDuplicate) {
			t.Errorf("%s: a name that repeats: %v", name, err)
		}
	}
}

// TestImageAlone: what the Image repository demands of a custom object is looked at when it is read, whatever its place, and
// is no affair of the Director's.
func TestImageAlone(t *testing.T) {
	w := newWorld()
	for name, custom := range map[string]string{
		"no list":  `{"hardwareIds":"board-a","name":"n","version":"1"}`,
		"no words": `{"hardwareIds":[1],"name":"n","version":"1"}`,
		"a format": `{"hardwareIds":["h"],"targetFormat":"ZIP"}`,
		"a uri":    `{"hardwareIds":["h"],"uri":7}`,
	} {
		_, good := imageTarget(1)
		text := `{"_type":"Targets","expires":"` + soon.Format(timeFormat) + `","targets":{` +
			fmt.Sprintf(`"a":{"custom":%s,"hashes":{"sha256":%q},"length":1},`, good.Custom, good.SHA256) +
			fmt.Sprintf(`"b":{"custom":%s,"hashes":{"sha256":%q},"length":1}`, custom, good.SHA256) + `},"version":1}`
		if _, err := ParseUnsignedTargets(Image, []byte(text)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `"b"`) {
			t.Errorf("%s: %v", name, err)
		}
		c := w.targetsConfig(1)
		good.Custom = []byte(custom)
		c.Targets["b"] = good
		if _, err := NewTargets(c); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, built: %v", name, err)
		}
	}
	text := `{"_type":"Targets","expires":"` + soon.Format(timeFormat) + `","targets":{"a":{"custom":{"ecuIdentifiers":{"s":{"hardwareId":"h"}},"hardwareIds":7},"hashes":{"sha256":"` +
		strings.Repeat("1", 64) + `"},"length":1}},"version":1}`
	if _, err := ParseUnsignedTargets(Director, []byte(text)); err != nil {
		t.Errorf("the director: %v", err)
	}
}

// TestConfigIsItsOwn: whatever a caller does to the bytes it gave, or got, a document stays what it was.
func TestConfigIsItsOwn(t *testing.T) {
	c := newWorld().targetsConfig(3)
	doc := must(NewTargets(c))
	before := string(doc.Signed())
	for _, x := range c.Targets {
		clear(x.Custom)
	}
	if next := must(doc.Next(soon, nil)); string(doc.Signed()) != before || strings.Contains(string(next.Signed()), "\x00") {
		t.Error("the document shares bytes with its configuration")
	}
}

func TestSameButExpiry(t *testing.T) {
	build := func(expires time.Time, custom string) *Targets {
		c := newWorld().targetsConfig(2)
		c.Expires, c.Custom = expires, []byte(custom)
		return must(NewTargets(c))
	}
	date := soon.Format(timeFormat)
	a := build(soon, `{"expires":"`+date+`"}`)
	for _, c := range []struct {
		other *Targets
		want  bool
	}{
		{a, true},
		{build(soon.Add(time.Hour), `{"expires":"`+date+`"}`), true},
		{build(soon.AddDate(5, 0, 0), `{"expires":"`+date+`"}`), true},
		{build(soon, `{"expires":"`+soon.Add(time.Hour).Format(timeFormat)+`"}`), false},
		{build(soon.Add(time.Hour), `{"expires":"`+soon.Add(time.Hour).Format(timeFormat)+`"}`), false},
		{build(soon.Add(time.Hour), `{"expires":"`+strings.Replace(date, "T", "U", 1)+`"}`), false},
	} {
		if got := SameButExpiry(a, c.other); got != c.want {
			t.Errorf("%s\n%s: %v", a.Signed(), c.other.Signed(), got)
		}
	}
}
