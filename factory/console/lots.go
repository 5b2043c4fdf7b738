package console

import (
	"fmt"
	"math"
	"strings"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
)

// lotPage is one lot.
type lotPage struct {
	Lot factory.LotProgress
	// Rows say how it stands, Says what its order says.
	Rows, Says []row
	Acts       []*act
}

func (k *Console) lots(v *visit) (*answer, error) {
	open, err := k.service.OpenLots(v.ctx)
	if err != nil {
		return nil, err
	}
	return &answer{template: "lots.html", title: "Lots", data: open, refresh: wantsRefresh(v)}, nil
}

func (k *Console) lot(v *visit) (*answer, error) {
	name := strings.TrimSpace(clip(v.r.URL.Query().Get("name")))
	l, err := k.service.LotProgress(v.ctx, name)
	if err != nil {
		return nil, err
	}
	says, err := k.service.Lot(v.ctx, name)
	if err != nil {
		return nil, err
	}
	p := lotPage{Lot: l, Says: answerRows(says), Rows: []row{{"State", string(l.State)}, {"Taken", fmt.Sprintf("%d of %d", l.Taken, l.Quota)}}}
	if !l.OpenedAt.IsZero() {
		p.Rows = append(p.Rows, row{"Opened", l.OpenedAt.UTC().Format(stampForm)})
	}
	if !l.ClosedAt.IsZero() {
		p.Rows = append(p.Rows, row{"Closed", l.ClosedAt.UTC().Format(stampForm)})
	}
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
