package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// State of a finding.
const (
	Good     = "ok"
	TakeCare = "take care"
	Wrong    = "wrong"
)

// Finding is one thing that Check looked at.
type Finding struct {
	What  string `json:"what"`
	State string `json:"state"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

const (
	// endsSoon is how long before a station's certificate ends Check warns.
	endsSoon = 30 * 24 * time.Hour
	// A certificate begins five minutes before it is signed: a device or station whose clock is further behind takes it for one of tomorrow.
	clockCare, clockWrong = 30 * time.Second, 5 * time.Minute
)

// Check looks at all that an enrolment will need and that can be looked at without making, sending or trying anything: no PIN is spent, no
// key is made, and hanaperd is asked only how it is.
func Check(ctx context.Context, conf *Config, w With) []Finding {
	c := &checker{conf: conf, w: w.filled()}
	looking := *conf
	if conf.Uptane.Trust != nil {
		// The state is not touched: what is seen now is kept by who enrols.
		apart, remove, err := conf.Uptane.Trust.apart()
		if err != nil {
			c.found("configuration", err, "")
			return c.findings
		}
		defer remove()
		looking.Uptane.Trust = apart
	}
	var remarks []string
	w.Done = func(format string, args ...any) { remarks = append(remarks, fmt.Sprintf(format, args...)) }
	base, err := load(&looking, w)
	if err != nil {
		c.found("configuration", err, "")
		return c.findings
	}
	c.found("configuration", nil, "all files that it names can be read")
	c.ends("station's certificate", base.identity.Leaf, base.name)
	if role, _, err := ca.RoleOf(base.identity.Leaf); err != nil || role != ca.RoleStation {
		c.add("station's certificate", Wrong, "it is no station's", "have the ceremony issue one for the request of 'hanaper-station csr'")
	}
	for _, r := range base.fleet {
		c.ends("fleet root", r, r.Subject.CommonName)
	}
	if o := base.folder.uptane; o != nil {
		state, text := Good, o.describe()
		if len(remarks) > 0 {
			state, text = TakeCare, strings.Join(remarks, "; ")
		}
		c.add("uptane roots", state, text, "")
	}
	c.hanaperd(ctx, base)
	c.folders()
	c.token(base)
	if held, err := base.issuances.held(); base.issuances != nil {
		c.found("issuance log", err, fmt.Sprintf("the kept checkpoint covers %d entries", held))
	}
	return c.findings
}

// CheckErr is the error that findings end with; nil if nothing is wrong.
func CheckErr(findings []Finding) error {
	wrong := 0
	for _, f := range findings {
		if f.State == Wrong {
			wrong++
		}
	}
	if wrong == 0 {
		return nil
	}
	return advice.New(advice.Failed, "mend what is wrong, and check again", "%d of %d findings are wrong", wrong, len(findings))
}

type checker struct {
	conf     *Config
	w        With
	findings []Finding
}

func (c *checker) add(what, state, text, hint string) {
	c.findings = append(c.findings, Finding{what, state, show.Line(text), show.Line(hint)})
}

func (c *checker) found(what string, err error, good string) {
	if err != nil {
		c.add(what, Wrong, err.Error(), advice.Hint(err))
		return
	}
	c.add(what, Good, good, "")
}

func (c *checker) ends(what string, cert *x509.Certificate, name string) {
	until, text := cert.NotAfter.Sub(c.w.Now()), fmt.Sprintf("%s, until %s", show.Text(name), cert.NotAfter.UTC().Format(time.RFC3339))
	switch {
	case until <= 0:
		c.add(what, Wrong, text+": it has expired", "have the ceremony issue a new one")
	case until < endsSoon:
		c.add(what, TakeCare, fmt.Sprintf("%s: %d days are left", text, int(until.Hours()/24)), "have the ceremony issue a new one")
	default:
		c.add(what, Good, text, "")
	}
}

func (c *checker) hanaperd(ctx context.Context, s *Station) {
	p, err := s.client.Probe(ctx)
	if err != nil {
		c.found("hanaperd", err, "")
		return
	}
	text := show.Text(c.conf.Factory.URL) + " answers"
	if c.conf.Factory.Proxy != "" {
		text += ", through the proxy"
	}
	if p.Health.Status != "ok" {
		c.add("hanaperd", TakeCare, fmt.Sprintf("%s: %s: token %s, store %s, clock %s; %s", text, show.Text(p.Health.Status), show.Text(p.Health.Token), show.Text(p.Health.Store), show.Text(p.Health.Clock),
			show.Line(strings.Join(p.Health.Notes, "; "))), "tell the operator")
	} else {
		c.add("hanaperd", Good, text+" and is well", "")
	}
	off := max(p.Ahead, -p.Ahead)
	text = fmt.Sprintf("hanaperd's is %s ahead of this one, within %s", p.Ahead.Round(time.Second/10), p.Within.Round(time.Second/10))
	switch {
	case off > clockWrong:
		c.add("clock", Wrong, text, "hold both against a third clock before you set one: a wrong one here or there; certificates would seem to begin tomorrow, or challenges to have expired")
	case off > clockCare+p.Within:
		c.add("clock", TakeCare, text, "hold both against a third clock before you set one")
	default:
		c.add("clock", Good, text, "")
	}
}

// folders tries to write where an enrolment will.
func (c *checker) folders() {
	before, _, _ := strings.Cut(c.conf.Import, "{id}")
	places := map[string]string{"import folders": before, "spools": c.conf.Spool.State}
	if !strings.HasSuffix(before, string(filepath.Separator)) {
		places["import folders"] = filepath.Dir(before)
	}
	if c.conf.Factory.Got != "" {
		places["certificates got"] = filepath.Dir(c.conf.Factory.Got)
	}
	if c.conf.Log != nil {
		places["checkpoints kept"] = filepath.Dir(c.conf.Log.Kept)
	}
	if c.conf.Uptane.Trust != nil {
		places["trust seen"] = c.conf.Uptane.Trust.State
	}
	for _, what := range []string{"import folders", "certificates got", "checkpoints kept", "trust seen", "spools"} {
		if at, ok := places[what]; ok {
			dir, err := writable(at)
			c.found(what, err, show.Text(dir)+" can be written to")
		}
	}
}

// writable makes and removes a file in a folder, or in the nearest one above it that is there.
func writable(dir string) (string, error) {
	for {
		st, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			dir = filepath.Dir(dir)
			continue
		}
		if err == nil && !st.IsDir() {
			err = fmt.Errorf("%s is no folder", show.Text(dir))
		}
		if err != nil {
			return dir, err
		}
		break
	}
	f, err := os.CreateTemp(dir, ".hanaper-check-*")
	if err != nil {
		return dir, advice.Wrap(advice.Failed, err, "is the disk full, or the folder somebody else's?")
	}
	return dir, errors.Join(f.Close(), os.Remove(f.Name()))
}

// token looks whether the device's token is shown, without a login.
func (c *checker) token(s *Station) {
	d := c.conf.Device
	if d.KeyStore != storePKCS11 || d.Token == "" || strings.Contains(d.Token, "{id}") || s.tokens == nil {
		return
	}
	uri, err := hsm.ParseURI(d.Token)
	if err != nil {
		c.found("token", err, "")
		return
	}
	all, err := s.tokens(uri.Library())
	if err != nil {
		c.found("token", err, "")
		return
	}
	var names []string
	for _, t := range all {
		names = append(names, t.Name())
		if !uri.MatchesToken(t) || !t.Initialized {
			continue
		}
		text, state, hint := t.Name()+" is there; its PIN was not tried", Good, ""
		if said := t.PINWarning(); said != "" {
			text, state, hint = t.Name()+": "+said, TakeCare, "each wrong PIN may be one of the last"
		}
		if err := checkSerial(t); err != nil {
			text, state, hint = err.Error(), Wrong, advice.Hint(err)
		}
		c.add("token", state, text, hint)
		if first := clientToken(all); first != nil && (first.Serial != t.Serial || first.Label != t.Label) {
			state = TakeCare
			if c.conf.Sota.FirstToken == firstDemanded {
				state = Wrong
			}
			c.add("first token", state, "the client takes the first token that its module shows: here "+first.Name(), "on the device, this board's must be the only or the first one")
		}
		return
	}
	c.add("token", Wrong, "no such token; the module shows "+strings.Join(names, ", "), "connect the board; is its token initialised?")
}
