// Package paper puts a document on paper: PDF for the printer, HTML for the archive and the screen. It knows what a form
// is made of, facts, tables, steps, boxes to write into, and nothing of ceremonies.
//
// It trusts nothing that it prints. An attacker who writes a text can make it long or odd, and it is wrapped, paged and
// shown: a character that cannot be printed, or that would change how others are read, is shown as \u{202E} is here, and
// none is left out. The HTML holds no script, asks for nothing from anywhere, and every text in it is escaped.
package paper

import "time"

// Document is what is printed.
type Document struct {
	Title    string
	Subtitle string
	// Notice stands at the head of every page, such as REHEARSAL; optional.
	Notice string
	// Footer stands at the foot of every page.
	Footer string
	// Date is that of the file's own data, so that the same document is the same file.
	Date     time.Time
	Sections []Section
}

// Section is a part with a title of its own.
type Section struct {
	Title string
	// NewPage begins a page.
	NewPage bool
	Blocks  []Block
}

// Block is one of the types below.
type Block interface{ block() }

// Text is a paragraph.
type Text string

// Warning is a paragraph that must be seen.
type Warning string

// Facts are labels and values, one below the other.
type Facts []Fact

// Fact is a label and its value; an empty value is a line to write on.
type Fact struct {
	Label, Value string
	// Code is set in type of fixed width.
	Code bool
}

// Pair is a byte and the word for it.
type Pair struct{ Code, Word string }

// Grid is a digest to be read aloud, eight bytes a line.
type Grid []Pair

// Table is rows under a head, which is repeated on every page.
type Table struct {
	Head []string
	// Weights are the relative widths of the columns.
	Weights []float64
	// Code says which columns are set in type of fixed width.
	Code []bool
	Rows [][]string
	// Height is the least height of a row, in mm: room to write.
	Height float64
}

// Box is a place to write, or what was written there.
type Box struct {
	Label, Value string
	// Weight is its relative width; 0 is 1.
	Weight float64
}

// Form is a frame with rows of boxes.
type Form struct {
	Title string
	Rows  []FormRow
}

// FormRow is boxes beside each other.
type FormRow struct {
	// Height in mm.
	Height float64
	Boxes  []Box
}

// Step is a numbered step.
type Step struct {
	Number int
	Kind   string
	// Place says where the step is written, at the right of its head.
	Place string
	// Text says in plain words what happens, Who who does it.
	Text, Who string
	Warning   string
	Facts     Facts
	// Log is what was recorded; nil where nothing was yet.
	Log *Table
	// Boxes are at its end.
	Boxes []Box
}

func (Text) block()    {}
func (Warning) block() {}
func (Facts) block()   {}
func (Grid) block()    {}
func (Table) block()   {}
func (Form) block()    {}
func (Step) block()    {}
