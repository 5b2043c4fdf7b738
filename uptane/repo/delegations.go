package repo

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// NewDelegation is an empty, unsigned delegation document, indented: what delegations init prints.
func NewDelegation(expires time.Time) ([]byte, error) {
	doc, err := uptane.NewTargets(uptane.TargetsConfig{Version: 1, Expires: expires.UTC().Truncate(time.Second)})
	if err != nil {
		return nil, err
	}
	return pretty(doc.Signed())
}

// readDelegation takes an unsigned document, or a signed one whose signatures are to stay.
func readDelegation(data []byte) (*uptane.Targets, error) {
	var probe struct {
		Signed json.RawMessage `json:"signed"`
	}
	if json.Unmarshal(data, &probe) == nil && probe.Signed != nil {
		return uptane.ParseTargets(uptane.Image, data, uptane.Local())
	}
	return uptane.ParseUnsignedTargets(uptane.Image, data)
}

// RenewDelegation is a delegation's document for its next release: the same content, unsigned, with another version and date.
func RenewDelegation(data []byte, version *int, expires time.Time) (*uptane.Targets, []byte, error) {
	t, err := readDelegation(data)
	if err != nil {
		return nil, nil, err
	}
	c := t.Config()
	c.Version, c.Expires = t.Version()+1, expires
	if version != nil {
		if c.Version = *version; c.Version <= t.Version() {
			return nil, nil, advice.New(advice.Usage, "give a higher one, or leave --version out", "version %d does not follow version %d", c.Version, t.Version())
		}
	}
	next, err := uptane.NewTargets(c)
	if err != nil {
		return nil, nil, err
	}
	b, err := pretty(next.Signed())
	return next, b, err
}

// SignDelegation signs a delegation's document with keys of a folder and returns the whole file. Signatures that it
// has stay.
func SignDelegation(ctx context.Context, keys *Keys, data []byte, names ...string) ([]byte, error) {
	t, err := readDelegation(data)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, advice.New(advice.Usage, "name a key", "nothing to sign with")
	}
	var doc uptane.Document = t
	for _, n := range names {
		signer, closer, err := keys.Signer(ctx, n)
		if err != nil {
			return nil, err
		}
		doc, err = signOne(doc, signer)
		closer.Close()
		if err != nil {
			return nil, err
		}
	}
	return doc.Bytes(), nil
}

// AddTargetToDelegation adds a target to an unsigned delegation document, of which all else stays. A signed document
// loses its signatures, for they would be wrong.
func AddTargetToDelegation(data []byte, n NewTarget) ([]byte, error) {
	t, err := readDelegation(data)
	if err != nil {
		return nil, err
	}
	name, target, err := n.Build()
	if err != nil {
		return nil, err
	}
	c := t.Config()
	c.Targets[name] = target
	next, err := uptane.NewTargets(c)
	if err != nil {
		return nil, err
	}
	return pretty(next.Signed())
}
