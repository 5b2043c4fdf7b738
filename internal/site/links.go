package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"

	"github.com/hanaper/hanaper/internal/show"
)

func targetOf(source string) string {
	switch {
	case source == "README.md":
		return "index.html"
	case path.Base(source) == "README.md":
		return path.Join(path.Dir(source), "index.html")
	case strings.HasSuffix(source, ".md"):
		return strings.TrimSuffix(source, ".md") + ".html"
	}
	return source
}

type wanted struct{ source, target, id string }

// resolve gives where a link of a page leads in the site.
func (s *site) resolve(from, link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "" || u.Host != "" {
		return link, err
	}
	name := from
	if u.Path != "" {
		name = path.Join(path.Dir(from), u.Path)
	}
	target, ok := s.targets[name]
	if !ok && slices.ContainsFunc(s.files, func(f string) bool { return strings.HasPrefix(f, name+"/") }) {
		target, ok = name+"/index.html", true
	}
	if !ok {
		// A file of the project that is no page of the site, as a folder of code.
		if _, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(name))); err != nil {
			return "", fmt.Errorf("the link %s leads nowhere", link)
		}
		return "", fmt.Errorf("the link %s leads out of the site: name the file in words", link)
	}
	if u.Fragment != "" && strings.HasSuffix(name, ".md") {
		s.wanted = append(s.wanted, wanted{from, name, u.Fragment})
	}
	to := relative(s.targets[from], target)
	if u.Fragment != "" {
		to += "#" + u.Fragment
	}
	return to, nil
}

func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(from, "/")) + to
}

func (s *site) checkFragments() (err error) {
	for _, w := range s.wanted {
		if !s.ids[w.target][w.id] {
			err = errors.Join(err, fmt.Errorf("%s: %s has no heading #%s", w.source, show.Text(w.target), show.Text(w.id)))
		}
	}
	return err
}

// checkGroups wants every page in the list, or nobody finds it.
func (s *site) checkGroups() (err error) {
	for _, d := range s.documents {
		if !slices.ContainsFunc(s.groups, func(g *group) bool { return slices.Contains(g.pages, d.source) }) {
			err = errors.Join(err, fmt.Errorf("%s does not list %s", contents, show.Text(d.source)))
		}
	}
	return err
}

// ids makes headings' anchors as code hosts make them: lower case, spaces as hyphens, punctuation left out.
type ids struct{ seen map[string]int }

// Generate implements parser.IDs.
func (i *ids) Generate(value []byte, _ ast.NodeKind) []byte {
	var b strings.Builder
	for _, c := range strings.ToLower(string(value)) {
		switch {
		case c == ' ':
			b.WriteByte('-')
		case c == '-' || c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c > 127:
			b.WriteRune(c)
		}
	}
	id := b.String()
	n := i.seen[id]
	if i.seen[id]++; n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

// Put implements parser.IDs.
func (i *ids) Put(value []byte) { i.seen[string(value)]++ }
