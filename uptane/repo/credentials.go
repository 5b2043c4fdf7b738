package repo

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// Bounds of a credentials.zip.
const (
	maxArchive = 16 << 20 // compressed bytes
	maxEntries = 64
	maxEntry   = 4 << 20 // bytes of one entry, unpacked
	maxTotal   = 16 << 20
)

// The entries that this package knows. Others are kept as they are.
const (
	EntryTreehub    = "treehub.json"
	EntryRepoURL    = "tufrepo.url"
	EntryGateway    = "api_gateway.url"
	EntryRoot       = "root.json"
	EntryTargetsPub = "targets.pub"
	EntryTargetsSec = "targets.sec"
	EntryAutoprov   = "autoprov.url"
	EntryAutoprovP  = "autoprov_credentials.p12"
	EntryClientAuth = "client_auth.p12"
	EntryServer     = "server.p12"
)

// Credentials is a credentials.zip in memory.
type Credentials struct {
	names   []string
	entries map[string][]byte
	ignored []string
}

// NewCredentials is an archive without entries.
func NewCredentials() *Credentials { return &Credentials{entries: map[string][]byte{}} }

// ReadCredentials takes a credentials.zip apart. Folders, and entries in them, are left out: the tools that make such
// archives pack folders whole, and nothing reads them. It refuses links, names that are no file's name, repeated names,
// encryption, and anything that unpacks to more than an honest archive holds.
func ReadCredentials(data []byte) (*Credentials, error) {
	bad := func(format string, args ...any) (*Credentials, error) {
		return nil, advice.New(advice.Unverified, "ask for a new credentials.zip", "credentials.zip: "+format, args...)
	}
	if len(data) > maxArchive {
		return bad("%d bytes are more than %d", len(data), maxArchive)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return bad("not a zip archive: %v", err)
	}
	if len(z.File) > maxEntries {
		return bad("%d entries are more than %d", len(z.File), maxEntries)
	}
	c, total := NewCredentials(), 0
	for _, f := range z.File {
		folder, ok := inFolder(f.Name)
		if ok && (f.Mode().IsRegular() || f.Mode().IsDir()) {
			if !slices.Contains(c.ignored, folder) {
				c.ignored = append(c.ignored, folder)
			}
			continue
		}
		if err := checkEntryName(f.Name); err != nil {
			return bad("%v", err)
		}
		if !f.Mode().IsRegular() {
			return bad("entry %q is not a regular file", f.Name)
		}
		if f.Flags&1 != 0 {
			return bad("entry %q is encrypted", f.Name)
		}
		if _, ok := c.entries[f.Name]; ok {
			return bad("entry %q is there twice", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return bad("entry %q: %v", f.Name, err)
		}
		// The size in the header is the archive's own claim: count what really comes out.
		b, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
		r.Close()
		if err != nil {
			return bad("entry %q: %v", f.Name, err)
		}
		if total += len(b); len(b) > maxEntry || total > maxTotal {
			return bad("entry %q unpacks to more than is allowed", f.Name)
		}
		c.names, c.entries[f.Name] = append(c.names, f.Name), b
	}
	return c, nil
}

// inFolder is the outermost folder of an entry, with its slash. Names that try to lead elsewhere are not in a folder.
func inFolder(name string) (string, bool) {
	folder, rest, ok := strings.Cut(name, "/")
	if !ok || checkEntryName(folder) != nil {
		return "", false
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == ".." || strings.ContainsRune(part, '\\') {
			return "", false
		}
	}
	return folder + "/", true
}

func checkEntryName(name string) error {
	if name == "" || len(name) > 255 || strings.HasPrefix(name, ".") {
		return fmt.Errorf("entry name %q is empty, too long or begins with a dot", name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r > 0x7e || strings.ContainsRune(`/\:`, r) }); i >= 0 {
		return fmt.Errorf("entry name %q holds a path or a character other than printable ASCII", name)
	}
	return nil
}

// Names lists the entries in the archive's order.
func (c *Credentials) Names() []string { return slices.Clone(c.names) }

// Entry is the content of an entry.
func (c *Credentials) Entry(name string) ([]byte, bool) {
	b, ok := c.entries[name]
	return slices.Clone(b), ok
}

// Set puts an entry in, in place of one of the same name.
func (c *Credentials) Set(name string, data []byte) error {
	if err := checkEntryName(name); err != nil {
		return advice.Wrap(advice.Refused, err, "")
	}
	if len(data) > maxEntry {
		return advice.New(advice.Refused, "", "entry %q of %d bytes is larger than %d", name, len(data), maxEntry)
	}
	if _, ok := c.entries[name]; !ok {
		c.names = append(c.names, name)
	}
	c.entries[name] = slices.Clone(data)
	return nil
}

// Bytes packs the archive, the same for the same content.
func (c *Credentials) Bytes() ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range c.names {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		h.SetMode(0o600)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(c.entries[name])
		}
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("packing the archive: %w", err)
	}
	if b.Len() > maxArchive {
		return nil, advice.New(advice.Refused, "", "the archive of %d bytes is larger than %d", b.Len(), maxArchive)
	}
	return b.Bytes(), nil
}

func (c *Credentials) missing(name string) error {
	return advice.New(advice.Usage, "ask for a credentials.zip with this entry, or name the server on the command line", "credentials.zip has no %s", name)
}

func (c *Credentials) url(name string) (string, error) {
	b, ok := c.entries[name]
	if !ok {
		return "", c.missing(name)
	}
	s := strings.TrimSpace(string(b))
	if err := CheckURL(s); err != nil {
		return "", fmt.Errorf("credentials.zip: %s: %w", name, err)
	}
	return s, nil
}

// CheckURL refuses what is no http or https URL of a server.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return advice.New(advice.Usage, "write it as https://host/path", "%q is not the URL of a server", s)
	}
	return nil
}

// ServerURL is the URL of the Image repository or of the Director, by the kind of repository.
func (c *Credentials) ServerURL(kind uptane.Repository) (string, error) {
	if kind == uptane.Director {
		return c.url(EntryGateway)
	}
	return c.url(EntryRepoURL)
}

// Treehub reads treehub.json.
func (c *Credentials) Treehub() (Treehub, error) {
	b, ok := c.entries[EntryTreehub]
	if !ok {
		return Treehub{}, c.missing(EntryTreehub)
	}
	var t Treehub
	if err := json.Unmarshal(b, &t); err != nil {
		return Treehub{}, advice.Wrap(advice.Usage, fmt.Errorf("credentials.zip: %s: %w", EntryTreehub, err), "")
	}
	return t, nil
}

// Root is the trust seed. The caller trusts it because it trusts whom it got the archive from.
func (c *Credentials) Root() (*uptane.Root, error) {
	b, ok := c.entries[EntryRoot]
	if !ok {
		return nil, c.missing(EntryRoot)
	}
	r, err := uptane.ParseRoot(b, uptane.Local())
	if err != nil {
		return nil, fmt.Errorf("credentials.zip: %w", err)
	}
	return r, nil
}

// Auth works out how to log in: a client certificate wins over everything, then no_auth, OAuth2, and a password.
func (c *Credentials) Auth() (Auth, error) {
	if _, ok := c.entries[EntryClientAuth]; ok {
		a := Auth{TLS: &MutualTLS{CertPath: EntryClientAuth}}
		if _, ok := c.entries[EntryServer]; ok {
			a.TLS.ServerCertPath = EntryServer
		}
		return a, nil
	}
	t, err := c.Treehub()
	if err != nil {
		return Auth{}, err
	}
	switch {
	case t.NoAuth:
		return Auth{}, nil
	case t.OAuth2 != nil:
		return Auth{OAuth2: t.OAuth2}, nil
	case t.BasicAuth != nil:
		return Auth{Basic: t.BasicAuth}, nil
	}
	return Auth{}, advice.New(advice.Usage, "treehub.json needs oauth2, basic_auth or \"no_auth\": true", "credentials.zip does not say how to log in")
}
