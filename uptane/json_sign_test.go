package uptane

import (
	"errors"
	"testing"
)

func TestSignJSON(t *testing.T) {
	w := newWorld()
	out := must(SignJSON([]byte(`{"b": 1, "a": "x\n"}`), w.rootA, w.rootB))
	if body := must(VerifyJSON(out, key(t, w.rootA), key(t, w.rootB))); string(body) != `{"a":"x\n","b":1}` {
		t.Errorf("%s", body)
	}
	if _, err := VerifyJSON(out, key(t, w.rootC)); !errors.Is(err, ErrThreshold) {
		t.Error(err)
	}
	if _, err := VerifyJSON(out); !errors.Is(err, ErrThreshold) {
		t.Error(err)
	}
	for i := range out {
		bad := append([]byte{}, out...)
		bad[i] ^= 1
		if _, err := VerifyJSON(bad, key(t, w.rootA), key(t, w.rootB)); err == nil {
			t.Fatalf("byte %d changed unnoticed", i)
		}
	}
	for name, data := range map[string]string{"no root": `{"_type":"Root"}`, "float": `{"a":1.5}`, "no JSON": `{`, "a fraction of a second": `{"_type":"Timestamp","version":1,"expires":"2026-01-01T00:00:00.1Z"}`} {
		if out, err := SignJSON([]byte(data), w.rootA); err == nil || out != nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := SignJSON([]byte(`{}`), w.rootA, w.rootA); !errors.Is(err, ErrRepeatedKey) {
		t.Error(err)
	}
	if _, err := SignJSON([]byte(`{}`)); err == nil {
		t.Error("signed by nobody")
	}
	if out, err := SignJSON(must(NewRoot(w.rootConfig(t))).Signed(), w.rootA); err != nil || out == nil {
		t.Error(err)
	}
}
