package factory

import (
	"testing"

	"github.com/hanaper/hanaper/internal/strict"
)

func FuzzDecodeEnroll(f *testing.F) {
	for _, s := range []string{`{"csr":"x"}`, `{"csr":"x","hardware_id":"a","lot":"b"}`, `{"csr":"x","CSR":"y"}`, `{"csr":"x","days":1}`, `{"csr":1}`,
		`[]`, `null`, `{"csr":"x"}{}`, `{"csr":"\ud800"}`, ``, `{"csr":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeEnroll(b)
		if err == nil && q.CSR == "" {
			t.Error("a request without csr was taken")
		}
		if err != nil && asFault(err).Status() != 400 {
			t.Errorf("%v is answered %d", err, asFault(err).Status())
		}
	})
}

func FuzzDecodeRevoke(f *testing.F) {
	for _, s := range []string{`{"device_id":"a","reason":"superseded"}`, `{"serial":"01","reason":"key_compromise"}`, `{"device_id":"a","serial":"01","reason":"superseded"}`,
		`{"reason":"superseded"}`, `{"device_id":"a","reason":"x"}`, `{"device_id":"a"}`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeRevoke(b)
		if err != nil {
			return
		}
		if _, bad := reasonCode(q.Reason); bad != nil || (q.DeviceID == "") == (q.Serial == "") {
			t.Errorf("%+v was taken", q)
		}
	})
}

func FuzzDecodeFault(f *testing.F) {
	for _, s := range []string{`{"error":"x","code":"policy"}`, `{"error":"x","code":"?"}`, `<html>`, ``, `{}`} {
		f.Add(503, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		if e := decodeFault(status, b); e.Error() == "" || e.Status() < 400 || e.advise() == nil {
			t.Errorf("%+v", e)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add(Example)
	f.Add([]byte("listen: 1\nlisten: 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := DefaultConfig()
		if strict.Unmarshal("x", b, &c) == nil && c.check("x") == nil && (c.ids == nil || c.key.Object == "" && len(c.key.ID) == 0) {
			t.Errorf("%+v was taken", c)
		}
	})
}
