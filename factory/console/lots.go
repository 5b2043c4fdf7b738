package console

import (
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
)

// lotPage is one lot.
type lotPage struct {
	Lot  factory.LotProgress
	Rows []row
	Acts []*act
}

func (k *Console) lots(v *visit) (*answer, error) {
	open, err := k.service.OpenLots(v.ctx)
	if err != nil {
		return nil, err
	}
	return &answer{template: "lots.html", title: "Lots", data: open, refresh: wantsRefresh(v)}, nil
}

func (k *Console) lot(v *visit) (*answer, error) {
	l, err := k.service.LotProgress(v.ctx, v.r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	p := lotPage{Lot: l, Rows: lotRows(&l.Lot)}
	if v.mayAct() {
		p.Acts = k.actsOnLot(&l.Lot)
	}
	return &answer{template: "lot.html", title: "Lot " + show.Text(l.Name), data: p, refresh: wantsRefresh(v)}, nil
}

// actsOnLot are the acts that make sense for a lot as it stands.
func (k *Console) actsOnLot(l *record.Lot) (fit []*act) {
	if a := k.actOf("close"); a != nil && l.State == record.LotOpen {
		fit = append(fit, a)
	}
	return fit
}

// lotRows are what a lot's order says, in words.
func lotRows(l *record.Lot) []row {
	rows := []row{{"Name", quoted(l.Name)}, {"State", string(l.State)}, {"Devices", fmt.Sprintf("%d of %d taken, %d left", l.Taken, l.Quota, max(0, l.Quota-l.Taken))}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, row{name, value})
		}
	}
	text := func(s string) string {
		if s == "" {
			return ""
		}
		return quoted(s)
	}
	add("Profile", text(l.Profile))
	add("Environment", text(l.Environment))
	add("Ids must match", text(l.IDPattern))
	if l.Listed > 0 {
		add("Ids", fmt.Sprintf("only the %d that the order lists", l.Listed))
	}
	add("Stations", listed(l.Stations))
	add("Hardware ids", listed(l.HardwareIDs))
	const form = "2006-01-02 15:04:05 UTC"
	if !l.From.IsZero() {
		add("From", l.From.UTC().Format(form))
	}
	if !l.Until.IsZero() {
		add("Until", l.Until.UTC().Format(form))
	}
	if !l.OpenedAt.IsZero() {
		add("Opened", l.OpenedAt.UTC().Format(form))
	}
	if !l.ClosedAt.IsZero() {
		add("Closed", l.ClosedAt.UTC().Format(form))
	}
	if l.Order == [32]byte{} {
		add("Order", "none: its bound was set without one")
	} else {
		add("SHA-256 of its order", fmt.Sprintf("%x", l.Order))
	}
	return rows
}

// listed are the first names of a list.
func listed(names []string) string {
	const most = 20
	if len(names) > most {
		return show.List(names[:most]) + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return show.List(names)
}

// rate shows a pace.
func rate(p factory.LotProgress) string {
	switch {
	case p.State == record.LotClosed:
		return "closed"
	case p.Over == 0:
		return "not known yet"
	case p.PerHour == 0:
		return "stands still"
	case p.PerHour < 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", p.PerHour), ".0") + " an hour"
	}
	return fmt.Sprintf("%d an hour", int(math.Round(p.PerHour)))
}

// share is how much of a lot is taken, in percent.
func share(p factory.LotProgress) string {
	if p.Quota <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%d %%", p.Taken*100/p.Quota)
}

// findLot leads from a name that was typed to the lot's page.
func (k *Console) findLot(v *visit) (*answer, error) {
	return &answer{to: Prefix + "lots/" + url.PathEscape(strings.TrimSpace(clip(v.r.URL.Query().Get("name"))))}, nil
}
