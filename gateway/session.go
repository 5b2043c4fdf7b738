package gateway

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// session is one connection of one device. It comes to be when the connection is accepted, and is bound to a certificate
// when the handshake is done and the key proven.
type session struct {
	conn net.Conn
	// env is the environment that the connection is for, sni the server name that it calls; key is what the device is counted by.
	env    *environment
	sni    string
	key    string
	chain  []*x509.Certificate
	device string
	// keySum is the SHA-256 of the SubjectPublicKeyInfo whose key was proven, metKey the same from when the registry has met the device with it.
	keySum, metKey [32]byte
	mark           Mark
	// judgedBy and until say what the last good check rested on, and how long it holds.
	judgedBy atomic.Pointer[cachedJudge]
	until    time.Time
	gone     bool
	mu       sync.Mutex
	// spoken is who the device is to upstreams, as the last check had it.
	spoken atomic.Pointer[spokenIdentity]
	// counted is the device among whose connections this one is; guarded by sessions.mu.
	counted string
	// met is whether the registry knows; its own lock, for a slow disk must not hold up a sweep.
	met    bool
	meetMu sync.Mutex
	// crowded: the device has too many connections, and is told so at this one's first request.
	crowded atomic.Bool
}

// claimed is the device id in the certificate whose key was proven.
func (s *session) claimed() string { return claimedName(s.chain[0]) }

type sessionKey struct{}

// sessions are the open connections.
type sessions struct {
	mu   sync.Mutex
	open map[net.Conn]*session
	// perDevice counts the connections of each device, from the handshake on.
	perDevice map[string]int
}

func (s *sessions) add(c net.Conn, e *environment) *session {
	one := &session{conn: c, env: e}
	s.mu.Lock()
	s.open[c] = one
	s.mu.Unlock()
	return one
}

func (s *sessions) get(c net.Conn) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[c]
}

func (s *sessions) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one := s.open[c]; one != nil && one.counted != "" {
		if s.perDevice[one.counted]--; s.perDevice[one.counted] == 0 {
			delete(s.perDevice, one.counted)
		}
	}
	delete(s.open, c)
}

// count takes one in among the connections of its device, of which there may be most.
func (s *sessions) count(one *session, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.counted != "" {
		return true
	}
	// A connection that ended meanwhile is not counted: remove has been here, and nothing would take it off again.
	if s.perDevice[one.key] >= most || s.open[one.conn] != one {
		return false
	}
	one.counted = one.key
	s.perDevice[one.key]++
	return true
}

func (s *sessions) all() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*session, 0, len(s.open))
	for _, one := range s.open {
		list = append(list, one)
	}
	return list
}

// connState follows a connection: StateActive comes after the handshake, whose CertificateVerify has proven the key.
func (g *Gateway) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		if s := g.sessions.get(c); s != nil {
			s.bind(g, c)
		}
	case http.StateClosed, http.StateHijacked:
		g.sessions.remove(c)
		g.figures.connections.Add(-1)
	case http.StateNew:
		g.figures.connections.Add(1)
	}
}

func (s *session) bind(g *Gateway, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chain != nil {
		return
	}
	t, ok := c.(*tls.Conn)
	if !ok {
		return
	}
	state := t.ConnectionState()
	if !state.HandshakeComplete {
		return
	}
	s.sni, s.key = state.ServerName, s.env.key(claimedName(state.PeerCertificates[0]))
	s.chain = state.PeerCertificates // as proven in this handshake, or, for a resumed session, in the one that it resumes
	s.keySum = sha256.Sum256(s.chain[0].RawSubjectPublicKeyInfo)
	g.figures.handshakes.Add(1)
	if state.DidResume {
		g.figures.resumed.Add(1)
	}
}

// check decides anew where the trust has changed or the last decision has run out, and asks the registry's memory in any
// case.
func (s *session) check(g *Gateway) Decision {
	current, now := s.env.judge.Load(), g.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := Decision{Reason: Admitted, Device: s.device, Mark: s.mark, Until: s.until}
	if s.judgedBy.Load() != current || !now.Before(s.until) || current == nil || current.judge.view.Valid(now) != nil {
		if e, reason := g.served.Load().find(s.sni); e != s.env {
			return Decision{Reason: or(reason, OtherServerName), Detail: s.sni, Device: s.claimed()}
		}
		if d = current.admit(s.chain, now); !d.Admitted() {
			return d
		}
		s.device, s.mark, s.until = d.Device, d.Mark, d.Until
		s.judgedBy.Store(current)
	}
	return s.env.unlessBarred(d, s.metKey)
}

// meeting is what the registry is told about the session's device.
func (s *session) meeting(device string, now time.Time) Meeting {
	leaf := s.chain[0]
	n, _ := generation(leaf) // checkLeaf has read it
	return Meeting{Environment: s.env.name, TestBench: markOf(leaf) == TestBench, RegisteredOnly: s.env.registeredOnly || s.env.judge.Load().judge.policy.RegisteredOnly, Device: device, Generation: n, Certificate: sha256.Sum256(leaf.Raw), Key: s.keySum,
		Serial: serialText(leaf), Issuer: leaf.Issuer.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, At: now}
}

func (g *Gateway) sweepAll() {
	for _, e := range g.environments {
		g.sweep(e)
	}
}

// sweep judges all open connections to e anew and closes those whose device lost admission, whatever they are doing.
func (g *Gateway) sweep(e *environment) {
	for _, s := range g.sessions.all() {
		if s.env != e {
			continue
		}
		s.mu.Lock()
		// Not bound yet: its first request is judged by the new trust when it comes.
		bound, gone := s.chain != nil, s.gone
		s.mu.Unlock()
		if !bound || gone {
			continue
		}
		if d := s.check(g); !d.Admitted() {
			g.dismiss(s, d)
		}
	}
}

// dismissOthers closes the connections that a device, which is counted by own, has by another key than this one.
func (g *Gateway) dismissOthers(own, device string, key []byte) {
	for _, s := range g.sessions.all() {
		s.mu.Lock()
		other := s.chain != nil && s.key == own && !bytes.Equal(s.chain[0].RawSubjectPublicKeyInfo, key)
		s.mu.Unlock()
		if other {
			g.dismiss(s, Decision{Reason: KeySuperseded, Device: device})
		}
	}
}

// dismiss closes the connection of a device that lost admission.
func (g *Gateway) dismiss(s *session, d Decision) {
	s.mu.Lock()
	gone := s.gone
	s.gone = true
	s.mu.Unlock()
	if gone {
		return
	}
	g.figures.closed.Add(1)
	g.figures.refusedRequest[d.Reason].Add(1)
	g.refusals.tell(d, s.chain, s.conn.RemoteAddr().String(), true)
	// Closing a tls.Conn waits for a writer that a dead peer holds up; the connection below it does not.
	if t, ok := s.conn.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	s.conn.Close()
}
