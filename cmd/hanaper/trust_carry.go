package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// A working folder travels as a tar file. One that comes in is read into memory within bounds, and nothing of it is written before all of it verifies:
// whoever made it can have the officer see a good draft of somebody, or nothing.

const (
	// maxArchive bounds an archive in bytes, maxArchiveFiles what is in it.
	maxArchive      = 1 << 30
	maxArchiveFiles = 4096
	// maxExtraNamed is how many files that should not be there are named.
	maxExtraNamed = 5
)

// archived are the names that may be in an archive. None leads out of its folder, and none is another's by the rules of some file system.
var archived = regexp.MustCompile(`^(work\.json|(previous|next)/(metadata/[1-9][0-9]{0,9}\.(root|targets)\.json|targets/(officers-crl/|uptane/)?[0-9a-f]{64}\.[a-z0-9][a-z0-9.-]{0,127}))$`)

func trustExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "pack WORK into a tar file for the stick", ArgsUsage: "WORK",
		Description: "It holds no secret.\n\nExample:\n  hanaper trust export --out trust.tar work",
		Flags:       []cli.Flag{outFlag("write the archive to `FILE`"), rootPinFlag(false), uptaneTimeFlag},
		Action:      exportTrust,
	}
}

func trustImportCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "take an archive in: as a new WORK, or its signatures into the same draft", ArgsUsage: "ARCHIVE WORK",
		Description: "Example:\n  hanaper trust import --root 1.root.json trust.tar work",
		Flags:       []cli.Flag{rootPinFlag(false), uptaneTimeFlag},
		Action:      importTrust,
	}
}

func exportTrust(c *cli.Context) error {
	args, pin, now, err := trustArgs(c, "WORK")
	if err != nil {
		return err
	}
	w, err := viewWork(args[0], pin, now)
	if err != nil {
		return err
	}
	files, err := w.files()
	if err != nil {
		return err
	}
	data, err := pack(files)
	if err != nil {
		return err
	}
	if err := createFile(c.String("out"), data); err != nil {
		return err
	}
	s := w.draft.Standing()
	fmt.Fprintf(c.App.Writer, "%s: version %d, digest %x, %d of %d signatures\n", show.Text(c.String("out")), w.draft.Version(), w.draft.Digest(), len(s.Signed), s.Threshold)
	return nil
}

// pack makes the same archive of the same files, whenever and by whomever.
func pack(files trust.Files) ([]byte, error) {
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name])), Format: tar.FormatGNU, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := out.Write(files[name]); err != nil {
			return nil, err
		}
	}
	err := out.Close()
	return b.Bytes(), err
}

// unpack reads an archive into memory: regular files of the names that a working folder has, each once, within bounds.
func unpack(r io.Reader) (trust.Files, error) {
	bad := func(format string, args ...any) (trust.Files, error) {
		return nil, advice.New(advice.Unverified, "take an archive that 'hanaper trust export' has made", "the archive %w", fmt.Errorf(format, args...))
	}
	limited := &io.LimitedReader{R: r, N: maxArchive}
	in := tar.NewReader(limited)
	files := trust.Files{}
	total := int64(0)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bad("cannot be read: %v", err)
		}
		switch {
		case h.Typeflag != tar.TypeReg:
			return bad("holds %s, which is no file", show.Text(h.Name))
		case !archived.MatchString(h.Name):
			return bad("holds %s, which no working folder has", show.Text(h.Name))
		case !plain(h.PAXRecords):
			return bad("holds %s in a form that no program needs", show.Text(h.Name))
		case files[h.Name] != nil:
			return bad("holds %s twice", show.Text(h.Name))
		case len(files) == maxArchiveFiles:
			return bad("holds more than %d files", maxArchiveFiles)
		case h.Size < 1 || h.Size > trust.MaxCRLSize:
			return bad("holds %s with %d bytes", show.Text(h.Name), h.Size)
		}
		if total += h.Size; total > maxArchive {
			return bad("holds more than %d bytes", maxArchive)
		}
		// What is there is read, not what is promised.
		data, err := io.ReadAll(io.LimitReader(in, h.Size))
		if err != nil || int64(len(data)) != h.Size {
			return bad("ends within %s", show.Text(h.Name))
		}
		files[h.Name] = data
	}
	if limited.N == 0 {
		return bad("is larger than %d bytes", maxArchive)
	}
	return files, nil
}

// plain says whether the extended records of an entry are a long name and dates. Others make a file of a few bytes out to be a large one.
func plain(records map[string]string) bool {
	for key := range records {
		if !slices.Contains([]string{"path", "mtime", "atime", "ctime"}, key) {
			return false
		}
	}
	return true
}

// readArchive opens what an archive holds, and refuses files besides: nothing vouches for those, and nobody would see them.
func readArchive(name string, files trust.Files, pin *trust.Pin, now time.Time) (*work, error) {
	w, err := readWork(name, files, pin, now)
	if err != nil {
		return nil, err
	}
	wanted, err := w.files()
	if err != nil {
		return nil, err
	}
	var extra []string
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if wanted[file] == nil {
			extra = append(extra, show.Text(file))
		}
	}
	if len(extra) == 0 {
		return w, nil
	}
	if n := len(extra) - maxExtraNamed; n > 0 {
		extra = append(extra[:maxExtraNamed], fmt.Sprintf("%d more", n))
	}
	return nil, advice.New(advice.Unverified, "take an archive that 'hanaper trust export' has made", "the archive holds %s, which nothing in it names", strings.Join(extra, ", "))
}

func importTrust(c *cli.Context) error {
	args, pin, now, err := trustArgs(c, "ARCHIVE", "WORK")
	if err != nil {
		return err
	}
	f, err := input.Open(args[0])
	if err != nil {
		return advice.Wrap(advice.Usage, err, "name an archive that you may read")
	}
	defer f.Close()
	files, err := unpack(f)
	if err != nil {
		return err
	}
	dir := filepath.Clean(args[1])
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if pin == nil {
			return advice.New(advice.Usage, "add --root, which you keep: what the archive says of itself proves nothing", "there is no %s, and no root to hold the archive against", show.Text(dir))
		}
		w, err := readArchive(args[0], files, pin, now)
		if err != nil {
			return err
		}
		w.dir = dir
		if err := w.begin(); err != nil {
			return err
		}
		tellDraft(c.App.Writer, w)
		return nil
	}
	unlock, err := lockWork(dir)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := openWork(dir, pin, now)
	if err != nil {
		return err
	}
	other, err := readArchive(args[0], files, &w.pin, now)
	if err != nil {
		return err
	}
	if markOf(other.draft.Previous()) != markOf(w.draft.Previous()) {
		return advice.New(advice.Refused, "fetch what is in force from its publisher, and begin anew", "the archive's draft follows version %d, and the one here version %d, or another one of it", other.draft.Previous().TargetsVersion(), w.draft.Previous().TargetsVersion())
	}
	added, err := w.draft.Merge(other.draft)
	if err != nil {
		return advice.Wrap(advice.KindOf(err), err, "a draft that was changed meanwhile is taken in as a new WORK")
	}
	if added > 0 {
		if err := w.keepDraft(); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "%d new signature(s) of version %d\n", added, w.draft.Version())
	tellSignatures(c.App.Writer, w, now)
	return nil
}
