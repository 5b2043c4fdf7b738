package console

import (
	"context"
	"crypto/x509"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/internal/page"
	"github.com/hanaper/hanaper/internal/show"
)

// Prefix is the path under which every page lies.
const Prefix = "/console/"

const (
	// maxForm bounds what a browser sends, in bytes; an order may hold a list of many ids.
	maxForm = 16 << 20
	// pageTime is how long a page may take.
	pageTime = 30 * time.Second
)

//go:embed page
var files embed.FS

// Config is what a console is made of.
type Config struct {
	Service *factory.Service
	Callers *factory.Callers
	Log     *slog.Logger
	Now     func() time.Time
}

// Console serves the pages.
type Console struct {
	service *factory.Service
	callers *factory.Callers
	log     *slog.Logger
	now     func() time.Time
	pages   *template.Template
	seals   *page.Seals
	acts    []*act
	mux     *http.ServeMux
	origin  *http.CrossOriginProtection
	// slots bounds the pages in work: operators are few.
	slots chan struct{}
}

// New makes a console. Connections must come from a server configured by factory.Callers.TLS.
func New(c Config) (*Console, error) {
	if c.Service == nil || c.Callers == nil {
		return nil, errors.New("console: service and callers are needed")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k := &Console{service: c.Service, callers: c.Callers, log: c.Log, now: c.Now, seals: page.NewSeals(c.Now), mux: http.NewServeMux(),
		origin: http.NewCrossOriginProtection(), slots: make(chan struct{}, 16)}
	var err error
	if k.pages, err = template.New("").Funcs(k.functions()).ParseFS(files, "page/*.html"); err != nil {
		return nil, err
	}
	k.acts = k.allActs()
	k.routes()
	return k, nil
}

func (k *Console) routes() {
	k.mux.HandleFunc("GET /console/{$}", k.page(k.overview))
	k.mux.HandleFunc("GET /console/lots", k.page(k.lots))
	k.mux.HandleFunc("GET /console/lot", k.page(k.lot))
	k.mux.HandleFunc("GET /console/devices", k.page(k.devices))
	k.mux.HandleFunc("GET /console/refusals", k.page(k.refusals))
	k.mux.HandleFunc("GET /console/events", k.page(k.events))
	k.mux.HandleFunc("GET /console/health", k.page(k.health))
	k.mux.HandleFunc("GET /console/acts", k.page(k.actList))
	for _, a := range k.acts {
		k.mux.HandleFunc("GET "+a.path(), k.page(k.asks(a)))
		k.mux.HandleFunc("POST "+a.path(), k.page(k.acting(a)))
	}
	k.mux.HandleFunc("GET /console/style.css", k.file(page.Style, "text/css; charset=utf-8"))
	k.mux.HandleFunc("GET /console/icon.svg", k.file(page.Icon, "image/svg+xml"))
	k.mux.HandleFunc("/", k.page(func(*visit) (*answer, error) {
		return nil, &factory.Fault{Code: factory.CodeNotFound, Text: "there is no such page", Hint: "begin at the overview"}
	}))
}

// ServeHTTP implements http.Handler.
func (k *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.Protect(w.Header())
	k.mux.ServeHTTP(w, r)
}

// visit is one request of somebody who may see pages.
type visit struct {
	ctx  context.Context
	r    *http.Request
	who  factory.Caller
	leaf *x509.Certificate
	now  time.Time
}

// mayAct says that the visitor may do more than look.
func (v *visit) mayAct() bool { return v.who.Role == ca.RoleOperator }

// answer is a page, by the name of its template.
type answer struct {
	status   int
	template string
	title    string
	data     any
	// refresh is how often the browser loads the page anew, in seconds, because its user asked for that; 0 for never.
	refresh int
	// attachment is a file instead of a page.
	attachment *attachment
}

type attachment struct {
	name, kind string
	data       []byte
}

// shell is what every page is put into.
type shell struct {
	Title  string
	Who    factory.Caller
	MayAct bool
	// Here is the page's path; Again and Stop are its addresses with and without being loaded anew by itself.
	Here, Again, Stop string
	Now               time.Time
	Refresh           int
	Data              any
}

// admit says who visits, if he may.
func (k *Console) admit(r *http.Request) (*visit, error) {
	who, err := k.callers.Of(r.TLS)
	if err != nil {
		return nil, err
	}
	if who.Role != ca.RoleOperator && who.Role != ca.RoleViewer {
		return nil, &factory.Fault{Code: factory.CodeForbidden, Text: "this page is for operators and viewers, and your certificate is " + who.Role + " " + show.Text(who.Name) + "'s",
			Hint: "have the browser present an operator's certificate"}
	}
	// A browser says where a request comes from; what changes something must come from our own page.
	if err := k.origin.Check(r); err != nil {
		return nil, &factory.Fault{Code: factory.CodeForbidden, Text: "this request came from another site's page", Hint: "nothing was done; begin at the overview, and close the other page"}
	}
	if r.Method == http.MethodPost && who.Role != ca.RoleOperator {
		return nil, &factory.Fault{Code: factory.CodeForbidden, Text: "a viewer looks and changes nothing", Hint: "an operator's certificate is needed"}
	}
	return &visit{r: r, who: who, leaf: r.TLS.PeerCertificates[0], now: k.now()}, nil
}

// page wraps a page's handler in all that is common.
func (k *Console) page(h func(*visit) (*answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := k.admit(r)
		var a *answer
		if err == nil {
			var cancel context.CancelFunc
			v.ctx, cancel = context.WithTimeout(r.Context(), pageTime)
			defer cancel()
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			a, err = k.work(v, h)
		}
		if err != nil {
			a = k.refusal(r, v, err)
		}
		k.write(w, r, v, a)
	}
}

func (k *Console) work(v *visit, h func(*visit) (*answer, error)) (*answer, error) {
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-v.ctx.Done():
		return nil, &factory.Fault{Code: factory.CodeUnavailable, Text: "hanaperd has too much to do", Hint: "load the page again"}
	}
	return h(v)
}

// faultOf is the error as it is told: what went wrong in words, and what to do.
func faultOf(err error) *factory.Fault {
	var f *factory.Fault
	if errors.As(err, &f) {
		return f
	}
	return &factory.Fault{Code: factory.CodeInternal, Text: "internal error", Hint: "see hanaperd's log"}
}

func (k *Console) refusal(r *http.Request, v *visit, err error) *answer {
	f := faultOf(err)
	who := ""
	if v != nil {
		who = v.who.String()
	}
	k.log.Warn("console: refused", "caller", who, "path", r.URL.Path, "method", r.Method, "code", string(f.Code), "error", err)
	title := "Not done"
	switch {
	case f.Code == factory.CodeNotFound:
		title = "Not found"
	case r.Method == http.MethodGet:
		title = "Not shown"
	}
	return &answer{status: f.Status(), template: "refused.html", title: title, data: f}
}

func (k *Console) write(w http.ResponseWriter, r *http.Request, v *visit, a *answer) {
	h := w.Header()
	if f := a.attachment; f != nil {
		h.Set("Content-Type", f.kind)
		h.Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
		_, _ = w.Write(f.data)
		return
	}
	s := shell{Title: a.title, Here: r.URL.Path, Now: k.now(), Refresh: a.refresh, Data: a.data}
	q := r.URL.Query()
	q.Del("refresh")
	s.Stop = r.URL.Path + "?" + q.Encode()
	q.Set("refresh", strconv.Itoa(refreshed))
	s.Again = r.URL.Path + "?" + q.Encode()
	if v != nil {
		s.Who, s.MayAct = v.who, v.mayAct()
	}
	if err := page.Write(w, k.pages, a.template, a.status, s); err != nil {
		k.log.Error("console: a page cannot be made", "page", a.template, "error", err)
		http.Error(w, "internal error; see hanaperd's log", http.StatusInternalServerError)
	}
}

// file serves a file of our own, which holds no secret, to whoever has a certificate: the page that refuses has its looks too.
func (k *Console) file(data []byte, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, refused := k.callers.Of(r.TLS); refused != nil {
			http.Error(w, "refused", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data)
	}
}

// functions are what templates call.
func (k *Console) functions() template.FuncMap {
	all := page.Functions(k.now)
	maps.Copy(all, template.FuncMap{"reason": reason, "kind": kind, "rate": rate, "share": share})
	return all
}
