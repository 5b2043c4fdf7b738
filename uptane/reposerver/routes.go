package reposerver

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// DeviceHeader carries the identity that the gateway has verified. The Devices handler believes it: only a gateway may
// reach that handler.
const DeviceHeader = "X-Ats-Device-Uuid"

const devicesPath = "/api/v1/director/admin/devices"

// View is a device as an operator sees it.
type View struct {
	Device      string               `json:"device"`
	State       string               `json:"state"`
	Primary     string               `json:"primary_ecu_serial"`
	ECUs        map[string]ecuView   `json:"ecus"`
	Registered  string               `json:"registered"`
	Assigned    map[string]Assigned  `json:"assigned"`
	Outcomes    map[string]Outcome   `json:"outcomes"`
	Reported    map[string]Installed `json:"reported"`
	Attacks     map[string]string    `json:"attacks_detected"`
	Seen        string               `json:"seen"`
	Correlation string               `json:"correlation_id"`
	Versions    Versions             `json:"versions"`
	Root        int                  `json:"root_version"`
	Replace     string               `json:"replacement_until"`
}

type ecuView struct {
	HardwareID string `json:"hardware_id"`
	KeyID      string `json:"keyid"`
}

// ViewOf is a device's view.
func ViewOf(d *Device) View {
	v := View{Device: d.ID, State: d.State(), Primary: d.Primary, ECUs: map[string]ecuView{}, Registered: d.Registered, Assigned: d.Assigned, Outcomes: d.Outcomes,
		Reported: d.Reported, Attacks: d.Attacks, Seen: d.Seen, Correlation: d.Correlation, Versions: d.Versions, Root: d.Root, Replace: d.Replace}
	for serial, e := range d.ECUs {
		k, _ := uptane.ParseKey(e.Key)
		v.ECUs[serial] = ecuView{e.HardwareID, k.ID()}
	}
	return v
}

// queryFilter reads state, target, hardware, prefix and silent_since (RFC 3339).
func queryFilter(r *http.Request) (f Filter, err error) {
	q := r.URL.Query()
	f = Filter{State: q.Get("state"), Target: q.Get("target"), Hardware: q.Get("hardware"), Prefix: q.Get("prefix")}
	if f.State != "" && !slices.Contains(States(), f.State) {
		return f, refuse(400, codeBadRequest, "state is one of: %s", strings.Join(States(), ", "))
	}
	if since := q.Get("silent_since"); since != "" {
		if f.SilentSince, err = time.Parse(time.RFC3339, since); err != nil {
			return f, refuse(400, codeBadRequest, "silent_since is a time such as 2026-01-02T03:04:05Z")
		}
	}
	return f, nil
}

// directorAdmin are this project's own routes: the original's Director has others, and no signing tool calls them.
func (s *Server) directorAdmin(closed closed) {
	closed(Look, "GET "+devicesPath, func(w http.ResponseWriter, r *http.Request) error {
		f, err := queryFilter(r)
		if err != nil {
			return err
		}
		list, err := s.director.Devices(r.Context(), f)
		if err != nil {
			return err
		}
		out := []View{}
		for _, d := range list {
			out = append(out, ViewOf(d))
		}
		writeJSON(w, http.StatusOK, out)
		return nil
	})
	closed(Look, "GET "+devicesPath+"/{id}", func(w http.ResponseWriter, r *http.Request) error {
		d, found, err := s.director.Device(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		if !found {
			return refuse(404, codeNotFound, "device %s is not registered", show.Text(r.PathValue("id")))
		}
		writeJSON(w, http.StatusOK, ViewOf(d))
		return nil
	})
	closed(Look, "GET "+devicesPath+"/{id}/told", func(w http.ResponseWriter, r *http.Request) error {
		told, err := s.director.Told(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, told)
		return nil
	})
	closed(Remove, "DELETE "+devicesPath+"/{id}", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.director.Remove(r.Context(), r.PathValue("id")); err != nil {
			return err
		}
		return s.changed(w, r, "device removed", "device", r.PathValue("id"))
	})
	closed(Remove, "PUT "+devicesPath+"/{id}/replacement", func(w http.ResponseWriter, r *http.Request) error {
		var doc struct {
			Seconds int64 `json:"seconds"`
		}
		if err := decode(w, r, &doc); err != nil {
			return err
		}
		if doc.Seconds < 0 || doc.Seconds > int64(replacementLife/time.Second) {
			doc.Seconds = -1
		}
		until, err := s.director.AllowReplacement(r.Context(), r.PathValue("id"), time.Duration(doc.Seconds)*time.Second)
		if err != nil {
			return err
		}
		s.log.Info("replacement allowed", "device", r.PathValue("id"), "until", until, "by", who(r), "from", r.RemoteAddr)
		writeJSON(w, http.StatusOK, map[string]string{"replacement_until": until})
		return nil
	})
	closed(Assign, "PUT "+devicesPath+"/{id}/assignment", func(w http.ResponseWriter, r *http.Request) error {
		var doc struct {
			Target string   `json:"target"`
			ECUs   []string `json:"ecus"`
		}
		if err := decode(w, r, &doc); err != nil {
			return err
		}
		d, err := s.director.Assign(r.Context(), r.PathValue("id"), doc.Target, doc.ECUs...)
		if err != nil {
			return err
		}
		s.log.Info("target assigned", "device", d.ID, "target", doc.Target, "by", who(r), "from", r.RemoteAddr)
		writeJSON(w, http.StatusOK, ViewOf(d))
		return nil
	})
	closed(Assign, "DELETE "+devicesPath+"/{id}/assignment", func(w http.ResponseWriter, r *http.Request) error {
		d, err := s.director.Unassign(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		s.log.Info("assignments taken back", "device", d.ID, "by", who(r), "from", r.RemoteAddr)
		writeJSON(w, http.StatusOK, ViewOf(d))
		return nil
	})
}

// Devices is what devices reach through the gateway: the Image repository under /repo/, read-only, and the Director
// under /director/, each device its own part by the identity that the gateway puts into DeviceHeader.
//
// The caller must make sure that nobody but a gateway reaches it: by a loopback address, or by mutual TLS.
func (s *Server) Devices() http.Handler {
	mux := http.NewServeMux()
	open := func(route string, h handler) { mux.HandleFunc(route, s.wrap(h)) }
	open("GET /repo/{file}", func(w http.ResponseWriter, r *http.Request) error {
		switch file := r.PathValue("file"); file {
		case "targets.json":
			return s.getTargets(w, r)
		case "snapshot.json", "timestamp.json":
			return s.online(strings.TrimSuffix(file, ".json"))(w, r)
		default:
			return s.serveRoot(w, r, s.image.Repository, file)
		}
	})
	open("GET /repo/delegations/{file}", s.getDelegation)
	open("GET /repo/targets/{name...}", s.deviceDownload)
	if s.director != nil {
		open("GET /director/{file}", s.directorFile)
		open("POST /director/ecus", s.register)
		open("PUT /director/manifest", s.putManifest)
		s.toldRoutes(open)
	}
	mux.HandleFunc("/", s.wrap(func(w http.ResponseWriter, r *http.Request) error {
		return refuse(404, codeNotFound, "there is no such route")
	}))
	return mux
}

// deviceOf is the identity in the header: exactly one.
func deviceOf(r *http.Request) (string, error) {
	list := r.Header.Values(DeviceHeader)
	if len(list) != 1 {
		return "", refuse(http.StatusForbidden, codeUnauthorized, "exactly one header %s is needed: devices come through the gateway", DeviceHeader)
	}
	return list[0], CheckDeviceID(list[0])
}

// deviceDownload serves a file that is what the signed targets say, and no other.
func (s *Server) deviceDownload(w http.ResponseWriter, r *http.Request) error {
	name, err := targetName(r)
	if err != nil {
		return err
	}
	t, found, err := s.image.Find(name)
	if err != nil {
		return err
	}
	if !found {
		return refuse(404, "target_not_found", "the targets have no %q", printable(name))
	}
	f, st, err := s.storage.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if st.SHA256 != t.SHA256 || st.Size != t.Length {
		return refuse(404, "target_not_found", "the file that was uploaded as %s is not the one that the targets list", show.Text(printable(name)))
	}
	serveFile(w, r, f, st)
	return nil
}

func (s *Server) directorFile(w http.ResponseWriter, r *http.Request) error {
	file := r.PathValue("file")
	var pick func(*Device) []byte
	switch file {
	case "targets.json":
		pick = func(d *Device) []byte { return d.Targets }
	case "snapshot.json":
		pick = func(d *Device) []byte { return d.Snapshot }
	case "timestamp.json":
		pick = func(d *Device) []byte { return d.Timestamp }
	default:
		return s.serveRoot(w, r, s.director.Repository, file)
	}
	id, err := deviceOf(r)
	if err != nil {
		return err
	}
	d, fault, err := s.director.Fresh(r.Context(), id)
	if err != nil {
		return err
	}
	if fault != nil {
		s.log.Error("signing online", "device", id, "error", fault.Error())
	}
	writeMetadata(w, r, pick(d))
	return nil
}

func (s *Server) limited(r *http.Request) (string, error) {
	id, err := deviceOf(r)
	if err != nil {
		return "", err
	}
	if !s.writes.allow(id) {
		return "", refuse(http.StatusTooManyRequests, codeBusy, "device %s writes too often", show.Text(id))
	}
	return id, nil
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	id, err := s.limited(r)
	if err != nil {
		return err
	}
	data, err := readBody(w, r, maxRegistration)
	if err != nil {
		return err
	}
	created, err := s.director.Register(r.Context(), id, data)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		s.log.Info("device registered", "device", id)
	}
	writeBytes(w, status, []byte("{}"))
	return nil
}

func (s *Server) putManifest(w http.ResponseWriter, r *http.Request) error {
	id, err := s.limited(r)
	if err != nil {
		return err
	}
	data, err := readBody(w, r, maxManifest)
	if err != nil {
		return err
	}
	if err := s.director.Manifest(r.Context(), id, data); err != nil {
		return err
	}
	writeBytes(w, http.StatusOK, []byte("{}"))
	return nil
}
