package factory

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory/est"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// api maps HTTP to the service; nothing is decided here but who may call what.
type api struct {
	service *Service
	callers *Callers
	log     *slog.Logger
	// slots bounds the requests in work, enrolling those of them that wait for a token: revocations and questions find a slot also
	// while it hangs.
	slots, enrolling chan struct{}
	// batching bounds the lines of all batches in work.
	batching chan struct{}
}

// answer is what a handler gives back: JSON of body, or raw bytes of a type.
type answer struct {
	status int
	body   any
	raw    []byte
	kind   string
	// tag names what raw is, so that who has it already is told so; empty for what is not asked for again and again.
	tag string
}

// NewHandler serves the JSON API (docs/spec/factory-api.md). The connection must come from a server configured by
// Callers.TLS.
func NewHandler(s *Service, c *Callers, concurrent int) http.Handler {
	a := &api{service: s, callers: c, log: s.c.Log, slots: make(chan struct{}, concurrent), enrolling: make(chan struct{}, max(1, concurrent-max(1, concurrent/4)))}
	a.batching = make(chan struct{}, max(1, cap(a.enrolling)/2))
	mux := http.NewServeMux()
	station, operator := []string{ca.RoleStation}, []string{ca.RoleOperator}
	both := []string{ca.RoleStation, ca.RoleOperator}
	// A viewer sees what an operator sees; what is published anyhow, a publisher sees too.
	sees := append(both, ca.RoleViewer)
	// Whom a stolen gateway would let ask must be able to ask little: it is none of all.
	all := append(sees[:len(sees):len(sees)], ca.RolePublisher)
	mux.Handle(enrollPath, a.route(http.MethodPost, station, maxEnrollBody, a.enroll))
	mux.HandleFunc(batchPath, a.enrollBatch)
	mux.Handle("/v1/revoke", a.route(http.MethodPost, operator, maxRevokeBody, a.revoke))
	mux.Handle("/v1/crl", a.route(http.MethodGet, all, 0, a.crl))
	mux.Handle("/v1/crl/{issuer}", a.route(http.MethodGet, all, 0, a.crl))
	mux.Handle("/v1/issuers", a.route(http.MethodGet, all, 0, a.issuers))
	mux.Handle("/v1/cacerts", a.route(http.MethodGet, all, 0, a.cacerts))
	mux.Handle("/v1/devices/{id}", a.route(http.MethodGet, sees, 0, a.device))
	mux.Handle("/v1/devices/{id}/evidence", a.route(http.MethodGet, sees, 0, a.evidence))
	mux.Handle("/v1/attestation/challenge", a.route(http.MethodPost, station, maxEnrollBody, a.challenge))
	mux.Handle("/v1/known", a.route(http.MethodPost, both, maxTakeInBody, a.takeIn))
	a.handleLots(mux, operator, sees)
	mux.Handle("/v1/store", a.route(http.MethodGet, sees, 0, a.storeState))
	mux.Handle("/v1/store/accept", a.route(http.MethodPost, operator, maxRevokeBody, a.accept))
	mux.Handle("/v1/log/latest", a.route(http.MethodGet, all, 0, a.logLatest))
	mux.Handle("/v1/log/seen", a.route(http.MethodPost, append(both, ca.RolePublisher), maxReport, a.logSeen))
	mux.Handle("/v1/log/", a.route(http.MethodGet, all, 0, a.logFile))
	mux.Handle("/v1/store/clock", a.route(http.MethodPost, operator, maxRevokeBody, a.acceptClock))
	mux.Handle("/v1/shared/credentials", a.route(http.MethodPost, operator, maxActBody, a.issueShared))
	mux.Handle(SharedDevicesPath, a.route(http.MethodPost, []string{ca.RoleGateway}, maxActBody, a.enrollBench))
	mux.Handle("/v1/renewal/seen", a.route(http.MethodPost, []string{ca.RoleGateway}, maxTakeInBody, a.seen))
	mux.Handle("/healthz", a.route(http.MethodGet, all, 0, a.health))
	mux.Handle("/readyz", a.route(http.MethodGet, all, 0, a.health))
	mux.Handle("/livez", a.route(http.MethodGet, all, 0, a.live))
	mux.Handle("/metrics", a.route(http.MethodGet, all, 0, a.metrics))
	mux.Handle("/", a.route("", all, 0, func(context.Context, Caller, []byte, *http.Request) (*answer, error) {
		return nil, fault(CodeNotFound, "see docs/spec/factory-api.md", "no such path")
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// EST reads its paths itself: a multiplexer would resolve dots in them, and answer with a redirection.
		if est.Under(r.URL.EscapedPath()) {
			a.est(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// enrollPath is the one call that waits for a signature.
const enrollPath = "/v1/enroll"

// handler answers a request whose body, if its route takes one, has been read.
type handler func(ctx context.Context, who Caller, body []byte, r *http.Request) (*answer, error)

// route wraps a handler in all that is common: who may call, how long a JSON body may be (0: there is none), how many at
// once, for how long, and the one place where errors become HTTP.
func (a *api) route(method string, roles []string, limit int64, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		var ans *answer
		who, err := a.admit(method, roles, r)
		if err == nil {
			ans, err = a.work(ctx, who, limit, h, w, r)
		}
		if err != nil {
			ans = a.refuse(w, r, who, method, err)
		}
		write(w, ans)
		a.service.tally.answered(r.Pattern, ans.status)
	})
}

// work reads the body first and takes a slot then: a caller who sends slowly, or never ends, holds up only himself.
func (a *api) work(ctx context.Context, who Caller, limit int64, h handler, w http.ResponseWriter, r *http.Request) (*answer, error) {
	var body []byte
	if limit > 0 {
		var err error
		if body, err = readBody(w, r, "application/json", limit); err != nil {
			return nil, err
		}
	}
	free, err := a.slot(ctx, r.URL.Path == enrollPath)
	if err != nil {
		return nil, err
	}
	defer free()
	return h(ctx, who, body, r)
}

// slot waits for a slot, for enrolments one that may wait for a token, and gives what frees it.
func (a *api) slot(ctx context.Context, enrols bool) (free func(), err error) {
	a.service.tally.waiting.Add(1)
	defer a.service.tally.waiting.Add(-1)
	if enrols {
		select {
		case a.enrolling <- struct{}{}:
		case <-ctx.Done():
			return nil, away("hanaperd", errors.New("all slots for enrolment are in use"))
		}
	}
	leave := func() {
		if enrols {
			<-a.enrolling
		}
	}
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, away("hanaperd", errors.New("all slots are in use"))
	}
}

func (a *api) admit(method string, roles []string, r *http.Request) (Caller, error) {
	who, err := a.callers.Of(r.TLS)
	if err != nil {
		return who, err
	}
	allowed := false
	for _, role := range roles {
		allowed = allowed || role == who.Role
	}
	if !allowed {
		return who, fault(CodeForbidden, "", "%s may not call %s", who, show.Text(r.URL.Path))
	}
	if method != "" && r.Method != method {
		return who, fault(CodeMethod, "use "+method, "%.20q is not a method of %s", r.Method, show.Text(r.URL.Path))
	}
	return who, nil
}

// refuse turns an error into an answer: status, code, hint, and Retry-After where trying again may help.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, who Caller, method string, err error) *answer {
	f := a.refused(w, r, who, method, err)
	return &answer{status: f.Status(), body: refusal{Error: f.Text, Hint: f.Hint, Code: f.Code}}
}

// refused logs a refusal, and sets the headers that go with it.
func (a *api) refused(w http.ResponseWriter, r *http.Request, who Caller, method string, err error) *Fault {
	f := asFault(err)
	if f.Code == CodeMethod {
		w.Header().Set("Allow", method) // RFC 9110, section 15.5.6
	}
	a.logRefusal(r.Context(), r, who, f)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	return f
}

func (a *api) logRefusal(ctx context.Context, r *http.Request, who Caller, f *Fault) {
	level, what := slog.LevelWarn, "refused"
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		// Whatever failed, failed because nobody waits any more: neither token nor store is to blame.
		level, what = slog.LevelInfo, "the caller hung up before the answer"
	case f.Status() >= 500:
		level = slog.LevelError
	}
	// A question that has no answer is no refusal, except to who may not ask.
	if !f.told && (r.Method != http.MethodGet || f.Code == CodeForbidden) {
		a.service.tally.refused(Refusal{At: a.service.c.Now(), Caller: who.String(), What: show.Text(r.URL.Path)}, f)
	}
	a.log.Log(ctx, level, what, "caller", who.String(), "path", r.URL.Path, "code", string(f.Code), "error", f.Error())
}

func write(w http.ResponseWriter, a *answer) {
	if a.body != nil {
		var err error
		if a.raw, err = json.Marshal(a.body); err != nil {
			a.status, a.raw = http.StatusInternalServerError, []byte(`{"error":"internal error","code":"internal"}`)
		}
		a.raw, a.kind = append(a.raw, '\n'), "application/json"
	}
	h := w.Header()
	if a.tag != "" {
		h.Set("ETag", a.tag)
	}
	if a.status != http.StatusNotModified {
		h.Set("Content-Type", a.kind)
		h.Set("Content-Length", strconv.Itoa(len(a.raw)))
	}
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.raw)
}

// checkType refuses a body of another media type, whatever its parameters, and a compressed one.
func checkType(r *http.Request, want string) error {
	if kinds := r.Header.Values("Content-Type"); len(kinds) > 1 {
		return fault(CodeContent, "send "+want, "Content-Type is said %d times", len(kinds))
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != want {
		return fault(CodeContent, "send "+want, "Content-Type is %.60q", r.Header.Get("Content-Type"))
	}
	if r.Header.Get("Content-Encoding") != "" {
		return fault(CodeContent, "send it uncompressed", "Content-Encoding is %.60q", r.Header.Get("Content-Encoding"))
	}
	return nil
}

// readBody reads a bounded body of this media type.
func readBody(w http.ResponseWriter, r *http.Request, kind string, limit int64) ([]byte, error) {
	if err := checkType(r, kind); err != nil {
		return nil, err
	}
	size := r.ContentLength
	if size > limit {
		return nil, fault(CodeTooLarge, "", "body is longer than %d bytes", limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, fault(CodeTooLarge, "", "body is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, &Fault{Code: CodeRequest, Text: "body could not be read", cause: err}
	}
	return body, nil
}

func (a *api) enroll(ctx context.Context, who Caller, body []byte, r *http.Request) (*answer, error) {
	q, err := decodeEnroll(body)
	if err != nil {
		return nil, err
	}
	ans, isNew, err := a.service.Enroll(ctx, who.Name, q)
	if err != nil {
		return nil, err
	}
	ans.Log = a.logAnswer(ctx, r)
	if isNew {
		return &answer{status: http.StatusCreated, body: ans}, nil
	}
	return &answer{status: http.StatusOK, body: ans}, nil
}

func (a *api) revoke(ctx context.Context, who Caller, body []byte, r *http.Request) (*answer, error) {
	q, err := decodeRevoke(body)
	if err != nil {
		return nil, err
	}
	ans, err := a.service.Revoke(ctx, who.Name, q)
	if err != nil {
		return nil, err
	}
	ans.Log = a.logAnswer(ctx, r)
	return &answer{status: http.StatusOK, body: ans}, nil
}

func (a *api) takeIn(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	q, err := decodeTakeIn(body)
	if err != nil {
		return nil, err
	}
	ans, err := a.service.TakeIn(ctx, who.String(), q.Certificates)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) seen(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	var q SeenRequest
	if err := strict.JSON("body", body, &q); err != nil {
		return nil, fault(CodeRequest, `send {"certificates": "..."}`, "%v", err)
	}
	ans, err := a.service.Seen(ctx, who.Name, q.Certificates)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) issueShared(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	var q SharedRequest
	if err := strict.JSON("body", body, &q); err != nil {
		return nil, fault(CodeRequest, `send {"lot": "...", "days": N}`, "%v", err)
	}
	ans, err := a.service.IssueShared(ctx, who.Name, q)
	return &answer{status: http.StatusCreated, body: ans}, err
}

func (a *api) enrollBench(ctx context.Context, who Caller, body []byte, r *http.Request) (*answer, error) {
	cert, err := clientCert(r.Header)
	if err != nil {
		return nil, err
	}
	q, err := decodeBench(body)
	if err != nil {
		return nil, err
	}
	p12, err := a.service.EnrollBench(ctx, who.Name, cert, q)
	return &answer{status: http.StatusCreated, raw: p12, kind: "application/x-pkcs12"}, err
}

func (a *api) storeState(ctx context.Context, _ Caller, _ []byte, _ *http.Request) (*answer, error) {
	ans, err := a.service.StoreState(ctx)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) accept(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	q, err := decodeAccept(body)
	if err != nil {
		return nil, err
	}
	ans, err := a.service.Accept(ctx, who.Name, q.Note)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) crl(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	c, err := a.service.LatestCRL(ctx, r.PathValue("issuer"))
	if err != nil {
		return nil, err
	}
	ans := &answer{status: http.StatusOK, raw: c.DER, kind: "application/pkix-crl", tag: fmt.Sprintf(`"%x"`, sha256.Sum256(c.DER))}
	if r.Header.Get("If-None-Match") == ans.tag {
		ans.status, ans.raw = http.StatusNotModified, nil
	}
	return ans, nil
}

func (a *api) issuers(ctx context.Context, _ Caller, _ []byte, _ *http.Request) (*answer, error) {
	return &answer{status: http.StatusOK, body: a.service.Issuers(ctx)}, nil
}

func (a *api) cacerts(context.Context, Caller, []byte, *http.Request) (*answer, error) {
	return &answer{status: http.StatusOK, raw: a.service.CACertificates(), kind: "application/x-pem-file"}, nil
}

func (a *api) device(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	ans, err := a.service.Device(ctx, r.PathValue("id"))
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) evidence(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	kept, err := a.service.Evidence(ctx, r.PathValue("id"))
	return &answer{status: http.StatusOK, raw: kept, kind: "application/json"}, err
}

func (a *api) challenge(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	q, err := decodeChallenge(body)
	if err != nil {
		return nil, err
	}
	ans, err := a.service.Challenge(ctx, who.Name, q)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) acceptClock(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	q, err := decodeAccept(body)
	if err != nil {
		return nil, err
	}
	ans, err := a.service.AcceptClock(ctx, who.Name, q.Note)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) live(context.Context, Caller, []byte, *http.Request) (*answer, error) {
	return &answer{status: http.StatusOK, body: a.service.Live()}, nil
}

func (a *api) metrics(ctx context.Context, _ Caller, _ []byte, _ *http.Request) (*answer, error) {
	raw := a.service.metrics(ctx, load{inWork: len(a.slots), limit: cap(a.slots)})
	return &answer{status: http.StatusOK, raw: raw, kind: "text/plain; version=0.0.4; charset=utf-8"}, nil
}

func (a *api) health(ctx context.Context, _ Caller, _ []byte, _ *http.Request) (*answer, error) {
	h := a.service.Health(ctx)
	status := http.StatusOK
	if h.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	return &answer{status: status, body: h}, nil
}
