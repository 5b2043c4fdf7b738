// Package address says what network addresses in configurations reach: this machine alone, or others too.
//
// It looks nothing up, so that an attacker who controls name resolution changes none of its answers. The one name that
// counts as this machine is "localhost"; an attacker who can change what that resolves to has the machine already.
package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

var (
	// ErrForm means text that is no address of the form that is asked for.
	ErrForm = errors.New("not an address")
	// ErrReachable means that other machines can reach an address which has no protection of its own.
	ErrReachable = errors.New("not a loopback address")
	// ErrClear means http to another machine: what is sent can be read and changed on the way.
	ErrClear = errors.New("http to another machine")
)

// Loopback reports whether a host, without a port, is this machine alone.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// CheckListen refuses what is no host:port, and, unless what listens there is protected (by TLS, for instance), an address
// that other machines can reach. An empty host is every address of the machine.
func CheckListen(address string, protected bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q: write host:port", ErrForm, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%w: %q: the port is a number up to 65535", ErrForm, address)
	}
	if !protected && !Loopback(host) {
		return fmt.Errorf("%q is %w", address, ErrReachable)
	}
	return nil
}

// ParseURL reads the URL of a server: https, or http to this machine, and no user, query or fragment. Its errors show no
// password, and nothing of a query.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: it is no plain URL, such as https://host/path", ErrForm)
	}
	shown := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%w: %q has the scheme %q, not https or http", ErrForm, shown, u.Scheme)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%w: %q is no plain URL: it has a user, a query or a fragment", ErrForm, shown)
	case u.Scheme == "http" && !Loopback(u.Hostname()):
		return nil, fmt.Errorf("%q is %w, not https", shown, ErrClear)
	}
	return u, nil
}
