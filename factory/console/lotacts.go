package console

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/hanaper/hanaper/factory"
)

func (k *Console) open() *act {
	return &act{
		Name: "open", Title: "Open a lot", Verb: "Open",
		Lead:   "A signed order says how many devices, which, where and until when. A newer order changes a lot that is open.",
		Fields: []field{{Name: "order", Label: "Signed order", Hint: "the file that was signed, as it is", File: true, Must: true}},
		plan: func(ctx context.Context, who factory.Caller, v values) (*plan, error) {
			would, is, err := k.service.PreviewLot(ctx, who.String(), []byte(v["order"]))
			if err != nil {
				return nil, err
			}
			p := &plan{}
			for _, by := range would.SignedBy {
				p.Rows = append(p.Rows, row{"Signed by", quoted(by)})
			}
			p.Rows = append(p.Rows, answerRows(would)...)
			switch {
			case is == nil:
			case is.Order == would.Order:
				p.Warnings = append(p.Warnings, "This order was applied before: nothing will change")
			default:
				p.Warnings = append(p.Warnings, fmt.Sprintf("The lot is there already, for %d devices: this order takes the place of the one in force, if it says that it does", is.Quantity))
			}
			return p, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			a, err := k.service.OpenLot(ctx, who.String(), []byte(v["order"]))
			if err != nil {
				return nil, err
			}
			if a.Changed {
				if err := k.service.NoteLot(ctx, who.String(), a.Name, note); err != nil {
					return nil, &factory.Fault{Code: factory.CodeUnavailable, Text: "the lot is open, but your note is not in the record", Hint: "look at the lot"}
				}
			}
			o := &outcome{Said: "Lot " + quoted(a.Name) + " is open", Rows: answerRows(a), Lot: a.Name}
			if !a.Changed {
				o.Said = "The order of lot " + quoted(a.Name) + " was applied before; nothing was changed"
			}
			return o, nil
		},
	}
}

func (k *Console) close() *act {
	return &act{
		Name: "close", Title: "Close a lot", Verb: "Close", Final: true,
		Lead:   "No further device is enrolled under it; those that it has stay as they are.",
		Fields: []field{{Name: "lot", Label: "Lot", Must: true}},
		plan: func(ctx context.Context, _ factory.Caller, v values) (*plan, error) {
			l, err := k.service.Lot(ctx, v["lot"])
			if err != nil {
				return nil, err
			}
			if l.State == "closed" {
				return nil, &factory.Fault{Code: factory.CodeLotClosed, Text: "lot " + quoted(l.Name) + " is closed already", Hint: "there is nothing to close"}
			}
			// How many it has changes while the line runs: what is asked again is not bound to that.
			l.Taken = 0
			rows := answerRows(l)
			return &plan{Rows: rows, Warnings: []string{"The lot is closed for good: what it did not take needs another order"}}, nil
		},
		do: func(ctx context.Context, who factory.Caller, v values, note string) (*outcome, error) {
			a, err := k.service.CloseLot(ctx, who.String(), factory.CloseLotRequest{Name: v["lot"], Note: note})
			if err != nil {
				return nil, err
			}
			return &outcome{Said: fmt.Sprintf("Lot %s is closed, with %d of %d devices", quoted(a.Name), a.Taken, a.Quantity), Lot: a.Name}, nil
		},
	}
}

// answerRows are what a lot's order says, in words.
func answerRows(l *factory.LotAnswer) []row {
	rows := []row{{"Lot", quoted(l.Name)}, {"Devices", fmt.Sprint(l.Quantity)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, row{name, value})
		}
	}
	word := func(s string) string {
		if s == "" {
			return ""
		}
		return quoted(s)
	}
	add("Profile", word(l.Profile))
	add("Environment", word(l.Environment))
	add("Ids must match", word(l.IDPattern))
	if l.Listed > 0 {
		add("Ids", fmt.Sprintf("only the %d that the order lists", l.Listed))
	}
	add("Stations", listed(l.Stations))
	add("Hardware ids", listed(l.HardwareIDs))
	if !l.From.IsZero() {
		add("From", l.From.UTC().Format(stampForm))
	}
	if !l.Until.IsZero() {
		add("Until", l.Until.UTC().Format(stampForm))
	}
	if _, err := hex.DecodeString(l.Order); l.Order == "" || err != nil {
		add("Order", "none: its bound was set without one")
	} else {
		add("SHA-256 of the order", l.Order)
	}
	return rows
}
