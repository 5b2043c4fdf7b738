package registry

import (
	"encoding/hex"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/hanaper/hanaper/gateway"
)

// print stands for a device in memory: 128 bits of a hash with a secret of this process, so that a million retired devices take some ten megabytes,
// and nobody can look for two ids with the same one.
type print [2]uint64

// memory is what is known without a question to the database.
type memory struct {
	seeds [2]maphash.Seed
	// number is that of the last act that was taken in. It changes under mu.
	number atomic.Int64
	// quiet says that there is nothing against anybody.
	quiet atomic.Bool

	mu     sync.RWMutex
	barred map[print]State
	// recent is emptied of a device by every act on it, so that it is met anew.
	recent *recent
	// superseded are keys that another one has taken the place of, by device: of those that were changed lately, so that open connections by them end.
	superseded *lru.Cache[print, [][32]byte]
	// forgotten are the devices that were forgotten lately, each with the keys by which it was met here since: open connections by others end.
	forgotten *lru.Cache[print, [][32]byte]
}

func (m *memory) prepare() (err error) {
	m.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	m.barred = map[print]State{}
	if m.recent, err = lru.New[print, [32]byte](keptInMind); err != nil {
		return err
	}
	if m.superseded, err = lru.New[print, [][32]byte](keptInMind); err != nil {
		return err
	}
	m.forgotten, err = lru.New[print, [][32]byte](keptInMind)
	return err
}

func (m *memory) print(environment, fold string) (p print) {
	for i, seed := range m.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		h.WriteString(environment)
		h.WriteByte(0)
		h.WriteString(fold)
		p[i] = h.Sum64()
	}
	return p
}

// standing is gateway.Registry's Standing.
func (m *memory) standing(environment, fold string, key [32]byte) error {
	if m.quiet.Load() {
		return nil
	}
	p := m.print(environment, fold)
	m.mu.RLock()
	state, barred := m.barred[p]
	m.mu.RUnlock()
	if barred {
		return barredAs(state)
	}
	if key != ([32]byte{}) {
		if keys, ok := m.superseded.Peek(p); ok {
			for _, k := range keys {
				if k == key {
					return gateway.ErrOldKey
				}
			}
		}
		if keys, ok := m.forgotten.Peek(p); ok && !slices.Contains(keys, key) {
			return gateway.ErrOldKey
		}
	}
	return nil
}

// meets notes a key by which a device was met, before its connection is judged by it.
func (m *memory) meets(k Key, key [32]byte) {
	p := m.print(k.Environment, k.Fold)
	m.mu.Lock()
	defer m.mu.Unlock()
	if keys, ok := m.forgotten.Peek(p); ok && !slices.Contains(keys, key) {
		m.forgotten.Add(p, append(keys[:len(keys):len(keys)], key))
	}
}

func barredAs(s State) error {
	if s == Retired {
		return gateway.ErrRetired
	}
	return gateway.ErrBlocked
}

// replace begins anew with those who are barred.
func (m *memory) replace(barred map[print]State, number int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.barred = barred
	m.recent.Purge()
	m.superseded.Purge()
	m.forgotten.Purge()
	m.number.Store(number)
	m.hush()
}

// hush notes whether there is anything against anybody.
func (m *memory) hush() {
	m.quiet.Store(len(m.barred) == 0 && m.superseded.Len() == 0 && m.forgotten.Len() == 0)
}

// learn takes in the act that follows those known; false where it cannot be told from it what has changed.
func (m *memory) learn(e gateway.LogEntry) bool {
	p := m.print(e.Environment, Fold(e.Device))
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Number != m.number.Load()+1 {
		return false
	}
	switch e.Verb {
	case gateway.Block, gateway.Retire:
		m.barred[p] = Blocked
		if e.Verb == gateway.Retire {
			m.barred[p] = Retired
		}
		m.recent.Remove(p)
	case gateway.Unblock, gateway.Reinstate:
		delete(m.barred, p)
		m.recent.Remove(p)
	case gateway.Forget:
		delete(m.barred, p)
		m.recent.Remove(p)
		m.superseded.Remove(p)
		m.forgotten.Add(p, nil)
	case gateway.AllowRekey:
		m.superseded.Remove(p)
		m.recent.Remove(p)
	case gateway.Rekeyed:
		m.supersede(p, e.Detail)
		m.recent.Remove(p)
	case gateway.Note, gateway.Unflag, gateway.Flagged, gateway.Imported:
	default:
		return false
	}
	m.number.Store(e.Number)
	m.hush()
	return true
}

// supersede reads "from OLD to NEW".
func (m *memory) supersede(p print, detail string) {
	words := strings.Fields(detail)
	if len(words) != 4 {
		return
	}
	var old, is [32]byte
	if n, err := hex.Decode(old[:], []byte(words[1])); err != nil || n != 32 {
		return
	}
	if n, err := hex.Decode(is[:], []byte(words[3])); err != nil || n != 32 {
		return
	}
	keys, _ := m.superseded.Peek(p)
	next := make([][32]byte, 0, len(keys)+1)
	for _, k := range append(keys[:len(keys):len(keys)], old) {
		if k != is && len(next) < maxSuperseded {
			next = append(next, k)
		}
	}
	m.superseded.Add(p, next)
}

// maxSuperseded bounds the keys of one device in memory; who is beyond is refused when he is met.
const maxSuperseded = 16

// certificate is the one by which a device was last met.
func (m *memory) certificate(k Key) ([32]byte, bool) {
	return m.recent.Peek(m.print(k.Environment, k.Fold))
}

// remember keeps a device's certificate, unless acts were taken in since number.
func (m *memory) remember(k Key, certificate [32]byte, number int64) {
	p := m.print(k.Environment, k.Fold)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.number.Load() == number {
		m.recent.Add(p, certificate)
	}
}
