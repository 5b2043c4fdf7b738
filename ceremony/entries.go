package ceremony

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/hsm"
)

// entry is a leaf with its place in the transcript.
type entry struct {
	index int
	head  Head
	data  []byte
}

// entriesOf reads the heads of leaves that were checked before.
func entriesOf(leaves [][]byte) []entry {
	var list []entry
	for i, data := range leaves {
		if h, err := headOf(data); err == nil {
			list = append(list, entry{i, h, data})
		}
	}
	return list
}

// leavesOf are those of a step.
func leavesOf(leaves [][]byte, step int) []entry {
	var list []entry
	for _, e := range entriesOf(leaves) {
		if e.head.Step == step {
			list = append(list, e)
		}
	}
	return list
}

// describedBy gives the plain words in which a step was opened.
func describedBy(list []entry) string {
	for _, e := range list {
		var l stepLeaf
		if e.head.Kind == kindStep && decodeLeaf(e.data, &l, kindStep) == nil {
			return l.Describe
		}
	}
	return ""
}

// leafFacts are, for a form, what a step signs and writes, and room for what can be known only when it is done.
func leafFacts(list []entry) paper.Facts {
	const ends = ", first and last 8 digits"
	signs, writes := map[string]int{}, []string{}
	var blanks paper.Facts
	for _, e := range list {
		switch e.head.Kind {
		case kindToken:
			blanks = append(blanks, paper.Fact{Label: "serial of the token, as read back"})
		case kindKey:
			var l keyLeaf
			if decodeLeaf(e.data, &l, kindKey) == nil {
				blanks = append(blanks, paper.Fact{Label: "SHA-256 of the public key of " + l.Name + ends})
			}
		case kindSerial:
			blanks = append(blanks, paper.Fact{Label: "serial number" + ends})
		case kindSignIntent:
			var l signIntentLeaf
			if decodeLeaf(e.data, &l, kindSignIntent) == nil {
				signs[l.Key]++
			}
		case kindArtefact:
			var l artefactLeaf
			if decodeLeaf(e.data, &l, kindArtefact) == nil {
				writes = append(writes, ofContent.ReplaceAllString(l.Path, "(SHA-256)"))
			}
		}
	}
	var facts paper.Facts
	for _, k := range sortedKeys(signs) {
		facts = append(facts, paper.Fact{Label: "signed by", Value: fmt.Sprintf("key %s, signatures: %d", k, signs[k])})
	}
	for _, w := range writes {
		facts = append(facts, paper.Fact{Label: "writes", Value: w})
	}
	return append(facts, blanks...)
}

// ofContent are the parts of names that are the digest of a content, which is known only when it was made.
var ofContent = regexp.MustCompile(`[0-9a-f]{64}`)

// recorded says what an entry holds, whatever its kind.
func recorded(e entry) string {
	switch e.head.Kind {
	case kindKey:
		var l keyLeaf
		if decodeLeaf(e.data, &l, kindKey) == nil {
			return fmt.Sprintf("%s: SHA-256 of the public key %s; read back: %s", l.Name, l.Fingerprint, attributeWords(l.Attributes))
		}
	case kindFound:
		var l foundLeaf
		if decodeLeaf(e.data, &l, kindFound) == nil {
			return fmt.Sprintf("%s in token %s: SHA-256 of the public key %s; read back: %s", l.Name, l.Token, hexSHA256(l.SPKI), attributeWords(l.Attributes))
		}
	case kindSealed:
		var l sealedLeaf
		if decodeLeaf(e.data, &l, kindSealed) == nil {
			return l.Key + ", read back: " + attributeWords(l.Attributes)
		}
	case kindToken:
		var l tokenLeaf
		if decodeLeaf(e.data, &l, kindToken) == nil {
			return fmt.Sprintf("%s: %s, %s %s, firmware %s", l.Name, l.Token.Name(), l.Token.Manufacturer, l.Token.Model, l.Token.Firmware)
		}
	case kindSignature:
		var l signatureLeaf
		if decodeLeaf(e.data, &l, kindSignature) == nil {
			return fmt.Sprintf("%d bytes, SHA-256 %s", len(l.Signature), hexSHA256(l.Signature))
		}
	case kindBackup:
		var l backupLeaf
		if decodeLeaf(e.data, &l, kindBackup) == nil {
			return fmt.Sprintf("%s, %d bytes wrapped, SHA-256 %s", l.Name, len(l.Wrapped), hexSHA256(l.Wrapped))
		}
	case kindArtefact:
		var l artefactLeaf
		if decodeLeaf(e.data, &l, kindArtefact) == nil {
			return fmt.Sprintf("%s, %d bytes, SHA-256 %s", l.Path, l.Size, l.SHA256)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(e.data))
	dec.UseNumber()
	var all map[string]any
	if dec.Decode(&all) != nil {
		return fmt.Sprintf("%q", e.data)
	}
	for _, n := range []string{"kind", "step", "at", "rehearsal"} {
		delete(all, n)
	}
	return plain(all)
}

// plain writes JSON for people: long values by their digest.
func plain(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, k := range sortedKeys(v) {
			if text := plain(v[k]); text != "" {
				parts = append(parts, strings.ReplaceAll(k, "_", " ")+": "+text)
			}
		}
		return strings.Join(parts, "; ")
	case []any:
		var parts []string
		for _, item := range v {
			parts = append(parts, plain(item))
		}
		return strings.Join(parts, ", ")
	case string:
		if len(v) > 200 {
			return fmt.Sprintf("%.24s... (%d characters, their SHA-256 %s)", v, len(v), hexSHA256([]byte(v)))
		}
		return v
	case nil:
		return ""
	}
	return fmt.Sprint(v)
}

func attributeWords(a hsm.Attributes) string {
	words := []string{string(a.Algorithm), fmt.Sprintf("label %q", a.Label), fmt.Sprintf("id %x", a.ID)}
	data, err := json.Marshal(a)
	var all map[string]any
	if err != nil || json.Unmarshal(data, &all) != nil {
		return strings.Join(words, ", ")
	}
	var yes, no []string
	for k, v := range all {
		if b, ok := v.(bool); ok && b {
			yes = append(yes, strings.ReplaceAll(k, "_", " "))
		} else if ok {
			no = append(no, strings.ReplaceAll(k, "_", " "))
		}
	}
	sort.Strings(yes)
	sort.Strings(no)
	return strings.Join(append(words, yes...), ", ") + "; not " + strings.Join(no, ", ")
}
