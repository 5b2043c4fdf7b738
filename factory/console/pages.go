package console

import (
	"strconv"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/record"
)

// refreshed is how often a page is loaded anew where its user asked for it, in seconds.
const refreshed = 30

// wantsRefresh reads whether the user asked for it.
func wantsRefresh(v *visit) int {
	if v.r.URL.Query().Get("refresh") == strconv.Itoa(refreshed) {
		return refreshed
	}
	return 0
}

// overview is the first page.
type overview struct {
	Health  factory.Health
	Parts   []part
	Lots    []factory.LotProgress
	Reasons []factory.RefusalCount
	Refused []factory.Refusal
	Recent  []record.Event
	// Problem is why Lots or Recent could not be read.
	Problem *factory.Fault
}

// part is one thing that must be well.
type part struct {
	Name, State string
	Well        bool
}

func parts(h *factory.Health) []part {
	all := []part{{"Token", h.Token, h.Token == "ok"}, {"Store", h.Store, h.Store == "ok"}, {"Clock", h.Clock, h.Clock == "ok"}}
	if h.Log != "" {
		all = append(all, part{"Issuance log", h.Log, h.Log == "ok"})
	}
	return all
}

func (k *Console) overview(v *visit) (*answer, error) {
	o := overview{Health: k.service.Health(v.ctx), Reasons: k.service.RefusalCounts(), Refused: k.service.Refusals(5)}
	o.Parts = parts(&o.Health)
	recent, err := k.service.Recent(v.ctx, 10)
	if err != nil {
		o.Problem = faultOf(err)
	}
	o.Recent = recent
	if o.Lots, err = k.service.OpenLots(v.ctx); err != nil {
		o.Problem = faultOf(err)
	}
	return &answer{template: "overview.html", title: "Overview", data: o, refresh: wantsRefresh(v)}, nil
}

func (k *Console) refusals(v *visit) (*answer, error) {
	data := struct {
		Reasons []factory.RefusalCount
		Refused []factory.Refusal
	}{k.service.RefusalCounts(), k.service.Refusals(200)}
	return &answer{template: "refusals.html", title: "Refusals", data: data, refresh: wantsRefresh(v)}, nil
}

func (k *Console) events(v *visit) (*answer, error) {
	recent, err := k.service.Recent(v.ctx, 200)
	if err != nil {
		return nil, err
	}
	return &answer{template: "events.html", title: "Events", data: recent, refresh: wantsRefresh(v)}, nil
}

// healthPage is how token, lists, log and clock stand, and what ends when.
type healthPage struct {
	Health  factory.Health
	Parts   []part
	Issuers []factory.IssuerStatus
	Log     *factory.LogStatus
}

func (k *Console) health(v *visit) (*answer, error) {
	p := healthPage{Health: k.service.Health(v.ctx), Issuers: k.service.CAs()}
	p.Parts = parts(&p.Health)
	if l, kept := k.service.LogStatus(v.ctx); kept {
		p.Log = &l
	}
	return &answer{template: "health.html", title: "Health", data: p, refresh: wantsRefresh(v)}, nil
}

func (k *Console) actList(*visit) (*answer, error) {
	return &answer{template: "acts.html", title: "Acts", data: k.acts}, nil
}
