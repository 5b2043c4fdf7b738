package order

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// Format is the first key of an order, PayloadType the type of its envelope.
const (
	Format      = "hanaper-order/1"
	PayloadType = "application/vnd.hanaper.order+json"
)

// The bounds of an order.
const (
	// MaxSize bounds an order in bytes, without its envelope.
	MaxSize = 5 << 20
	// MaxQuantity bounds the devices of a lot, MaxIDs the ids that an order lists, MaxNames its stations and hardware ids.
	MaxQuantity = 100_000_000
	MaxIDs      = 100_000
	MaxNames    = 1000
	// maxWord bounds names and ids, in bytes; maxPattern a pattern, maxNote a note, maxCertificates the PEM of the operator's chain.
	maxWord         = 64
	maxPattern      = 1000
	maxNote         = 1000
	maxCertificates = 16 << 10
)

// Order is what an order says. Times are whole seconds, UTC.
type Order struct {
	Format string `json:"format" yaml:"format"`
	// Lot is the name that stations enrol under.
	Lot string `json:"lot" yaml:"lot"`
	// Quantity is how many devices the lot has.
	Quantity int64 `json:"quantity" yaml:"quantity"`
	// IDs says which ids they have; empty for any that the service's configuration and the lot's profile allow.
	IDs IDs `json:"ids,omitzero" yaml:"ids"`
	// Profile is the name of a certificate profile of the service; empty for its default.
	Profile string `json:"profile,omitempty" yaml:"profile"`
	// Environment is the one that the order is for.
	Environment string `json:"environment,omitempty" yaml:"environment"`
	// Stations and HardwareIDs are those that may enrol, and be enrolled; empty for any.
	Stations    []string `json:"stations,omitempty" yaml:"stations"`
	HardwareIDs []string `json:"hardware_ids,omitempty" yaml:"hardware_ids"`
	// From and Until bound when: from From on, before Until. Zero does not.
	From  time.Time `json:"from,omitzero" yaml:"from"`
	Until time.Time `json:"until,omitzero" yaml:"until"`
	// Issued is when the order was made.
	Issued time.Time `json:"issued" yaml:"issued"`
	// Replaces is the digest (hex) of the order that this one changes; empty for a new lot.
	Replaces string `json:"replaces,omitempty" yaml:"replaces"`
	// Certificate is the signing operator's certificate, and those between it and the Operations Root, in PEM; empty where officers sign.
	Certificate string `json:"certificate,omitempty" yaml:"certificate"`
	// Note is for people.
	Note string `json:"note,omitempty" yaml:"note"`
}

// IDs restricts device ids: what a whole id must match (RE2), or a list, or both.
type IDs struct {
	Pattern string   `json:"pattern,omitempty" yaml:"pattern"`
	List    []string `json:"list,omitempty" yaml:"list"`
}

func usage(hint, format string, args ...any) error {
	return advice.New(advice.Usage, hint, "order: "+format, args...)
}

// Read reads a draft, YAML or JSON, to which Issued and the rest may still be added; it is not checked.
func Read(name string, data []byte) (*Order, error) {
	o := &Order{}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return o, strict.JSON(name, data, o)
	}
	return o, strict.Unmarshal(name, data, o)
}

// Parse reads what was signed, and checks it.
func Parse(data []byte) (*Order, error) {
	if len(data) > MaxSize {
		return nil, usage("", "larger than %d bytes", MaxSize)
	}
	o := &Order{}
	if err := strict.JSON("order", data, o); err != nil {
		return nil, err
	}
	return o, o.check()
}

// Encode checks the order and writes what is signed.
func (o *Order) Encode() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, err
	}
	if data = append(data, '\n'); len(data) > MaxSize {
		return nil, usage("list fewer ids, or give a pattern", "larger than %d bytes", MaxSize)
	}
	return data, nil
}

// Digest is the SHA-256 of what is signed: the order's name, whoever signed it.
func Digest(payload []byte) [32]byte { return sha256.Sum256(payload) }

// replaces is the digest of the order that this one changes; zeros for none.
func (o *Order) replaces() (d [32]byte, err error) {
	if o.Replaces == "" {
		return d, nil
	}
	raw, err := hex.DecodeString(o.Replaces)
	if err != nil || len(raw) != 32 || o.Replaces != hex.EncodeToString(raw) {
		return d, usage("it is what 'hanaperd order show' prints as digest", "replaces is not 64 digits of lower-case hex")
	}
	copy(d[:], raw)
	return d, nil
}

// Chain is the operator's certificate and those above it; nil where officers sign.
func (o *Order) Chain() (chain []*x509.Certificate, err error) {
	for rest := []byte(o.Certificate); len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, usage("", "certificate is no certificate in PEM")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, usage("", "certificate: %w", err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}

var word = regexp.MustCompile(`^[A-Za-z0-9._:/-]{1,64}$`)

func (o *Order) check() error {
	const plain = "use letters, digits and . _ : - /, at most 64"
	if o.Format != Format {
		return usage("this release reads "+Format, "format is %.40q", o.Format)
	}
	if !word.MatchString(o.Lot) {
		return usage(plain, "lot is %.80q", o.Lot)
	}
	if o.Quantity < 1 || o.Quantity > MaxQuantity {
		return usage("give 1 to 100000000", "quantity is %d", o.Quantity)
	}
	if err := o.checkIDs(); err != nil {
		return err
	}
	for _, w := range []struct{ name, value string }{{"profile", o.Profile}, {"environment", o.Environment}} {
		if w.value != "" && !word.MatchString(w.value) {
			return usage(plain, "%s is %.80q", w.name, w.value)
		}
	}
	for _, l := range []struct {
		name   string
		values []string
	}{{"stations", o.Stations}, {"hardware_ids", o.HardwareIDs}} {
		if len(l.values) > MaxNames {
			return usage("", "%s has more than %d entries", l.name, MaxNames)
		}
		for _, v := range l.values {
			if !word.MatchString(v) {
				return usage(plain, "%s has %.80q", l.name, v)
			}
		}
	}
	if _, err := o.replaces(); err != nil {
		return err
	}
	if len(o.Certificate) > maxCertificates {
		return usage("", "certificate is longer than %d bytes", maxCertificates)
	}
	if _, err := o.Chain(); err != nil {
		return err
	}
	if err := plainText("note", o.Note, maxNote); err != nil {
		return err
	}
	return o.checkTimes()
}

func (o *Order) checkIDs() error {
	if len(o.IDs.Pattern) > maxPattern {
		return usage("", "ids.pattern is longer than %d bytes", maxPattern)
	}
	if _, err := o.Pattern(); err != nil {
		return err
	}
	if len(o.IDs.List) > MaxIDs {
		return usage("give a pattern, or open several lots", "ids.list has more than %d ids", MaxIDs)
	}
	seen := map[string]bool{}
	for _, id := range o.IDs.List {
		if id == "" {
			return usage("", "ids.list has an empty id")
		}
		if err := plainText("ids.list", id, maxWord); err != nil {
			return err
		}
		fold := record.Fold(id)
		if seen[fold] {
			return usage("ids that differ only in upper and lower case are the same", "ids.list has %s twice", show.Text(id))
		}
		seen[fold] = true
	}
	if n := int64(len(o.IDs.List)); n > 0 && n < o.Quantity {
		return usage("order as many devices as the list has ids, or fewer", "quantity is %d, and ids.list has %d ids", o.Quantity, n)
	}
	return nil
}

// Pattern is what a whole id must match; nil for anything.
func (o *Order) Pattern() (*regexp.Regexp, error) {
	if o.IDs.Pattern == "" {
		return nil, nil
	}
	re, err := regexp.Compile(`^(?:` + o.IDs.Pattern + `)$`)
	if err != nil {
		return nil, usage("write it in RE2, as devices.id_pattern of hanaperd's configuration", "ids.pattern: %w", err)
	}
	return re, nil
}

func (o *Order) checkTimes() error {
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"issued", o.Issued}, {"from", o.From}, {"until", o.Until}} {
		if t.at.IsZero() && t.name != "issued" {
			continue
		}
		if _, offset := t.at.Zone(); offset != 0 || t.at.Nanosecond() != 0 || t.at.Year() < 2000 || t.at.Year() > 9999 {
			return usage("write it in UTC, as 2026-11-27T06:00:00Z", "%s is missing, or no moment in whole seconds of UTC", t.name)
		}
	}
	switch {
	case o.Until.IsZero():
	case !o.From.Before(o.Until):
		return usage("", "until is not after from")
	case !o.Issued.Before(o.Until):
		return usage("", "until is not after issued")
	}
	return nil
}

func plainText(name, s string, most int) error {
	if len(s) > most {
		return usage("", "%s is longer than %d bytes", name, most)
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return usage("write it in plain characters, on one line", "%s holds bytes that are no text", name)
		}
	}
	return nil
}

// For is the order as the store applies it.
func (s *Signed) For(who string, at time.Time) (record.LotOrder, error) {
	o := s.Order
	replaces, err := o.replaces()
	if err != nil {
		return record.LotOrder{}, err
	}
	return record.LotOrder{Lot: record.Lot{Name: o.Lot, Quota: o.Quantity, Profile: o.Profile, Environment: o.Environment, IDPattern: o.IDs.Pattern, Stations: o.Stations,
		HardwareIDs: o.HardwareIDs, From: o.From, Until: o.Until, Order: s.Digest}, IDs: o.IDs.List, Envelope: s.Envelope, Issued: o.Issued, Replaces: replaces, Who: who, At: at}, nil
}
