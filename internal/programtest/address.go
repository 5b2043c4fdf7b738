package programtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var addresses struct {
	sync.Mutex
	given map[string]bool
}

// FreeAddress is an address on loopback that nobody listens at, for a program that will, or that comes back to it: none of those that the kernel gives
// meanwhile to whoever asks for any (net.ipv4.ip_local_port_range, from 32768), and each is given once.
func FreeAddress(t testing.TB) string {
	t.Helper()
	addresses.Lock()
	defer addresses.Unlock()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		if addresses.given[address] {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		if addresses.given == nil {
			addresses.given = map[string]bool{}
		}
		addresses.given[address] = true
		return address
	}
	t.Fatal("no port of loopback is free")
	return ""
}
