package pkcs11

import (
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
)

// seat is a token and the slot that holds it at the moment.
type seat struct {
	slot        uint
	info        hsm.TokenInfo
	maxSessions uint
}

// read asks for a token's description. The caller is inside the gate.
func (m *module) read(slot uint) (seat, error) {
	ti, err := m.ctx.GetTokenInfo(slot)
	if err != nil {
		return seat{}, err
	}
	flag := func(f uint) bool { return ti.Flags&f != 0 }
	text := func(s string) string { return strings.TrimRight(s, " \x00") }
	version := func(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
	return seat{slot: slot, maxSessions: ti.MaxRwSessionCount, info: hsm.TokenInfo{
		Label: text(ti.Label), Serial: text(ti.SerialNumber), Manufacturer: text(ti.ManufacturerID), Model: text(ti.Model),
		Hardware: version(ti.HardwareVersion), Firmware: version(ti.FirmwareVersion), Module: m.path,
		Initialized: flag(p11.CKF_TOKEN_INITIALIZED), LoginRequired: flag(p11.CKF_LOGIN_REQUIRED), PINSet: flag(p11.CKF_USER_PIN_INITIALIZED),
		PINLow: flag(p11.CKF_USER_PIN_COUNT_LOW), PINFinalTry: flag(p11.CKF_USER_PIN_FINAL_TRY), PINLocked: flag(p11.CKF_USER_PIN_LOCKED),
		MinPIN: int(ti.MinPinLen), MaxPIN: int(ti.MaxPinLen),
	}}, nil
}

// seats lists all tokens present, blank ones too. The caller is inside the gate.
func (m *module) seats() ([]seat, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, err
	}
	var all []seat
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

// find gives the one initialised token that the URI names. The caller is inside the gate.
func (m *module) find(u hsm.URI) (seat, error) {
	all, err := m.seats()
	if err != nil {
		return seat{}, err
	}
	var found []seat
	var present []string
	for _, s := range all {
		if !s.info.Initialized {
			continue
		}
		present = append(present, fmt.Sprintf("%q (serial %s)", s.info.Label, s.info.Serial))
		if u.MatchesToken(s.info) {
			found = append(found, s)
		}
	}
	list := "present: " + strings.Join(present, ", ")
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return seat{}, advice.New(advice.Usage, "add serial= to the URI; serials are unique", "%s: tokens, %d of them, fit in %s; %s: %w",
			tokenName(u), len(found), m.path, list, hsm.ErrAmbiguous)
	case len(present) == 0:
		return seat{}, advice.New(advice.Failed, "connect the token, or check the library's own configuration (SoftHSM: SOFTHSM2_CONF)",
			"%s: %w: %s shows no initialised token at all", tokenName(u), hsm.ErrNoToken, m.path)
	}
	return seat{}, advice.New(advice.Failed, "check label and serial in the URI against those present", "%s: %w in %s; %s",
		tokenName(u), hsm.ErrNoToken, m.path, list)
}

// tokenName names the token that a URI looks for.
func tokenName(u hsm.URI) string {
	switch {
	case u.Token != "" && u.Serial != "":
		return hsm.TokenInfo{Label: u.Token, Serial: u.Serial}.Name()
	case u.Token != "":
		return fmt.Sprintf("token %q", u.Token)
	case u.Serial != "":
		return "token with serial " + u.Serial
	}
	return "token of any name"
}

// List describes all tokens that a library shows, blank ones (Initialized false) too.
func List(path string) ([]hsm.TokenInfo, error) {
	m, err := acquire(path, "")
	if err != nil {
		return nil, err
	}
	defer m.release()
	if err := m.enter(bg); err != nil {
		return nil, err
	}
	defer m.leave()
	all, err := m.seats()
	if err != nil {
		return nil, advice.New(advice.Failed, hintOf(err), "PKCS#11 library %s: list tokens: %w", path, err)
	}
	infos := make([]hsm.TokenInfo, 0, len(all))
	for _, s := range all {
		infos = append(infos, s.info)
	}
	return infos, nil
}
