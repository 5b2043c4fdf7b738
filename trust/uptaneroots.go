package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// UptaneRoots are the root metadata that devices are provisioned with, as files; nil where there is none. They are the officers' word: no online
// role can have a device start from another root. That they are good Uptane roots is checked by who puts them in (package uptane); here
// only that they are roots in form.
type UptaneRoots struct {
	// Director and Image are the root.json of the Director and of the Image repository.
	Director, Image []byte
}

func (u UptaneRoots) equal(o UptaneRoots) bool {
	return bytes.Equal(u.Director, o.Director) && bytes.Equal(u.Image, o.Image)
}

// Uptane are the roots that devices are provisioned with. The bytes are shared.
func (rep *Repository) Uptane() UptaneRoots { return rep.uptane }

// parts are the roots with their targets.
func (u *UptaneRoots) parts() map[string]*[]byte {
	return map[string]*[]byte{uptaneDirectorTarget: &u.Director, uptaneImageTarget: &u.Image}
}

// checkUptaneRoot asks for JSON that says of itself that it is a root.
func checkUptaneRoot(data []byte) error {
	if len(data) > MaxUptaneRootSize {
		return fmt.Errorf("it is larger than %d bytes", MaxUptaneRootSize)
	}
	var m struct {
		Signed struct {
			Type    string `json:"_type"`
			Version int64  `json:"version"`
		} `json:"signed"`
		Signatures []json.RawMessage `json:"signatures"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	if m.Signed.Type != "Root" || m.Signed.Version < 1 || len(m.Signatures) == 0 {
		return errors.New("it is no signed Uptane root")
	}
	return nil
}

func (p *Prepared) layoutUptane(u UptaneRoots) error {
	for name, data := range u.parts() {
		if *data == nil {
			continue
		}
		if err := checkUptaneRoot(*data); err != nil {
			return usage("give the root.json of the Uptane repository", "trust content: %s: %w", name, err)
		}
		p.add(name, *data)
	}
	return nil
}

func (rep *Repository) readUptane(r *reader) error {
	for name, to := range rep.uptane.parts() {
		if rep.targets.Signed.Targets[name] == nil {
			continue
		}
		data, err := rep.target(r, name, MaxUptaneRootSize)
		if err != nil {
			return err
		}
		if err := checkUptaneRoot(data); err != nil {
			return refuse(ErrMalformed, name, "%v", err)
		}
		*to = data
	}
	return nil
}
