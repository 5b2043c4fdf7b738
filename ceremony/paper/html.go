package paper

import (
	"html/template"
	"io"

	"github.com/hanaper/hanaper/internal/show"
)

// HTML writes d as one HTML file without scripts or references.
func HTML(w io.Writer, d *Document) error {
	return page.Execute(w, d)
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"show":  show.Line,
	"is":    kindOf,
	"code":  func(t Table, i int) bool { return i < len(t.Code) && t.Code[i] },
	"deref": func(t *Table) Table { return *t },
	"per": func(t Table, i int) float64 {
		sum, own := 0.0, 1.0
		for j := range t.Head {
			n := 1.0
			if j < len(t.Weights) {
				n = t.Weights[j]
			}
			if sum += n; j == i {
				own = n
			}
		}
		return 100 * own / sum
	},
	"grow": func(b Box) float64 {
		if b.Weight == 0 {
			return 1
		}
		return b.Weight
	},
}).Parse(pageText))

func kindOf(b Block) string {
	switch b.(type) {
	case Text:
		return "text"
	case Warning:
		return "warning"
	case Facts:
		return "facts"
	case Grid:
		return "grid"
	case Table:
		return "table"
	case Form:
		return "form"
	case Step:
		return "step"
	}
	return ""
}

const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{show .Title}}</title>
<style>
@page { size: A4; margin: 20mm 15mm 20mm 22mm;
  @top-left { content: "{{show .Title}}"; font: 8pt sans-serif; }
  @top-right { content: "{{show .Notice}}"; font: bold 9pt sans-serif; }
  @bottom-left { content: "{{show .Footer}}"; font: 6.5pt monospace; white-space: nowrap; }
  @bottom-right { content: "page " counter(page) " of " counter(pages); font: 8pt sans-serif; } }
body { font: 10pt/1.4 Helvetica, Arial, sans-serif; max-width: 56em; margin: 1em auto; padding: 0 1em; overflow-wrap: anywhere; color: #000; background: #fff; }
h1 { font-size: 1.8em; margin: 0 0 .2em; } h2 { font-size: 1.25em; border-bottom: 1px solid #777; margin: 1.5em 0 .6em; break-after: avoid; }
code, .code { font-family: "Courier New", monospace; font-size: .92em; }
.notice { font-weight: bold; border: 2px solid #000; padding: .3em .6em; }
.warning { font-weight: bold; border-left: 6px solid #000; padding-left: .6em; }
dl { display: grid; grid-template-columns: 11em 1fr; margin: .4em 0; row-gap: .1em; } dt { font-size: .82em; padding-top: .15em; } dd { margin: 0; }
dd.blank { border-bottom: 1px dotted #000; min-height: 1.9em; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; font-size: .84em; } th, td { border: 1px solid #777; padding: .15em .4em; text-align: left; vertical-align: top; }
th, .step > h3 { background: #e4e4e4; } tr { break-inside: avoid; } thead { display: table-header-group; }
.grid { display: grid; grid-template-columns: repeat(8, 1fr); } .grid div { border: 1px solid #777; padding: .1em .3em; font-size: .84em; } .grid code { display: block; }
.step { break-inside: avoid; margin: 0 0 1.2em; } .step > h3 { margin: 0 0 .3em; padding: .15em .5em; font-size: 1em; display: flex; gap: 1.5em; }
.step > h3 .place { margin-left: auto; font-weight: normal; font-size: .85em; } .long { break-inside: auto; } .step > :not(h3) { margin-left: 1em; } .step > table { width: calc(100% - 1em); } .step > p { margin: .2em 0 .2em 1em; }
.boxes { display: flex; margin-top: .4em; break-inside: avoid; } .boxes > div { border: 1px solid #000; margin-right: -1px; min-height: 2.6em; padding: .1em .3em; font-size: .84em; flex-basis: 0; min-width: 0; }
.boxes small { display: block; font-size: .8em; } .form { break-inside: avoid; margin-bottom: 1.5em; } .form .boxes { margin-top: -1px; }
footer { border-top: 1px solid #777; margin-top: 2em; font-size: .8em; } @media print { body { max-width: none; margin: 0; padding: 0; } footer { display: none; } .pagebreak { break-before: page; } }
</style>
</head>
<body>
<h1>{{show .Title}}</h1>
{{with .Subtitle}}<p>{{show .}}</p>{{end}}
{{with .Notice}}<p class="notice">{{show .}}</p>{{end}}
{{range .Sections}}
<section{{if .NewPage}} class="pagebreak"{{end}}>
{{with .Title}}<h2>{{show .}}</h2>{{end}}
{{range .Blocks}}{{$kind := is .}}
{{- if eq $kind "text"}}<p>{{printf "%s" . | show}}</p>
{{else if eq $kind "warning"}}<p class="warning">{{printf "%s" . | show}}</p>
{{else if eq $kind "facts"}}{{template "facts" .}}
{{else if eq $kind "grid"}}<div class="grid">{{range .}}<div><code>{{show .Code}}</code>{{show .Word}}</div>{{end}}</div>
{{else if eq $kind "table"}}{{template "table" .}}
{{else if eq $kind "form"}}<div class="form"><p><strong>{{show .Title}}</strong></p>{{range .Rows}}<div class="boxes" style="min-height:{{.Height}}mm">{{template "boxes" .Boxes}}</div>{{end}}</div>
{{else if eq $kind "step"}}<div class="step{{if .Log}} long{{end}}"><h3><span>{{.Number}}</span><span>{{show .Kind}}</span><span class="place">{{show .Place}}</span></h3>
<p>{{show .Text}}</p>
{{with .Who}}<dl><dt>Who</dt><dd>{{show .}}</dd></dl>{{end}}
{{with .Warning}}<p class="warning">{{show .}}</p>{{end}}
{{with .Facts}}{{template "facts" .}}{{end}}
{{with .Log}}{{template "table" (deref .)}}{{end}}
{{with .Boxes}}<div class="boxes">{{template "boxes" .}}</div>{{end}}
</div>
{{end}}{{end}}
</section>
{{end}}
<footer><code>{{show .Footer}}</code></footer>
</body>
</html>
{{define "facts"}}<dl>{{range .}}<dt>{{show .Label}}</dt><dd{{if not .Value}} class="blank"{{else if .Code}} class="code"{{end}}>{{show .Value}}</dd>{{end}}</dl>{{end}}
{{define "table"}}{{$t := .}}<table>{{if .Head}}<thead><tr>{{range $i, $h := .Head}}<th style="width:{{per $t $i}}%">{{show $h}}</th>{{end}}</tr></thead>{{end}}<tbody>
{{range .Rows}}<tr{{if $t.Height}} style="height:{{$t.Height}}mm"{{end}}>{{range $i, $c := .}}<td{{if code $t $i}} class="code"{{end}}>{{show $c}}</td>{{end}}</tr>
{{end}}</tbody></table>{{end}}
{{define "boxes"}}{{range .}}<div style="flex-grow:{{grow .}}"><small>{{show .Label}}</small>{{show .Value}}</div>{{end}}{{end}}
`
