package ceremony

import (
	"encoding/json"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

// maxLeaf bounds a transcript entry, in bytes.
const maxLeaf = 64 << 10

// Head is what every entry of a transcript begins with. A leaf is one JSON object in exactly the form that
// encoding/json gives the struct of its kind, so that one statement has one encoding; docs/spec/transcript.md.
type Head struct {
	// Kind names the struct.
	Kind string `json:"kind"`
	// Step is the script's step at work, from 1; 0 before the first and after the last.
	Step int `json:"step"`
	// At is the asserted time plus what has passed since it was asserted; it never falls.
	At string `json:"at"`
	// Rehearsal marks every entry of a rehearsal.
	Rehearsal bool `json:"rehearsal,omitempty"`
}

func (h *Head) head() *Head { return h }

type leaf interface{ head() *Head }

// The kinds of leaves, in the order in which a ceremony writes them first.
const (
	kindBegin      = "begin"
	kindToken      = "token"
	kindStep       = "step"
	kindKeyIntent  = "key-intent"
	kindKey        = "key"
	kindSerial     = "serial"
	kindSignIntent = "sign-intent"
	kindSignature  = "signature"
	kindArtefact   = "artefact"
	kindStepDone   = "step-done"
	kindResumed    = "resumed"
	kindEnd        = "end"
)

// beginLeaf says what is performed, by what and under whom.
type beginLeaf struct {
	Head
	Format      int               `json:"format"`
	Ceremony    string            `json:"ceremony"`
	Environment string            `json:"environment"`
	Script      string            `json:"script_sha256"`
	Roster      string            `json:"roster_sha256"`
	Inputs      map[string]string `json:"inputs_sha256"`
	Tool        Tool              `json:"tool"`
	Asserted    string            `json:"asserted"`
	// Mode is "real" or "rehearsal".
	Mode string `json:"mode"`
	// Answers is "terminal" or "file": where the answers of the people present came from.
	Answers string `json:"answers"`
	// Nonce and Expires are those of the approvals, and Approvals says whose they are.
	Nonce     string          `json:"nonce"`
	Expires   string          `json:"expires"`
	Approvals []officerRecord `json:"approvals"`
	// Officers present, who sign the checkpoint at the end.
	Officers []officerRecord `json:"officers"`
}

type officerRecord struct {
	Name  string `json:"name"`
	Role  string `json:"role"`
	KeyID string `json:"key_id"`
}

// Tool is the program that performs a ceremony.
type Tool struct {
	Version string `json:"version"`
	// SHA256 of the program's file, hex.
	SHA256 string `json:"sha256"`
}

// tokenLeaf is a token as it was found when it was opened.
type tokenLeaf struct {
	Head
	Name  string        `json:"name"`
	Token hsm.TokenInfo `json:"token"`
}

// stepLeaf opens a step, in the words in which check explained it.
type stepLeaf struct {
	Head
	What     string `json:"what"`
	Describe string `json:"describe"`
}

// keyIntentLeaf: a key with this label and this random id is about to be generated; neither was in the token before.
type keyIntentLeaf struct {
	Head
	Name      string        `json:"name"`
	Token     string        `json:"token"`
	Label     string        `json:"label"`
	Algorithm hsm.Algorithm `json:"algorithm"`
	Class     hsm.Class     `json:"class"`
	ID        string        `json:"id"`
}

// keyLeaf: the key that was generated, as the token reads it back.
type keyLeaf struct {
	Head
	Name string `json:"name"`
	// SPKI is the DER SubjectPublicKeyInfo, base64.
	SPKI        []byte         `json:"spki"`
	Fingerprint string         `json:"spki_sha256"`
	Attributes  hsm.Attributes `json:"attributes"`
}

// serialLeaf: a serial number drawn for a certificate; used from here on, whatever happens next.
type serialLeaf struct {
	Head
	For    string `json:"for"`
	Serial string `json:"serial"`
}

// signIntentLeaf: what a key is about to sign.
type signIntentLeaf struct {
	Head
	Key string `json:"key"`
	// Scheme is "ecdsa", "rsa-pkcs1v15", "rsa-pss" or "ed25519".
	Scheme string `json:"scheme"`
	// Hash is the hash's name, empty for Ed25519.
	Hash string `json:"hash"`
	// Digest is what the token is given, hex; for Ed25519 the SHA-256 of the message.
	Digest string `json:"digest"`
}

// signatureLeaf: the signature, checked against the public key.
type signatureLeaf struct {
	Head
	Signature []byte `json:"signature"`
}

// artefactLeaf: a file of the result. It is written when the ceremony has ended.
type artefactLeaf struct {
	Head
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"`
}

type stepDoneLeaf struct{ Head }

// resumedLeaf: the run was cut short here and another went on.
type resumedLeaf struct {
	Head
	Asserted string          `json:"asserted"`
	Tool     Tool            `json:"tool"`
	Officers []officerRecord `json:"officers"`
}

// endLeaf closes a transcript.
type endLeaf struct {
	Head
	Manifest string `json:"manifest_sha256"`
}

func encodeLeaf(l leaf) []byte {
	data, err := json.Marshal(l)
	if err != nil {
		panic("ceremony: a leaf of plain data does not encode: " + err.Error())
	}
	return data
}

// decodeLeaf reads data into l and refuses what l would not encode to, byte for byte.
func decodeLeaf(data []byte, l leaf, kind string) error {
	if len(data) > maxLeaf {
		return fmt.Errorf("larger than %d bytes", maxLeaf)
	}
	if err := strict.JSON(kind, data, l); err != nil {
		return err
	}
	if l.head().Kind != kind {
		return fmt.Errorf("is a %.20q where the script wants %q", l.head().Kind, kind)
	}
	if again := encodeLeaf(l); string(again) != string(data) {
		return fmt.Errorf("is not in its one form")
	}
	return nil
}

// headOf reads what kind of leaf data is.
func headOf(data []byte) (Head, error) {
	var h Head
	if len(data) > maxLeaf {
		return h, advice.New(advice.Unverified, "", "larger than %d bytes", maxLeaf)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, advice.New(advice.Unverified, "", "not a JSON object: %w", err)
	}
	return h, nil
}
