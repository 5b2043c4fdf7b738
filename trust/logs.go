package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

// MaxCheckpointSize bounds the checkpoint of an issuance log, in bytes; MaxLogs the logs of an environment.
const (
	MaxCheckpointSize = 64 << 10
	MaxLogs           = 64
)

// LogInfo is the checkpoint of a factory's issuance log (C2SP tlog-checkpoint), as it was published. The publisher has verified its
// signature and that it follows the one before; a reader of the repository checks only that it does not go back.
type LogInfo struct {
	// Origin names the log.
	Origin string
	// Size is how many entries the checkpoint covers, Root their root.
	Size int64
	Root [32]byte
	// Note is the signed note.
	Note []byte
}

func sha256Of(s string) []byte {
	d := sha256.Sum256([]byte(s))
	return d[:]
}

// parseLog reads origin, size and root of a signed note; signatures are not looked at.
func parseLog(note []byte) (LogInfo, bool) {
	body, signatures, ok := bytes.Cut(note, []byte("\n\n"))
	lines := strings.Split(string(body), "\n")
	if !ok || len(signatures) == 0 || len(lines) < 3 || lines[0] == "" || len(note) > MaxCheckpointSize {
		return LogInfo{}, false
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, berr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || size < 1 || strconv.FormatInt(size, 10) != lines[1] || berr != nil || len(root) != 32 {
		return LogInfo{}, false
	}
	return LogInfo{Origin: lines[0], Size: size, Root: [32]byte(root), Note: note}, true
}

// readLogs reads the checkpoints that the online role lists; where the policy names logs, only theirs, signed by their keys.
func readLogs(r *reader, m *targetsMetadata, policy Policy) (map[string]LogInfo, error) {
	logs := map[string]LogInfo{}
	for _, name := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		if !isLogTarget(name) {
			continue
		}
		if len(logs) == MaxLogs {
			return nil, refuse(ErrMalformed, "the online role", "it lists more than %d logs", MaxLogs)
		}
		data, err := readTarget(r, m, name, MaxCheckpointSize)
		if err != nil {
			return nil, err
		}
		l, ok := parseLog(data)
		if !ok || logTarget(l.Origin) != name {
			return nil, refuse(ErrMalformed, "target "+name, "it is not the checkpoint of the log that it is named for")
		}
		if err := policy.checkLog(l); err != nil {
			return nil, refuse(ErrMalformed, "target "+name, "%v", err)
		}
		logs[name] = l
	}
	return logs, nil
}

// checkLog refuses the checkpoint of a log that the policy does not name, and one that the log's key did not sign. Where the policy names no
// logs, what the publisher verified is believed.
func (p Policy) checkLog(l LogInfo) error {
	key, ok := p.logKeyOf(l.Origin)
	if !ok {
		return errors.New("the officers' policy names other logs, and not this one")
	}
	if key == "" {
		return nil
	}
	v, err := journal.ParseVerifierKey(key)
	if err != nil {
		return err
	}
	c, err := journal.VerifyCheckpoint(l.Note, v)
	if err == nil && (c.Origin != l.Origin || c.Size != l.Size || c.Root != l.Root) {
		err = errors.New("what is signed is the checkpoint of another log")
	}
	return err
}

// logFollows refuses a checkpoint that goes back; whether it is of the same history nobody can see without a proof.
func logFollows(was, is LogInfo) error {
	name := "the checkpoint of log " + show.Text(was.Origin)
	if is.Size < was.Size {
		return refuse(ErrRollback, name, "from %d entries to %d", was.Size, is.Size)
	}
	if is.Size == was.Size && is.Root != was.Root {
		return refuse(ErrRollback, name, "%d entries have two roots", is.Size)
	}
	return nil
}

// checkLogs refuses a next view that forgets a log, or takes one back.
func checkLogs(prev, next *View) error {
	for _, name := range slices.Sorted(maps.Keys(prev.logs)) {
		was := prev.logs[name]
		is, ok := next.logs[name]
		if !ok && next.officers.policy.checkLog(was) != nil {
			continue // The officers no longer name the log, or the key that signed this.
		}
		if !ok {
			return refuse(ErrLoosened, "the checkpoint of log "+show.Text(was.Origin), "it is gone")
		}
		if err := logFollows(was, is); err != nil {
			return err
		}
	}
	return nil
}

// Logs are the checkpoints of issuance logs, sorted by origin.
func (v *View) Logs() []LogInfo {
	return slices.SortedFunc(maps.Values(v.logs), func(a, b LogInfo) int { return strings.Compare(a.Origin, b.Origin) })
}

// OfferCheckpoint has the checkpoint of an issuance log published with the next publication, whatever it is for, and by Refresh when
// LogEvery has passed since one was published. The caller has verified its signature, and that it follows the one before.
func (p *Publisher) OfferCheckpoint(note []byte) error {
	l, ok := parseLog(note)
	if !ok {
		return refuse(ErrMalformed, "the checkpoint", "it is not one of a log with entries")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view != nil {
		if err := p.view.officers.policy.checkLog(l); err != nil {
			return refuse(ErrSignature, "the checkpoint of log "+show.Text(l.Origin), "%v", err)
		}
		if was, ok := p.view.logs[logTarget(l.Origin)]; ok {
			if err := logFollows(was, l); err != nil {
				return err
			}
		}
	}
	if p.offered == nil {
		p.offered = map[string]LogInfo{}
	}
	p.offered[logTarget(l.Origin)] = l
	return nil
}

// newLogs are the offered checkpoints that cover more than what is published, of logs that the officers' policy lets in.
func (p *Publisher) newLogs(policy Policy) map[string]LogInfo {
	list := map[string]LogInfo{}
	for name, l := range p.offered {
		if policy.checkLog(l) != nil {
			continue
		}
		if p.view == nil || l.Size > p.view.logs[name].Size {
			list[name] = l
		}
	}
	return list
}
