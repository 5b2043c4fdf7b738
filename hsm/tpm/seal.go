package tpm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/strict"
)

// A sealed PIN is a file from which a service gets the PIN of its token when it starts with nobody there, and which is worth nothing on another
// machine, or on this one when it started otherwise: the TPM gives the PIN out only while some of its registers have the values that
// they had when the PIN was sealed. Who is root on the machine, started as it should be, can have the PIN too.
//
// The file is JSON: which registers, their values (to say later which one changed), and the sealed object.

// sealedDocument is the file.
type sealedDocument struct {
	Type string `json:"type"`
	// Device is the TPM's, as it was named when the PIN was sealed.
	Device string `json:"device"`
	// For says, for people, what the PIN is of.
	For string `json:"for"`
	// PCRs are the registers (of the bank SHA-256) with their values.
	PCRs []pcrValue `json:"pcrs"`
	// SRK is the TPM2B_PUBLIC of the storage root key, below which the object lies.
	SRK []byte `json:"storage_root_key"`
	// Object is a TSS2 PRIVATE KEY of sealed data.
	Object string `json:"object"`
}

// sealedType is that of the file.
const sealedType = "hanaper-sealed-pin/1"

// Seal is what to seal and where.
type Seal struct {
	// Device is the TPM; DefaultDevice where it is empty.
	Device string
	// PCRs are the registers; one at least.
	PCRs []int
	// For says, for people, what the PIN is of, such as the token's label.
	For string
	// File is written with mode 0600. With Replace the one that is there is replaced, when everything has gone well.
	File    string
	Replace bool
}

// SealPIN seals a PIN to the machine as it is now, opens it again to see that it can be, and writes the file.
func SealPIN(ctx context.Context, s Seal, pin []byte) error {
	c := newChip(s.Device, 0)
	return failed(sealPIN(ctx, c, s, pin), "TPM "+show.Text(c.path), "seal a PIN in %s", show.Text(s.File))
}

func sealPIN(ctx context.Context, c *chip, s Seal, pin []byte) error {
	if err := hsm.CheckPIN(pin); err != nil {
		return advice.New(advice.Usage, "", "%w", err)
	}
	if len(pin) > 128 { // MAX_SYM_DATA
		return advice.New(advice.Usage, "", "a TPM seals 128 bytes, and the PIN has %d", len(pin))
	}
	if len(s.PCRs) == 0 {
		return advice.New(advice.Usage, "choose some, such as 0,2,4,7: firmware, option ROMs, boot loader, Secure Boot", "no PCRs are named: a PIN that is sealed to none is given out whatever was started")
	}
	d, err := operate(ctx, c, func(w *wire) (*sealedDocument, error) {
		root, err := makeRoot(w)
		if err != nil {
			return nil, err
		}
		d := &sealedDocument{Type: sealedType, Device: c.path, For: s.For, SRK: tpm2.Marshal(tpm2.New2B(*root.public))}
		if d.PCRs, err = readPCRs(w, s.PCRs); err != nil {
			return nil, err
		}
		policy, err := policyOf(d.PCRs, false)
		if err != nil {
			return nil, err
		}
		b, err := create(w, root, sealedTemplate(policy, false), nil, pin)
		if err != nil {
			return nil, err
		}
		d.Object = string(b.pem())
		again, err := unsealWith(w, root, b, d.PCRs)
		if err != nil {
			return nil, fmt.Errorf("open it again: %w", err)
		}
		defer clear(again)
		if !bytes.Equal(again, pin) {
			return nil, errors.New("the TPM gives another PIN back")
		}
		return d, nil
	})
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if s.Replace {
		return durable.WriteFile(s.File, append(data, '\n'), 0o600)
	}
	return durable.Create(s.File, append(data, '\n'), 0o600)
}

// unsealWith has the TPM give out data that is bound to registers alone.
func unsealWith(w *wire, root object, b *blob, pcrs []pcrValue) ([]byte, error) {
	o, err := load(w, root, b)
	if err != nil {
		return nil, err
	}
	answer, err := tpm2.Unseal{ItemHandle: o.with(policySession(root, pcrs, nil, out))}.Execute(w)
	if err != nil {
		return nil, err
	}
	return answer.OutData.Buffer, nil
}

// SealedPIN gives the PIN of a sealed file, anew at each login. A machine that started otherwise gets an error that says which registers
// changed (ErrPCRs).
func SealedPIN(file string) hsm.PINSource {
	return func(ctx context.Context, t hsm.TokenInfo) ([]byte, error) {
		pin, err := openSealed(ctx, file)
		if err != nil {
			return nil, failed(err, "sealed PIN "+show.Text(file)+" of "+t.Name(), "open it")
		}
		return pin, nil
	}
}

func openSealed(ctx context.Context, file string) ([]byte, error) {
	d, b, err := readSealed(file)
	if err != nil {
		return nil, err
	}
	want, err := parsePublic(d.SRK)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(want)
	if err != nil {
		return nil, err
	}
	pin, err := operate(ctx, newChip(d.Device, 0), func(w *wire) ([]byte, error) {
		root, err := makeRoot(w)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(root.name.Buffer, name.Buffer) {
			return nil, advice.New(advice.Refused, "seal the PIN anew on this machine", "it was sealed by another TPM, or before this one was cleared")
		}
		root.public = want
		if err := changed(w, d.PCRs); err != nil {
			return nil, advice.New(advice.Refused, "if the change was meant (new firmware, boot loader or kernel), seal anew: `hanaper token seal-pin --replace`; otherwise find out who started what", "%w", err)
		}
		return unsealWith(w, root, b, d.PCRs)
	})
	if err != nil {
		return nil, err
	}
	if err := hsm.CheckPIN(pin); err != nil {
		clear(pin)
		return nil, err
	}
	return pin, nil
}

func init() { hsm.OpenSealedWith(SealedPIN) }

func readSealed(file string) (*sealedDocument, *blob, error) {
	data, err := input.Read(file, maxBlob)
	if err != nil {
		return nil, nil, err
	}
	return parseSealed(filepath.Base(file), data)
}

func parseSealed(name string, data []byte) (*sealedDocument, *blob, error) {
	d := &sealedDocument{}
	if err := strict.JSON(name, data, d); err != nil {
		return nil, nil, err
	}
	if d.Type != sealedType || len(d.PCRs) == 0 || !filepath.IsAbs(d.Device) {
		return nil, nil, advice.New(advice.Usage, "seal the PIN anew", "it is no %s", sealedType)
	}
	if err := checkPCRs(d.PCRs); err != nil {
		return nil, nil, err
	}
	b, err := parseBlob([]byte(d.Object))
	if err == nil && !b.sealed {
		err = errBlob
	}
	return d, b, err
}
