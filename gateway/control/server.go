package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/strict"
)

// Config is what a server is made of.
type Config struct {
	Records gateway.Records
	// Health is how the gateway fares, for the pages.
	Health func() gateway.Health
	// Environment refuses the name of an environment that the gateway does not have: an act there would bar nobody. nil takes any.
	Environment func(name string) error
	Log         *slog.Logger
	Now         func() time.Time
}

// Server serves the socket.
type Server struct {
	records gateway.Records
	known   func(environment string) error
	log     *slog.Logger
	now     func() time.Time
	mux     *http.ServeMux
	origin  *http.CrossOriginProtection
	pages   *pages
	// slots bounds what is in work: operators are few.
	slots chan struct{}
}

// New makes a server.
func New(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Environment == nil {
		c.Environment = func(string) error { return nil }
	}
	s := &Server{records: c.Records, known: c.Environment, log: c.Log, now: c.Now, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), slots: make(chan struct{}, 16)}
	s.mux.HandleFunc("GET /v1/devices", s.call(s.devices))
	s.mux.HandleFunc("GET /v1/device", s.call(s.device))
	s.mux.HandleFunc("GET /v1/log", s.call(s.entries))
	s.mux.HandleFunc("GET /v1/counts", s.call(s.counts))
	s.mux.HandleFunc("POST /v1/act", s.call(s.act))
	s.mux.HandleFunc("POST /v1/import", s.call(s.imports))
	var err error
	s.pages, err = newPages(s, c.Health)
	return s, err
}

type whoKey struct{}

// Serve serves a listener on a socket until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: callTime, WriteTimeout: 2 * callTime, MaxHeaderBytes: 32 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, whoKey{}, peer(c))
		},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close()
		}
	})
	defer stop()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// peer is who has opened a connection, as the kernel says; "" if it does not say.
func peer(c net.Conn) string {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return ""
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil || cred == nil {
		return ""
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return "uid " + uid + " (" + u.Username + ")"
	}
	return "uid " + uid
}

// ownHost says that a Host names this machine to itself: a name of somebody else's that was made to lead here is refused.
func ownHost(host string) bool {
	if u, err := url.Parse("http://" + host); err == nil && u.User == nil {
		switch u.Hostname() {
		case "localhost", "127.0.0.1", "::1":
			return true
		}
	}
	return false
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, _ := r.Context().Value(whoKey{}).(string)
	refuse := func(text string) {
		s.log.Warn("control: refused", "who", who, "host", r.Host, "path", r.URL.Path, "why", text)
		send(w, http.StatusForbidden, failure{Code: "forbidden", Error: text})
	}
	switch {
	case who == "":
		refuse("the kernel does not say who asks")
		return
	case !ownHost(r.Host):
		refuse("this is reached as localhost, and under no other name")
		return
	case s.origin.Check(r) != nil:
		refuse("this request came from another site's page")
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		s.mux.ServeHTTP(w, r)
		return
	}
	s.pages.ServeHTTP(w, r)
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// badRequest is a request that is not well formed.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

func (s *Server) call(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if err == nil {
			send(w, http.StatusOK, v)
			return
		}
		status, f := failureOf(err)
		var wrong badRequest
		if errors.As(err, &wrong) {
			status, f = http.StatusBadRequest, failure{Code: "request", Error: err.Error()}
		}
		send(w, status, f)
	}
}

// body reads a JSON body. Its media type is one that a browser sends to another site only after it has asked, which nobody here allows.
func body(r *http.Request, v any) error {
	if r.Header.Get("Content-Type") != "application/json" {
		return bad("the body is to be application/json")
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return bad("the body cannot be read: %w", err)
	}
	if err := strict.JSON("request", data, v); err != nil {
		return bad("%w", err)
	}
	return nil
}

func number(q url.Values, name string, least, most, other int64) (int64, error) {
	if q.Get(name) == "" {
		return other, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || n < least || n > most {
		return 0, bad("%s is no number from %d to %d", name, least, most)
	}
	return n, nil
}

func (s *Server) devices(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := number(q, "limit", 1, maxPage, 1000)
	if err != nil {
		return nil, err
	}
	list, err := s.records.Devices(r.Context(), gateway.Filter{Environment: q.Get("environment"), State: gateway.State(q.Get("state")), Flag: q.Get("flag"), Prefix: q.Get("prefix"),
		AfterEnvironment: q.Get("after_environment"), After: q.Get("after"), Limit: int(limit)})
	return map[string]any{"devices": list}, err
}

func (s *Server) device(r *http.Request) (any, error) {
	return s.records.Device(r.Context(), r.URL.Query().Get("environment"), r.URL.Query().Get("device_id"))
}

func (s *Server) entries(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := number(q, "limit", 1, maxPage, 1000)
	if err != nil {
		return nil, err
	}
	after, err := number(q, "after", 0, 1<<62, 0)
	if err != nil {
		return nil, err
	}
	list, err := s.records.Log(r.Context(), gateway.LogFilter{After: after, Newest: q.Get("newest") == "true", Environment: q.Get("environment"), Device: q.Get("device_id"), Limit: int(limit)})
	return map[string]any{"entries": list}, err
}

func (s *Server) counts(r *http.Request) (any, error) {
	list, err := s.records.Counts(r.Context())
	return map[string]any{"counts": list}, err
}

func (s *Server) by(r *http.Request, why string) gateway.By {
	who, _ := r.Context().Value(whoKey{}).(string)
	return gateway.By{Who: who, Why: why, At: s.now()}
}

func (s *Server) act(r *http.Request) (any, error) {
	var q actRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	a := gateway.Act{Verb: q.Verb, Environment: q.Environment, Device: q.Device, Text: q.Text, By: s.by(r, q.Why)}
	if err := errors.Join(a.Check(), s.known(a.Environment)); err != nil {
		return nil, bad("%w", err)
	}
	if err := s.do(r.Context(), a); err != nil {
		return nil, err
	}
	return map[string]string{"done": string(a.Verb)}, nil
}

// do does an act, and tells of it.
func (s *Server) do(ctx context.Context, a gateway.Act) error {
	err := s.records.Do(ctx, a)
	if err != nil {
		s.log.Warn("act: not done", "act", string(a.Verb), "environment", a.Environment, "device", a.Device, "who", a.Who, "why", err)
	} else {
		s.log.Info("act", "act", string(a.Verb), "environment", a.Environment, "device", a.Device, "who", a.Who, "why", a.Why)
	}
	return err
}

func (s *Server) imports(r *http.Request) (any, error) {
	var q importRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	list := make([]gateway.Registration, len(q.Devices))
	for i, one := range q.Devices {
		var err error
		if list[i], err = one.parse(); err == nil {
			err = s.known(list[i].Environment)
		}
		if err != nil {
			return nil, bad("device %d: %w", i+1, err)
		}
	}
	by := s.by(r, q.Why)
	if err := gateway.CheckImport(list, by); err != nil {
		return nil, bad("%w", err)
	}
	if err := s.records.Import(r.Context(), list, by); err != nil {
		return nil, err
	}
	s.log.Info("act", "act", string(gateway.Imported), "devices", len(list), "who", by.Who, "why", by.Why)
	return map[string]int{"imported": len(list)}, nil
}
