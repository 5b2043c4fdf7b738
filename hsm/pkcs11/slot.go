package pkcs11

import (
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// slotToken is a token and the slot that holds it at the moment.
type slotToken struct {
	slot        uint
	info        hsm.TokenInfo
	maxSessions uint
}

// read asks for a token's description. The caller is inside the guard.
func (m *module) read(slot uint) (slotToken, error) {
	ti, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return slotToken{}, err
	}
	flag := func(f uint) bool { return ti.Flags&f != 0 }
	// Blanks fill a field up, by the standard. Some modules write a C string instead: what follows its NUL is anything.
	text := func(s string) string {
		s, _, _ = strings.Cut(s, "\x00")
		return strings.TrimRight(s, " ")
	}
	version := func(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
	return slotToken{slot: slot, maxSessions: maxSessions(ti), info: hsm.TokenInfo{
		Label: text(ti.Label), Serial: text(ti.SerialNumber), Manufacturer: text(ti.ManufacturerID), Model: text(ti.Model),
		Hardware: version(ti.HardwareVersion), Firmware: version(ti.FirmwareVersion), Module: m.path,
		Initialized: flag(p11.CKF_TOKEN_INITIALIZED), LoginRequired: flag(p11.CKF_LOGIN_REQUIRED), PINSet: flag(p11.CKF_USER_PIN_INITIALIZED),
		PINPad: flag(p11.CKF_PROTECTED_AUTHENTICATION_PATH), Reader: m.slotName(slot),
		PINLow: flag(p11.CKF_USER_PIN_COUNT_LOW), PINFinalTry: flag(p11.CKF_USER_PIN_FINAL_TRY), PINLocked: flag(p11.CKF_USER_PIN_LOCKED),
		MinPIN: int(ti.MinPinLen), MaxPIN: int(ti.MaxPinLen),
	}}, nil
}

// slotName is a slot's description; empty where the library gives none.
func (m *module) slotName(slot uint) string {
	si, err := m.ctx.GetSlotInfo(slot)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(si.SlotDescription, "\x00")
	return strings.TrimSpace(name)
}

// maxSessions is how many read-write sessions the token says that it takes: 0 or ckUnavailable if it does not say.
func maxSessions(ti p11.TokenInfo) uint {
	if ti.MaxSessionCount == 1 {
		return 1
	}
	return ti.MaxRwSessionCount
}

// slotTokens lists all tokens present, blank ones too. The caller is inside the guard.
func (m *module) slotTokens() ([]slotToken, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	var all []slotToken
	for _, slot := range slots {
		s, err := m.read(slot)
		if code(err) == p11.CKR_TOKEN_NOT_PRESENT || code(err) == p11.CKR_TOKEN_NOT_RECOGNIZED {
			continue // taken out since, or a card that the library does not know
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// find gives the one initialised token that the URI names. The caller is inside the guard.
func (m *module) find(u hsm.URI) (slotToken, error) {
	all, err := m.slotTokens()
	if err != nil {
		return slotToken{}, err
	}
	var found []slotToken
	var present []string
	for _, s := range all {
		if !s.info.Initialized {
			continue
		}
		present = append(present, strings.TrimPrefix(s.info.Name(), "token "))
		if u.MatchesToken(s.info) {
			found = append(found, s)
		}
	}
	list := "present: " + strings.Join(present, ", ")
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return slotToken{}, advice.New(advice.Usage, tellApart(u, found), "%s: tokens, %d of them, fit in %s; %s: %w",
			tokenName(u), len(found), show.Text(m.path), list, hsm.ErrAmbiguous)
	case len(present) == 0:
		return slotToken{}, advice.New(advice.Failed, Advice(m.path),
			"%s: %w: %s shows no initialised token at all", tokenName(u), hsm.ErrNoToken, show.Text(m.path))
	}
	return slotToken{}, advice.New(advice.Failed, "check label and serial in the URI against those present", "%s: %w in %s; %s",
		tokenName(u), hsm.ErrNoToken, show.Text(m.path), list)
}

// tellApart says what in a URI would name one of these tokens alone.
func tellApart(u hsm.URI, found []slotToken) string {
	differ := func(field func(i hsm.TokenInfo) string) bool {
		seen := map[string]bool{}
		for _, f := range found {
			v := field(f.info)
			if v == "" || seen[v] {
				return false
			}
			seen[v] = true
		}
		return true
	}
	switch {
	case u.Serial == "" && differ(func(i hsm.TokenInfo) string { return i.Serial }):
		return "add serial= to the URI"
	case u.Token == "" && differ(func(i hsm.TokenInfo) string { return i.Label }):
		return "add token= to the URI: their serials do not tell them apart, their labels do"
	case u.Model == "" && differ(func(i hsm.TokenInfo) string { return i.Model }):
		return "add model= to the URI: their serials do not tell them apart, their models do"
	case u.Manufacturer == "" && differ(func(i hsm.TokenInfo) string { return i.Manufacturer }):
		return "add manufacturer= to the URI: their serials do not tell them apart, their manufacturers do"
	}
	return "their serials are equal or absent, and nothing in a URI tells them apart: connect one of them at a time, or give each a label of its own with the vendor's tool"
}

// tokenName names the token that a URI looks for.
func tokenName(u hsm.URI) string {
	switch {
	case u.Token != "" && u.Serial != "":
		return hsm.TokenInfo{Label: u.Token, Serial: u.Serial}.Name()
	case u.Token != "":
		return fmt.Sprintf("token %q", u.Token)
	case u.Serial != "":
		return "token with serial " + show.Text(u.Serial)
	}
	return "token of any name"
}

// List describes all tokens that a library shows, blank ones (Initialized false) too.
func List(library string) ([]hsm.TokenInfo, error) {
	m, err := acquire(library)
	if err != nil {
		return nil, err
	}
	defer m.release()
	if err := m.enter(bg); err != nil {
		return nil, err
	}
	defer m.leave()
	all, err := m.slotTokens()
	if err != nil {
		return nil, advice.New(advice.Failed, m.hint(err), "PKCS#11 library %s: list tokens: %w", show.Text(m.path), err)
	}
	infos := make([]hsm.TokenInfo, 0, len(all))
	for _, s := range all {
		infos = append(infos, s.info)
	}
	return infos, nil
}
