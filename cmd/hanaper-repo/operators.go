package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

// operators says who of the Operations Root's operators may administer the Uptane repositories. Stations are refused, and
// whoever the configuration does not name. The CRL is read again when its file changes; without a current one nobody is let in.
type operators struct {
	callers *factory.Callers
	may     map[string][]reposerver.Right
	crl     string

	mu   sync.Mutex
	seen time.Time
	size int64
}

func newOperators(cfg *config) (func(*tls.ConnectionState) (reposerver.Admitted, error), error) {
	a := cfg.Uptane.Admin
	roots, err := factory.LoadCertificates(cfg.path(a.TLS.Clients))
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "admin.tls.clients names the Operations Root, PEM")
	}
	o := &operators{may: map[string][]reposerver.Right{}, crl: cfg.path(a.CRL)}
	if o.callers, err = factory.NewCallers(roots, nil, now); err != nil {
		return nil, advice.Wrap(advice.Usage, err, "admin.tls.clients names the Operations Root, PEM")
	}
	for _, one := range a.Operators {
		o.may[one.Name] = one.May
	}
	if err := o.refresh(); err != nil {
		return nil, advice.Wrap(advice.Unverified, err, "admin.crl is the Operations Root's own list")
	}
	return o.admit, nil
}

// refresh reads the CRL if its file has changed. One that is refused leaves the last one in use, until that expires.
func (o *operators) refresh() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	info, err := os.Stat(o.crl)
	if err != nil {
		return err
	}
	if info.ModTime().Equal(o.seen) && info.Size() == o.size {
		return nil
	}
	data, err := input.ReadFile(o.crl)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err == nil {
		err = o.callers.UseCRL(list)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", show.Text(o.crl), err)
	}
	o.seen, o.size = info.ModTime(), info.Size()
	return nil
}

func (o *operators) admit(s *tls.ConnectionState) (reposerver.Admitted, error) {
	// A file that is gone or damaged does not open the door: the list that was taken up last counts, and ends.
	_ = o.refresh()
	who, err := o.callers.Check(s.PeerCertificates[0])
	if err != nil {
		return reposerver.Admitted{}, fmt.Errorf("it %w", err)
	}
	may, ok := o.may[who.Name]
	if who.Role != ca.RoleOperator || !ok {
		return reposerver.Admitted{}, errors.New("it is of " + who.String() + ", to whom nothing is given here")
	}
	return reposerver.Admitted{Name: who.String(), May: may}, nil
}
