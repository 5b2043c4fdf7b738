package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestOneBadFile: a file that cannot be read, or a CRL that is refused, keeps no other CRL from being published.
func TestOneBadFile(t *testing.T) {
	s := &source{handed: map[string][32]byte{}, read: func(context.Context) (map[string][]byte, error) {
		return map[string][]byte{"a.crl": []byte("a"), "b.crl": []byte("b"), "c.crl": []byte("c")}, errors.New("d.crl: permission denied")
	}}
	var taken []string
	add := func(data []byte) error {
		taken = append(taken, string(data))
		if string(data) == "b" {
			return errors.New("is no CRL")
		}
		return nil
	}
	for range 2 {
		if err := s.take(context.Background(), add); err == nil || !strings.Contains(err.Error(), "b.crl: is no CRL") || !strings.Contains(err.Error(), "d.crl") {
			t.Error(err)
		}
	}
	if strings.Join(taken, "") != "abcb" {
		t.Errorf("handed over: %v", taken)
	}
}
