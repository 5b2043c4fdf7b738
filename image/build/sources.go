package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// sourceOf says from which source a package of the image was built. One that was built with another's source in it (Built-Using) has several.
type sourceOf struct {
	name, version string // of the package, as in packages.lock
	source        source
}

// source is a source package.
type source struct{ name, version string }

func (s source) String() string { return s.name + " " + s.version }

// sourceFile is a file of a source package. Its locked has the file's SHA-256 and path; name and version are the source's.
type sourceFile struct {
	locked
	size string
}

// sources is what sources.lock says.
type sources struct {
	of    []sourceOf
	files []sourceFile
}

const (
	sourcesHead = `# The source packages of the Debian packages in the ceremony image, which a release that publishes the image offers beside it.
# "of": a package of packages.lock, its version, its source and the source's version. "file": a source, its version, a file's SHA-256, its size
# in bytes, and its path in Debian's archive. Written by "make image-sources-lock"; "make image-sources" fetches them.
`
	sourcesAnew = "write it anew with: make image-sources-lock"
)

var (
	ofLine   = regexp.MustCompile(`^of ([a-z0-9][a-z0-9+.-]+) ([0-9A-Za-z.+~:-]+) ([a-z0-9][a-z0-9+.-]+) ([0-9A-Za-z.+~:-]+)$`)
	fileLine = regexp.MustCompile(`^file ([a-z0-9][a-z0-9+.-]+) ([0-9A-Za-z.+~:-]+) ([0-9a-f]{64}) ([1-9][0-9]{0,11}) (pool/[0-9A-Za-z/.+~%_-]+)$`)
	// uriLine is what 'apt-get source --print-uris' writes of a file.
	uriLine = regexp.MustCompile(`^'[a-z]+://[^' ]*/(pool/[0-9A-Za-z/.+~%_-]+)' [^ ]+ ([0-9]+) SHA256:([0-9a-f]{64})$`)
	// sourceField and builtUsing are the forms of Debian Policy 5.6.1 and 7.8.
	sourceField = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+)(?: \(([0-9A-Za-z.+~:-]+)\))?$`)
	builtUsing  = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]+) \(= ([0-9A-Za-z.+~:-]+)\)$`)
)

// readSources reads sources.lock, and holds it against the packages: each has its source, and each source its description and what is packed in it.
func readSources(file string, packages []locked) (sources, error) {
	data, err := input.ReadFile(file)
	if err != nil {
		return sources{}, advice.Wrap(advice.Usage, err, sourcesAnew)
	}
	bad := func(format string, args ...any) (sources, error) {
		return sources{}, advice.New(advice.Usage, sourcesAnew, "%s: %s", show.Text(file), fmt.Sprintf(format, args...))
	}
	var s sources
	for n, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if m := ofLine.FindStringSubmatch(line); m != nil {
			s.of = append(s.of, sourceOf{m[1], m[2], source{m[3], m[4]}})
		} else if m := fileLine.FindStringSubmatch(line); m != nil && !strings.Contains(m[5], "..") {
			f := sourceFile{locked{m[1], m[2], m[3], m[5]}, m[4]}
			if slices.ContainsFunc(s.files, func(o sourceFile) bool { return o.file() == f.file() && o.sha256 != f.sha256 }) {
				return bad("line %d: %s is two files", n+1, f.file())
			}
			s.files = append(s.files, f)
		} else {
			return bad("line %d is neither of a package nor of a file: %s", n+1, show.Text(line))
		}
	}
	for _, p := range packages {
		if !slices.ContainsFunc(s.of, func(o sourceOf) bool { return o.name == p.name && o.version == p.version }) {
			return bad("it lacks the source of %s %s", p.name, p.version)
		}
	}
	for _, o := range s.of {
		described, packed := false, false
		for _, f := range s.files {
			if f.name == o.source.name && f.version == o.source.version {
				described = described || strings.HasSuffix(f.path, ".dsc")
				packed = packed || strings.Contains(f.path, ".tar.")
			}
		}
		if !described || !packed {
			return bad("it lacks files of the source %s", o.source)
		}
	}
	return s, nil
}

// sourcesIn reads what a package's control file says of its sources.
func sourcesIn(l locked, control string) ([]sourceOf, error) {
	bad := func(what string) ([]sourceOf, error) {
		return nil, advice.New(advice.Failed, "", "package %s %s says of its source: %s", l.name, l.version, show.Text(what))
	}
	own := source{l.name, l.version}
	list := []sourceOf{}
	for line := range strings.Lines(control) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch key {
		case "Source":
			m := sourceField.FindStringSubmatch(value)
			if m == nil {
				return bad(value)
			}
			if own.name = m[1]; m[2] != "" {
				own.version = m[2]
			}
		case "Built-Using":
			for _, one := range strings.Split(value, ",") {
				m := builtUsing.FindStringSubmatch(strings.TrimSpace(one))
				if m == nil {
					return bad(value)
				}
				list = append(list, sourceOf{l.name, l.version, source{m[1], m[2]}})
			}
		}
	}
	return append([]sourceOf{{l.name, l.version, own}}, list...), nil
}

// filesIn reads what apt says of a source's files.
func filesIn(s source, said string) ([]sourceFile, error) {
	var list []sourceFile
	for line := range strings.Lines(said) {
		m := uriLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil {
			return nil, advice.New(advice.Failed, "", "apt says of the files of source %s: %s", s, show.Text(line))
		}
		f := sourceFile{locked{s.name, s.version, m[3], m[1]}, m[2]}
		if !fileLine.MatchString(f.String()) {
			return nil, advice.New(advice.Failed, "", "apt says of the files of source %s: %s", s, show.Text(line))
		}
		list = append(list, f)
	}
	return list, nil
}

func (f sourceFile) String() string {
	return strings.Join([]string{"file", f.name, f.version, f.sha256, f.size, f.path}, " ")
}

// writeSources asks the packages for their sources, and apt, which verifies its indices, for the files of those.
func writeSources(w io.Writer, lock, folder, file string) error {
	list, err := readLock(lock)
	if err != nil {
		return err
	}
	var s sources
	for _, l := range list {
		if err := held(folder, l); err != nil {
			return advice.Wrap(advice.KindOf(err), err, "the packages are needed first: make image")
		}
		control, err := apt("dpkg-deb", "-f", filepath.Join(folder, l.file()), "Source", "Built-Using")
		if err != nil {
			return err
		}
		of, err := sourcesIn(l, control)
		if err != nil {
			return err
		}
		s.of = append(s.of, of...)
	}
	ask, end, err := sourceIndex()
	if err != nil {
		return err
	}
	defer end()
	asked := map[source]bool{}
	for _, o := range s.of {
		if asked[o.source] {
			continue
		}
		asked[o.source] = true
		said, err := ask("source", "--print-uris", "--only-source", "-qq", o.source.name+"="+o.source.version)
		if err != nil {
			return fmt.Errorf("source %s: %w", o.source, err)
		}
		files, err := filesIn(o.source, said)
		if err != nil {
			return err
		}
		s.files = append(s.files, files...)
	}
	out := bytes.NewBufferString(sourcesHead)
	for _, o := range s.of {
		fmt.Fprintln(out, "of", o.name, o.version, o.source)
	}
	for _, f := range s.files {
		fmt.Fprintln(out, f)
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return err
	}
	if s, err = readSources(file, list); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d packages, %d sources, %d files in %s\n", len(list), len(asked), len(s.files), show.Text(file))
	return err
}

// debianKeys signs the indices of Debian's archive.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// sourceIndex fetches the archive's indices of sources into a folder of its own, for this machine's apt need not have them, and gives a way to ask them.
func sourceIndex() (ask func(args ...string) (string, error), end func(), err error) {
	said, err := apt("apt-get", "indextargets", "--format", "deb-src [signed-by="+debianKeys+"] $(REPO_URI) $(RELEASE) $(COMPONENT)", "Origin: Debian", "Created-By: Packages")
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "hanaper-sources-")
	if err != nil {
		return nil, nil, err
	}
	end = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			end()
		}
	}()
	for _, sub := range []string{"lists/partial", "cache"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(said), 0o644); err != nil {
		return nil, nil, err
	}
	ask = func(args ...string) (string, error) {
		return apt("apt-get", append([]string{"-o", "Dir::Etc::SourceList=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::SourceParts=-", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
			"-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"}, args...)...)
	}
	if _, err = ask("update", "-qq"); err != nil {
		return nil, nil, err
	}
	return ask, end, nil
}

// fetchSources brings the files of the sources into a folder. only names some sources; none means all. The lock goes beside them.
func fetchSources(w io.Writer, lock, file, folder string, only []string) error {
	list, err := readLock(lock)
	if err != nil {
		return err
	}
	s, err := readSources(file, list)
	if err != nil {
		return err
	}
	for _, name := range only {
		if !slices.ContainsFunc(s.files, func(f sourceFile) bool { return f.name == name }) {
			return advice.New(advice.Usage, "sources have other names than packages: see "+show.Text(file), "no source is called %s", show.Text(name))
		}
	}
	var wanted []locked
	for _, f := range s.files {
		if len(only) == 0 || slices.Contains(only, f.name) {
			wanted = append(wanted, f.locked)
		}
	}
	n, err := bring(folder, wanted)
	if err != nil {
		return err
	}
	data, err := input.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, path.Base(file)), data, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d files of sources as in %s, %d of them fetched\n", len(wanted), show.Text(file), n)
	return err
}
