package calendar

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// Bounds of what is read.
const (
	maxFile    = 64 << 20
	maxScript  = 1 << 20
	maxEntries = 20000 // files and folders
	maxDepth   = 64    // of folders in folders: a file system that leads back into itself ends there
)

// Read finds what ends among the files of a folder: a ceremony's, a published repository's, or any other. name is the
// folder's name in messages and in File.
func Read(folder fs.FS, name string) ([]Entry, error) {
	r := reader{folder: folder, name: name, place: name}
	if env := environment(folder); env != "" {
		r.environment, r.place = env, ""
	}
	count := 0
	err := fs.WalkDir(folder, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if count++; count > maxEntries {
			return fmt.Errorf("more than %d files and folders", maxEntries)
		}
		if strings.Count(file, "/") >= maxDepth {
			return fmt.Errorf("folders lie in each other more than %d deep", maxDepth)
		}
		// A name such as "" or "a/b" would lead to another place than the one that is listed.
		if file != "." && d.Name() != path.Base(file) {
			return advice.New(advice.Usage, "", "%s: an entry there has the name %.40q, which no file can have", path.Dir(file), d.Name())
		}
		if d.IsDir() {
			return nil
		}
		return r.file(file, d)
	})
	if err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("%s: %w", name, err), "name the folder of a ceremony or of a published repository")
	}
	return r.list, nil
}

// ReadFiles is Read of the folder of a ceremony of which the caller has read the files, by their names.
func ReadFiles(files map[string][]byte, name string) ([]Entry, error) {
	r := reader{name: name, place: name}
	if env := environmentOf(files["script.yaml"]); env != "" {
		r.environment, r.place = env, ""
	}
	for _, n := range slices.Sorted(maps.Keys(files)) {
		if read := r.readerOf(n); read != nil {
			if err := r.take(n, files[n], read); err != nil {
				return nil, err
			}
		}
	}
	return r.list, nil
}

// environment is that of the script in the folder of a ceremony.
func environment(folder fs.FS) string {
	info, err := fs.Stat(folder, "script.yaml")
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := folder.Open("script.yaml")
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	if err != nil || len(data) > maxScript {
		return ""
	}
	return environmentOf(data)
}

func environmentOf(script []byte) string {
	var head struct {
		Environment string `yaml:"environment"`
	}
	if strict.Part("script.yaml", script, &head) != nil {
		return ""
	}
	return head.Environment
}

type reader struct {
	folder      fs.FS
	name        string
	environment string
	// place tells folders apart whose environment is not known.
	place string
	list  []Entry
}

// file reads a file by the ending of its name. What has another ending holds no date: artefacts of rehearsals, scripts,
// journals, requests.
func (r *reader) file(name string, d fs.DirEntry) error {
	read := r.readerOf(name)
	if read == nil || !d.Type().IsRegular() {
		return nil
	}
	f, err := r.folder.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return r.take(name, data, read)
}

// readerOf is how a file of this name is read; nil for one that holds no date.
func (r *reader) readerOf(name string) func(string, []byte) error {
	return map[string]func(string, []byte) error{
		".pem": r.certificates, ".crt": r.certificates, ".cer": r.certificates, ".crl": r.crl, ".json": r.metadata,
	}[path.Ext(name)]
}

func (r *reader) take(name string, data []byte, read func(string, []byte) error) error {
	if err := read(name, data); err != nil {
		return advice.New(advice.Usage, "", "%s: %w", name, err)
	}
	return nil
}

func (r *reader) add(e Entry, file string) {
	e.File, e.Environment = path.Join(r.name, file), r.environment
	e.Expires = e.Expires.UTC()
	r.list = append(r.list, e)
}

// certificates reads PEM blocks CERTIFICATE, leaving others out, or one certificate as DER.
func (r *reader) certificates(name string, data []byte) error {
	var ders [][]byte
	if block, _ := pem.Decode(data); block == nil && len(data) > 0 && data[0] == 0x30 {
		ders = [][]byte{data}
	}
	blocks := len(ders)
	for rest := data; ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	if blocks == 0 && len(bytes.TrimSpace(data)) > 0 {
		return errors.New("holds neither PEM nor a certificate")
	}
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(c.Raw)
		r.add(Entry{Expires: c.NotAfter, Kind: "certificate", What: certificateText(c), UID: uid("certificate", hex.EncodeToString(sum[:])), certificate: c}, name)
	}
	return nil
}

func certificateText(c *x509.Certificate) string {
	what := "certificate"
	if c.IsCA {
		what = "CA certificate"
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			what = "root certificate"
		}
	}
	return fmt.Sprintf("%s %s, serial %x", what, c.Subject, c.SerialNumber)
}

// crl reads a CRL, DER or PEM.
func (r *reader) crl(name string, data []byte) error {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	c, err := x509.ParseRevocationList(data)
	if err != nil {
		return err
	}
	if c.Number == nil || c.NextUpdate.IsZero() {
		return errors.New("the CRL has no number or no nextUpdate")
	}
	e := Entry{Expires: c.NextUpdate, Kind: "crl", What: fmt.Sprintf("CRL %d of %s", c.Number, c.Issuer),
		UID: uid("crl", string(c.RawIssuer), string(c.AuthorityKeyId)), crl: c}
	if c.Number.IsInt64() {
		e.Version = c.Number.Int64()
	}
	r.add(e, name)
	return nil
}

var versioned = regexp.MustCompile(`^[0-9]+\.`)

// metadata reads TUF and Uptane metadata; other JSON holds no date.
func (r *reader) metadata(name string, data []byte) error {
	var doc struct {
		Signed *struct {
			Type    string `json:"_type"`
			Expires string `json:"expires"`
			Version int64  `json:"version"`
		} `json:"signed"`
	}
	if !json.Valid(data) {
		return errors.New("is not JSON")
	}
	if json.Unmarshal(data, &doc) != nil || doc.Signed == nil || doc.Signed.Type == "" || doc.Signed.Expires == "" {
		return nil
	}
	expires, err := time.Parse(time.RFC3339, doc.Signed.Expires)
	if err != nil {
		return fmt.Errorf("expires %.40q is no date", doc.Signed.Expires)
	}
	for strings.HasPrefix(name, "earlier/") {
		name = strings.TrimPrefix(name, "earlier/")
	}
	dir, role := path.Dir(name), strings.TrimSuffix(versioned.ReplaceAllString(path.Base(name), ""), ".json")
	what := fmt.Sprintf("%s metadata in %s, version %d", role, dir, doc.Signed.Version)
	if repo, ok := strings.CutPrefix(dir, "uptane/"); ok {
		what = fmt.Sprintf("Uptane %s repository, %s version %d", repo, role, doc.Signed.Version)
	} else if dir == "trust/metadata" {
		what = fmt.Sprintf("trust repository, %s version %d", role, doc.Signed.Version)
	}
	r.add(Entry{Expires: expires, Kind: "metadata", What: what, Version: doc.Signed.Version, UID: uid("metadata", r.environment, r.place, dir, role),
		digest: sha256.Sum256(data)}, name)
	return nil
}
