package tpm

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// A store is a folder:
//
//	store.json             what it is: its name, its TPM, the storage root key and the policy of its keys
//	login.pem              a secret that the TPM gives out for the PIN; the codes in key files are made with it
//	attestor.pem           the key that certifies others, once it is asked for
//	keys/ID.pem            a key: lines for people, a code, and a TSS2 PRIVATE KEY
//	certificates/ID.pem    a certificate: its label as a line, and the certificate
const (
	storeFile       = "store.json"
	loginFile       = "login.pem"
	attestorFile    = "attestor.pem"
	lockFile        = ".lock"
	keysDir         = "keys"
	certificatesDir = "certificates"
)

// maxObjects bounds the files of a folder that are looked at.
const maxObjects = 4096

// storeDocument is store.json.
type storeDocument struct {
	Version int    `json:"hanaper_tpm_store"`
	Label   string `json:"label"`
	// Serial names the TPM: the first 16 hex digits of the SHA-256 of its endorsement key, DER SubjectPublicKeyInfo.
	Serial string `json:"serial"`
	// EK is which endorsement key that is: "rsa-2048", "ecc-p256", ...
	EK string `json:"endorsement_key"`
	// SRK is the TPM2B_PUBLIC of the storage root key.
	SRK []byte `json:"storage_root_key"`
	// PCRs are the registers (of the bank SHA-256) and their values to which keys are bound; empty for none.
	PCRs []pcrValue `json:"pcrs,omitempty"`
	// Persistent is true where keys are kept in the TPM, too.
	Persistent bool `json:"persistent,omitempty"`
	// Code is made over all the rest with the secret of the login.
	Code []byte `json:"code,omitempty"`
}

// store is a folder that was read.
type store struct {
	dir string
	storeDocument
}

func openStore(dir string) (*store, error) {
	if dir == "" {
		return nil, advice.New(advice.Usage, "add store=/FOLDER to the URI's query; `hanaper token init --store FOLDER` makes one", "the key URI names no store")
	}
	data, err := input.Read(filepath.Join(dir, storeFile), maxBlob)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.New(advice.Failed, "is the folder right? `hanaper token init --store FOLDER` makes a store", "%w: %s is no store of TPM keys: it has no %s", hsm.ErrNoToken, show.Text(dir), storeFile)
	}
	if err != nil {
		return nil, err
	}
	s := &store{dir: dir}
	bad := func(format string, args ...any) (*store, error) {
		return nil, advice.New(advice.Failed, "restore the file from your own copy", "%s: %w", show.Text(filepath.Join(dir, storeFile)), fmt.Errorf(format, args...))
	}
	if err := strict.JSON(storeFile, data, &s.storeDocument); err != nil {
		return bad("%w", err)
	}
	if s.Version != 1 {
		return bad("version %d is unknown; this program reads version 1", s.Version)
	}
	if err := checkLabel(s.Label); err != nil {
		return bad("%w", err)
	}
	if serial, err := hex.DecodeString(s.Serial); err != nil || len(serial) != 8 {
		return bad("the serial number is not 16 hex digits")
	}
	if _, err := parsePublic(s.SRK); err != nil {
		return bad("storage root key: %w", err)
	}
	return s, checkPCRs(s.PCRs)
}

// checkLabel is the rule for the names of stores, keys and certificates: one line of text, as PKCS#11's labels.
func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("it has no label")
	case len(label) > 255:
		return errors.New("its label is longer than 255 bytes")
	case label != show.Line(label) || strings.TrimSpace(label) != label:
		return fmt.Errorf("its label %q is not one line of plain text", label)
	}
	return nil
}

// path of an object's file.
func (s *store) path(folder string, id []byte) string {
	return filepath.Join(s.dir, folder, hex.EncodeToString(id)+".pem")
}

// lock keeps other processes from changing the store. It waits a little: changes are short.
func (s *store) lock() (io.Closer, error) {
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := durable.Lock(filepath.Join(s.dir, lockFile))
		if err == nil || !errors.Is(err, durable.ErrLocked) || time.Now().After(until) {
			return l, err
		}
	}
}

// ids lists the objects of a folder, in order.
func (s *store) ids(folder string) ([][]byte, error) {
	entries, err := fs.ReadDir(input.Dir(s.dir), folder)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxObjects {
		return nil, fmt.Errorf("%s holds more than %d files", show.Text(filepath.Join(s.dir, folder)), maxObjects)
	}
	var ids [][]byte
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".pem"); ok {
			if raw, err := hex.DecodeString(id); err == nil && len(raw) > 0 && hex.EncodeToString(raw) == id {
				ids = append(ids, raw)
			}
		}
	}
	return ids, nil
}

// write makes store.json; the folder has been made.
func (s *store) write() error {
	data, err := json.MarshalIndent(s.storeDocument, "", "  ")
	if err != nil {
		return err
	}
	return durable.Create(filepath.Join(s.dir, storeFile), append(data, '\n'), 0o644)
}

// code is the message authentication code of a file's parts: who does not have the PIN cannot make one.
func code(key []byte, kind string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range append([][]byte{[]byte("hanaper TPM store: " + kind)}, parts...) {
		fmt.Fprintf(mac, "%d:", len(p))
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// seal makes the code of store.json.
func (s *store) seal(key []byte) error {
	text, err := s.covered()
	s.Code = code(key, "store", text)
	return err
}

// genuine says whether the store is as whoever knew the PIN made it.
func (s *store) genuine(key []byte) bool {
	text, err := s.covered()
	return err == nil && hmac.Equal(s.Code, code(key, "store", text))
}

// covered is what the code of store.json is made over.
func (s *store) covered() ([]byte, error) {
	d := s.storeDocument
	d.Code = nil
	return json.Marshal(d)
}
