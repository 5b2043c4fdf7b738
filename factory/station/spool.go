package station

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// A spool takes the requests of a station without a network to a connected desk, and the answers back (docs/spec/spool.md). What is
// carried decides nothing:
//
//   - The desk submits only what a station under its Operations Root signed, as that desk, and hanaperd judges each request as any other.
//   - The station takes only answers to a spool that it wrote itself, whose digest it kept, signed by a station under its Operations
//     Root; each certificate is held to the station's own fleet root, the id and the public key that it kept, as an answer of hanaperd is.
//     All of them are checked before the first is written.
//
// A stick that is lost or stolen holds requests and certificates: names and public keys, no secret.

// SpoolConfig is the configuration's section about spools.
type SpoolConfig struct {
	// State is the folder in which a station keeps what it exported.
	State string `yaml:"state"`
	// Root is the Operations Root; factory.ca where it is empty. CRL is its list of revoked certificates; empty for none.
	Root string `yaml:"root"`
	CRL  string `yaml:"crl"`
	// Stations are whose spools a desk submits, and whose answers a station takes; none: those of every station under the root.
	Stations []string `yaml:"stations"`
}

// Payload types and formats of what is carried and kept.
const (
	spoolType     = "application/vnd.hanaper.spool+json"
	answersType   = "application/vnd.hanaper.spool-answers+json"
	spoolFormat   = "hanaper-spool/1"
	answersFormat = "hanaper-spool-answers/1"
	pendingFormat = "hanaper-spool-pending/1"
)

// maxSpool bounds a spool and its answers, in bytes; maxSpooled the devices in it.
const (
	maxSpool   = 256 << 20
	maxSpooled = 20_000
)

type spooled struct {
	Format  string `json:"format"`
	ID      string `json:"id"`
	Station string `json:"station"`
	Created string `json:"created"`
	// Held is how many entries the station's kept checkpoint of the issuance log covers, Last the last certificate that it got.
	Held     int64            `json:"held"`
	Last     string           `json:"last"`
	Requests []spooledRequest `json:"requests"`
}

type spooledRequest struct {
	DeviceID   string `json:"device_id"`
	HardwareID string `json:"hardware_id"`
	Lot        string `json:"lot"`
	CSR        string `json:"csr"`
}

// pending is what the station keeps of a spool: what answers are held against.
type pending struct {
	Format string          `json:"format"`
	ID     string          `json:"id"`
	Digest string          `json:"digest"` // SHA-256 of the spool's payload, hex
	Held   int64           `json:"held"`
	Boards []pendingDevice `json:"boards"`
}

type pendingDevice struct {
	DeviceID   string `json:"device_id"`
	HardwareID string `json:"hardware_id"`
	Lot        string `json:"lot"`
	Token      string `json:"token"`
	Import     string `json:"import"`
	Request    string `json:"request"` // SHA-256 of the request as it was sent, hex
	Key        []byte `json:"key"`     // SubjectPublicKeyInfo
}

func (d pendingDevice) board() Board {
	return Board{ID: d.DeviceID, HardwareID: d.HardwareID, Lot: d.Lot, Token: d.Token, Import: d.Import, Where: d.DeviceID}
}

var spoolID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Exported says what a spool holds.
type Exported struct {
	ID      string `json:"id"`
	Devices int    `json:"devices"`
	File    string `json:"file"`
}

// ExportSpool has the boards' keys made, and writes their requests into a new file, signed by this station.
func ExportSpool(ctx context.Context, conf *Config, boards []Board, out string, w With) (*Exported, error) {
	if len(boards) > maxSpooled {
		return nil, advice.New(advice.Usage, "make several spools", "%d devices; a spool holds at most %d", len(boards), maxSpooled)
	}
	if conf.Device.Attestation != "" {
		return nil, advice.New(advice.Usage, "enrol such devices at a connected station", "evidence of where a key was born is made for a challenge that is good for minutes: it cannot be spooled")
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, advice.New(advice.Usage, "move it away, or choose another name", "%s exists already", show.Text(out))
	}
	line, err := NewLine(conf, LineConfig{Boards: boards, Concurrent: 1}, w)
	if err != nil {
		return nil, err
	}
	base := line.base
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	s := spooled{Format: spoolFormat, ID: hex.EncodeToString(id), Station: base.name, Created: base.now().UTC().Format(time.RFC3339)}
	if s.Held, err = base.issuances.held(); err != nil {
		return nil, err
	}
	if s.Last, err = base.got.last(); err != nil {
		return nil, err
	}
	kept := pending{Format: pendingFormat, ID: s.ID, Held: s.Held}
	for _, station := range line.stations {
		q, key, err := station.keyed(ctx)
		if err != nil {
			return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", show.Text(station.c.Device.ID), err), advice.Hint(err)+"; no spool was written: the same command again goes on")
		}
		d := station.c.Device
		s.Requests = append(s.Requests, spooledRequest{d.ID, d.HardwareID, d.Lot, q.CSR})
		kept.Boards = append(kept.Boards, pendingDevice{d.ID, d.HardwareID, d.Lot, d.Token, station.c.Import, digestOf(q.CSR), key})
	}
	file, digest, err := seal(base.identity, spoolType, s)
	if err != nil {
		return nil, err
	}
	kept.Digest = hex.EncodeToString(digest[:])
	b, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return nil, err
	}
	// First what the answers will be held against, then what leaves the house.
	if err := durable.Mkdir(filepath.Dir(conf.pendingFile(s.ID)), 0o700); err != nil {
		return nil, err
	}
	if err := durable.Create(conf.pendingFile(s.ID), append(b, '\n'), 0o600); err != nil {
		return nil, err
	}
	if err := durable.Create(out, file, 0o644); err != nil {
		return nil, err
	}
	return &Exported{s.ID, len(s.Requests), out}, nil
}

// keyed has a board's keys made or found, and its request.
func (s *Station) keyed(ctx context.Context) (q factory.EnrollRequest, spki []byte, err error) {
	o, err := s.open(ctx)
	if err != nil {
		return q, nil, err
	}
	defer o.keys.close()
	if q, err = s.request(o.key, nil); err != nil {
		return q, nil, err
	}
	spki, err = csr.MarshalKey(o.key.Public())
	return q, spki, err
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (c *Config) pendingFile(id string) string {
	return filepath.Join(c.Spool.State, id, "pending.json")
}

// readPending finds what this station kept of a spool.
func (c *Config) readPending(id string) (*pending, error) {
	if !spoolID.MatchString(id) {
		return nil, advice.New(advice.Unverified, "", "%.80q is no id of a spool", id)
	}
	b, err := input.Read(c.pendingFile(id), maxSpool)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.New(advice.Refused, "answers go back to the station that wrote the spool; is spool.state the right folder?", "this station wrote no spool %s", show.Text(id))
	}
	if err != nil {
		return nil, err
	}
	var p pending
	if err := strict.JSON(c.pendingFile(id), b, &p); err != nil {
		return nil, err
	}
	if p.Format != pendingFormat || p.ID != id {
		return nil, advice.New(advice.Refused, "use the release that wrote it", "%s is of format %.40q", show.Text(c.pendingFile(id)), p.Format)
	}
	return &p, nil
}

// readCarried reads a file from a stick and verifies who signed it.
func (c *Config) readCarried(path, payloadType string, now func() time.Time) (payload []byte, by string, err error) {
	t, err := c.spoolTrust(now)
	if err != nil {
		return nil, "", err
	}
	b, err := input.Read(path, maxSpool)
	if err != nil {
		return nil, "", advice.Wrap(advice.Usage, err, "")
	}
	if payload, by, err = t.unseal(path, payloadType, b); err != nil {
		return nil, "", err
	}
	for _, name := range c.Spool.Stations {
		if strings.EqualFold(name, by) {
			return payload, by, nil
		}
	}
	if len(c.Spool.Stations) > 0 {
		return nil, "", advice.New(advice.Refused, "add it to spool.stations if it is meant to be", "%s is signed by station %s, which is not on the list", show.Text(path), show.Text(by))
	}
	return payload, by, nil
}
