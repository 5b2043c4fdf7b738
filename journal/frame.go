package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
)

const (
	magic = "hanaper-journal/1 "
	// headSize is the width of a frame's head: index, length and checksum in hexadecimal, "\n".
	headSize = 16 + 1 + 8 + 1 + 8 + 1
	// tailSize is the width of a frame's tail: "\n", the chain hash in hexadecimal, "\n".
	tailSize = 1 + 2*sha256.Size + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EntryError says which entry of a journal is damaged, and how.
type EntryError struct {
	// Index counts from 0; -1 is the file's first line.
	Index int64
	What  string
	torn  bool
}

func (e *EntryError) Error() string {
	if e.Index < 0 {
		return "journal: first line " + e.What
	}
	return fmt.Sprintf("journal: entry %d %s", e.Index, e.What)
}

// Torn reports whether the file ends within this entry, as after a crash during the write.
func (e *EntryError) Torn() bool { return e.torn }

type chain [sha256.Size]byte

// firstLine is the file's first line with its newline.
func firstLine(origin string) []byte { return []byte(magic + origin + "\n") }

func seed(line []byte) chain { return sha256.Sum256(line) }

// next is SHA-256(previous chain hash || head || leaf): an entry left out, doubled or moved breaks it at that entry.
func (c chain) next(head, leaf []byte) chain {
	h := sha256.New()
	h.Write(c[:])
	h.Write(head)
	h.Write(leaf)
	return chain(h.Sum(nil))
}

func appendHead(b []byte, index int64, size int) []byte {
	start := len(b)
	var n [8]byte
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint64(n[:0], uint64(index)))
	b = append(b, ' ')
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint32(n[:0], uint32(size)))
	b = append(b, ' ')
	b = hex.AppendEncode(b, binary.BigEndian.AppendUint32(n[:0], crc32.Checksum(b[start:], castagnoli)))
	return append(b, '\n')
}

// appendFrame appends the frame of leaf to b and returns the chain hash after it.
func appendFrame(b []byte, c chain, index int64, leaf []byte) ([]byte, chain) {
	start := len(b)
	b = appendHead(b, index, len(leaf))
	c = c.next(b[start:], leaf)
	b = append(b, leaf...)
	b = append(b, '\n')
	b = hex.AppendEncode(b, c[:])
	return append(b, '\n'), c
}

// parseOrigin reads the first line of data.
func parseOrigin(data []byte) (origin string, size int, err error) {
	line, _, ok := bytes.Cut(data[:min(len(data), len(magic)+MaxOrigin+1)], []byte("\n"))
	if !ok || !bytes.HasPrefix(line, []byte(magic)) {
		return "", 0, &EntryError{Index: -1, What: "is not that of a journal"}
	}
	origin = string(line[len(magic):])
	if err := checkOrigin(origin); err != nil {
		return "", 0, &EntryError{Index: -1, What: "names no proper origin"}
	}
	return origin, len(line) + 1, nil
}

// parseHead reads the head of entry index, which must be the first headSize bytes of data.
func parseHead(data []byte, index int64) (size int, err error) {
	damaged := func(what string) (int, error) { return 0, &EntryError{Index: index, What: what} }
	head := data[:headSize]
	length, lerr := strconv.ParseUint(string(head[17:25]), 16, 32)
	if lerr != nil || !bytes.Equal(head, appendHead(nil, index, int(length))) {
		if want := appendHead(nil, index, 0); !bytes.Equal(head[:17], want[:17]) && intact(head) {
			return damaged("is missing, doubled or out of order: another one stands in its place")
		}
		return damaged("has a damaged head")
	}
	if length == 0 || length > MaxLeaf {
		return damaged(fmt.Sprintf("has %d bytes; 1 to %d are allowed", length, MaxLeaf))
	}
	return int(length), nil
}

// tornHead returns nil if part, which is shorter than a head, may be the beginning of entry index.
func tornHead(part []byte, index int64) error {
	want := appendHead(nil, index, 0)[:17]
	n := min(len(part), len(want))
	if !bytes.Equal(part[:n], want[:n]) {
		return &EntryError{Index: index, What: "is not the beginning of an entry"}
	}
	return nil
}

// intact reports whether a head's own checksum fits, whatever it says.
func intact(head []byte) bool {
	return string(head[26:]) == fmt.Sprintf("%08x\n", crc32.Checksum(head[:26], castagnoli))
}

// parseTail checks the tail of entry index: tailSize bytes at the start of data.
func parseTail(data []byte, index int64, c chain) error {
	want := append(hex.AppendEncode([]byte("\n"), c[:]), '\n')
	if !bytes.Equal(data[:tailSize], want) {
		return &EntryError{Index: index, What: "does not match its hash: it, or one before it, was changed"}
	}
	return nil
}
