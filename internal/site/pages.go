package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"path"
	"slices"
	"strings"
)

// finish writes the pages, the folders' lists and the search.
func (s *site) finish() error {
	index := []section{}
	for _, d := range s.documents {
		index = append(index, d.sections...)
		if err := s.writePage(d); err != nil {
			return err
		}
	}
	for dir, list := range s.folders() {
		var b strings.Builder
		fmt.Fprintf(&b, "<h1>%s</h1>\n<ul>\n", template.HTMLEscapeString(dir))
		for _, f := range list {
			fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a></li>\n", template.HTMLEscapeString(relative(dir+"/index.html", f)), template.HTMLEscapeString(path.Base(f)))
		}
		b.WriteString("</ul>\n")
		if err := s.writePage(&document{target: dir + "/index.html", Title: dir, body: template.HTML(b.String())}); err != nil {
			return err
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return errors.Join(s.write("style.css", style), s.write("search.js", search), s.write("index.js", slices.Concat([]byte("const index = "), data, []byte(";\n"))))
}

// folders are those without a page of their own, with what is in them.
func (s *site) folders() map[string][]string {
	of := map[string][]string{}
	for _, name := range s.files {
		dir := path.Dir(name)
		if dir == "." || slices.Contains(s.files, dir+"/README.md") {
			continue
		}
		of[dir] = append(of[dir], s.targets[name])
	}
	return of
}

func (s *site) writePage(d *document) error {
	var list []group
	for _, g := range s.groups {
		shown := group{Title: g.Title}
		for _, source := range g.pages {
			if at := slices.IndexFunc(s.documents, func(o *document) bool { return o.source == source }); at >= 0 {
				other := s.documents[at]
				shown.Entries = append(shown.Entries, entry{other.Title, relative(d.target, other.target), other == d})
			}
		}
		list = append(list, shown)
	}
	pictures := []string{}
	if d.source == "README.md" {
		pictures = s.pictures
	}
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{"Title": d.Title, "Up": strings.Repeat("../", strings.Count(d.target, "/")), "List": list, "Body": d.body, "Pictures": pictures})
	if err != nil {
		return err
	}
	return s.write(d.target, b.Bytes())
}
