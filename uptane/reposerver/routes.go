package reposerver

import (
	"net/http"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane"
)

// DeviceHeader carries the identity that the gateway has verified. The Devices handler believes it: only a gateway may
// reach that handler.
const DeviceHeader = "X-Ats-Device-Uuid"

const devicesPath = "/api/v1/director/admin/devices"

// deviceView is a device as an administrator sees it.
type deviceView struct {
	Device      string               `json:"device"`
	State       string               `json:"state"`
	Primary     string               `json:"primary_ecu_serial"`
	ECUs        map[string]ecuView   `json:"ecus"`
	Registered  string               `json:"registered"`
	Assigned    map[string]Assigned  `json:"assigned"`
	Reported    map[string]Installed `json:"reported"`
	Seen        string               `json:"seen"`
	Correlation string               `json:"correlation_id"`
}

type ecuView struct {
	HardwareID string `json:"hardware_id"`
	KeyID      string `json:"keyid"`
}

func viewOf(d *Device) deviceView {
	v := deviceView{Device: d.ID, State: d.State(), Primary: d.Primary, ECUs: map[string]ecuView{}, Registered: d.Registered,
		Assigned: d.Assigned, Reported: d.Reported, Seen: d.Seen, Correlation: d.Correlation}
	for serial, e := range d.ECUs {
		k, _ := uptane.ParseKey(e.Key)
		v.ECUs[serial] = ecuView{e.HardwareID, k.ID()}
	}
	return v
}

// directorAdmin are this project's own routes: the original's Director has others, and no signing tool calls them.
func (s *Server) directorAdmin(closed closed) {
	closed(Look, "GET "+devicesPath, func(w http.ResponseWriter, r *http.Request) error {
		list, err := s.director.Devices()
		if err != nil {
			return err
		}
		out := []deviceView{}
		for _, d := range list {
			out = append(out, viewOf(d))
		}
		writeJSON(w, http.StatusOK, out)
		return nil
	})
	closed(Look, "GET "+devicesPath+"/{id}", func(w http.ResponseWriter, r *http.Request) error {
		d, found, err := s.director.Device(r.PathValue("id"))
		if err != nil {
			return err
		}
		if !found {
			return refuse(404, codeNotFound, "device %s is not registered", r.PathValue("id"))
		}
		writeJSON(w, http.StatusOK, viewOf(d))
		return nil
	})
	closed(Remove, "DELETE "+devicesPath+"/{id}", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.director.Remove(r.Context(), r.PathValue("id")); err != nil {
			return err
		}
		return s.changed(w, r, "device removed", "device", r.PathValue("id"))
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
		writeJSON(w, http.StatusOK, viewOf(d))
		return nil
	})
	closed(Assign, "DELETE "+devicesPath+"/{id}/assignment", func(w http.ResponseWriter, r *http.Request) error {
		d, err := s.director.Unassign(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, viewOf(d))
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
	writeBytes(w, http.StatusOK, pick(d))
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
