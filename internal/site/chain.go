package main

import (
	"fmt"
	"html"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// chain is docs/chain.yaml: the picture of who has what, and what goes where.
type chain struct {
	Format int `yaml:"format"`
	Zones  []struct {
		Title   string `yaml:"title"`
		Column  int    `yaml:"column"`
		Columns int    `yaml:"columns"`
	} `yaml:"zones"`
	Boxes  []box   `yaml:"boxes"`
	Arrows []arrow `yaml:"arrows"`
}

type box struct {
	Name   string   `yaml:"name"`
	Column int      `yaml:"column"`
	Row    int      `yaml:"row"`
	Title  string   `yaml:"title"`
	Lines  []string `yaml:"lines"`
	// Kind is person, token or device; a program else.
	Kind string `yaml:"kind"`
}

type arrow struct {
	From  string `yaml:"from"`
	To    string `yaml:"to"`
	Label string `yaml:"label"`
	// Over and Under go round what lies between.
	Over  bool `yaml:"over"`
	Under bool `yaml:"under"`
}

// Sizes of the picture, pixels.
const (
	stepX, stepY  = 260, 150
	boxW, boxH    = 180, 92
	marginX, topY = 24, 52
)

func (b box) x() int { return marginX + b.Column*stepX + 16 }
func (b box) y() int { return topY + b.Row*stepY + 22 }

// draw makes the SVG. It names its own colours for dark and light, and uses no font but the reader's.
func (c chain) draw() (string, error) {
	columns, rows := 0, 0
	at := map[string]box{}
	for _, b := range c.Boxes {
		at[b.Name] = b
		columns, rows = max(columns, b.Column+1), max(rows, b.Row+1)
	}
	width, height := 2*marginX+(columns-1)*stepX+boxW+32, topY+rows*stepY+20
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="The chain of trust: who holds what, and what goes where" font-family="system-ui, sans-serif" font-size="13">
<style>
.zone{fill:#f3f5f7;stroke:none}.box{fill:#fff;stroke:#3a424c;stroke-width:1.3}.token{fill:#fdf3d7;stroke:#8a6a00}.person{fill:#e3effb;stroke:#0b57a4}.device{fill:#e4f4e6;stroke:#1f7a34}
text{fill:#1c1f23}.soft{fill:#4c545d}.way{stroke:#3a424c;stroke-width:1.4;fill:none}.tip{fill:#3a424c}.label{font-size:11.5px;fill:#1c1f23;paint-order:stroke;stroke:#f3f5f7;stroke-width:4px}
@media (prefers-color-scheme: dark){.zone{fill:#20252b}.box{fill:#15181c;stroke:#a2aab4}.token{fill:#3a3013;stroke:#e0b84a}.person{fill:#12304d;stroke:#7db8f5}.device{fill:#17361e;stroke:#7fce90}
text{fill:#e4e7eb}.soft{fill:#b6bec7}.way{stroke:#a2aab4}.tip{fill:#a2aab4}.label{fill:#e4e7eb;stroke:#20252b}}
</style>
<rect width="%d" height="%d" fill="none"/>
`, width, height, width, height)
	for _, z := range c.Zones {
		x := marginX + z.Column*stepX - 4
		fmt.Fprintf(&s, "<rect class=\"zone\" x=\"%d\" y=\"12\" width=\"%d\" height=\"%d\" rx=\"8\"/><text class=\"soft\" x=\"%d\" y=\"36\" text-anchor=\"middle\">%s</text>\n",
			x, (z.Columns-1)*stepX+boxW+40, height-24, x+((z.Columns-1)*stepX+boxW+40)/2, html.EscapeString(z.Title))
	}
	for _, a := range c.Arrows {
		from, ok := at[a.From]
		to, ok2 := at[a.To]
		if !ok || !ok2 {
			return "", fmt.Errorf("an arrow goes from %s to %s", show.Text(a.From), show.Text(a.To))
		}
		s.WriteString(way(a, from, to))
	}
	for _, b := range c.Boxes {
		fmt.Fprintf(&s, "<rect class=\"box %s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>", html.EscapeString(b.Kind), b.x(), b.y(), boxW, boxH)
		y := b.y() + boxH/2 - 8*len(b.Lines) + 4
		fmt.Fprintf(&s, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-weight=\"600\">%s</text>", b.x()+boxW/2, y, html.EscapeString(b.Title))
		for i, l := range b.Lines {
			fmt.Fprintf(&s, "<text class=\"soft\" x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"11.5\">%s</text>", b.x()+boxW/2, y+16*(i+1), html.EscapeString(l))
		}
		s.WriteString("\n")
	}
	s.WriteString("</svg>\n")
	return s.String(), nil
}

// way draws one arrow: straight between neighbours, round the others above or below.
func way(a arrow, from, to box) string {
	var x1, y1, x2, y2 int
	var path string
	lx, ly, anchor := 0, 0, "middle"
	switch {
	case a.Over || a.Under:
		side, bend := 0, -34
		if a.Under {
			side, bend = boxH, 34
		}
		x1, y1, x2, y2 = from.x()+boxW/2+30, from.y()+side, to.x()+boxW/2-30, to.y()+side
		path = fmt.Sprintf("M%d %dV%dH%dV%d", x1, y1, y1+bend, x2, y2)
		lx, ly, anchor = x1+6, y1+bend-5, "start"
	case from.Column == to.Column:
		x1, x2 = from.x()+boxW/2, from.x()+boxW/2
		y1, y2 = from.y()+boxH, to.y()
		if to.Row < from.Row {
			y1, y2 = from.y(), to.y()+boxH
		}
		path = fmt.Sprintf("M%d %dV%d", x1, y1, y2)
		lx, ly = x1, (y1+y2)/2+12
	default:
		x1, y1, x2, y2 = from.x()+boxW, from.y()+boxH/2, to.x(), to.y()+boxH/2
		path = fmt.Sprintf("M%d %dL%d %d", x1, y1, x2, y2)
		lx, ly = (x1+x2)/2, (y1+y2)/2-8
	}
	return fmt.Sprintf("<path class=\"way\" d=\"%s\"/>%s<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", path, tip(a, from, to, x2, y2), lx, ly, anchor, html.EscapeString(a.Label))
}

// tip is the arrow's head at x, y.
func tip(a arrow, from, to box, x, y int) string {
	dx, dy := 9, 0
	switch {
	case a.Over:
		dx, dy = 0, 9
	case a.Under:
		dx, dy = 0, -9
	case from.Column == to.Column && to.Row > from.Row:
		dx, dy = 0, 9
	case from.Column == to.Column:
		dx, dy = 0, -9
	}
	return fmt.Sprintf("<path class=\"tip\" d=\"M%d %dL%d %dL%d %dZ\"/>", x, y, x-dx+dy/2, y-dy+dx/2, x-dx-dy/2, y-dy-dx/2)
}
