package factory

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"

	"github.com/hanaper/hanaper/attest"
	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/est"
)

// estRoute is one operation of EST: who may call it, how, and what answers. The label of its path is a lot's name, empty for none.
type estRoute struct {
	method string
	roles  []string
	// answer gives DER, and the media type of its base64.
	answer func(a *api, ctx context.Context, who Caller, label string, body []byte) (der []byte, kind string, err error)
}

var estRoutes = map[est.Operation]estRoute{
	est.CACerts:        {http.MethodGet, ca.Roles(), (*api).estCACerts},
	est.CSRAttrs:       {http.MethodGet, ca.Roles(), (*api).estCSRAttrs},
	est.SimpleEnroll:   {http.MethodPost, []string{ca.RoleStation}, (*api).estEnroll},
	est.SimpleReenroll: {http.MethodPost, []string{ca.RoleStation, ca.RoleGateway}, (*api).estReenroll},
}

// est answers one request of EST (docs/spec/est.md): the same callers, bounds and slots as the JSON API has, other forms.
func (a *api) est(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	label, op, ok := est.ParsePath(r.URL.EscapedPath())
	route, has := estRoutes[op]
	if !has {
		route.roles = ca.Roles()
	}
	who, err := a.admit(route.method, route.roles, r)
	var der []byte
	kind := ""
	switch {
	case err != nil:
	case !ok || r.URL.RawQuery != "":
		err = fault(CodeNotFound, "use "+est.Root+"/[LOT/]OPERATION with cacerts, csrattrs, simpleenroll or simplereenroll, without a query; a lot's name is letters, digits and . _ : - here", "no such path")
	case !has:
		err = fault(CodeNotDone, "a device makes its own key, and asks by simpleenroll", "%s is not implemented", op)
	default:
		der, kind, err = a.estWork(ctx, route, who, label, w, r)
	}
	ans := &answer{status: http.StatusOK, kind: kind}
	if err != nil {
		ans = a.estRefuse(w, r, who, route.method, err)
	} else {
		// RFC 8951, section 3: nobody is to look at it. Clients of before do.
		w.Header().Set("Content-Transfer-Encoding", "base64")
		ans.raw = est.Encode(der)
	}
	write(w, ans)
	a.service.tally.answered(est.Root+"/"+string(op), ans.status)
}

// estWork reads the body first and takes a slot then, as api.work does.
func (a *api) estWork(ctx context.Context, route estRoute, who Caller, label string, w http.ResponseWriter, r *http.Request) ([]byte, string, error) {
	if who.Role == ca.RoleGateway {
		if err := estForGateway(label); err != nil {
			return nil, "", err
		}
	}
	var body []byte
	enrols := route.method == http.MethodPost
	if enrols {
		text, err := readBody(w, r, est.TypePKCS10, maxEnrollBody)
		if err != nil {
			return nil, "", err
		}
		if body, err = est.Decode(text); err != nil {
			hint := "send the request's DER in base64; any Content-Transfer-Encoding is ignored (RFC 8951)"
			if errors.Is(err, est.ErrPEM) {
				hint = "send what stands between its BEGIN and END lines"
			}
			return nil, "", fault(CodeRequest, hint, "%v", err)
		}
	}
	free, err := a.slot(ctx, enrols)
	if err != nil {
		return nil, "", err
	}
	defer free()
	if who.Role == ca.RoleGateway && enrols {
		return a.estRenew(ctx, who, r.Header, body)
	}
	return route.answer(a, ctx, who, label, body)
}

// estRefuse answers in words (RFC 7030, section 4.2.3). A request that is on record, and waits for its signature, is answered 202:
// clients of EST ask again then.
func (a *api) estRefuse(w http.ResponseWriter, r *http.Request, who Caller, method string, err error) *answer {
	f := a.refused(w, r, who, method, err)
	status := f.Status()
	if f.accepted {
		status = http.StatusAccepted
	}
	text := f.Text + "\n"
	if f.Hint != "" {
		text += "hint: " + f.Hint + "\n"
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	return &answer{status: status, raw: []byte(text), kind: "text/plain; charset=utf-8"}
}

func (a *api) estCACerts(context.Context, Caller, string, []byte) ([]byte, string, error) {
	der, err := est.CertsOnly(a.service.allCACertificates()...)
	return der, est.TypeCACerts, err
}

func (a *api) estCSRAttrs(_ context.Context, _ Caller, label string, _ []byte) ([]byte, string, error) {
	w, err := a.service.wanted(label)
	if err != nil {
		return nil, "", err
	}
	der, err := est.Attributes(w)
	return der, est.TypeCSRAttrs, err
}

func (a *api) estEnroll(ctx context.Context, who Caller, label string, body []byte) ([]byte, string, error) {
	return certsOnly(a.service.Enroll(ctx, who.Name, EnrollRequest{CSR: string(body), Lot: label}))
}

func (a *api) estReenroll(ctx context.Context, who Caller, label string, body []byte) ([]byte, string, error) {
	return certsOnly(a.service.Reenroll(ctx, who.Name, EnrollRequest{CSR: string(body), Lot: label}))
}

// certsOnly holds the certificate that was issued and no other, as RFC 7030, section 4.2.3, has it.
func certsOnly(ans *EnrollAnswer, _ bool, err error) ([]byte, string, error) {
	if err != nil {
		return nil, "", err
	}
	leaf, _ := pem.Decode([]byte(ans.Certificate))
	if leaf == nil {
		return nil, "", errors.New("the certificate on record is not PEM")
	}
	der, err := est.CertsOnly(leaf.Bytes)
	return der, est.TypeCertsOnly, err
}

// wanted is what the requests for devices of a lot should look like.
func (s *Service) wanted(lot string) (est.Wanted, error) {
	p, err := s.profileOf(lot)
	if err != nil {
		return est.Wanted{}, err
	}
	w := est.Wanted{KeyAlgorithms: p.Policy.KeyAlgorithms()}
	if t := s.c.Attestation; t != nil {
		w.Evidence = p.Policy.TakesEvidence() && t.Policy.Rule(lot).Level == attest.Required
	}
	return w, nil
}

// Reenroll is Enroll for a device that is on record: one that is not is refused.
func (s *Service) Reenroll(ctx context.Context, station string, q EnrollRequest) (*EnrollAnswer, bool, error) {
	p, err := s.profileOf(q.Lot)
	if err != nil {
		return nil, false, err
	}
	r, err := csr.Parse([]byte(q.CSR), p.Policy)
	if err != nil {
		return nil, false, &Fault{Code: CodePolicy, Text: "certification request: " + err.Error(), Hint: adviceOf(err)}
	}
	if _, err := s.onRecord(ctx, r.CommonName()); err != nil {
		f := asFault(err)
		if f.Code == CodeNotFound {
			f.Hint = "a device's first certificate is asked for by simpleenroll"
		}
		return nil, false, f
	}
	return s.Enroll(ctx, station, q)
}
