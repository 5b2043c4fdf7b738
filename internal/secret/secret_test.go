package secret

import "testing"

func TestSecret(t *testing.T) {
	pin := []byte("sesame")
	s := New(pin)
	if s == nil {
		t.Fatal("this system locks no memory: raise RLIMIT_MEMLOCK")
	}
	if !s.Equal([]byte("sesame")) || s.Equal([]byte("sesamE")) || s.Equal([]byte("sesam")) {
		t.Error("compares wrongly")
	}
	s.Wipe()
	s.Wipe()
	(*Secret)(nil).Wipe()
	(*Secret)(nil).Clear()
	if (*Secret)(nil).Bytes() != nil {
		t.Error("nothing has bytes")
	}
}

// TestOrdinary: what lies in ordinary memory, as where the system locks none, is overwritten all the same.
func TestOrdinary(t *testing.T) {
	for name, s := range map[string]*Secret{"locked": NewUnasked([]byte("sesame")), "ordinary": {page: []byte("sesame"), n: 6, ordinary: true}} {
		b := s.Bytes()
		if string(b) != "sesame" {
			t.Fatalf("%s: %q", name, b)
		}
		if s.Clear(); string(b) != string(make([]byte, 6)) {
			t.Errorf("%s: %q is left", name, b)
		}
		s.Wipe()
	}
}
