package factory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// exposition writes what Prometheus reads (exposition format 0.0.4): a HELP and a TYPE line for each name, then its samples.
type exposition struct {
	b    strings.Builder
	name string
}

// family begins a metric; kind is gauge, counter or histogram.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	fmt.Fprintf(&e.b, "# HELP %s %s\n# TYPE %s %s\n", name, helpEscape.Replace(help), name, kind)
}

// sample writes a value of the family; labels are names and values in turn.
func (e *exposition) sample(value float64, labels ...string) { e.line(e.name, value, labels) }

func (e *exposition) line(name string, value float64, labels []string) {
	e.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		e.b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		e.b.WriteString(labels[i] + `="` + labelEscape.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 1 {
		e.b.WriteString("}")
	}
	e.b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// histogram writes a whole family of kind histogram.
func (e *exposition) histogram(name, help string, h *histogram) {
	e.family(name, "histogram", help)
	total := uint64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
		bound := "+Inf"
		if i < len(buckets) {
			bound = strconv.FormatFloat(buckets[i], 'g', -1, 64)
		}
		e.line(name+"_bucket", float64(total), []string{"le", bound})
	}
	e.line(name+"_sum", time.Duration(h.nanos.Load()).Seconds(), nil)
	e.line(name+"_count", float64(total), nil)
}

// counts writes a sample for each key, in order of the keys, so that two readings differ only in what changed.
func counts[K comparable](e *exposition, of map[K]uint64, labels func(K) []string) {
	type one struct {
		labels []string
		n      uint64
	}
	var all []one
	for k, n := range of {
		all = append(all, one{labels(k), n})
	}
	slices.SortFunc(all, func(a, b one) int { return slices.Compare(a.labels, b.labels) })
	for _, o := range all {
		e.sample(float64(o.n), o.labels...)
	}
}

// labelEscape escapes a label's value, helpEscape a help text, as the format wants it.
var (
	labelEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helpEscape  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)
