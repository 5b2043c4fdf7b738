package peertest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/softhsm"
)

// Server is p11-kit server in front of SoftHSM: a token at the other end of a connection.
type Server struct {
	d      *daemon
	socket string
	// Module is the client's library, through which all tokens of softhsm.ForTest's store are seen.
	Module string
}

// NewServer starts the server. The client reads the socket's place when it is loaded and never again, so it is one for the process.
func NewServer(t testing.TB) *Server {
	t.Helper()
	store := softhsm.ForTest(t)
	module, err := softhsm.Module()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{socket: filepath.Join(filepath.Dir(store.Dir()), "s"), Module: library(t, "pkcs11/p11-kit-client.so")}
	setenv(t, "P11_KIT_SERVER_ADDRESS", "unix:path="+s.socket)
	s.d = &daemon{t: t, argv: []string{"p11-kit", "server", "-f", "-n", s.socket, "--provider", module, "pkcs11:"}, env: store.Env(),
		log: s.socket + ".log", ready: func() bool { return dials("unix", s.socket) }}
	s.d.start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts the server again after Stop.
func (s *Server) Start() { s.d.start() }

// Stop ends the server and the processes that it made for its connections.
func (s *Server) Stop() {
	s.d.stop()
	_ = os.Remove(s.socket)
}

// Halt stops them (SIGSTOP): calls get no answer until Continue.
func (s *Server) Halt() { s.d.signal(syscall.SIGSTOP) }

// Continue lets them go on.
func (s *Server) Continue() { s.d.signal(syscall.SIGCONT) }

// Network is a SoftHSM token behind p11-kit's server and client.
func Network(t testing.TB) *Peer {
	t.Helper()
	b := board(t, "remote")
	s := NewServer(t)
	return &Peer{Name: "p11-kit-client", Title: "p11-kit " + version("p11-kit") + " server and client, SoftHSM behind it", PIN: b.PIN, SOPIN: b.SOPIN,
		Token: hsm.URI{Token: b.Label, Serial: b.Serial, ModulePath: s.Module},
		Cut:   s.Stop, Restore: s.Start, Stop: s.Halt, Continue: s.Continue}
}
