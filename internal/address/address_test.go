package address

import (
	"errors"
	"strings"
	"testing"
)

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.255.255.254": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "169.254.1.1": false, "fe80::1": false, "128.0.0.1": false,
		"localhost.example": false, "localhost.": false, "LOCALHOST": false, "127.0.0.1.example": false, "127.1": false, "0177.0.0.1": false,
		"2130706433": false, " 127.0.0.1": false, "[::1]": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for address, want := range map[string]struct{ open, protected error }{
		"127.0.0.1:8443":       {nil, nil},
		"[::1]:0":              {nil, nil},
		"localhost:8443":       {nil, nil},
		":8443":                {ErrReachable, nil},
		"0.0.0.0:8443":         {ErrReachable, nil},
		"[::]:8443":            {ErrReachable, nil},
		"192.0.2.1:8443":       {ErrReachable, nil},
		"gateway.example:8443": {ErrReachable, nil},
		"":                     {ErrForm, ErrForm},
		"127.0.0.1":            {ErrForm, ErrForm},
		"::1:8443":             {ErrForm, ErrForm},
		"127.0.0.1:":           {ErrForm, ErrForm},
		"127.0.0.1:https":      {ErrForm, ErrForm},
		"127.0.0.1:65536":      {ErrForm, ErrForm},
		"127.0.0.1:-1":         {ErrForm, ErrForm},
	} {
		if err := CheckListen(address, false); !errors.Is(err, want.open) {
			t.Errorf("%q: %v, want %v", address, err, want.open)
		}
		if err := CheckListen(address, true); !errors.Is(err, want.protected) {
			t.Errorf("%q, protected: %v, want %v", address, err, want.protected)
		}
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]error{
		"https://trust.example/prod": nil, "https://192.0.2.1:8443": nil, "http://127.0.0.1:8080/a": nil, "http://[::1]:80": nil, "http://localhost": nil,
		"http://trust.example": ErrClear, "http://192.0.2.1": ErrClear, "http://127.0.0.1.example": ErrClear, "http://0.0.0.0": ErrClear,
		"": ErrForm, "trust.example": ErrForm, "ftp://localhost": ErrForm, "https://": ErrForm, "https:///path": ErrForm, "https://user@trust.example": ErrForm,
		"https://user:secret@trust.example": ErrForm, "http://user:secret@trust.example": ErrForm, "ftp://user:secret@trust.example": ErrForm, "https://user:secret@trust.example:port": ErrForm, "https://trust.example?token=secret": ErrForm, "https://trust.example?": ErrForm, "https://trust.example#a": ErrForm,
		"file:///etc/passwd": ErrForm, "https://trust.example:port": ErrForm, "%": ErrForm,
	} {
		u, err := ParseURL(text)
		if !errors.Is(err, want) || (u == nil) != (want != nil) {
			t.Errorf("%q: %v, %v, want %v", text, u, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the password: %v", text, err)
		}
	}
}
