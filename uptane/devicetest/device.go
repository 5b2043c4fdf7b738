// Package devicetest is a device for tests: a client of Uptane as the Standard describes it, with the calls of the client that
// is in the field, in its order. It is written from the Standard and from what that client sends, and shares no code with the
// server that it judges: metadata are parsed, put into canonical form and verified here once more.
//
// # What it trusts
//
// The two root.json that it was made with, its keys, its clock, and its own folder. Whatever comes from the network is
// verified before it is kept or installed.
//
// No program links it.
package devicetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// ECU is a control unit: the primary, or a secondary that the primary serves.
type ECU struct {
	Serial     string
	HardwareID string
	// Key signs what the ECU says: RSA or Ed25519, in a file or in a token.
	Key crypto.Signer
	// Install installs an image; an error is what the ECU reports, with the code "INSTALL_FAILED". nil always succeeds.
	Install func(name string, image []byte) error
}

// Config is a device as it leaves the factory.
type Config struct {
	// Dir is its storage, which outlives restarts.
	Dir string
	// URL is the gateway's, and HTTP has the device's certificate.
	URL  string
	HTTP *http.Client
	// Header is sent with every call; for a server without a gateway.
	Header      http.Header
	Primary     ECU
	Secondaries []ECU
	// DirectorRoot and ImageRoot are root.json of the two repositories.
	DirectorRoot, ImageRoot []byte
	// Factory is what every ECU has at first.
	Factory Image
	// DirectorSnapshot verifies the Director's timestamp and snapshot too, as the Standard has it; the client in the field
	// asks for its targets alone.
	DirectorSnapshot bool
	Now              func() time.Time
	// At is called where a device could lose its power; an error ends it there. nil goes on.
	At func(point string) error
}

// Device is a device that is switched on.
type Device struct {
	c               Config
	s               state
	director, image *repository
	// Calls are the calls since it was switched on: method and path.
	Calls []string
}

var (
	errNotFound = errors.New("404")
	// ErrAnswer is an answer other than success.
	ErrAnswer = errors.New("the server refuses")
	// ErrDownload is an image that did not come, as it was listed, in three tries.
	ErrDownload = errors.New("the image cannot be downloaded")
)

// New switches a device on: it goes on with whatever its folder remembers.
func New(c Config) (*Device, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.At == nil {
		c.At = func(string) error { return nil }
	}
	d := &Device{c: c}
	if err := d.load(); err != nil {
		return nil, err
	}
	var err error
	if d.director, err = d.openRepository("director", c.DirectorRoot); err != nil {
		return nil, err
	}
	if d.image, err = d.openRepository("repo", c.ImageRoot); err != nil {
		return nil, err
	}
	for _, e := range d.ecus() {
		if _, ok := d.s.Installed[e.Serial]; !ok {
			d.s.Installed[e.Serial] = c.Factory
		}
	}
	return d, nil
}

func (d *Device) at(point string) error { return d.c.At(point) }

func (d *Device) ecus() []ECU { return append([]ECU{d.c.Primary}, d.c.Secondaries...) }

func (d *Device) ecu(serial string) (ECU, bool) {
	for _, e := range d.ecus() {
		if e.Serial == serial {
			return e, true
		}
	}
	return ECU{}, false
}

// Installed is what an ECU has.
func (d *Device) Installed(serial string) Image { return d.s.Installed[serial] }

// Versions are those of the metadata that the device has verified, 0 where it has none.
func (d *Device) Versions() (directorRoot, directorTargets, imageRoot, imageTargets int64) {
	of := func(doc *document) int64 {
		if doc == nil {
			return 0
		}
		return doc.version()
	}
	return of(d.director.root), of(d.director.targets), of(d.image.root), of(d.image.targets)
}

// Start is what the client does once after it was switched on: it registers its ECUs, once, and says what it is.
func (d *Device) Start(ctx context.Context) error {
	form, err := d.registration()
	if err != nil {
		return err
	}
	if d.s.Registered != string(form) {
		if err := d.send(ctx, http.MethodPost, "/director/ecus", "application/json", form); err != nil {
			return err
		}
		if err := d.at("registered"); err != nil {
			return err
		}
		d.s.Registered = string(form)
		// An ECU that is gone has nothing installed, and nothing to say.
		for serial := range d.s.Installed {
			if _, ours := d.ecu(serial); !ours {
				delete(d.s.Installed, serial)
				delete(d.s.Attacks, serial)
			}
		}
		if err := d.save(); err != nil {
			return err
		}
	}
	packages, err := json.Marshal([]map[string]string{{"name": "base-files", "version": "1.0"}})
	if err != nil {
		return err
	}
	return errors.Join(
		d.send(ctx, http.MethodPut, "/core/installed", "application/json", packages),
		d.send(ctx, http.MethodPut, "/system_info", "application/json", []byte(`{"class":"system","id":"test-device"}`)),
		d.send(ctx, http.MethodPut, "/system_info/network", "application/json", []byte(`{"hostname":"test","local_ipv4":"192.0.2.1","mac":"00:00:5e:00:53:01"}`)),
		d.send(ctx, http.MethodPost, "/system_info/config", "application/toml", []byte("[uptane]\n")))
}

// Cycle is one round: it says what it has, asks what it should have, verifies it, downloads, installs, and reports. What an
// ECU found out about an attack goes into its next manifest.
func (d *Device) Cycle(ctx context.Context) error {
	if err := d.sendManifest(ctx); err != nil {
		return err
	}
	work, err := d.check(ctx)
	if err != nil {
		return errors.Join(err, d.attacked(err))
	}
	if len(d.s.Attacks) > 0 {
		clear(d.s.Attacks)
		if err := d.save(); err != nil {
			return err
		}
	}
	if len(work) > 0 {
		if err := d.update(ctx, work); err != nil {
			return err
		}
	}
	if err := d.sendManifest(ctx); err != nil {
		return err
	}
	return d.sendEvents(ctx)
}

// attacked remembers what verification found, for the primary's manifest.
func (d *Device) attacked(err error) error {
	for _, attack := range []error{ErrRollback, ErrSignature, ErrMismatch, ErrMalformed, ErrExpired} {
		if errors.Is(err, attack) {
			d.s.Attacks[d.c.Primary.Serial] = err.Error()
			return d.save()
		}
	}
	return nil
}

// check follows the Director, and the Image repository if there is something to do.
func (d *Device) check(ctx context.Context) ([]wanted, error) {
	if err := d.updateRoot(ctx, d.director); err != nil {
		return nil, err
	}
	if d.c.DirectorSnapshot {
		if err := d.updateOnline(ctx, d.director); err != nil {
			return nil, err
		}
	}
	if err := d.updateTargets(ctx, d.director, maxDirector, d.c.DirectorSnapshot); err != nil {
		return nil, err
	}
	if d.director.targets.signed["delegations"] != nil {
		return nil, fmt.Errorf("%w: the director delegates", ErrMalformed)
	}
	work, err := d.assigned()
	if err != nil || len(work) == 0 {
		return nil, err
	}
	if d.s.Done != "" && d.s.Done == d.correlation() {
		return nil, nil // it has failed, and is not tried again before it is assigned anew
	}
	if err := d.updateRoot(ctx, d.image); err != nil {
		return nil, err
	}
	if err := d.updateOnline(ctx, d.image); err != nil {
		return nil, err
	}
	if err := d.updateTargets(ctx, d.image, maxTargets, true); err != nil {
		return nil, err
	}
	for i := range work {
		if err := d.agree(ctx, &work[i]); err != nil {
			return nil, err
		}
	}
	return work, nil
}

func (d *Device) correlation() string {
	return d.director.targets.signed.object("custom").text("correlationId")
}

// update downloads everything first, and then installs it.
func (d *Device) update(ctx context.Context, work []wanted) error {
	images := make([][]byte, len(work))
	for i, w := range work {
		d.event("EcuDownloadStarted", w, nil)
		image, err := d.download(ctx, w)
		d.event("EcuDownloadCompleted", w, err)
		if err != nil {
			if !errors.Is(err, ErrDownload) {
				return err
			}
			r := result{false, "DOWNLOAD_FAILED", err.Error()}
			rep := &report{Correlation: d.correlation(), Result: r}
			for _, serial := range w.ecus {
				rep.Items = append(rep.Items, reportItem{serial, r})
			}
			d.s.Report, d.s.Done = rep, d.correlation()
			return d.save()
		}
		images[i] = image
	}
	if err := d.at("downloaded"); err != nil {
		return err
	}
	rep := &report{Correlation: d.correlation(), Result: result{true, "OK", ""}}
	for i, w := range work {
		for _, serial := range w.ecus {
			ecu, _ := d.ecu(serial)
			one := w
			one.ecus = []string{serial}
			d.event("EcuInstallationStarted", one, nil)
			var err error
			if ecu.Install != nil {
				err = ecu.Install(w.Name, images[i])
			}
			item := result{true, "OK", ""}
			if err != nil {
				item = result{false, "INSTALL_FAILED", err.Error()}
				rep.Result = result{false, "INSTALL_FAILED", "one or more ECUs failed"}
			} else {
				d.s.Installed[serial] = w.Image
			}
			d.event("EcuInstallationCompleted", one, err)
			rep.Items = append(rep.Items, reportItem{serial, item})
			// The outcome of each ECU is remembered before the next one begins.
			d.s.Report = rep
			if err := d.save(); err != nil {
				return err
			}
			if err := d.at("installed"); err != nil {
				return err
			}
		}
	}
	d.s.Done = d.correlation()
	for _, w := range work {
		if err := d.remove(partial(w)); err != nil {
			return err
		}
	}
	return d.save()
}

func (d *Device) event(kind string, w wanted, err error) {
	for _, serial := range w.ecus {
		d.s.Serial++
		e := event{ID: fmt.Sprintf("%s-%d", d.c.Primary.Serial, d.s.Serial), Time: d.c.Now().UTC().Format(time.RFC3339)}
		e.Type.ID = kind
		e.Event = map[string]any{"correlationId": d.correlation(), "ecu": serial}
		if kind == "EcuDownloadCompleted" || kind == "EcuInstallationCompleted" {
			e.Event["success"] = err == nil
		}
		d.s.Events = append(d.s.Events, e)
	}
}

func (d *Device) sendEvents(ctx context.Context) error {
	if len(d.s.Events) == 0 {
		return nil
	}
	b, err := json.Marshal(d.s.Events)
	if err != nil {
		return err
	}
	if err := d.send(ctx, http.MethodPost, "/events", "application/json", b); err != nil {
		return err
	}
	d.s.Events = nil
	return d.save()
}

func (d *Device) sendManifest(ctx context.Context) error {
	b, err := d.manifest()
	if err != nil {
		return err
	}
	if err := d.send(ctx, http.MethodPut, "/director/manifest", "application/json", b); err != nil {
		return err
	}
	if d.s.Report == nil {
		return nil
	}
	if err := d.at("reported"); err != nil {
		return err
	}
	d.s.Report = nil
	return d.save()
}

func partial(w wanted) string { return "download-" + w.SHA256 }

// download tries three times, and goes on with what it has.
func (d *Device) download(ctx context.Context, w wanted) ([]byte, error) {
	at := w.uri
	if at == "" {
		at = d.c.URL + "/repo/targets/" + (&url.URL{Path: w.Name}).EscapedPath()
	}
	var last error
	for range 3 {
		image, err := d.try(ctx, at, w)
		if err == nil {
			return image, nil
		}
		if ctx.Err() != nil || errors.Is(err, errStop) {
			return nil, err
		}
		last = err
	}
	return nil, fmt.Errorf("%w: %s: %w", ErrDownload, w.Name, last)
}

// errStop is the device's own end, as At gave it.
var errStop = errors.New("switched off")

func (d *Device) try(ctx context.Context, at string, w wanted) ([]byte, error) {
	have, err := d.read(partial(w))
	if err != nil {
		return nil, err
	}
	if int64(len(have)) < w.Length {
		req, err := d.request(ctx, http.MethodGet, at, nil)
		if err != nil {
			return nil, err
		}
		if len(have) > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(have)))
		}
		res, err := d.c.HTTP.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK:
			have = nil
		case res.StatusCode != http.StatusPartialContent:
			return nil, fmt.Errorf("%w: %s", ErrAnswer, res.Status)
		}
		f, err := os.OpenFile(d.path(partial(w)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if _, err := f.Write(have); err != nil {
			return nil, err
		}
		buf := make([]byte, 16<<10)
		for int64(len(have)) <= w.Length {
			n, rerr := res.Body.Read(buf)
			have = append(have, buf[:n]...)
			if _, err := f.Write(buf[:n]); err != nil {
				return nil, err
			}
			if err := d.at("downloading"); err != nil {
				return nil, errors.Join(errStop, err)
			}
			if rerr == io.EOF {
				break
			}
			if rerr != nil {
				return nil, rerr
			}
		}
	}
	sum := sha256.Sum256(have)
	if int64(len(have)) != w.Length || hex.EncodeToString(sum[:]) != w.SHA256 {
		if int64(len(have)) >= w.Length {
			if err := d.remove(partial(w)); err != nil {
				return nil, err
			}
		}
		return nil, fmt.Errorf("%w: %d bytes of %s", ErrMismatch, len(have), w.Name)
	}
	return have, nil
}

func (d *Device) remove(name string) error {
	err := os.Remove(d.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (d *Device) request(ctx context.Context, method, at string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range d.c.Header {
		req.Header[k] = v
	}
	d.Calls = append(d.Calls, method+" "+req.URL.Path)
	return req, nil
}

func (d *Device) get(ctx context.Context, path string, most int64) ([]byte, error) {
	req, err := d.request(ctx, http.MethodGet, d.c.URL+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := d.c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %s", errNotFound, path)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: GET %s: %s", ErrAnswer, path, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%w: %s is longer than %d bytes", ErrMalformed, path, most)
	}
	return b, err
}

func (d *Device) send(ctx context.Context, method, path, kind string, body []byte) error {
	req, err := d.request(ctx, method, d.c.URL+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	res, err := d.c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %s %s: %s %s", ErrAnswer, method, path, res.Status, b)
	}
	return nil
}
