package apart

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
)

// version is that of the protocol. Both ends are of one build; it is there to say so.
const version = 1

// openBody asks the child to open the token.
type openBody struct {
	Version  int    `json:"version"`
	Module   string `json:"module"`
	URI      string `json:"uri"`
	Sessions int    `json:"sessions,omitempty"`
}

// openedBody is the answer.
type openedBody struct {
	Version  int           `json:"version"`
	Info     hsm.TokenInfo `json:"info"`
	Sessions int           `json:"sessions"`
	// Unlocked is why the child's memory may be swapped; empty when all of it is locked.
	Unlocked string `json:"unlocked,omitempty"`
}

type queryBody struct {
	Label string `json:"label,omitempty"`
	ID    []byte `json:"id,omitempty"`
}

// keyBody is a key as the child found it; Number names it in this child.
type keyBody struct {
	Number     uint32         `json:"number"`
	Attributes hsm.Attributes `json:"attributes"`
	SPKI       []byte         `json:"spki"`
	// Unread is that of Attributes, which their own form leaves out, and URI the name of a key in a store of another kind.
	Unread bool   `json:"unread,omitempty"`
	URI    string `json:"uri,omitempty"`
}

type certificateBody struct {
	Label string `json:"label,omitempty"`
	ID    []byte `json:"id"`
	DER   []byte `json:"der,omitempty"`
}

// failedBody is an error on its way to the parent.
type failedBody struct {
	Text  string      `json:"text"`
	Kind  advice.Kind `json:"kind"`
	Hint  string      `json:"hint,omitempty"`
	Words []string    `json:"words,omitempty"`
	// NewProcess is pkcs11.NeedsNewProcess.
	NewProcess bool `json:"new_process,omitempty"`
}

// words are the errors that callers match, by their own text.
var words = []error{hsm.ErrNoToken, hsm.ErrAmbiguous, hsm.ErrNoKey, hsm.ErrExists, hsm.ErrPIN, hsm.ErrPINLocked, hsm.ErrAttributes,
	hsm.ErrUnsupported, hsm.ErrGone, hsm.ErrClosed, context.DeadlineExceeded, context.Canceled}

func failure(err error) []byte {
	f := failedBody{Text: cut(err.Error()), Kind: advice.KindOf(err), Hint: cut(advice.Hint(err)), NewProcess: pkcs11.NeedsNewProcess(err)}
	for _, w := range words {
		if errors.Is(err, w) {
			f.Words = append(f.Words, w.Error())
		}
	}
	return encode(f)
}

func cut(s string) string { return s[:min(len(s), maxText)] }

// distant is an error of the child's.
type distant struct {
	text       string
	words      []error
	newProcess bool
}

func (d *distant) Error() string   { return d.text }
func (d *distant) Unwrap() []error { return d.words }

// failed reads an error that the child sent. ok is false if it is not well formed.
func failed(body []byte) (err error, ok bool) {
	var f failedBody
	if decode(body, &f) != nil || f.Text == "" || len(f.Text) > maxText || len(f.Hint) > maxText || f.Kind < advice.Failed || f.Kind > advice.Unverified {
		return nil, false
	}
	d := &distant{text: f.Text, newProcess: f.NewProcess}
	for _, w := range words {
		for _, have := range f.Words {
			if have == w.Error() {
				d.words = append(d.words, w)
			}
		}
	}
	return advice.Wrap(f.Kind, d, f.Hint), true
}

// doubtful says whether a failure may hide what a token did with a PIN: a clear answer does not.
func doubtful(body []byte) bool {
	var f failedBody
	return decode(body, &f) != nil || f.NewProcess
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // no type here fails
	}
	return b
}

func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more follows")
	}
	return nil
}

// Every request begins with how long it may take, in milliseconds, so that it ends by itself before its deadline.
func within(d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(max(d/time.Millisecond, 1)))
}

func cutWithin(body []byte) (time.Duration, []byte, error) {
	if len(body) < 4 {
		return 0, nil, errFrame
	}
	return time.Duration(binary.BigEndian.Uint32(body)) * time.Millisecond, body[4:], nil
}

// signHead is what stands before the digest: the key's number, whether it is PSS, the hash, the salt's length.
const signHead = 4 + 1 + 1 + 4

func signBody(number uint32, opts crypto.SignerOpts) []byte {
	b := binary.BigEndian.AppendUint32(nil, number)
	hash, pss, salt := crypto.Hash(0), byte(0), 0
	if opts != nil {
		hash = opts.HashFunc()
	}
	if o, ok := opts.(*rsa.PSSOptions); ok {
		pss, salt = 1, o.SaltLength
	}
	b = append(b, pss, byte(hash))
	return binary.BigEndian.AppendUint32(b, uint32(int32(salt)))
}

func cutSign(body []byte) (number uint32, opts crypto.SignerOpts, digest []byte, err error) {
	if len(body) < signHead {
		return 0, nil, nil, errFrame
	}
	number, hash := binary.BigEndian.Uint32(body), crypto.Hash(body[5])
	opts = hash
	if body[4] == 1 {
		opts = &rsa.PSSOptions{Hash: hash, SaltLength: int(int32(binary.BigEndian.Uint32(body[6:])))}
	}
	return number, opts, body[signHead:], nil
}

// publicOf reads the public half that the child sent.
func (k keyBody) public() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		return nil, fmt.Errorf("%w: public key: %w", errFrame, err)
	}
	return pub, nil
}
