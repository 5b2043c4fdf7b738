package strict

import (
	"encoding/json"
	"testing"
)

// slowly is uniqueKeys without the short way.
func slowly(data []byte) error {
	// A list around it is never flat.
	return uniqueKeys(append(append([]byte{'['}, data...), ']'))
}

var flatCases = []struct {
	text string
	flat bool
}{
	{`{"csr": "-----BEGIN\n\"x\\", "lot": "a", "n": -1.5E+3, "b": true, "z": null}`, true},
	{` {"a":1} `, true},
	{`{}`, false}, {`{"a":1}x`, false}, {`{"a":1}{"b":2}`, false}, {`{"a":1,}`, false}, {`[]`, false}, {``, false}, {`{"a"`, false}, {`{"a":`, false}, {`{"a":"`, false}, {`{"a":"\`, false},
	{`{"a":1,"a":2}`, false}, {`{"lot":1,"LOT":2}`, false}, {`{"a":1,"\u0061":2}`, false}, {"{\"s\":1,\"\u017f\":2}", false},
	{`{"a":{"b":1,"b":2}}`, false}, {`{"a":[]}`, false}, {`{"a":{}}`, false}, {`{"a" "b"}`, false}, {`{"a":"}","b":"{"}`, true},
}

// TestFlat: the short way takes plain objects, and nothing that is repeated, nested or followed.
func TestFlat(t *testing.T) {
	for _, c := range flatCases {
		if got := flat([]byte(c.text)); got != c.flat {
			t.Errorf("%s: %v", c.text, got)
		}
	}
}

// FuzzFlat: whatever the short way takes, and encoding/json reads, the tokens take too.
func FuzzFlat(f *testing.F) {
	for _, c := range flatCases {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if flat(data) && json.Valid(data) {
			if err := slowly(data); err != nil {
				t.Errorf("%q: %v", data, err)
			}
		}
		// What is no JSON as a whole is refused on either way, for trailing data too.
		var v map[string]any
		if JSON("x", data, &v) == nil && !json.Valid(data) {
			t.Errorf("%q was taken", data)
		}
	})
}
