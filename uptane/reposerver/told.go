package reposerver

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/hanaper/hanaper/internal/show"
)

// What devices tell beside their manifests is not signed: it is kept for people to look at, within bounds, and decides
// nothing.

// toldRoutes are the calls of the real client that are no part of Uptane. It is answered on each, for what it tells would
// come again and again otherwise, and a 404 switches some of them off for good.
func (s *Server) toldRoutes(open func(route string, h handler)) {
	for route, kind := range map[string]string{"PUT /system_info": ToldSystem, "PUT /system_info/network": ToldNetwork,
		"POST /system_info/config": ToldConfig, "PUT /core/installed": ToldPackages} {
		open(route, s.takeTold(kind))
	}
	open("POST /events", s.takeEvents)
	// Campaigns ask a driver for consent; this server has none.
	open("GET /campaigner/campaigns", func(w http.ResponseWriter, r *http.Request) error {
		writeBytes(w, http.StatusOK, []byte(`{"campaigns":[]}`))
		return nil
	})
	for _, p := range []string{"/treehub/", "/devices"} {
		open(p, func(w http.ResponseWriter, r *http.Request) error {
			return refuseHint(http.StatusNotImplemented, codeNotImplemented, "devices have certificates of their own, and OSTree repositories are served by others", "this server does not serve %s", p)
		})
	}
}

func (s *Server) takeTold(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := s.limited(r)
		if err != nil {
			return err
		}
		data, err := readBody(w, r, maxTold)
		if err != nil {
			return err
		}
		if kind == ToldConfig {
			if !utf8.Valid(data) {
				return refuse(400, codeBadRequest, "%s is not UTF-8", kind)
			}
		} else if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); !json.Valid(data) || t == "application/toml" {
			return refuse(400, codeBadRequest, "%s is not JSON", kind)
		}
		if err := s.director.tell(r.Context(), id, Told{Kind: kind, At: s.director.stamp(), Body: data}); err != nil {
			return err
		}
		writeBytes(w, http.StatusOK, []byte("{}"))
		return nil
	}
}

func (s *Server) takeEvents(w http.ResponseWriter, r *http.Request) error {
	id, err := s.limited(r)
	if err != nil {
		return err
	}
	data, err := readBody(w, r, maxEvents)
	if err != nil {
		return err
	}
	list, err := parseEvents(data, s.director.stamp())
	if err != nil {
		return err
	}
	if err := s.director.report(r.Context(), id, list); err != nil {
		return err
	}
	writeBytes(w, http.StatusOK, []byte("{}"))
	return nil
}

// parseEvents reads a list of events. Too many are answered like too large a body: clients send fewer then.
func parseEvents(data []byte, at string) ([]Event, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, refuse(400, codeBadRequest, "events: not a list")
	}
	if len(list) > KeepEvents {
		return nil, refuse(http.StatusRequestEntityTooLarge, codeTooLarge, "%d events at once are more than %d", len(list), KeepEvents)
	}
	var out []Event
	for i, raw := range list {
		var e struct {
			ID   string `json:"id"`
			Type struct {
				ID string `json:"id"`
			} `json:"eventType"`
		}
		if err := json.Unmarshal(raw, &e); err != nil || !utf8.Valid(raw) {
			return nil, refuse(400, codeBadRequest, "events: entry %d is no event", i+1)
		}
		if err := checkWord("id", e.ID, maxEventID); err != nil {
			return nil, refuse(400, codeBadRequest, "events: entry %d: %v", i+1, err)
		}
		if err := checkWord("eventType.id", e.Type.ID, maxEventID); err != nil {
			return nil, refuse(400, codeBadRequest, "events: entry %d: %v", i+1, err)
		}
		out = append(out, Event{ID: e.ID, Kind: e.Type.ID, At: at, Body: raw})
	}
	return out, nil
}

func (d *Director) known(ctx context.Context, id string) error {
	_, found, err := d.Device(ctx, id)
	if err == nil && !found {
		err = notRegistered(id)
	}
	return err
}

func (d *Director) tell(ctx context.Context, id string, t Told) error {
	if err := d.known(ctx, id); err != nil {
		return err
	}
	return d.fleet.Tell(ctx, id, t)
}

func (d *Director) report(ctx context.Context, id string, list []Event) error {
	if err := d.known(ctx, id); err != nil {
		return err
	}
	return d.fleet.Report(ctx, id, list)
}

// Told is what a registered device has told.
func (d *Director) Told(ctx context.Context, id string) (v ToldView, err error) {
	_, found, err := d.Device(ctx, id)
	if err != nil {
		return v, err
	}
	if !found {
		return v, refuse(404, codeNotFound, "device %s is not registered", show.Text(id))
	}
	told, err := d.fleet.Told(ctx, id)
	if err != nil {
		return v, err
	}
	events, err := d.fleet.Events(ctx, id)
	if err != nil {
		return v, err
	}
	v = toldView(told, events)
	v.Manifest, err = d.fleet.Manifest(ctx, id)
	return v, err
}

// ToldView is what a device has told, for programs: JSON as it came, and text.
type ToldView struct {
	Told   map[string]ToldPart `json:"told"`
	Events []EventView         `json:"events"`
	// Manifest is the last one, which is signed.
	Manifest json.RawMessage `json:"manifest,omitempty"`
}

// ToldPart is one of the kinds.
type ToldPart struct {
	At   string          `json:"at"`
	JSON json.RawMessage `json:"json,omitempty"`
	Text string          `json:"text,omitempty"`
}

// EventView is an event and when it came.
type EventView struct {
	At    string          `json:"at"`
	Kind  string          `json:"kind"`
	Event json.RawMessage `json:"event"`
}

func toldView(told []Told, events []Event) ToldView {
	v := ToldView{Told: map[string]ToldPart{}, Events: []EventView{}}
	for _, t := range told {
		if t.Kind == ToldConfig {
			v.Told[t.Kind] = ToldPart{At: t.At, Text: string(t.Body)}
		} else {
			v.Told[t.Kind] = ToldPart{At: t.At, JSON: t.Body}
		}
	}
	for _, e := range events {
		v.Events = append(v.Events, EventView{e.At, e.Kind, e.Body})
	}
	return v
}
