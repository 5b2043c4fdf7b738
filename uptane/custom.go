package uptane

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// TargetFormat is how a device installs a target.
type TargetFormat string

// The formats; an absent one is null in the metadata.
const (
	OSTree TargetFormat = "OSTREE"
	Binary TargetFormat = "BINARY"
)

// ImageCustom is the custom object of the Image repository's targets.
type ImageCustom struct {
	Name        string
	Version     string
	HardwareIDs []string
	Format      TargetFormat // empty: null
	URI         string       // empty: null
	CreatedAt   time.Time
	UpdatedAt   time.Time
	CLIUploaded *bool // nil: absent
	// Extra holds other members, such as --customMeta gives: name to JSON.
	Extra map[string]json.RawMessage
}

// ReservedCustom are the members of an Image target's custom object that are not for others to set.
func ReservedCustom() []string {
	return []string{"name", "version", "hardwareIds", "targetFormat", "uri", "createdAt", "updatedAt", "cliUploaded"}
}

// JSON is the custom object in canonical form.
func (c ImageCustom) JSON() (json.RawMessage, error) {
	b, err := c.encode()
	return b, refused(err)
}

func (c ImageCustom) encode() (json.RawMessage, error) {
	if c.Name == "" || c.Version == "" {
		return nil, because(ErrMalformed, "a target's custom object needs a name and a version")
	}
	if len(c.HardwareIDs) == 0 {
		return nil, hinted(ErrMalformed, "name the hardware that it is for", "target %s-%s has no hardware id", c.Name, c.Version)
	}
	created, err := formatTime("createdAt", c.CreatedAt)
	if err != nil {
		return nil, err
	}
	updated, err := formatTime("updatedAt", c.UpdatedAt)
	if err != nil {
		return nil, err
	}
	members := map[string]string{}
	for k, raw := range c.Extra {
		v, err := Canonical(raw)
		if err != nil {
			return nil, fmt.Errorf("custom member %q: %w", k, err)
		}
		members[k] = string(v)
	}
	quote := func(s string) string { return string(appendString(nil, s)) }
	orNull := func(s string) string {
		if s == "" {
			return "null"
		}
		return quote(s)
	}
	var ids writer
	ids.texts(c.HardwareIDs)
	members["name"], members["version"], members["hardwareIds"] = quote(c.Name), quote(c.Version), string(ids.b)
	members["targetFormat"], members["uri"] = orNull(string(c.Format)), orNull(c.URI)
	members["createdAt"], members["updatedAt"] = quote(created), quote(updated)
	if c.CLIUploaded != nil {
		members["cliUploaded"] = strconv.FormatBool(*c.CLIUploaded)
	}
	var w writer
	w.open()
	for _, k := range slices.Sorted(maps.Keys(members)) {
		if err := checkText("custom member", k); err != nil {
			return nil, err
		}
		w.key(k)
		w.raw(members[k])
	}
	w.close()
	v, err := parseJSON(w.b)
	if err != nil {
		return nil, fmt.Errorf("target %s-%s: %w", c.Name, c.Version, err)
	}
	if err := checkImageCustom(&v); err != nil {
		return nil, fmt.Errorf("target %s-%s: %w", c.Name, c.Version, err)
	}
	return w.b, nil
}

// checkImageCustom checks the members that the client reads, and no others.
func checkImageCustom(v *value) error {
	r := reader{where: "custom"}
	o := r.object(v)
	if ids, ok := o.get("hardwareIds"); ok && ids.kind != null {
		for _, id := range r.texts(o, "hardwareIds") {
			if id == "" || len(id) > MaxHardwareID {
				r.fail(ErrMalformed, "hardware id %q is empty or longer than %d characters", id, MaxHardwareID)
			}
		}
	}
	if f, ok := o.get("targetFormat"); ok && f.kind != null {
		if s := r.asText("targetFormat", f); s != string(OSTree) && s != string(Binary) {
			r.fail(ErrMalformed, "targetFormat %q is neither OSTREE nor BINARY", s)
		}
	}
	if u, ok := o.get("uri"); ok && u.kind != null {
		r.asText("uri", u)
	}
	return r.err
}

// ImageCustom reads the custom object of an Image target. Members that older servers leave out come back empty.
func (t Target) ImageCustom() (ImageCustom, error) {
	var c ImageCustom
	if !t.hasCustom() {
		return c, unverified(because(ErrMalformed, "the target has no custom object"))
	}
	v, err := parseJSON(t.Custom)
	if err != nil {
		return c, unverified(err)
	}
	if err := checkImageCustom(&v); err != nil {
		return c, unverified(err)
	}
	r := reader{where: "custom"}
	c.Extra = map[string]json.RawMessage{}
	for i := range v.members {
		m, mv := v.members[i].key, &v.members[i].value
		if mv.kind == null && slices.Contains(ReservedCustom(), m) {
			continue
		}
		switch m {
		case "name":
			c.Name = r.asText(m, mv)
		case "version":
			c.Version = r.asText(m, mv)
		case "hardwareIds":
			c.HardwareIDs = r.texts(&v, m)
		case "targetFormat":
			c.Format = TargetFormat(r.asText(m, mv))
		case "uri":
			c.URI = r.asText(m, mv)
		case "createdAt", "updatedAt":
			// The server writes these with fractions too; no client reads them.
			at, err := time.Parse(time.RFC3339, r.asText(m, mv))
			if err != nil {
				r.fail(ErrTime, "%q is not a time", m)
			}
			if m == "createdAt" {
				c.CreatedAt = at.UTC()
			} else {
				c.UpdatedAt = at.UTC()
			}
		case "cliUploaded":
			b := r.boolean(&v, m)
			c.CLIUploaded = &b
		default:
			c.Extra[m] = mv.append(nil)
		}
	}
	return c, unverified(r.err)
}

// DirectorCustom is the custom object of the Director's targets: which ECU gets the target, and of which hardware it is.
type DirectorCustom struct {
	// ECUs maps an ECU's serial to its hardware id.
	ECUs map[string]string
	// URI is where the device downloads from; empty: absent.
	URI string
}

// JSON is the custom object in canonical form.
func (c DirectorCustom) JSON() (json.RawMessage, error) {
	if len(c.ECUs) == 0 {
		return nil, refused(because(ErrMalformed, "a director target needs an ECU that it is for"))
	}
	var w writer
	w.open()
	w.key("ecuIdentifiers")
	w.open()
	for _, serial := range slices.Sorted(maps.Keys(c.ECUs)) {
		if err := checkText("ECU serial", serial); err != nil {
			return nil, refused(err)
		}
		w.key(serial)
		w.open()
		w.key("hardwareId")
		w.text(c.ECUs[serial])
		w.close()
	}
	w.close()
	if c.URI != "" {
		w.key("uri")
		w.text(c.URI)
	}
	w.close()
	v, err := parseJSON(w.b)
	if err == nil {
		_, err = directorCustomOf(&v)
	}
	if err != nil {
		return nil, refused(err)
	}
	return w.b, nil
}

// DirectorCustom reads the custom object of a Director target.
func (t Target) DirectorCustom() (DirectorCustom, error) {
	if !t.hasCustom() {
		return DirectorCustom{}, unverified(because(ErrMalformed, "the target has no custom object"))
	}
	v, err := parseJSON(t.Custom)
	if err != nil {
		return DirectorCustom{}, unverified(err)
	}
	c, err := directorCustomOf(&v)
	return c, unverified(err)
}

func directorCustomOf(v *value) (DirectorCustom, error) {
	c := DirectorCustom{ECUs: map[string]string{}}
	r := reader{where: "custom"}
	o := r.object(v)
	if u, ok := o.get("uri"); ok && u.kind != null {
		c.URI = r.asText("uri", u)
	}
	for _, m := range r.object(r.member(o, "ecuIdentifiers")).members {
		id := r.text(r.object(&m.value), "hardwareId")
		if m.key == "" || len(m.key) > MaxECUSerial {
			r.fail(ErrMalformed, "ECU serial %q is empty or longer than %d characters", m.key, MaxECUSerial)
		}
		if id == "" || len(id) > MaxHardwareID {
			r.fail(ErrMalformed, "hardware id %q is empty or longer than %d characters", id, MaxHardwareID)
		}
		c.ECUs[m.key] = id
	}
	return c, r.err
}
