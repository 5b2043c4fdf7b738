package apart

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A frame is its length (4 bytes, big endian, of what follows), the number of the request that it is or answers (8 bytes), its
// kind (1 byte), and a body. Requests are numbered from 1 and may be answered in any order; 0 is for the pulse.
type frame struct {
	id   uint64
	kind kind
	body []byte
}

// kind says what a frame is.
type kind byte

// The kinds. From kindDone on they go from the child to the parent.
const (
	kindOpen kind = iota + 1
	kindKey
	kindKeys
	kindGenerate
	kindDestroy
	kindPutCertificate
	kindCertificate
	kindSign
	kindClose
	kindPulse
	kindPIN   // answers kindAskPIN
	kindNoPIN // the same; the body is the reason

	kindDone   kind = 0x80 // the answer to the request
	kindFailed kind = 0x81 // the error that it ended with
	kindAskPIN kind = 0x82 // the child needs the PIN for a login; the body is the token's description
	kindBeat   kind = 0x83 // the answer to kindPulse
)

func (k kind) String() string {
	switch k {
	case kindOpen:
		return "opening the token"
	case kindKey:
		return "finding a key"
	case kindKeys:
		return "listing the keys"
	case kindGenerate:
		return "a generation"
	case kindDestroy:
		return "a destruction"
	case kindPutCertificate:
		return "storing a certificate"
	case kindCertificate:
		return "finding a certificate"
	case kindSign:
		return "a signature"
	case kindClose:
		return "closing the token"
	}
	return fmt.Sprintf("call 0x%02x", byte(k))
}

const headSize = 4 + 8 + 1

var errFrame = errors.New("a frame that is not well formed")

// sender writes frames. Those that come while another is written go out together. It is safe for concurrent use.
type sender struct {
	w       io.Writer
	mu      sync.Mutex
	buf     []byte
	spare   []byte
	writing bool
	written uint64 // how many writes ended
	err     error
}

// send writes a frame of head and body; both may be used again when it returns. An error is for good.
func (s *sender) send(id uint64, k kind, parts ...[]byte) error {
	s.add(id, k, parts...)
	return s.flush()
}

// add has a frame written by the next flush.
func (s *sender) add(id uint64, k kind, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if need := len(s.buf) + headSize + n; need > cap(s.buf) {
		grown := append(make([]byte, 0, max(need, 2*cap(s.buf))), s.buf...)
		clear(s.buf)
		s.buf = grown
	}
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(8+1+n))
	s.buf = binary.BigEndian.AppendUint64(s.buf, id)
	s.buf = append(s.buf, byte(k))
	for _, p := range parts {
		s.buf = append(s.buf, p...)
	}
}

// flush writes what was added. If somebody else is writing, he takes it along.
func (s *sender) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.writing {
		return s.err
	}
	s.writing = true
	for len(s.buf) > 0 && s.err == nil {
		out := s.buf
		s.buf, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		_, err := s.w.Write(out)
		clear(out) // it may hold a PIN
		s.mu.Lock()
		s.written++
		s.err = err
		if cap(out) <= 64<<10 {
			s.spare = out[:0]
		}
	}
	s.writing = false
	return s.err
}

// progress says how many writes ended, and whether one waits for the other end to read.
func (s *sender) progress() (written uint64, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written, s.writing
}

// receiver reads frames of up to max bytes of body.
type receiver struct {
	r          io.Reader
	max        int
	buf        []byte
	start, end int
}

func newReceiver(r io.Reader, max int) *receiver {
	return &receiver{r: r, max: max, buf: make([]byte, 64<<10)}
}

// next reads a frame. Its body is the caller's. What was read stays nowhere else.
func (r *receiver) next() (frame, error) {
	if err := r.fill(headSize); err != nil {
		return frame{}, err
	}
	head := r.buf[r.start:]
	n := int(binary.BigEndian.Uint32(head)) - (headSize - 4)
	f := frame{id: binary.BigEndian.Uint64(head[4:]), kind: kind(head[12])}
	if n < 0 || n > r.max {
		return frame{}, fmt.Errorf("%w: its length is %d bytes", errFrame, n)
	}
	r.drop(headSize)
	f.body = make([]byte, n)
	have := copy(f.body, r.buf[r.start:r.end])
	r.drop(have)
	if have < n {
		if _, err := io.ReadFull(r.r, f.body[have:]); err != nil {
			return frame{}, err
		}
	}
	return f, nil
}

// more says whether the next frame is here already, at least its head.
func (r *receiver) more() bool { return r.end-r.start >= headSize }

// fill reads until n bytes are there.
func (r *receiver) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for r.end < n {
		m, err := r.r.Read(r.buf[r.end:])
		r.end += m
		if err != nil && r.end < n {
			if r.end > 0 && errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// drop wipes and forgets n bytes at the beginning.
func (r *receiver) drop(n int) {
	clear(r.buf[r.start : r.start+n])
	r.start += n
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
}
