package tpm

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/hanaper/hanaper/hsm"
)

// minPIN and maxPIN are the lengths of a PIN: an object's authorisation value is at most as long as its name's digest.
const minPIN, maxPIN = 6, 32

// state is what a TPM says of itself.
type state struct {
	manufacturer, model, hardware, firmware string
	// tries are the wrong PINs counted, maxTries those at which the TPM locks; interval is after how long one is forgotten.
	tries, maxTries uint32
	interval        time.Duration
	locked          bool
}

// readState asks for the TPM's properties.
func readState(w *wire) (state, error) {
	p := map[tpm2.TPMPT]uint32{}
	for _, first := range []tpm2.TPMPT{tpm2.TPMPTFamilyIndicator, tpm2.TPMPTPermanent} {
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(first), PropertyCount: 64}.Execute(w)
		if err != nil {
			return state{}, err
		}
		list, err := answer.CapabilityData.Data.TPMProperties()
		if err != nil {
			return state{}, err
		}
		for _, v := range list.TPMProperty {
			p[v.Property] = v.Value
		}
	}
	vendor := text(p[tpm2.TPMPTVendorString1]) + text(p[tpm2.TPMPTVendorString2]) + text(p[tpm2.TPMPTVendorString3]) + text(p[tpm2.TPMPTVendorString4])
	v1, v2, revision := p[tpm2.TPMPTFirmwareVersion1], p[tpm2.TPMPTFirmwareVersion2], p[tpm2.TPMPTRevision]
	return state{
		manufacturer: strings.TrimSpace(text(p[tpm2.TPMPTManufacturer])), model: strings.Join(strings.Fields(vendor), " "),
		hardware: fmt.Sprintf("TPM %s revision %d.%02d", strings.Trim(text(p[tpm2.TPMPTFamilyIndicator]), "\x00 "), revision/100, revision%100),
		firmware: fmt.Sprintf("%d.%d.%d.%d", v1>>16, v1&0xffff, v2>>16, v2&0xffff),
		tries:    p[tpm2.TPMPTLockoutCounter], maxTries: p[tpm2.TPMPTMaxAuthFail], interval: time.Duration(p[tpm2.TPMPTLockoutInterval]) * time.Second,
		locked: p[tpm2.TPMPTPermanent]&(1<<9) != 0, // inLockout (TPMA_PERMANENT)
	}, nil
}

// text is four characters of a property; NULs are left out, and so is what is no plain text.
func text(v uint32) string {
	var b strings.Builder
	for _, c := range []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} {
		if c >= ' ' && c < 0x7f {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// words says how many wrong PINs the TPM has counted, empty if none.
func (s state) words() string {
	forgets := ""
	if s.interval > 0 {
		forgets = fmt.Sprintf("; it forgets one each %v", s.interval)
	}
	switch {
	case s.locked:
		return fmt.Sprintf("the TPM is LOCKED after %d wrong PINs (a power cut counts as one) and takes none%s", s.tries, forgets)
	case s.tries == 0:
		return ""
	case s.tries+1 >= s.maxTries:
		return fmt.Sprintf("this is the FINAL try before the TPM locks: it has counted %s of %d, for all its keys together%s", s.counted(), s.maxTries, forgets)
	}
	return fmt.Sprintf("the TPM has counted %s of %d, for all its keys together (a power cut counts as one)%s", s.counted(), s.maxTries, forgets)
}

// counted is how many wrong PINs the TPM has counted, with its noun.
func (s state) counted() string {
	if s.tries == 1 {
		return "1 wrong PIN"
	}
	return fmt.Sprintf("%d wrong PINs", s.tries)
}

// info is the token of a store.
func (s state) info(label, serial, device string) hsm.TokenInfo {
	return hsm.TokenInfo{Scheme: hsm.SchemeTPM, Label: label, Serial: serial, Manufacturer: s.manufacturer, Model: s.model, Hardware: s.hardware, Firmware: s.firmware, Module: device,
		Initialized: true, LoginRequired: true, PINSet: true, PINLow: s.tries > 0, PINFinalTry: s.tries > 0 && s.tries+1 >= s.maxTries, PINLocked: s.locked,
		PINState: s.words(), MinPIN: minPIN, MaxPIN: maxPIN}
}
