package term

import "strings"

// Width is the number of columns that text is wrapped to.
const Width = 80

// Wrap breaks text into lines of at most Width columns between its words, each after indent; its own ends of lines stay. A
// word is never broken: a digest or a serial number that is longer than the line has one to itself.
func Wrap(text, indent string) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		column := 0
		for _, word := range strings.Fields(line) {
			n := Columns(word)
			switch {
			case column == 0:
				out.WriteString(indent)
				column = Columns(indent)
			case column+1+n > Width:
				out.WriteString("\n" + indent)
				column = Columns(indent)
			default:
				out.WriteByte(' ')
				column++
			}
			out.WriteString(word)
			column += n
		}
	}
	return out.String()
}

// InColumns puts words into lines of count, each word in a column of its own, for words that are read aloud.
func InColumns(words string, count int, indent string) string {
	list := strings.Fields(words)
	widest := 0
	for _, w := range list {
		widest = max(widest, Columns(w))
	}
	var out strings.Builder
	for i, w := range list {
		if i%count == 0 {
			if i > 0 {
				out.WriteByte('\n')
			}
			out.WriteString(indent)
		}
		out.WriteString(w)
		if i%count < count-1 && i < len(list)-1 {
			out.WriteString(strings.Repeat(" ", widest-Columns(w)+2))
		}
	}
	return out.String()
}
