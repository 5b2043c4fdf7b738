package uptane

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// columns is where a long line is broken, with a mark that no value can imitate at the beginning of a line. A terminal that
// broke it would begin the next line wherever the author of the value likes.
const columns = 80

// String is the change as lines of text.
func (c Change) String() string {
	var b strings.Builder
	c.write(&b)
	return strings.TrimRight(b.String(), "\n")
}

func (c Change) write(b *strings.Builder) {
	what := c.What
	if c.foreign || strings.ContainsFunc(what, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		what = strconv.Quote(what)
	}
	if c.parts == nil {
		text := c.New
		switch c.Sign() {
		case '-':
			text = c.Old
		case '~':
			text = c.Old + " -> " + c.New
		}
		// Numbers, dates and key ids: nothing here is of anybody's choosing but a file's name.
		fmt.Fprintf(b, "  %c %s: %s\n", c.Sign(), show.Line(what), show.Line(text))
		return
	}
	line(b, fmt.Sprintf("  %c %s", c.Sign(), what))
	for _, p := range c.parts() {
		if p.Sign() == ' ' {
			line(b, fmt.Sprintf("        %s: %s", p.What, p.New))
			continue
		}
		if p.Old != "" {
			line(b, fmt.Sprintf("      - %s: %s", p.What, p.Old))
		}
		if p.New != "" {
			line(b, fmt.Sprintf("      + %s: %s", p.What, p.New))
		}
	}
}

func line(b *strings.Builder, s string) {
	for len(s) > columns {
		b.WriteString(s[:columns] + "\n")
		s = "      | " + s[columns:]
	}
	b.WriteString(s + "\n")
}
