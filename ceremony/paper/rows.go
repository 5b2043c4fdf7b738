package paper

import "fmt"

func space(height float64) row { return row{height: height, draw: func(float64) {}} }

// textRows are the lines of a paragraph at x.
func (s *sheet) textRows(f font, text string, x, w float64) []row {
	var rows []row
	for _, line := range s.wrap(f, text, w) {
		rows = append(rows, row{height: f.line, draw: func(y float64) { s.put(x, y, f, line) }})
	}
	return rows
}

// together keeps rows on one page, as far as a page goes.
func together(rows []row) []row {
	for i := range rows[:max(0, len(rows)-1)] {
		rows[i].keep = true
	}
	return rows
}

func (s *sheet) titleRows() []row {
	rows := s.textRows(title, s.doc.Title, left, width)
	rows = append(rows, space(1))
	rows = append(rows, s.textRows(body, s.doc.Subtitle, left, width)...)
	return append(together(rows), space(3))
}

func (s *sheet) headingRows(text string) []row {
	if text == "" {
		return nil
	}
	rows := append([]row{space(4)}, s.textRows(heading, text, left, width)...)
	rows = append(rows, row{height: 2.5, draw: func(y float64) { s.line(left, y+0.5, left+width, y+0.5) }})
	for i := range rows {
		rows[i].keep = true
	}
	return rows
}

// rows are those of a block, without cutting what belongs together.
func (s *sheet) rows(b Block) []row {
	switch b := b.(type) {
	case Text:
		return append(s.textRows(body, string(b), left, width), space(2))
	case Warning:
		return append(s.warningRows(string(b), left, width), space(2))
	case Facts:
		return append(s.factRows(b, left, width), space(2))
	case Grid:
		return append(together(s.gridRows(b)), space(2))
	case Table:
		rows := s.tableRows(b, left, width)
		if len(b.Rows) <= 8 {
			rows = together(rows)
		}
		return append(rows, space(2))
	case Form:
		return append(together(s.formRows(b)), space(5))
	case Step:
		return s.stepRows(b)
	}
	return nil
}

func (s *sheet) warningRows(text string, x, w float64) []row {
	rows := s.textRows(strong, text, x+5, w-7)
	for i, r := range rows {
		draw := r.draw
		rows[i].height += 0.4
		rows[i].draw = func(y float64) {
			s.pdf.SetFillColor(0, 0, 0)
			s.pdf.Rect(x, y, 1.8, rows[i].height, "F")
			draw(y)
		}
	}
	return together(rows)
}

func (s *sheet) factRows(facts Facts, x, w float64) []row {
	var rows []row
	const label = 40.0
	for _, f := range facts {
		set := body
		if f.Code {
			set = code
		}
		names := s.wrap(small, f.Label, label-3)
		if f.Value == "" {
			rows = append(rows, row{height: max(7.5, 2.5+float64(len(names))*small.line), draw: func(y float64) {
				for i, n := range names {
					s.put(x, y+2.8+float64(i)*small.line, small, n)
				}
				s.pdf.SetDashPattern([]float64{0.4, 0.8}, 0)
				s.line(x+label, y+6.4, x+w, y+6.4)
				s.pdf.SetDashPattern(nil, 0)
			}})
			continue
		}
		values := s.wrap(set, f.Value, w-label)
		for i := range max(len(names), len(values)) {
			rows = append(rows, row{height: 4.5, keep: i == 0 && len(values) > 1, draw: func(y float64) {
				if i < len(names) {
					s.put(x, y+0.5, small, names[i])
				}
				if i < len(values) {
					s.put(x+label, y, set, values[i])
				}
			}})
		}
	}
	return rows
}

// gridRows prints eight bytes a line, each with its word.
func (s *sheet) gridRows(g Grid) []row {
	var rows []row
	const columns = 8
	for i := 0; i < len(g); i += columns {
		cells := g[i:min(i+columns, len(g))]
		rows = append(rows, row{height: 8.6, draw: func(y float64) {
			const w = width / columns
			for j, c := range cells {
				x := left + float64(j)*w
				s.pdf.Rect(x, y, w, 8.6, "D")
				s.put(x+1.2, y+0.6, tiny, latin(c.Code))
				s.put(x+1.2, y+4.0, small, s.cut(small, latin(c.Word), w-1.6))
			}
		}})
	}
	return rows
}

func (s *sheet) tableRows(t Table, x, w float64) []row {
	columns := make([]float64, len(t.Head))
	sum := 0.0
	for i := range columns {
		columns[i] = 1
		if i < len(t.Weights) {
			columns[i] = t.Weights[i]
		}
		sum += columns[i]
	}
	for i := range columns {
		columns[i] *= w / sum
	}
	head := s.cells(t.Head, columns, x, 0, func(int) font { return font{"Helvetica", "B", 7.5, 3.6} }, true)[0]
	head.keep = true
	rows := []row{head}
	for _, r := range t.Rows {
		lines := s.cells(r, columns, x, t.Height, func(i int) font {
			if i < len(t.Code) && t.Code[i] {
				return tiny
			}
			return small
		}, false)
		for i := range lines {
			lines[i].head = &head
		}
		rows = append(rows, lines...)
	}
	return rows
}

// maxCell is the number of lines of a table's row that are not cut by the end of a page.
const maxCell = 40

// cells is a table's row: one row of the sheet, or several where it is very long.
func (s *sheet) cells(texts []string, columns []float64, x, least float64, set func(int) font, shaded bool) []row {
	const pad = 1.0
	lines, most := make([][]string, len(columns)), 1
	for i := range columns {
		if i < len(texts) {
			lines[i] = s.wrap(set(i), texts[i], columns[i]-2*pad)
		}
		most = max(most, len(lines[i]))
	}
	var rows []row
	for from := 0; from < most; from += maxCell {
		n := min(maxCell, most-from)
		height := max(least, float64(n)*small.line+1.4)
		rows = append(rows, row{height: height, draw: func(y float64) {
			at := x
			for i, w := range columns {
				style := "D"
				if shaded {
					s.pdf.SetFillColor(228, 228, 228)
					style = "DF"
				}
				s.pdf.Rect(at, y, w, height, style)
				for j := from; j < min(from+n, len(lines[i])); j++ {
					s.put(at+pad, y+0.7+float64(j-from)*small.line, set(i), lines[i][j])
				}
				at += w
			}
		}})
	}
	return rows
}

// boxRow is boxes beside each other.
func (s *sheet) boxRow(boxes []Box, x, w, height float64) row {
	sum := 0.0
	weight := func(b Box) float64 {
		if b.Weight == 0 {
			return 1
		}
		return b.Weight
	}
	for _, b := range boxes {
		sum += weight(b)
	}
	var values [][]string
	for _, b := range boxes {
		lines := s.wrap(small, b.Value, w*weight(b)/sum-2.4)
		values = append(values, lines)
		if b.Value != "" {
			height = max(height, 4.6+float64(len(lines))*small.line)
		}
	}
	return row{height: height, draw: func(y float64) {
		at := x
		for i, b := range boxes {
			bw := w * weight(b) / sum
			s.pdf.Rect(at, y, bw, height, "D")
			s.put(at+1.2, y+0.6, caption, s.cut(caption, latin(b.Label), bw-1.6))
			for j, v := range values[i] {
				s.put(at+1.2, y+4+float64(j)*small.line, small, v)
			}
			at += bw
		}
	}}
}

func (s *sheet) formRows(f Form) []row {
	rows := s.textRows(strong, f.Title, left, width)
	rows = append(rows, space(1))
	for _, r := range f.Rows {
		rows = append(rows, s.boxRow(r.Boxes, left, width, r.Height))
	}
	return rows
}

// stepRows are a step: its head, what happens, who does it, what is expected, what was recorded, and its boxes.
func (s *sheet) stepRows(st Step) []row {
	const indent = 4.0
	x, w := left+indent, width-indent
	number := fmt.Sprintf("%d", st.Number)
	rows := []row{{height: 6.6, draw: func(y float64) {
		s.pdf.SetFillColor(228, 228, 228)
		s.pdf.Rect(left, y, width, 5.6, "F")
		s.put(left+1.5, y+0.6, font{"Helvetica", "B", 11, 4.5}, number)
		s.put(left+16, y+0.6, strong, latin(st.Kind))
		place := latin(st.Place)
		s.set(small)
		s.put(left+width-1.5-s.pdf.GetStringWidth(place), y+1.1, small, place)
	}}}
	rows = append(rows, s.textRows(body, st.Text, x, w)...)
	if st.Who != "" {
		rows = append(rows, space(0.8))
		rows = append(rows, s.factRows(Facts{{Label: "Who", Value: st.Who}}, x, w)...)
	}
	if st.Warning != "" {
		rows = append(rows, space(1))
		rows = append(rows, s.warningRows(st.Warning, x, w)...)
	}
	if len(st.Facts) > 0 {
		rows = append(rows, space(0.8))
		rows = append(rows, s.factRows(st.Facts, x, w)...)
	}
	if st.Log != nil {
		rows = append(rows, space(1.5))
		log := s.tableRows(*st.Log, x, w)
		if len(log) > 14 {
			// A long log may be cut between its rows.
			return append(append(together(append(rows, log[:2]...)), log[2:]...), s.tail(st, x, w)...)
		}
		rows = append(rows, log...)
	}
	return append(together(append(rows, s.tail(st, x, w)...)), space(2))
}

func (s *sheet) tail(st Step, x, w float64) []row {
	if len(st.Boxes) == 0 {
		return []row{space(2)}
	}
	return []row{space(1.5), s.boxRow(st.Boxes, x, w, 10.5), space(2.5)}
}
