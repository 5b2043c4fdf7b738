package term

import (
	"strings"
	"testing"
)

func TestScript(t *testing.T) {
	p := Script(strings.NewReader("Yes\n 1234 \nlast"))
	if l, err := p.Line("sure?"); err != nil || l != "Yes" {
		t.Fatalf("%q, %v", l, err)
	}
	if b, err := p.Secret("PIN"); err != nil || string(b) != "1234" {
		t.Fatalf("%q, %v", b, err)
	}
	if l, err := p.Line("x"); err != nil || l != "last" {
		t.Fatalf("%q, %v", l, err)
	}
	if _, err := p.Line("time now"); err == nil || !strings.Contains(err.Error(), "time now") {
		t.Fatalf("want an error that names the prompt, got %v", err)
	}
}

func TestReadLine(t *testing.T) {
	r := strings.NewReader("one\ntwo")
	for _, want := range []string{"one", "two"} {
		if got, err := readLine(r); err != nil || got != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := readLine(r); err == nil {
		t.Error("an ended terminal gave an answer")
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", maxLine+1))); err == nil {
		t.Error("an endless line was taken")
	}
}

func TestProgress(t *testing.T) {
	var b strings.Builder
	p := NewProgress(&b, false)
	p.Step("step %d", 1)
	p.Done("done")
	if b.String() != "step 1\ndone\n" {
		t.Errorf("%q", b.String())
	}
	(*Progress)(nil).Step("silent")
}
