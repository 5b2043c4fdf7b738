package advice

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestAdvice(t *testing.T) {
	inner := New(Refused, "ask the officers", "not allowed: %w", fs.ErrPermission)
	outer := fmt.Errorf("token %q: %w", "root", inner)
	if KindOf(outer) != Refused || Hint(outer) != "ask the officers" || !errors.Is(outer, fs.ErrPermission) {
		t.Errorf("got kind %v, hint %q", KindOf(outer), Hint(outer))
	}
	if got := Wrap(Unverified, outer, ""); KindOf(got) != Unverified || Hint(got) != "ask the officers" || got.Error() != outer.Error() {
		t.Errorf("wrap: kind %v, hint %q, %v", KindOf(got), Hint(got), got)
	}
	if Wrap(Failed, nil, "x") != nil {
		t.Error("a nil error did not stay nil")
	}
	if KindOf(errors.New("x")) != Failed || Hint(errors.New("x")) != "" {
		t.Error("a plain error has a kind or a hint of its own")
	}
}
