package station

// The Uptane roots that devices pin, taken from the officers' trust metadata. An attacker who controls the source, or the way to it, can keep the newest roots from the
// station for as long as the last metadata that it saw is good, and then nothing is enrolled; he cannot have a device pin a root of his own, or an earlier one than the station has
// seen. One who can change the station's configuration or its state folder can.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/feed"
)

const (
	// lookFor is how long a station looks at the source, and statePatience how long it waits for another process of its machine that does.
	lookFor       = time.Minute
	statePatience = lookFor + 10*time.Second
)

// officersRoots are the roots of a view that verified.
type officersRoots struct{ view *trust.View }

// files are what the import folder has of them, by path.
func (o *officersRoots) files() map[string][]byte {
	u := o.view.Uptane()
	return map[string][]byte{"repo/root.json": u.Image, "director/root.json": u.Director}
}

// valid is nil as long as the metadata that vouches for the roots has not expired.
func (o *officersRoots) valid(now time.Time) error {
	if err := o.view.Valid(now); err != nil {
		return advice.Wrap(advice.KindOf(err), fmt.Errorf("uptane.trust: %w", err), "the publisher signs anew each day; can the station reach it? A command that has run for long is started anew")
	}
	return nil
}

// describe says which roots these are.
func (o *officersRoots) describe() string {
	version := func(data []byte) int64 {
		var m struct {
			Signed struct {
				Version int64 `json:"version"`
			} `json:"signed"`
		}
		_ = json.Unmarshal(data, &m) // package trust has read it
		return m.Signed.Version
	}
	u := o.view.Uptane()
	return fmt.Sprintf("environment %s, officers' part %d: the Director's root is version %d, the Image repository's %d; good until %s",
		show.Text(o.view.Environment()), o.view.Officers().TargetsVersion(), version(u.Director), version(u.Image), o.view.Expires().Format(time.RFC3339))
}

// paths are those that may be relative to the configuration's folder.
func (c *TrustConfig) paths() []*string {
	list := []*string{&c.State, &c.CA}
	if !strings.Contains(c.Source, "://") {
		list = append(list, &c.Source)
	}
	if _, err := trust.ParsePin(c.Root); err != nil {
		list = append(list, &c.Root)
	}
	return list
}

// roots looks at the source, and gives the roots of the newest metadata that verifies and follows what was seen before. Where the source is away, or shows
// something else, what was seen last will do for as long as it is good.
func (c *TrustConfig) roots(now func() time.Time, done func(string, ...any)) (*officersRoots, error) {
	pin, err := trust.ParsePin(c.Root)
	if err != nil {
		data, err := input.Read(c.Root, trust.MaxRootSize)
		if err != nil {
			return nil, advice.New(advice.Usage, "name the environment's first root.json, or its SHA-256 in hex", "uptane.trust.root: %w", err)
		}
		pin = trust.PinRoot(data)
	}
	var ca []byte
	if c.CA != "" {
		if ca, err = input.ReadFile(c.CA); err != nil {
			return nil, advice.New(advice.Usage, "name a PEM file", "uptane.trust.ca: %w", err)
		}
	}
	client, err := feed.NewClient(ca)
	if err != nil {
		return nil, fmt.Errorf("uptane.trust.ca: %w", err)
	}
	var f *feed.Feed
	err = awaitState(func() (err error) {
		f, err = feed.New(feed.Config{Source: c.Source, Pin: pin, Environment: c.Environment, StateDir: c.State, Client: client, Now: now})
		return err
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookFor)
	defer cancel()
	looked := f.Refresh(ctx)
	view := f.Current()
	if err := f.Close(); looked == nil {
		looked = err
	}
	if view == nil {
		if looked == nil {
			looked = errors.New("the source gives nothing under this root")
		}
		return nil, advice.Wrap(advice.KindOf(looked), fmt.Errorf("uptane.trust: %w", looked), advice.Hint(looked))
	}
	o := &officersRoots{view}
	if err := o.valid(now()); err != nil {
		if looked != nil {
			err = advice.Wrap(advice.KindOf(err), fmt.Errorf("%w (%w)", err, looked), advice.Hint(err))
		}
		return nil, err
	}
	if u := view.Uptane(); u.Director == nil || u.Image == nil {
		return nil, advice.New(advice.Refused, "officers put both in: 'hanaper trust add --director-root FILE --image-root FILE', or a ceremony", "the trust repository of environment %s does not carry both Uptane roots",
			show.Text(view.Environment()))
	}
	if looked != nil {
		done("take care: %v; what was seen last is used: %s", looked, o.describe())
	}
	return o, nil
}

// awaitState does what needs the state folder alone, once other processes have left it.
func awaitState(do func() error) error {
	for end := time.Now().Add(statePatience); ; time.Sleep(20 * time.Millisecond) {
		if err := do(); !errors.Is(err, durable.ErrLocked) || time.Now().After(end) {
			return err
		}
	}
}

// apart is the same with a copy of the state, which is removed by the function that it gives: for who only looks.
func (c TrustConfig) apart() (*TrustConfig, func(), error) {
	dir, err := os.MkdirTemp("", "hanaper-station-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	if _, err = os.Stat(c.State); err == nil {
		err = awaitState(func() error {
			lock, err := durable.Lock(filepath.Join(c.State, "lock"))
			if err != nil {
				return err
			}
			defer lock.Close()
			return os.CopyFS(filepath.Join(dir, "state"), input.Dir(c.State))
		})
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("uptane.trust.state: %w", err)
	}
	c.State = filepath.Join(dir, "state")
	return &c, remove, nil
}
