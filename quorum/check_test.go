package quorum

import (
	"strings"
	"testing"
	"time"
)

func TestCards(t *testing.T) {
	list := people(t)
	r := newRoster(t, 3, list)
	other := newRoster(t, 2, list)
	at := issued.Add(24 * time.Hour)
	check := func(r *Roster, i int, at time.Time) []byte {
		t.Helper()
		var d Decrypter
		if list[i].decrypt != nil {
			d = list[i].decrypt
		}
		env, err := CheckCard(r, list[i].sign, d, at)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	year := 365 * 24 * time.Hour
	now := at.Add(year)
	all := [][]byte{check(r, 0, at), check(r, 1, at), check(r, 2, at), check(r, 3, at.Add(-time.Second)), check(r, 5, at), check(r, 0, at.Add(-2*year))}
	cards, err := Cards(r, all, now, year)
	if err != nil {
		t.Fatal(err)
	}
	var live []string
	for _, c := range cards {
		if c.Live {
			live = append(live, c.Officer.Name)
		}
	}
	if strings.Join(live, " ") != "Ada Berta Clara Wim" || r.Spare(cards) != 0 || !cards[0].Checked.Equal(at) || cards[3].Checked.IsZero() || !cards[4].Checked.IsZero() {
		t.Errorf("live: %v, spare %d", live, r.Spare(cards))
	}
	cards, err = Cards(r, all[:2], now, year)
	if err != nil || r.Spare(cards) != -1 {
		t.Errorf("spare %d, %v", r.Spare(cards), err)
	}
	for name, env := range map[string][]byte{
		"to come":        check(r, 0, now.Add(time.Second)),
		"another roster": check(other, 0, at),
		"an approval":    approve(t, statement(t, r), list[0])[0],
		"nothing":        nil,
	} {
		if _, err := Cards(r, [][]byte{env}, now, year); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, payload, err := parseEnvelope(all[0], CheckPayload)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := SignDSSE(CheckPayload, payload, list[1].sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Cards(r, [][]byte{forged}, now, year); err == nil {
		t.Error("Ada's check signed by Berta: accepted")
	}
	for name, f := range map[string]func() ([]byte, error){
		"a stranger":            func() ([]byte, error) { return CheckCard(r, keys()["Ed25519"][5], nil, at) },
		"no decryption":         func() ([]byte, error) { return CheckCard(r, list[0].sign, nil, at) },
		"another's decryption":  func() ([]byte, error) { return CheckCard(r, list[0].sign, list[1].decrypt, at) },
		"a decryption too many": func() ([]byte, error) { return CheckCard(r, list[5].sign, list[0].decrypt, at) },
		"a broken card":         func() ([]byte, error) { return CheckCard(r, broken{keys()["Ed25519"][0]}, list[0].decrypt, at) },
	} {
		if env, err := f(); err == nil || env != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
