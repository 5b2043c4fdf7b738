package attest

import (
	"encoding/hex"
	"testing"
)

// FuzzAndroid: no bytes make the reader of key descriptions panic.
func FuzzAndroid(f *testing.F) {
	for _, s := range []string{
		"30320202012c0a01010202012c0a01010405" + "6e6f6e6365" + "0400" + "3000" + "3018a1053103020102bf853e03020100bf854000a2030201030500",
		"3000", "30060201010a0100",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseKeyDescription(data)
		if err != nil {
			return
		}
		_ = d.check(Want{Nonce: []byte("nonce")})
		d.facts(&Verdict{})
	})
}
