package arch

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// harmless are fields that come from outside and need no show.Text, with the reason.
var harmless = map[string]string{}

// TestForeignTextIsShown finds prints and errors that put foreign text before people without package show: what was read
// from YAML, JSON or ASN.1, what a certificate, a token, a URL or a request of the network holds. It follows such text
// through variables, fields, parameters and results of the whole module, without regard to the order of statements. The
// verb %q counts as shown. An error of another package counts as shown, too: all programs print errors through show.Line.
func TestForeignTextIsShown(t *testing.T) {
	w := loadModule(t)
	w.follow()
	found := w.findings()
	for _, f := range found {
		t.Errorf("%s: show it with package show", f)
	}
	for name := range harmless {
		if !w.spared[name] {
			t.Errorf("%s is in the list and prints nothing any more", name)
		}
	}
}

// planted is a program that shows foreign text as it is, in each way that TestForeignTextIsShown must find; the comment at
// the end of a line says what is found there.
const planted = `package planted

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

type file struct {
	Name string ` + "`" + `json:"name"` + "`" + `
	Size int    ` + "`" + `json:"size"` + "`" + `
}

type kept struct{ text string }

func name(f file) string { return "of " + f.Name }

func tell(what string) { fmt.Fprintln(os.Stderr, what) } // what

func all(f file, c *x509.Certificate, list []file) error {
	fmt.Printf("%s %d\\n", f.Name, f.Size) // f.Name
	fmt.Printf("%q\\n", f.Name)
	fmt.Printf("%s\\n", c.Subject)        // c.Subject
	k := kept{text: name(f)}
	tell(k.text)
	for _, l := range list {
		x := l.Name
		fmt.Fprint(os.Stdout, x) // x
	}
	s := fmt.Sprintf("<%s>", f.Name)
	if s != "" {
		return fmt.Errorf("it is %v", s) // s
	}
	return errors.New(c.Issuer.String()) // c.Issuer.String()
}
`

// TestPlantedTextIsFound: the test above finds what was planted, and nothing else.
func TestPlantedTextIsFound(t *testing.T) {
	w := &world{fset: token.NewFileSet(), own: map[string]*types.Package{}, foreign: map[types.Object]bool{}, spared: map[string]bool{}}
	f, err := parser.ParseFile(w.fset, filepath.Join(moduleDir, "planted.go"), planted, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	c := checked{files: []*ast.File{f}, info: newInfo()}
	conf := types.Config{Importer: importer.ForCompiler(w.fset, "source", nil)}
	p, err := conf.Check(module+"planted", w.fset, c.files, c.info)
	if err != nil {
		t.Fatal(err)
	}
	w.own[p.Path()], w.pkgs = p, []checked{c}
	w.follow()
	var want []string
	for i, line := range strings.Split(planted, "\n") {
		if _, found, ok := strings.Cut(line, " // "); ok {
			want = append(want, fmt.Sprintf("planted.go:%d: %s", i+1, found))
		}
	}
	slices.Sort(want)
	if got := w.findings(); len(want) != 6 || !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// world is the module, type-checked, and what in it is foreign.
type world struct {
	fset    *token.FileSet
	own     map[string]*types.Package
	pkgs    []checked
	foreign map[types.Object]bool
	spared  map[string]bool
	changed bool
}

type checked struct {
	files []*ast.File
	info  *types.Info
}

func loadModule(t *testing.T) *world {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export,GoFiles,CgoFiles,Dir,Standard", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type listed struct {
		ImportPath, Export, Dir string
		GoFiles, CgoFiles       []string
	}
	w := &world{fset: token.NewFileSet(), own: map[string]*types.Package{}, foreign: map[types.Object]bool{}, spared: map[string]bool{}}
	exports := map[string]string{}
	var list []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var l listed
		if err := dec.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[l.ImportPath] = l.Export
		list = append(list, l)
	}
	outside := importer.ForCompiler(w.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	imports := importFunc(func(path string) (*types.Package, error) {
		if p := w.own[path]; p != nil {
			return p, nil
		}
		return outside.Import(path)
	})
	for _, l := range list {
		if !strings.HasPrefix(l.ImportPath, module) {
			continue
		}
		c := checked{info: newInfo()}
		for _, name := range append(l.GoFiles, l.CgoFiles...) {
			f, err := parser.ParseFile(w.fset, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			c.files = append(c.files, f)
		}
		conf := types.Config{Importer: imports, FakeImportC: true}
		p, err := conf.Check(l.ImportPath, w.fset, c.files, c.info)
		if err != nil {
			t.Fatal(err)
		}
		w.own[l.ImportPath] = p
		// What the machinery of tests and of this package prints is nobody's screen.
		if room := room(l.ImportPath); !strings.HasSuffix(room, "test") && room != "internal/show" && room != "cmd/hanaper-demo" {
			w.pkgs = append(w.pkgs, c)
		}
	}
	if len(w.pkgs) < 30 {
		t.Fatalf("only %d packages were looked at", len(w.pkgs))
	}
	return w
}

func newInfo() *types.Info {
	return &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
}

type importFunc func(string) (*types.Package, error)

func (f importFunc) Import(path string) (*types.Package, error) { return f(path) }

func (w *world) ours(p *types.Package) bool { return p != nil && w.own[p.Path()] == p }

func (w *world) mark(o types.Object) {
	if o == nil || w.foreign[o] || !textual(o.Type()) {
		return
	}
	w.foreign[o] = true
	w.changed = true
}

// textual says whether a value of the type can carry text: strings, bytes, and what is made of them. Errors are apart.
func textual(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&types.IsString != 0
	case *types.Slice:
		return textual(u.Elem())
	case *types.Array:
		return false // digests
	case *types.Map:
		return textual(u.Elem()) || textual(u.Key())
	case *types.Pointer:
		return textual(u.Elem())
	case *types.Interface:
		return u.NumMethods() == 0
	case *types.Struct:
		return false // by its fields
	}
	return false
}

// follow marks what foreign text flows into, until nothing changes.
func (w *world) follow() {
	for _, p := range w.pkgs {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range s.Fields.List {
					if field.Tag == nil {
						continue
					}
					tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`"))
					if tag.Get("json")+tag.Get("yaml")+tag.Get("asn1") == "" {
						continue
					}
					for _, name := range field.Names {
						o := p.info.Defs[name]
						if harmless[w.nameOf(o)] != "" {
							w.spared[w.nameOf(o)] = true
							continue
						}
						w.mark(o)
					}
				}
				return true
			})
		}
	}
	for w.changed = true; w.changed; {
		w.changed = false
		for _, p := range w.pkgs {
			for _, f := range p.files {
				w.flows(p, f)
			}
		}
	}
}

// nameOf is where an object is declared, as package.name.
func (w *world) nameOf(o types.Object) string {
	if o == nil || o.Pkg() == nil {
		return ""
	}
	at := w.fset.Position(o.Pos())
	return fmt.Sprintf("%s:%s", filepath.Join(room(o.Pkg().Path()), filepath.Base(at.Filename)), o.Name())
}

func (w *world) flows(p checked, f *ast.File) {
	var funcs []*types.Signature
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if o := p.info.Defs[n.Name]; o != nil {
				funcs = []*types.Signature{o.Type().(*types.Signature)}
				w.results(p, n.Body, funcs[0])
			}
		case *ast.FuncLit:
			if s, ok := p.info.TypeOf(n).(*types.Signature); ok {
				w.results(p, n.Body, s)
			}
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				if len(n.Rhs) == len(n.Lhs) {
					w.assign(p, l, w.tainted(p, n.Rhs[i]))
				} else if len(n.Rhs) == 1 {
					w.assign(p, l, w.tainted(p, n.Rhs[0]))
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) && w.tainted(p, n.Values[i]) {
					w.mark(p.info.Defs[name])
				}
			}
		case *ast.RangeStmt:
			if w.tainted(p, n.X) {
				if n.Key != nil {
					w.assign(p, n.Key, true)
				}
				if n.Value != nil {
					w.assign(p, n.Value, true)
				}
			}
		case *ast.CompositeLit:
			w.literal(p, n)
		case *ast.CallExpr:
			w.arguments(p, n)
		}
		return true
	})
}

// results marks the named or numbered results of a function that returns foreign text.
func (w *world) results(p checked, body *ast.BlockStmt, s *types.Signature) {
	if body == nil {
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			for i, r := range n.Results {
				if len(n.Results) == s.Results().Len() && w.tainted(p, r) {
					w.mark(s.Results().At(i))
				}
			}
		}
		return true
	})
}

func (w *world) assign(p checked, l ast.Expr, tainted bool) {
	if !tainted {
		return
	}
	switch l := l.(type) {
	case *ast.Ident:
		if o := p.info.Defs[l]; o != nil {
			w.mark(o)
		} else {
			w.mark(p.info.Uses[l])
		}
	case *ast.SelectorExpr:
		w.mark(p.info.Uses[l.Sel])
	case *ast.IndexExpr:
		w.assign(p, l.X, true)
	case *ast.StarExpr:
		w.assign(p, l.X, true)
	}
}

func (w *world) literal(p checked, n *ast.CompositeLit) {
	t := p.info.TypeOf(n)
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range n.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && w.tainted(p, kv.Value) {
				w.mark(p.info.Uses[key])
			}
		} else if i < s.NumFields() && w.tainted(p, e) {
			w.mark(s.Field(i))
		}
	}
}

// arguments marks the parameters of our own functions.
func (w *world) arguments(p checked, n *ast.CallExpr) {
	o, s := callee(p, n)
	if o == nil || s == nil || !w.ours(o.Pkg()) || o.Pkg().Path() == module+"internal/show" {
		return
	}
	for i, a := range n.Args {
		if !w.tainted(p, a) {
			continue
		}
		if k := min(i, s.Params().Len()-1); k >= 0 && (i < s.Params().Len() || s.Variadic()) {
			if s.Variadic() && k == s.Params().Len()-1 && formats(s) {
				continue // what is formatted is looked at where it is formatted
			}
			w.mark(s.Params().At(k))
		}
	}
}

func callee(p checked, n *ast.CallExpr) (types.Object, *types.Signature) {
	var id *ast.Ident
	switch f := ast.Unparen(n.Fun).(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return nil, nil
	}
	o := p.info.Uses[id]
	if fn, ok := o.(*types.Func); ok {
		o = fn.Origin()
	}
	if o == nil {
		return nil, nil
	}
	s, _ := o.Type().Underlying().(*types.Signature)
	return o, s
}

// formats says whether a function takes a format and what it is filled with.
func formats(s *types.Signature) bool {
	n := s.Params().Len()
	return s.Variadic() && n >= 2 && types.Identical(s.Params().At(n-2).Type(), types.Typ[types.String]) && strings.Contains(s.Params().At(n-2).Name(), "ormat")
}

// pure are functions of other packages whose result is foreign exactly where an argument is.
var pure = []string{"strings.", "bytes.", "fmt.Sprint", "slices.", "maps.", "path.", "path/filepath.", "errors.", "cmp."}

// tainted says whether an expression may be foreign text.
func (w *world) tainted(p checked, e ast.Expr) bool {
	tv := p.info.Types[e]
	if tv.Value != nil {
		return false
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		return w.tainted(p, e.X)
	case *ast.Ident:
		return w.foreign[p.info.Uses[e]]
	case *ast.SelectorExpr:
		o := p.info.Uses[e.Sel]
		if v, ok := o.(*types.Var); ok && v.IsField() && !w.ours(v.Pkg()) {
			return textual(v.Type()) && foreignField(v)
		}
		return w.foreign[o]
	case *ast.IndexExpr:
		return w.tainted(p, e.X)
	case *ast.SliceExpr:
		return w.tainted(p, e.X)
	case *ast.StarExpr:
		return w.tainted(p, e.X)
	case *ast.UnaryExpr:
		return w.tainted(p, e.X)
	case *ast.TypeAssertExpr:
		return w.tainted(p, e.X)
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (w.tainted(p, e.X) || w.tainted(p, e.Y))
	case *ast.KeyValueExpr:
		return w.tainted(p, e.Value) || w.tainted(p, e.Key)
	case *ast.CompositeLit:
		if _, ok := p.info.TypeOf(e).Underlying().(*types.Struct); ok {
			return false
		}
		return slices.ContainsFunc(e.Elts, func(x ast.Expr) bool { return w.tainted(p, x) })
	case *ast.CallExpr:
		return w.call(p, e)
	}
	return false
}

// foreignField says whether a field of a type of another package holds what others wrote.
func foreignField(v *types.Var) bool {
	switch v.Pkg().Path() {
	case "crypto/x509", "crypto/x509/pkix", "net/url", "net/http", "encoding/pem", "encoding/asn1", "crypto/tls":
		return true
	}
	return strings.Contains(v.Pkg().Path(), "go-tuf") || strings.Contains(v.Pkg().Path(), "miekg/pkcs11")
}

func (w *world) call(p checked, n *ast.CallExpr) bool {
	if tv := p.info.Types[n.Fun]; tv.IsType() && len(n.Args) == 1 {
		return w.tainted(p, n.Args[0]) // a conversion
	}
	any := func() bool { return slices.ContainsFunc(n.Args, func(a ast.Expr) bool { return w.tainted(p, a) }) }
	o, s := callee(p, n)
	if o == nil {
		return false
	}
	if _, ok := o.(*types.Builtin); ok {
		return o.Name() == "append" && any()
	}
	if s == nil || o.Pkg() == nil {
		return false
	}
	if w.ours(o.Pkg()) {
		if o.Pkg().Path() == module+"internal/show" {
			return false
		}
		for i := range s.Results().Len() {
			if w.foreign[s.Results().At(i)] {
				return true
			}
		}
		return false
	}
	full := o.(*types.Func).FullName()
	if full == "fmt.Sprintf" {
		return len(w.badVerbs(p, n, 0)) > 0
	}
	if strings.HasPrefix(full, "fmt.Sprint") || hasAny(full, pure) {
		return any()
	}
	if full == "(crypto/x509/pkix.Name).String" || full == "(*net/url.URL).String" || strings.HasPrefix(full, "(net/http.Header)") {
		return true
	}
	return false
}

func hasAny(s string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return strings.HasPrefix(s, p) })
}

// badVerbs are the arguments after the format, at the place given, that are foreign and formatted as they are.
func (w *world) badVerbs(p checked, n *ast.CallExpr, at int) []ast.Expr {
	if at >= len(n.Args) {
		return nil
	}
	args := n.Args[at+1:]
	tv := p.info.Types[n.Args[at]]
	if tv.Value == nil || tv.Value.Kind() != constant.String {
		return nil
	}
	var bad []ast.Expr
	i := 0
	format := constant.StringVal(tv.Value)
	for j := 0; j < len(format); j++ {
		if format[j] != '%' {
			continue
		}
		for j++; j < len(format) && strings.IndexByte("+-# 0123456789.[]", format[j]) >= 0; j++ {
		}
		if j >= len(format) || format[j] == '%' {
			continue
		}
		if i < len(args) && (format[j] == 's' || format[j] == 'v') && w.shownRaw(p, args[i]) {
			bad = append(bad, args[i])
		}
		i++
	}
	return bad
}

// shownRaw says whether formatting the expression shows foreign text.
func (w *world) shownRaw(p checked, e ast.Expr) bool {
	if w.tainted(p, e) {
		return true
	}
	switch t := p.info.TypeOf(e); {
	case t == nil:
		return false
	case t.String() == "crypto/x509/pkix.Name", t.String() == "*net/url.URL":
		return true
	}
	return false
}

// findings are the places where foreign text is printed, or put into an error, as it is.
func (w *world) findings() []string {
	var list []string
	for _, p := range w.pkgs {
		for _, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				o, s := callee(p, c)
				if o == nil || s == nil || o.Pkg() == nil {
					return true
				}
				var bad []ast.Expr
				full := o.Pkg().Path() + "." + o.Name()
				switch {
				case full == "fmt.Sprintf", strings.HasPrefix(full, "fmt.Append"): // followed, and bytes that nobody reads
				case full == "fmt.Fprintln" || full == "fmt.Fprint":
					for _, a := range c.Args[1:] {
						if w.shownRaw(p, a) {
							bad = append(bad, a)
						}
					}
				case formats(s) || full == "fmt.Fprintf" || full == "fmt.Errorf":
					bad = w.badVerbs(p, c, s.Params().Len()-2)
				case full == "errors.New", (o.Name() == "Line" || o.Name() == "Secret") && strings.HasSuffix(full, "term."+o.Name()):
					for _, a := range c.Args {
						if w.shownRaw(p, a) {
							bad = append(bad, a)
						}
					}
				}
				for _, b := range bad {
					at := w.fset.Position(b.Pos())
					rel, _ := filepath.Rel(moduleDir, at.Filename)
					list = append(list, fmt.Sprintf("%s:%d: %s", rel, at.Line, types.ExprString(b)))
				}
				return true
			})
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

var moduleDir = func() string { d, _ := filepath.Abs("../.."); return d }()
