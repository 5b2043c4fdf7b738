package secret

import "testing"

func TestSecret(t *testing.T) {
	pin := []byte("sesame")
	s := New(pin)
	if s == nil {
		t.Skip("this system locks no memory")
	}
	if !s.Equal([]byte("sesame")) || s.Equal([]byte("sesamE")) || s.Equal([]byte("sesam")) {
		t.Error("compares wrongly")
	}
	s.Wipe()
	s.Wipe()
	(*Secret)(nil).Wipe()
}
