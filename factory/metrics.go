package factory

import (
	"context"
	"maps"
	"runtime"
	"strconv"
	"time"
)

// load is how much a server has to do.
type load struct{ inWork, limit int }

// metrics are what Prometheus reads: what Health says, and what was counted since this process began. docs/spec/metrics.md names each.
func (s *Service) metrics(ctx context.Context, l load) []byte {
	e := &exposition{}
	h := s.Health(ctx)
	now := s.clock.best()
	e.family("hanaperd_build_info", "gauge", "1, labelled with the version of hanaperd and of Go.")
	e.sample(1, "version", s.c.Version, "go_version", runtime.Version())
	e.family("process_start_time_seconds", "gauge", "When this process began, in seconds since 1970.")
	e.sample(seconds(processStart))
	h.metrics(e, now)
	s.writeCounts(e)
	e.family("hanaperd_requests_in_work", "gauge", "Requests that are being worked on.")
	e.sample(float64(l.inWork))
	e.family("hanaperd_requests_limit", "gauge", "Requests that may be in work at once (limits.concurrent).")
	e.sample(float64(l.limit))
	e.family("hanaperd_requests_waiting", "gauge", "Requests that were read and wait for their turn.")
	e.sample(float64(s.tally.waiting.Load()))
	s.writeIssuers(e, now)
	s.writeLots(ctx, e)
	s.writeLog(ctx, e)
	return []byte(e.b.String())
}

func (h *Health) metrics(e *exposition, now time.Time) {
	e.family("hanaperd_up", "gauge", "1 for each part that is well: service, token, store, clock, log (where one is kept).")
	parts := [][2]string{{"service", h.Status}, {"token", h.Token}, {"store", h.Store}, {"clock", h.Clock}}
	if h.Log != "" {
		parts = append(parts, [2]string{"log", h.Log})
	}
	for _, p := range parts {
		well := 0.0
		if p[1] == "ok" {
			well = 1
		}
		e.sample(well, "part", p[0])
	}
	e.family("hanaperd_expiry_seconds", "gauge", "Seconds until something ends; negative once it has.")
	for _, x := range h.Expiries {
		e.sample(float64(int64(x.At.Sub(now)/time.Second)), "what", x.Name)
	}
	e.family("hanaperd_expiry_timestamp_seconds", "gauge", "When something ends, in seconds since 1970.")
	for _, x := range h.Expiries {
		e.sample(seconds(x.At), "what", x.Name)
	}
	e.family("hanaperd_crl_number", "gauge", "Number of the latest revocation list.")
	e.sample(float64(h.CRLNumber))
}

// writeCounts writes what was counted of requests.
func (s *Service) writeCounts(e *exposition) {
	t := &s.tally
	t.mu.Lock()
	enrolments, renewals, benches, refusals, requests := maps.Clone(t.enrolments), maps.Clone(t.renewals), maps.Clone(t.benches), map[Code]uint64{}, maps.Clone(t.requests)
	for code, c := range t.refusals {
		refusals[code] = c.Count
	}
	t.mu.Unlock()
	// Codes that did not come yet stand at 0: a rate needs a beginning.
	if enrolments == nil {
		enrolments = map[string]uint64{}
	}
	for _, result := range []string{resultNew, resultKnown, resultHungUp} {
		enrolments[result] += 0
	}
	for code := range statusOf {
		refusals[code] += 0
	}
	e.family("hanaperd_enrolments_total", "counter", "Requests for enrolment by result: new, known (the certificate on record was answered), hung_up, or the code of the refusal.")
	counts(e, enrolments, func(result string) []string { return []string{"result", result} })
	if s.c.Renewal != nil {
		e.family("hanaperd_renewals_total", "counter", "Requests for renewal by result, as those for enrolment; only where devices may renew.")
		counts(e, renewals, func(result string) []string { return []string{"result", result} })
	}
	if s.c.Shared != nil {
		if benches == nil {
			benches = map[string]uint64{}
		}
		benches[resultNew] += 0
		e.family("hanaperd_shared_credential_requests_total", "counter", "Test benches that came with a shared credential: new, or the code of the refusal; only where such credentials are allowed.")
		counts(e, benches, func(result string) []string { return []string{"result", result} })
	}
	e.family("hanaperd_refusals_total", "counter", "Requests of any kind that were refused or failed, by code.")
	counts(e, refusals, func(c Code) []string { return []string{"code", string(c)} })
	e.family("hanaperd_http_requests_total", "counter", "Answers of the API by route and HTTP status.")
	counts(e, requests, func(a answers) []string { return []string{"route", a.route, "status", strconv.Itoa(a.status)} })
	e.histogram("hanaperd_enrol_duration_seconds", "How long an enrolment took in the service, token and store included.", &t.enrol)
	e.histogram("hanaperd_token_duration_seconds", "How long the token took for a signature that succeeded, waiting for a session included.", &t.token)
	e.histogram("hanaperd_store_duration_seconds", "How long a durable write of an enrolment or a revocation took.", &t.store)
}

// writeIssuers writes what is known of each issuing CA, its keys and its list.
func (s *Service) writeIssuers(e *exposition, now time.Time) {
	all := s.CAs()
	e.family("hanaperd_issuer_keys", "gauge", "Keys of an issuing CA, by whether they signed last.")
	for _, i := range all {
		signs := 0
		for _, k := range i.Keys {
			if k.Signs {
				signs++
			}
		}
		e.sample(float64(signs), "issuer", i.Name, "state", "signs")
		e.sample(float64(len(i.Keys)-signs), "issuer", i.Name, "state", "fails")
	}
	for _, m := range []struct {
		name, help string
		value      func(*ListStatus) float64
	}{
		{"hanaperd_crl_age_seconds", "How old an issuing CA's latest revocation list is.", func(l *ListStatus) float64 { return now.Sub(l.ThisUpdate).Seconds() }},
		{"hanaperd_crl_this_update_timestamp_seconds", "When an issuing CA's latest revocation list was signed, in seconds since 1970.", func(l *ListStatus) float64 { return seconds(l.ThisUpdate) }},
		{"hanaperd_crl_next_update_timestamp_seconds", "When an issuing CA's latest revocation list ends, in seconds since 1970.", func(l *ListStatus) float64 { return seconds(l.NextUpdate) }},
	} {
		e.family(m.name, "gauge", m.help)
		for _, i := range all {
			if i.List != nil {
				e.sample(m.value(i.List), "issuer", i.Name)
			}
		}
	}
	e.family("hanaperd_clock_seconds", "gauge", "What the clock of this server shows, in seconds since 1970: compare it with another one's.")
	e.sample(seconds(s.c.Now()))
}

// writeLog writes how the record and the log that follows it stand.
func (s *Service) writeLog(ctx context.Context, e *exposition) {
	n, err := s.c.Store.Sequence(ctx)
	if err != nil {
		return
	}
	e.family("hanaperd_record_events", "gauge", "Events in the record.")
	e.sample(float64(n))
	l, ok := s.LogStatus(ctx)
	if !ok {
		return
	}
	e.family("hanaperd_log_checkpoint_events", "gauge", "Events that the last checkpoint of the issuance log covers.")
	e.sample(float64(l.Size))
	e.family("hanaperd_log_checkpoint_age_seconds", "gauge", "For how long the last checkpoint has been the last one, as far as this process saw.")
	e.sample(l.Age.Seconds())
	e.family("hanaperd_log_behind_seconds", "gauge", "For how long there have been events that no checkpoint covers, as far as this process saw; 0 where all are covered.")
	e.sample(l.Behind.Seconds())
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
