package trust_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"format":1,"environment":"test","key_types":["P-256","RSA"],"min_rsa_bits":2048,"require_crl":false}`))
	f.Add([]byte(`{"format":1,"environment":"test","key_types":["P-256","P-256"],"min_rsa_bits":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := trust.ParsePolicy(data)
		if err == nil && (p.Format != 1 || len(p.KeyTypes) == 0 || p.MinRSABits < 2048 || trust.CheckEnvironment(p.Environment) != nil) {
			t.Errorf("accepted %+v", p)
		}
	})
}

// FuzzOpen puts arbitrary bytes in the place of each file in turn: no panic, and no view but that of the true files.
func FuzzOpen(f *testing.F) {
	w := trusttest.New(f)
	w.Import()
	w.AddCRL(1, 5)
	files := trusttest.Snap(f, w.Dir)
	want := w.View().Files()
	names := slices.Sorted(maps.Keys(want))
	for i, name := range names {
		f.Add(uint8(i), files[name])
		if strings.HasSuffix(name, ".json") {
			f.Add(uint8(i), []byte(strings.ReplaceAll(string(files[name]), `{"keyid`, `null,{"keyid`)))
		}
	}
	for _, s := range []string{`{"signed":{"_type":"root","roles":{"root":null}}}`, `{"signatures":[],"signed":{"_type":"timestamp","meta":null}}`, `null`, `[]`} {
		for i := range names {
			f.Add(uint8(i), []byte(s))
		}
	}
	pin, err := trust.ParsePin(w.Pin.String())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		name := names[int(which)%len(names)]
		changed := maps.Clone(files)
		changed[name] = data
		v, err := trust.Open(changed, pin, w.Now)
		if err == nil && string(data) != string(files[name]) {
			t.Errorf("%s: another file is accepted, %+v", name, v.Versions())
		}
		if err == nil && !v.Revoked(w.Issuing.Cert, trusttest.Serial(5)) {
			t.Error("serial 5 is free")
		}
	})
}

// FuzzCRL publishes arbitrary bytes as a CRL: no panic, nothing published but a CRL of a named CA.
func FuzzCRL(f *testing.F) {
	w := trusttest.New(f)
	w.Import()
	p, err := trust.NewPublisher(w.PublisherConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(w.MakeCRL(w.NewCA("Stranger", nil), 1, 5))
	good := w.MakeCRL(w.Issuing, 1, 5, 6)
	for i := 0; i < len(good); i += 11 {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := p.AddCRL(data); err == nil {
			t.Error("published")
		}
	})
}
