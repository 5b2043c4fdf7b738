package route

import (
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
)

// figures count a route's requests by the class of their answer, [0] those without one.
type figures struct {
	answered [6]atomic.Int64
}

// WriteRequests writes the routes' requests in the Prometheus text format, under the help that the caller has written; labels begins each list of labels.
func (t *Router) WriteRequests(w io.Writer, name, labels string) {
	for _, r := range t.routes {
		for class := range r.figures.answered {
			what := strconv.Itoa(class) + "xx"
			if class == 0 {
				what = "none"
			} else if class == 1 {
				continue // interim answers are none
			}
			fmt.Fprintf(w, "%s{%s,route=%q,class=%q} %d\n", name, labels, r.path, what, r.figures.answered[class].Load())
		}
	}
}

// WriteReach writes of each address of an upstream whether it can be reached.
func (t *Router) WriteReach(w io.Writer, name, labels string) {
	for _, u := range t.upstreams {
		for _, a := range u.addresses {
			up := 1
			if !a.since().IsZero() {
				up = 0
			}
			fmt.Fprintf(w, "%s{%s,upstream=%q,address=%q} %d\n", name, labels, u.name, a.text, up)
		}
	}
}
