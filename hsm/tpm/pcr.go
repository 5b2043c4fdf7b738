package tpm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// pcrValue is the value of a platform configuration register, of the bank SHA-256.
type pcrValue struct {
	Index int    `json:"pcr"`
	Value string `json:"sha256"`
}

// maxPCR is the highest register; those from 16 on can be reset by programs, and bind to nothing.
const maxPCR = 15

// ParsePCRs reads a list of registers, such as "0,2,7".
func ParsePCRs(text string) ([]int, error) {
	var list []int
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 0 || n > maxPCR || slices.Contains(list, n) {
			return nil, fmt.Errorf("PCRs %q: write each register once, from 0 to %d, such as 0,2,7", text, maxPCR)
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return list, nil
}

func checkPCRs(list []pcrValue) error {
	for i, p := range list {
		if v, err := hex.DecodeString(p.Value); err != nil || len(v) != sha256.Size || p.Index < 0 || p.Index > maxPCR || i > 0 && list[i-1].Index >= p.Index {
			return errors.New("the list of PCRs is malformed")
		}
	}
	return nil
}

// readPCRs reads registers; a TPM answers with as many as fit at once.
func readPCRs(w *wire, registers []int) ([]pcrValue, error) {
	var list []pcrValue
	for left := slices.Clone(registers); len(left) > 0; {
		answer, err := tpm2.PCRRead{PCRSelectionIn: selection(left)}.Execute(w)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		n := 0
		for _, s := range answer.PCRSelectionOut.PCRSelections {
			for _, p := range left {
				if p/8 < len(s.PCRSelect) && s.PCRSelect[p/8]&(1<<(p%8)) != 0 && n < len(answer.PCRValues.Digests) {
					list = append(list, pcrValue{p, hex.EncodeToString(answer.PCRValues.Digests[n].Buffer)})
					n++
				}
			}
		}
		if n == 0 {
			return nil, errors.New("read PCRs: the TPM has no bank of SHA-256 for them")
		}
		left = slices.DeleteFunc(left, func(p int) bool { return slices.ContainsFunc(list, func(v pcrValue) bool { return v.Index == p }) })
	}
	slices.SortFunc(list, func(a, b pcrValue) int { return a.Index - b.Index })
	return list, checkPCRs(list)
}

func selection(registers []int) tpm2.TPMLPCRSelection {
	bits := make([]byte, 3)
	for _, p := range registers {
		bits[p/8] |= 1 << (p % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bits}}}
}

func registersOf(list []pcrValue) []int {
	var r []int
	for _, p := range list {
		r = append(r, p.Index)
	}
	return r
}

// digestOf is the digest of the values of registers, as TPM2_PolicyPCR takes it.
func digestOf(list []pcrValue) []byte {
	h := sha256.New()
	for _, p := range list {
		v, _ := hex.DecodeString(p.Value) // checked
		h.Write(v)
	}
	return h.Sum(nil)
}

// policyOf is the policy digest "these values of these registers, and, with pin, the PIN" (TPM 2.0 Library, part 3, 23.7 and 23.17).
func policyOf(list []pcrValue, pin bool) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	p, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	if err := p.Update(tpm2.TPMCCPolicyPCR, selection(registersOf(list)), tpm2.TPM2BDigest{Buffer: digestOf(list)}.Buffer); err != nil {
		return nil, err
	}
	if pin {
		if err := p.Update(tpm2.TPMCCPolicyAuthValue); err != nil {
			return nil, err
		}
	}
	return p.Hash().Digest, nil
}

// policySession authorises by registers and PIN.
func policySession(root object, list []pcrValue, pin []byte, d direction) tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		if _, err := (tpm2.PolicyPCR{PolicySession: handle, PcrDigest: tpm2.TPM2BDigest{Buffer: digestOf(list)}, Pcrs: selection(registersOf(list))}).Execute(t); err != nil {
			return err
		}
		if len(pin) == 0 {
			return nil
		}
		_, err := tpm2.PolicyAuthValue{PolicySession: handle}.Execute(t)
		return err
	}, salted(root, pin, d)...)
}

// ErrPCRs: registers have other values than those that something was bound to.
var ErrPCRs = errors.New("the machine started otherwise than when this was bound to it")

// changed says which registers differ now, nil if none does.
func changed(w *wire, list []pcrValue) error {
	now, err := readPCRs(w, registersOf(list))
	if err != nil {
		return err
	}
	var differ []string
	for i, p := range list {
		if i >= len(now) || now[i].Value != p.Value {
			differ = append(differ, fmt.Sprintf("PCR %d (%s)", p.Index, pcrWords[p.Index]))
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return fmt.Errorf("%w: changed: %s", ErrPCRs, strings.Join(differ, ", "))
}

// pcrWords says what is measured into a register (TCG PC Client Platform Firmware Profile, section 3.3.4).
var pcrWords = [maxPCR + 1]string{"firmware", "firmware's settings", "option ROMs", "option ROMs' settings", "boot loader", "boot loader's settings, partition table",
	"manufacturer", "Secure Boot policy", "operating system: boot loader's commands", "operating system: kernel and files that were loaded", "operating system: IMA",
	"operating system", "operating system: kernel command line", "operating system", "operating system: MOK keys", "operating system"}
