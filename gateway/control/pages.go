package control

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/page"
)

//go:embed page
var files embed.FS

// onPage is how many devices or acts one page shows.
const onPage = 100

// pages are the server's pages for a browser.
type pages struct {
	server    *Server
	health    func() gateway.Health
	templates *template.Template
	seals     *page.Seals
	mux       *http.ServeMux
}

// shell is what every page is put into.
type shell struct {
	Title, Who, Here string
	Now              time.Time
	Data             any
}

// view is a page, by the name of its template; or, with to, another one that the browser goes to.
type view struct {
	template, title, to string
	data                any
}

func newPages(s *Server, health func() gateway.Health) (p *pages, err error) {
	p = &pages{server: s, health: health, seals: page.NewSeals(s.now), mux: http.NewServeMux()}
	if p.health == nil {
		p.health = func() gateway.Health { return gateway.Health{Status: "ok"} }
	}
	if p.templates, err = template.New("").Funcs(page.Functions(s.now)).ParseFS(files, "page/*.html"); err != nil {
		return nil, err
	}
	p.mux.HandleFunc("GET /{$}", p.page(p.overview))
	p.mux.HandleFunc("GET /devices", p.page(p.devices))
	p.mux.HandleFunc("GET /device", p.page(p.device))
	p.mux.HandleFunc("GET /log", p.page(p.log))
	p.mux.HandleFunc("GET /act", p.page(p.ask))
	p.mux.HandleFunc("POST /act", p.page(p.act))
	p.mux.HandleFunc("GET /style.css", p.file(page.Style, "text/css; charset=utf-8"))
	p.mux.HandleFunc("GET /icon.svg", p.file(page.Icon, "image/svg+xml"))
	p.mux.HandleFunc("/", p.page(func(*http.Request) (*view, error) { return nil, bad("there is no such page") }))
	return p, nil
}

func (p *pages) file(data []byte, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data)
	}
}

// ServeHTTP implements http.Handler. Who asks, and under which name, the server has looked at.
func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.Protect(w.Header())
	p.mux.ServeHTTP(w, r)
}

func (p *pages) page(do func(*http.Request) (*view, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		status := http.StatusOK
		if err != nil {
			var wrong badRequest
			if status, _ = failureOf(err); errors.As(err, &wrong) {
				status = http.StatusBadRequest
			}
			v = &view{template: "refused.html", title: "Not shown", data: [2]string{err.Error(), advice.Hint(err)}}
			if r.Method == http.MethodPost {
				v.title = "Not done"
			}
		}
		if v.to != "" {
			http.Redirect(w, r, v.to, http.StatusSeeOther)
			return
		}
		who, _ := r.Context().Value(whoKey{}).(string)
		if err := page.Write(w, p.templates, v.template, status, shell{Title: v.title, Who: who, Here: r.URL.Path, Now: p.server.now(), Data: v.data}); err != nil {
			p.server.log.Error("control: a page cannot be made", "page", v.template, "why", err)
			http.Error(w, "internal error; see the gateway's log", http.StatusInternalServerError)
		}
	}
}

// row is a line of a list of facts.
type row struct{ Name, Value string }

// cell is how many devices an environment has by a state or a flag.
type cell struct {
	By, Value string
	N         int64
}

type environmentRow struct {
	Name  string
	Cells []cell
}

func (p *pages) overview(r *http.Request) (*view, error) {
	counts, err := p.server.records.Counts(r.Context())
	if err != nil {
		return nil, err
	}
	acts, err := p.server.records.Log(r.Context(), gateway.LogFilter{Newest: true, Limit: 10})
	if err != nil {
		return nil, err
	}
	var list []*environmentRow
	var columns []string
	for _, c := range counts {
		if len(list) == 0 || list[len(list)-1].Name != c.Environment {
			list = append(list, &environmentRow{Name: c.Environment})
		}
		one := cell{"state", string(c.State), c.N}
		if c.Flag != "" {
			one = cell{"flag", c.Flag, c.N}
		}
		if len(list) == 1 {
			columns = append(columns, one.Value)
		}
		list[len(list)-1].Cells = append(list[len(list)-1].Cells, one)
	}
	return &view{template: "overview.html", title: "Overview", data: struct {
		Health       gateway.Health
		Columns      []string
		Environments []*environmentRow
		Acts         []gateway.LogEntry
	}{p.health(), columns, list, acts}}, nil
}

func (p *pages) environments(r *http.Request) (names []string, err error) {
	counts, err := p.server.records.Counts(r.Context())
	for _, c := range counts {
		if !slices.Contains(names, c.Environment) {
			names = append(names, c.Environment)
		}
	}
	return names, err
}

func (p *pages) devices(r *http.Request) (*view, error) {
	q := r.URL.Query()
	f := gateway.Filter{Environment: q.Get("environment"), State: gateway.State(q.Get("state")), Flag: q.Get("flag"), Prefix: q.Get("prefix"),
		AfterEnvironment: q.Get("after_environment"), After: q.Get("after"), Limit: onPage + 1}
	if f.State != "" && !slices.Contains(gateway.States(), f.State) || f.Flag != "" && f.Flag != "any" && !slices.Contains(gateway.Flags(), f.Flag) {
		return nil, bad("there is no such state or flag")
	}
	names, err := p.environments(r)
	if err != nil {
		return nil, err
	}
	list, err := p.server.records.Devices(r.Context(), f)
	if err != nil {
		return nil, err
	}
	more := ""
	if len(list) > onPage {
		list = list[:onPage]
		q.Set("after_environment", list[onPage-1].Environment)
		q.Set("after", list[onPage-1].Name)
		more = "/devices?" + q.Encode()
	}
	return &view{template: "devices.html", title: "Devices", data: struct {
		Filter       gateway.Filter
		Environments []string
		States       []gateway.State
		Flags        []string
		List         []gateway.Device
		More         string
	}{f, names, gateway.States(), gateway.Flags(), list, more}}, nil
}

// door leads to an act.
type door struct{ Address, Title string }

func (p *pages) device(r *http.Request) (*view, error) {
	env, id := r.URL.Query().Get("environment"), r.URL.Query().Get("id")
	d, err := p.server.records.Device(r.Context(), env, id)
	if err != nil {
		return nil, err
	}
	acts, err := p.server.records.Log(r.Context(), gateway.LogFilter{Environment: env, Device: id, Newest: true, Limit: 50})
	if err != nil {
		return nil, err
	}
	var doors []door
	for _, a := range pageActs {
		if slices.Contains(a.from, d.State) && (a.Verb != gateway.Unflag || len(d.Flags) > 0) {
			doors = append(doors, door{"/act?" + url.Values{"act": {string(a.Verb)}, "environment": {d.Environment}, "id": {d.Name}}.Encode(), a.Title})
		}
	}
	var warnings []string
	for _, f := range d.Flags {
		warnings = append(warnings, flagWords[f])
	}
	if d.LiveKeys > 1 {
		warnings = append(warnings, strconv.Itoa(d.LiveKeys)+" keys have certificates that have not expired")
	}
	if d.RekeyAllowed {
		warnings = append(warnings, "its next other key is taken, whichever it is")
	}
	return &view{template: "device.html", title: "Device", data: struct {
		Device   gateway.Device
		Rows     []row
		Warnings []string
		Doors    []door
		Acts     []gateway.LogEntry
	}{d, facts(d), warnings, doors, acts}}, nil
}

var flagWords = map[string]string{
	gateway.FlagOldKey:   "a key that it had before came again, and was refused: a clone, or the device was set back to an old copy",
	gateway.FlagOtherKey: "another key came with its id, and was refused: a clone, or a second device with this id",
}

// facts are what is known of a device.
func facts(d gateway.Device) []row {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.UTC().Format("2006-01-02 15:04:05")
	}
	rows := []row{{"Environment", d.Environment}, {"State", string(d.State)}, {"First seen", at(d.FirstSeen)}, {"Last seen", at(d.LastSeen)}}
	if d.Generation > 0 {
		rows = append(rows, row{"Generation", strconv.Itoa(d.Generation)})
	}
	if !d.Since.IsZero() {
		rows = append(rows, row{"In this state since", at(d.Since)})
	}
	for _, one := range []row{{"Why", d.Why}, {"Notes", d.Notes}, {"Key (SHA-256)", d.Key}} {
		if one.Value != "" {
			rows = append(rows, one)
		}
	}
	return rows
}

func (p *pages) log(r *http.Request) (*view, error) {
	before, err := number(r.URL.Query(), "before", 0, 1<<62, 0)
	if err != nil {
		return nil, err
	}
	acts, err := p.server.records.Log(r.Context(), gateway.LogFilter{Newest: true, After: before, Limit: onPage + 1})
	if err != nil {
		return nil, err
	}
	more := ""
	if len(acts) > onPage {
		acts = acts[:onPage]
		more = "/log?before=" + strconv.FormatInt(acts[onPage-1].Number, 10)
	}
	return &view{template: "log.html", title: "Acts", data: struct {
		Acts []gateway.LogEntry
		More string
	}{acts, more}}, nil
}

// pageAct is an act that pages offer, of devices in some states.
type pageAct struct {
	Verb        gateway.Verb
	Title, Lead string
	// Final is an act that keeps the device out; Text asks for a text besides.
	Final, Text bool
	from        []gateway.State
}

var pageActs = []pageAct{
	{Verb: gateway.Block, Title: "Block", Lead: "The device is kept out until somebody unblocks it, and its open connections are closed, at every gateway of this registry.", Final: true, from: []gateway.State{gateway.Pending, gateway.Active}},
	{Verb: gateway.Unblock, Title: "Unblock", Lead: "The device is let in again, with the key that it had.", from: []gateway.State{gateway.Blocked}},
	{Verb: gateway.Retire, Title: "Retire", Lead: "The device is kept out for good: its life has ended.", Final: true, from: []gateway.State{gateway.Pending, gateway.Active, gateway.Blocked}},
	{Verb: gateway.Reinstate, Title: "Reinstate", Lead: "The retirement was a slip: the device is let in again.", from: []gateway.State{gateway.Retired}},
	{Verb: gateway.AllowRekey, Title: "Allow another key", Lead: "The next other key that comes with this id becomes the device's, once. Be sure that it will be the device's own.", Final: true, from: []gateway.State{gateway.Pending, gateway.Active}},
	{Verb: gateway.Unflag, Title: "Take the flags away", Lead: "Somebody has looked at what the flags say.", from: gateway.States()},
	{Verb: gateway.Note, Title: "Write notes", Lead: "What is written takes the place of the notes that are there.", Text: true, from: gateway.States()},
}

// asked is the page that asks whether an act is right.
type asked struct {
	Act                      pageAct
	Device                   gateway.Device
	Rows                     []row
	Seal, Text, Why, Problem string
	Back                     string
}

// asking finds the act and the device that a request is about, and what it showed of them.
func (p *pages) asking(r *http.Request, q url.Values) (a *asked, what [32]byte, err error) {
	i := slices.IndexFunc(pageActs, func(a pageAct) bool { return string(a.Verb) == q.Get("act") })
	if i < 0 {
		return nil, what, bad("there is no such act")
	}
	a = &asked{Act: pageActs[i], Text: q.Get("text"), Why: q.Get("why")}
	if a.Device, err = p.server.records.Device(r.Context(), q.Get("environment"), q.Get("id")); err != nil {
		return nil, what, err
	}
	a.Rows, a.Back = append([]row{{"Device", a.Device.Name}}, facts(a.Device)...), "/device?"+url.Values{"environment": {a.Device.Environment}, "id": {a.Device.Name}}.Encode()
	// What is sealed is what was decided on: the act, the device, its state and its key. That it was seen since changes nothing.
	data, err := json.Marshal([]any{a.Act.Verb, a.Device.Environment, a.Device.Name, a.Device.State, a.Device.Key, a.Device.Flags, a.Device.Notes})
	return a, sha256.Sum256(data), err
}

func (p *pages) ask(r *http.Request) (*view, error) {
	a, what, err := p.asking(r, r.URL.Query())
	if err != nil {
		return nil, err
	}
	if a.Act.Text {
		a.Text = a.Device.Notes
	}
	return p.confirm(r, a, what), nil
}

func (p *pages) confirm(r *http.Request, a *asked, what [32]byte) *view {
	who, _ := r.Context().Value(whoKey{}).(string)
	a.Seal = p.seals.Make([]byte(who), what)
	return &view{template: "confirm.html", title: a.Act.Title, data: a}
}

func (p *pages) act(r *http.Request) (*view, error) {
	if err := r.ParseForm(); err != nil {
		return nil, bad("the form cannot be read")
	}
	q := r.PostForm
	a, what, err := p.asking(r, q)
	if err != nil {
		return nil, err
	}
	again := func(problem string) (*view, error) {
		a.Problem = problem
		return p.confirm(r, a, what), nil
	}
	if a.Why == "" {
		return again("say why")
	}
	do := gateway.Act{Verb: a.Act.Verb, Environment: a.Device.Environment, Device: a.Device.Name, By: p.server.by(r, a.Why)}
	if a.Act.Text {
		do.Text = a.Text
	}
	if err := do.Check(); err != nil {
		return again(err.Error())
	}
	if err := p.seals.Spend(q.Get("seal"), []byte(do.Who), what); err != nil {
		return again(err.Error())
	}
	if err := p.server.do(r.Context(), do); err != nil {
		return nil, err
	}
	return &view{to: a.Back}, nil
}
