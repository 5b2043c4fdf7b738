package menu

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

func (m *menu) checkImage(ctx context.Context) error {
	const title = "Check the image"
	var b strings.Builder
	version, manifest, _ := strings.Cut(first(notes(m.Machine, imageNote)), " ")
	fmt.Fprintf(&b, "What the running image says of itself. A changed one could say the same: check the medium on another machine, too.\n\n")
	fmt.Fprintf(&b, "image %s; started: %s\nmanifest of its files, SHA-256\n  %s\n", show.Text(version), show.Text(first(notes(m.Machine, bootNote))), show.Text(manifest))
	fmt.Fprintf(&b, "hanaper, SHA-256 (an approval names it)\n  %s\n", show.Text(m.SHA256))
	m.page(title, b.String(), "The medium is read now; this takes a minute ...")
	note := filepath.Join(m.Machine, mediumNote)
	if err := os.Remove(note); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	media, err := m.media()
	if err != nil {
		return err
	}
	switch len(media) {
	case 0:
		fmt.Fprintln(&b, "Not read: the medium of the image is not plugged in (an ISO with the label HANAPER, or a stick with EFI/BOOT/BOOTX64.EFI). Plug it in, and come back.")
	case 1:
		fmt.Fprintln(&b, "One medium that starts an image is plugged in. That this machine was started from this one, you know: nothing on it tells. Compare its SHA-256 with the release, read aloud.")
		if err := os.WriteFile(note, []byte(fmt.Sprintf("%x\n", media[0].digest)), 0o600); err != nil {
			return err
		}
	default:
		fmt.Fprintf(&b, "%d MEDIA that start an image are plugged in, and nothing tells from which of them this machine was started. Transcripts will name none of them. "+
			"Take out all but the one that was in it when it was switched on, and come back.\n", len(media))
	}
	for _, medium := range media {
		fmt.Fprintf(&b, "\n%s, SHA-256\n  %x\n%s\n", medium.name, medium.digest, m.Words(medium.digest))
	}
	return m.pages(title, b.String())
}

func first(list []string) string {
	if len(list) == 0 {
		return "unknown"
	}
	return list[0]
}

type medium struct {
	name   string
	digest [32]byte
}

// errNoISO: what is called an ISO is none.
var errNoISO = errors.New("it is no ISO")

// unified is the file of a stick that a UEFI starts; "" where there is none.
func unified(s Stick) string {
	if s.Kind != "vfat" || s.At == "" {
		return ""
	}
	path := filepath.Join("EFI", "BOOT", "BOOTX64.EFI") // FAT knows no small letters
	if info, err := os.Lstat(filepath.Join(s.At, path)); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// starts says whether a machine can be started from a stick.
func starts(s Stick) bool { return s.Kind == "iso9660" || unified(s) != "" }

// media reads what an image is started from, as much of an ISO as its volume descriptor says (ECMA-119, 8.4.8 and 8.4.12), and the
// unified image in its place on an EFI system partition.
func (m *menu) media() (list []medium, err error) {
	for _, s := range m.sticks.list {
		var digest [32]byte
		name := s.named()
		switch path := unified(s); {
		case s.Kind == "iso9660" && s.Label == "HANAPER":
			digest, err = wholeISO(filepath.Join(m.sticks.dev, s.Device))
		case path != "":
			name += ": " + path
			var f *os.File
			if f, err = input.Open(filepath.Join(s.At, path)); err == nil {
				digest, err = digestOf(f)
				f.Close()
			}
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s could not be read: %w", s.String(), err)
		}
		list = append(list, medium{name, digest})
	}
	return list, nil
}

func wholeISO(path string) (digest [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	const block = 2048
	descriptor := make([]byte, block)
	if _, err := f.ReadAt(descriptor, 16*block); err != nil {
		return digest, err
	}
	if string(descriptor[1:6]) != "CD001" || binary.LittleEndian.Uint16(descriptor[128:]) != block {
		return digest, errNoISO
	}
	return digestOf(io.LimitReader(f, int64(binary.LittleEndian.Uint32(descriptor[80:]))*block))
}

func digestOf(r io.Reader) (digest [32]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return digest, err
	}
	return [32]byte(h.Sum(nil)), nil
}
