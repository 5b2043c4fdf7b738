package reposerver

import (
	"fmt"
	"strconv"
	"strings"
)

// Outcome is how an assignment of an ECU ended.
type Outcome struct {
	Target string `json:"target"`
	SHA256 string `json:"sha256"`
	Result string `json:"result"`
	// Code and Description are the ECU's own, or the device's where the ECU says nothing.
	Code        string `json:"code,omitempty"`
	Description string `json:"description,omitempty"`
	At          string `json:"at"`
	Correlation string `json:"correlation_id,omitempty"`
}

// The results. A rolled back ECU reported the target as installed, and later another one.
const (
	ResultInstalled  = "installed"
	ResultFailed     = "failed"
	ResultRolledBack = "rolled back"
)

// installationReport is what a manifest says of the last installation. Devices send it until a manifest was taken.
type installationReport struct {
	Report struct {
		Correlation string             `json:"correlation_id"`
		Result      installationResult `json:"result"`
		Items       []struct {
			ECU    string             `json:"ecu"`
			Result installationResult `json:"result"`
		} `json:"items"`
	} `json:"report"`
}

type installationResult struct {
	Success     bool   `json:"success"`
	Code        string `json:"code"`
	Description string `json:"description"`
}

// correlation names an assignment, and the version of the targets that carry it: a report tells by it which version the
// device has believed.
func correlation(version int, nonce string) string {
	return fmt.Sprintf("urn:hanaper:assignment:%d:%s", version, nonce)
}

// believed is the version in the report's correlation id, if that is one of ours; else 0. Nothing proves that it was shown.
func (m *manifest) believed() int {
	if m.report == nil {
		return 0
	}
	rest, ok := strings.CutPrefix(m.report.Report.Correlation, "urn:hanaper:assignment:")
	number, _, colon := strings.Cut(rest, ":")
	n, err := strconv.Atoi(number)
	if !ok || !colon || err != nil || n < 0 {
		return 0
	}
	return n
}

// take puts what a verified manifest says into the record. again says that the metadata must be signed anew: an
// assignment that failed, or was rolled back, is taken back, so that the device does not try it without end.
func (d *Device) take(m *manifest, at string) (again bool) {
	report := m.report
	own := report != nil && report.Report.Correlation == d.Correlation && d.Correlation != ""
	results := map[string]installationResult{}
	if own {
		for _, item := range report.Report.Items {
			results[item.ECU] = item.Result
		}
	}
	for serial, a := range d.Assigned {
		has, said := m.installed[serial]
		was := d.Outcomes[serial]
		o := Outcome{Target: a.Target, SHA256: a.SHA256, At: at, Correlation: d.Correlation}
		result, item := results[serial]
		switch {
		case said && has.SHA256 == a.SHA256:
			if was.Result == ResultInstalled {
				continue
			}
			o.Result = ResultInstalled
		case said && was.Result == ResultInstalled:
			o.Result = ResultRolledBack
		case item && !result.Success || own && !report.Report.Result.Success:
			o.Result = ResultFailed
			if !item || result.Success {
				result = report.Report.Result
			}
		default:
			continue
		}
		if o.Result != ResultInstalled {
			o.Code, o.Description = bounded(result.Code), bounded(result.Description)
			delete(d.Assigned, serial)
			again = true
		}
		if d.Outcomes == nil {
			d.Outcomes = map[string]Outcome{}
		}
		d.Outcomes[serial] = o
	}
	if len(d.Assigned) == 0 && again {
		d.Correlation = ""
	}
	d.Reported, d.Attacks, d.Seen = m.installed, m.attacks, at
	return again
}

// bounded cuts what a device says of itself.
func bounded(s string) string {
	if len(s) > maxSaid {
		return strings.ToValidUTF8(s[:maxSaid], "")
	}
	return s
}
