package paper

import (
	"fmt"
	"io"

	"codeberg.org/go-pdf/fpdf"

	"github.com/hanaper/hanaper/internal/show"
)

// The page, in mm: A4, with room at the left for a file's holes.
const (
	pageWidth  = 210.0
	pageHeight = 297.0
	left       = 22.0
	right      = 15.0
	top        = 22.0
	bottom     = 22.0
	width      = pageWidth - left - right
	// maxPages ends what an endless document would print.
	maxPages = 5000
)

// font is one of the fonts that every PDF reader has.
type font struct {
	family, style string
	size          float64 // points
	line          float64 // mm
}

var (
	body    = font{"Helvetica", "", 9.5, 4.5}
	strong  = font{"Helvetica", "B", 9.5, 4.5}
	small   = font{"Helvetica", "", 7.5, 3.6}
	caption = font{"Helvetica", "", 6.5, 3.0}
	code    = font{"Courier", "", 8.5, 4.2}
	tiny    = font{"Courier", "", 7.2, 3.5}
	title   = font{"Helvetica", "B", 18, 8}
	heading = font{"Helvetica", "B", 12.5, 6}
)

// sheet lays rows out on pages.
type sheet struct {
	pdf   *fpdf.Fpdf
	doc   *Document
	pages int // in all; 0 while they are counted
	y     float64
	// widths of the characters of each font, in mm.
	widths map[font]*[256]float64
}

// row is what is not cut by the end of a page.
type row struct {
	height float64
	draw   func(y float64)
	// keep holds the row on one page with the row after it.
	keep bool
	// head is drawn again above the row where a page begins with it.
	head *row
}

// PDF writes d as PDF. The same document gives the same file.
func PDF(w io.Writer, d *Document) error {
	counted, err := render(d, 0)
	if err != nil {
		return err
	}
	s, err := render(d, counted.pdf.PageCount())
	if err != nil {
		return err
	}
	return s.pdf.Output(w)
}

func render(d *Document, pages int) (*sheet, error) {
	s := &sheet{pdf: fpdf.New("P", "mm", "A4", ""), doc: d, pages: pages, widths: map[font]*[256]float64{}}
	s.pdf.SetMargins(0, 0, 0)
	s.pdf.SetAutoPageBreak(false, 0)
	s.pdf.SetCellMargin(0)
	s.pdf.SetCatalogSort(true)
	s.pdf.SetCreationDate(d.Date)
	s.pdf.SetModificationDate(d.Date)
	s.pdf.SetTitle(show.Line(d.Title), true)
	s.pdf.SetLineWidth(0.2)
	s.newPage()
	s.flow(s.titleRows())
	for i, sec := range d.Sections {
		if sec.NewPage && i > 0 && s.y > top {
			s.newPage()
		}
		head := s.headingRows(sec.Title)
		for _, b := range sec.Blocks {
			rows := s.rows(b)
			s.flow(append(head, rows...))
			head = nil
		}
		s.flow(head)
		if s.pdf.PageCount() > maxPages {
			return nil, fmt.Errorf("%q is longer than %d pages", d.Title, maxPages)
		}
	}
	return s, s.pdf.Error()
}

func (s *sheet) newPage() {
	s.pdf.AddPage()
	s.y = top
	s.pdf.SetDrawColor(120, 120, 120)
	s.line(left, 15, left+width, 15)
	s.line(left, pageHeight-17, left+width, pageHeight-17)
	notice := latin(s.doc.Notice)
	s.set(small)
	space := width
	if notice != "" {
		s.set(strong)
		n := s.pdf.GetStringWidth(notice)
		s.put(left+width-n, 9.5, strong, notice)
		space -= n + 5
	}
	s.put(left, 10, small, s.cut(small, latin(s.doc.Title), space))
	number := fmt.Sprintf("page %d of %d", s.pdf.PageNo(), s.pages)
	s.set(small)
	n := s.pdf.GetStringWidth(number)
	s.put(left+width-n, pageHeight-15.5, small, number)
	s.put(left, pageHeight-15.5, tiny, s.cut(tiny, latin(s.doc.Footer), width-n-4))
	s.pdf.SetDrawColor(0, 0, 0)
}

// cut shortens text to a width; the whole text stands on the first page.
func (s *sheet) cut(f font, text string, space float64) string {
	s.set(f)
	if s.pdf.GetStringWidth(text) <= space {
		return text
	}
	for len(text) > 0 && s.pdf.GetStringWidth(text+"\x85") > space {
		text = text[:len(text)-1]
	}
	return text + "\x85"
}

// flow puts rows on pages. Rows that belong together move to a page of their own if they fit on one.
func (s *sheet) flow(rows []row) {
	for i := 0; i < len(rows); {
		n, height := 0, 0.0
		for i+n < len(rows) {
			height += rows[i+n].height
			n++
			if !rows[i+n-1].keep {
				break
			}
		}
		end := pageHeight - bottom
		if s.y+height > end && s.y > top && (height <= end-top || s.y+rows[i].height > end-20) {
			s.newPage()
		}
		for _, r := range rows[i : i+n] {
			if s.y+r.height > end && s.y > top {
				s.newPage()
			}
			if s.y == top && r.head != nil {
				r.head.draw(s.y)
				s.y += r.head.height
			}
			r.draw(s.y)
			s.y += r.height
		}
		i += n
	}
}

func (s *sheet) set(f font) { s.pdf.SetFont(f.family, f.style, f.size) }

// put writes one line whose top is at y; text is in the code page.
func (s *sheet) put(x, y float64, f font, text string) {
	s.set(f)
	s.pdf.Text(x, y+f.line*0.76, text)
}

func (s *sheet) line(x1, y1, x2, y2 float64) { s.pdf.Line(x1, y1, x2, y2) }

func (s *sheet) widthsOf(f font) *[256]float64 {
	w, ok := s.widths[f]
	if !ok {
		w = new([256]float64)
		s.set(f)
		for i := range w {
			w[i] = s.pdf.GetStringWidth(string([]byte{byte(i)}))
		}
		s.widths[f] = w
	}
	return w
}

// wrap breaks text into lines of a width: at spaces, and within a word that is longer than a line.
func (s *sheet) wrap(f font, text string, space float64) []string {
	text = latin(text)
	widths := s.widthsOf(f)
	var lines []string
	start, end, used := 0, -1, 0.0 // end is the last space in the line
	for i := 0; i < len(text); i++ {
		w := widths[text[i]]
		if text[i] == ' ' {
			end = i
		}
		if used+w <= space || i == start {
			used += w
			continue
		}
		switch {
		case text[i] == ' ':
			lines, start = append(lines, text[start:i]), i+1
		case end > start:
			lines, start = append(lines, text[start:end]), end+1
		default:
			lines, start = append(lines, text[start:i]), i
		}
		i, end, used = start-1, -1, 0
	}
	return append(lines, text[min(start, len(text)):])
}
