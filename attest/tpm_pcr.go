package attest

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// PCRState is a state of a machine that a policy allows: values of platform configuration registers of one bank.
type PCRState struct {
	// Name stands in verdicts, such as the software release that measures so.
	Name string
	// Bank is sha256, sha384 or sha512.
	Bank string
	// Values by the number of the register, 0 to 23; each as long as the bank's hash.
	Values map[int][]byte
}

// NewPCRState checks the parts.
func NewPCRState(name, bank string, values map[int][]byte) (PCRState, error) {
	s := PCRState{name, bank, values}
	hash := sha2(s.alg())
	if hash == 0 {
		return s, refuse(ErrPolicy, "pcr bank %q is not sha256, sha384 or sha512", bank)
	}
	if len(values) == 0 {
		return s, refuse(ErrPolicy, "pcr state %q has no register", name)
	}
	for n, v := range values {
		if n < 0 || n > 23 || len(v) != hash.Size() {
			return s, refuse(ErrPolicy, "pcr %d of state %q is not 0 to 23, or its value has not %d octets", n, name, hash.Size())
		}
	}
	return s, nil
}

func (s PCRState) alg() tpm2.TPMIAlgHash {
	switch s.Bank {
	case "sha256":
		return tpm2.TPMAlgSHA256
	case "sha384":
		return tpm2.TPMAlgSHA384
	case "sha512":
		return tpm2.TPMAlgSHA512
	}
	return 0
}

// Registers are the numbers, in order.
func (s PCRState) Registers() []int {
	var ns []int
	for n := range s.Values {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

func (s PCRState) String() string {
	var b strings.Builder
	b.WriteString(s.Bank + ":")
	for i, n := range s.Registers() {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// Selection is what a TPM must quote for this state, as it stands in TPM2_Quote.
func (s PCRState) Selection() tpm2.TPMLPCRSelection {
	bits := make([]byte, 3)
	for n := range s.Values {
		bits[n/8] |= 1 << (n % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: s.alg(), PCRSelect: bits}}}
}

// checkQuote holds a quote to the allowed states; it returns the name of the one that it shows.
func (ak *tpmKey) checkQuote(data, signature, qualifying []byte, allowed []PCRState) (string, error) {
	if len(data) == 0 {
		return "", refuse(ErrPCR, "the policy asks for a quote of %s, and there is none", allowed[0])
	}
	st, err := ak.parseStatement("quote", data, signature, tpm2.TPMSTAttestQuote, qualifying)
	if err != nil {
		return "", err
	}
	quote, err := st.Attested.Quote()
	if err != nil {
		return "", refuse(ErrMalformed, "quote: %w", err)
	}
	_, hash, err := ak.scheme()
	if err != nil {
		return "", err
	}
	selected := tpm2.Marshal(quote.PCRSelect)
	quoted := false
	for _, s := range allowed {
		if !bytes.Equal(selected, tpm2.Marshal(s.Selection())) {
			continue
		}
		quoted = true
		var values [][]byte
		for _, n := range s.Registers() {
			values = append(values, s.Values[n])
		}
		if bytes.Equal(quote.PCRDigest.Buffer, hashOf(hash, values...)) {
			return s.Name, nil
		}
	}
	if !quoted {
		return "", refuse(ErrPCR, "the quote is not of the registers %s that the policy asks for", allowed[0])
	}
	return "", refuse(ErrPCR, "the registers hold other values than the policy allows (digest %x)", quote.PCRDigest.Buffer)
}
