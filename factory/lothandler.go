package factory

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// handleLots adds the routes of lots, and of what operators do to devices. sees are the roles that see what is on record.
func (a *api) handleLots(mux *http.ServeMux, operator, sees []string) {
	mux.Handle("GET /v1/lots", a.route(http.MethodGet, sees, 0, a.lots))
	mux.Handle("/v1/lots", a.route(http.MethodPost, operator, maxOrderBody, a.openLot))
	mux.Handle("/v1/lots/{name}", a.route(http.MethodGet, sees, 0, a.lot))
	mux.Handle("/v1/lots/{name}/order", a.route(http.MethodGet, sees, 0, a.lotOrder))
	mux.Handle("/v1/lots/{name}/close", a.route(http.MethodPost, operator, maxActBody, a.closeLot))
	mux.Handle("/v1/devices", a.route(http.MethodGet, sees, 0, a.devices))
	mux.Handle("/v1/revoke/devices", a.route(http.MethodPost, operator, maxActBody, acting(a.service.RevokeDevices, `{"station": "line-3", "from": "2026-11-26T06:00:00Z", "reason": "key_compromise"}`)))
	mux.Handle("/v1/reissue", a.route(http.MethodPost, operator, maxActBody, acting(a.service.Reissue, `{"device_id": "vin-0001", "note": "..."}`)))
	mux.Handle("/v1/scrap", a.route(http.MethodPost, operator, maxActBody, acting(a.service.Scrap, `{"device_id": "vin-0001", "free_slot": true, "note": "..."}`)))
	mux.Handle("/v1/swap", a.route(http.MethodPost, operator, maxActBody, acting(a.service.Swap, `{"a": "vin-0001", "b": "vin-0002", "note": "..."}`)))
}

// acting is the handler of something that an operator has done.
func acting[Q, A any](do func(ctx context.Context, who string, q Q) (*A, error), example string) handler {
	return func(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
		q, err := decodeInto[Q](body, example)
		if err != nil {
			return nil, err
		}
		ans, err := do(ctx, who.String(), q)
		return &answer{status: http.StatusOK, body: ans}, err
	}
}

func (a *api) openLot(ctx context.Context, who Caller, body []byte, _ *http.Request) (*answer, error) {
	ans, err := a.service.OpenLot(ctx, who.String(), body)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if ans.Changed {
		status = http.StatusCreated
	}
	return &answer{status: status, body: ans}, nil
}

func (a *api) closeLot(ctx context.Context, who Caller, body []byte, r *http.Request) (*answer, error) {
	q, err := decodeInto[CloseLotRequest](body, `{"note": "..."}`)
	if err != nil {
		return nil, err
	}
	q.Name = r.PathValue("name")
	ans, err := a.service.CloseLot(ctx, who.String(), q)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) lots(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	v, err := query(r, "state", "after", "limit")
	if err != nil {
		return nil, err
	}
	q := LotQuery{State: v.Get("state"), After: v.Get("after")}
	if q.Limit, err = limitOf(v); err != nil {
		return nil, err
	}
	ans, err := a.service.Lots(ctx, q)
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) lot(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	ans, err := a.service.Lot(ctx, r.PathValue("name"))
	return &answer{status: http.StatusOK, body: ans}, err
}

func (a *api) lotOrder(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	env, err := a.service.LotOrder(ctx, r.PathValue("name"))
	return &answer{status: http.StatusOK, raw: env, kind: "application/vnd.dsse+json"}, err
}

func (a *api) devices(ctx context.Context, _ Caller, _ []byte, r *http.Request) (*answer, error) {
	v, err := query(r, "key", "station", "lot", "from", "until", "after", "limit")
	if err != nil {
		return nil, err
	}
	q := DeviceQuery{Key: v.Get("key"), Station: v.Get("station"), Lot: v.Get("lot"), After: v.Get("after")}
	if q.Limit, err = limitOf(v); err != nil {
		return nil, err
	}
	for name, into := range map[string]*time.Time{"from": &q.From, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			if *into, err = time.Parse(time.RFC3339, text); err != nil {
				return nil, fault(CodeRequest, "write it in UTC, as 2026-11-27T06:00:00Z", "%s is %.40q", name, text)
			}
		}
	}
	ans, err := a.service.Devices(ctx, q)
	return &answer{status: http.StatusOK, body: ans}, err
}

// query reads a query string that may have these names, each once.
func query(r *http.Request, names ...string) (url.Values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault(CodeRequest, "", "the query cannot be read")
	}
	allowed := map[string]bool{}
	for _, n := range names {
		allowed[n] = true
	}
	for n, values := range v {
		if !allowed[n] || len(values) > 1 {
			return nil, fault(CodeRequest, "see docs/spec/factory-api.md", "the query has %.40q, which is not known here or stands there twice", n)
		}
	}
	return v, nil
}

func limitOf(v url.Values) (int, error) {
	if v.Get("limit") == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v.Get("limit"))
	if err != nil || n < 1 || n > maxPage {
		return 0, fault(CodeRequest, "give 1 to 1000", "limit is %.20q", v.Get("limit"))
	}
	return n, nil
}
