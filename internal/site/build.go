package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"

	"github.com/hanaper/hanaper/internal/input"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style []byte

//go:embed search.js
var search []byte

var page = template.Must(template.New("page").Parse(pageText))

// document is one Markdown file on its way.
type document struct {
	// source is its path in the project, target that in the site; both with slashes.
	source, target, Title string
	body                  template.HTML
	sections              []section
}

// section is what the search finds.
type section struct {
	Page  string `json:"p"`
	Title string `json:"t"`
	URL   string `json:"u"`
	Text  string `json:"x"`
}

// group is a part of the list at the left, as docs/README.md has it.
type group struct {
	Title   string
	pages   []string // sources
	Entries []entry
}

// entry is a line of it.
type entry struct {
	Title, URL string
	Here       bool
}

// contents is the page that says which pages there are, for whom, and in what order.
const contents = "docs/README.md"

// build writes the site. It refuses a link that leads nowhere, and a folder that holds anything.
func build(root, out, pictures string) error {
	if there, err := os.ReadDir(out); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is not empty: name a new folder", out)
	}
	files, err := sources(root)
	if err != nil {
		return err
	}
	s := &site{groups: []*group{{Title: "The project", pages: []string{"README.md", contents, "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"}}}, root: root, out: out, files: files, targets: map[string]string{}, ids: map[string]map[string]bool{}}
	for _, name := range files {
		s.targets[name] = targetOf(name)
	}
	if pictures != "" {
		if err := s.takePictures(pictures); err != nil {
			return err
		}
	}
	for _, name := range files {
		if !strings.HasSuffix(name, ".md") {
			data, err := s.read(name)
			if err == nil {
				err = s.write(s.targets[name], data)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := s.convert(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := errors.Join(s.checkFragments(), s.checkGroups()); err != nil {
		return err
	}
	return s.finish()
}

type site struct {
	root, out string
	files     []string
	targets   map[string]string
	documents []*document
	// ids are the headings' of each page, wanted the links to them.
	ids      map[string]map[string]bool
	wanted   []wanted
	pictures []string
	groups   []*group
}

// sources are the files of the site, in order.
func sources(root string) ([]string, error) {
	list := []string{"README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "LICENSE"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		list = append(list, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(list[5:])
	return list, err
}

func (s *site) read(name string) ([]byte, error) {
	return input.ReadFile(filepath.Join(s.root, filepath.FromSlash(name)))
}

func (s *site) write(name string, data []byte) error {
	at := filepath.Join(s.out, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.WriteFile(at, data, 0o644)
}

func (s *site) takePictures(folder string) error {
	list, err := filepath.Glob(filepath.Join(folder, "*.png"))
	if err != nil || len(list) == 0 {
		return errors.Join(err, fmt.Errorf("%s holds no PNG file", folder))
	}
	for _, p := range list {
		data, err := input.ReadFile(p)
		if err == nil {
			name := "pictures/" + filepath.Base(p)
			s.pictures = append(s.pictures, name)
			err = s.write(name, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

// convert reads one page.
func (s *site) convert(name string) error {
	data, err := s.read(name)
	if err != nil {
		return err
	}
	tree := markdown.Parser().Parse(text.NewReader(data), parser.WithContext(parser.NewContext(parser.WithIDs(&ids{seen: map[string]int{}}))))
	d := &document{source: name, target: s.targets[name], Title: name}
	s.ids[name] = map[string]bool{}
	err = ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			id, _ := n.AttributeString("id")
			word, _ := id.([]byte)
			title := plain(n, data)
			if n.Level == 1 {
				d.Title = title
			}
			s.ids[name][string(word)] = true
			if name == contents && n.Level == 2 {
				s.groups = append(s.groups, &group{Title: title})
			}
			d.sections = append(d.sections, section{Title: title, URL: d.target + "#" + string(word)})
		case *ast.Link:
			if name == contents && strings.HasSuffix(string(n.Destination), ".md") {
				last := s.groups[len(s.groups)-1]
				last.pages = append(last.pages, path.Join(path.Dir(contents), string(n.Destination)))
			}
			to, err := s.resolve(name, string(n.Destination))
			n.Destination = []byte(to)
			return ast.WalkContinue, err
		case *ast.Image:
			to, err := s.resolve(name, string(n.Destination))
			n.Destination = []byte(to)
			return ast.WalkContinue, err
		}
		if k := len(d.sections); k > 0 && n.Type() == ast.TypeBlock && n.Kind() != ast.KindHeading && !nested(n) {
			d.sections[k-1].Text += plain(n, data) + " "
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := markdown.Renderer().Render(&b, data, tree); err != nil {
		return err
	}
	for i := range d.sections {
		d.sections[i].Page = d.Title
	}
	d.body = template.HTML(b.String()) // of our own pages; raw HTML in them is left out by the renderer
	s.documents = append(s.documents, d)
	return nil
}

// nested says that the text of a block above n holds n's.
func nested(n ast.Node) bool { return n.Parent() != nil && n.Parent().Kind() != ast.KindDocument }

// plain is a node's text.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Text:
			if entering {
				b.Write(n.Segment.Value(source))
				if n.SoftLineBreak() || n.HardLineBreak() {
					b.WriteByte(' ')
				}
			}
		case *ast.String:
			if entering {
				b.Write(n.Value)
			}
		default:
			switch {
			case entering && n.Type() == ast.TypeBlock && n.Lines() != nil && n.FirstChild() == nil:
				for i := range n.Lines().Len() {
					line := n.Lines().At(i)
					b.Write(line.Value(source))
				}
			case !entering && n.Type() == ast.TypeBlock:
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}
