package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

var noPauseFlag = &cli.BoolFlag{Name: "no-pause", Usage: "show what each step did, and do not wait: for rehearsals and tests. So does --answers"}

// stops shows each step, and waits for the people present, if wait is true.
type stops struct {
	w        io.Writer
	ask      term.Prompter
	progress *term.Progress
	wait     bool
}

// at shows what was done, and asks whether to go on. Nothing but one of the three words is an answer.
func (p *stops) at(s ceremony.Stop) (ceremony.Answer, ceremony.Exception, error) {
	p.progress.Clear()
	p.show(s)
	if !p.wait {
		return ceremony.GoOn, ceremony.Exception{}, nil
	}
	for {
		answer, err := p.ask.Line(ceremony.AskStop)
		if err != nil {
			return ceremony.StopHere, ceremony.Exception{}, err
		}
		switch answer {
		case "next":
			return ceremony.GoOn, ceremony.Exception{}, nil
		case "stop":
			return ceremony.StopHere, ceremony.Exception{}, nil
		case "exception":
			e, err := p.exception(s)
			return ceremony.Except, e, err
		}
		fmt.Fprintln(p.w, "Type the whole word: next, exception or stop.")
	}
}

func (p *stops) exception(s ceremony.Stop) (e ceremony.Exception, err error) {
	fmt.Fprintf(p.w, "Exception %d. It goes into the transcript, and stays there.\n", s.Exceptions+1)
	for {
		e = ceremony.Exception{}
		questions := []struct {
			ask string
			to  *string
		}{{ceremony.AskReportedBy, &e.ReportedBy}, {ceremony.AskExpected, &e.Expected}, {ceremony.AskHappened, &e.Happened}, {ceremony.AskDecided, &e.Decided}}
		for _, q := range questions {
			for *q.to == "" {
				if *q.to, err = p.ask.Line(q.ask); err != nil {
					return e, err
				}
			}
		}
		fmt.Fprintln(p.w, "This will be written:")
		for _, q := range questions {
			fmt.Fprintf(p.w, "  %s%s\n", q.ask, show.Line(*q.to))
		}
		answer, err := p.ask.Line(ceremony.AskRight)
		if err != nil || answer == "Yes" {
			return e, err
		}
	}
}

const rule = "----------------------------------------------------------------------"

func (p *stops) show(s ceremony.Stop) {
	if s.Done.Number == 0 {
		fmt.Fprintf(p.w, "\n%s\nBefore the first step, %s\n", rule, s.At)
	} else {
		fmt.Fprintf(p.w, "\n%s\nDONE: step %d of %d, %s, %s\n", rule, s.Done.Number, s.Steps, s.Done.Kind, s.At)
		fmt.Fprintln(p.w, term.Wrap(s.Done.Text, "  "))
	}
	p.remarks(s.Done.Remarks)
	for _, v := range s.Done.Values {
		p.value(v)
	}
	for _, name := range s.Done.Writes {
		fmt.Fprintln(p.w, term.Wrap("writes at the end: "+name, "  "))
	}
	if s.Transcript != "" {
		p.value(ceremony.Value{Label: ceremony.TranscriptLabel, Value: s.Transcript})
	}
	if s.Next == nil {
		fmt.Fprintln(p.w, "That was the last step.")
		return
	}
	fmt.Fprintf(p.w, "\nNEXT: step %d of %d, %s\n", s.Next.Number, s.Steps, s.Next.Kind)
	showStep(p.w, *s.Next)
}

func (p *stops) remarks(list []string) { showRemarks(p.w, list) }

// value shows a value on a line of its own, whole, and the part that the form has room for on another.
func (p *stops) value(v ceremony.Value) {
	fmt.Fprintln(p.w, term.Wrap(v.Label+":", "  "))
	if ends, ok := v.Ends(); ok {
		fmt.Fprintf(p.w, "    %s\n", show.Line(ends))
	}
	fmt.Fprintf(p.w, "    %s\n", show.Line(v.Value))
}

// showStep says what a step will do, before it does.
func showStep(w io.Writer, v ceremony.StepView) {
	fmt.Fprintln(w, term.Wrap(v.Text, "  "))
	showRemarks(w, v.Remarks)
	for _, f := range v.Facts {
		fmt.Fprintln(w, show.Lines(hanging(show.Line(f.Label), show.Line(f.Value))))
	}
}

// hanging puts a value beside its label, and its further lines below it.
func hanging(label, value string) string {
	const column = 22
	lines := strings.Split(term.Wrap(value, strings.Repeat(" ", column)), "\n")
	head := "  " + label
	if len(head) >= column-1 || len(value) > term.Width-column && !strings.Contains(value, " ") {
		return head + "\n" + strings.Join(lines, "\n")
	}
	lines[0] = head + strings.Repeat(" ", column-len(head)) + strings.TrimLeft(lines[0], " ")
	return strings.Join(lines, "\n")
}

// showRemarks shows what nobody may overlook.
func showRemarks(w io.Writer, list []string) {
	for _, r := range list {
		fmt.Fprintf(w, "\n%s\n\n", term.Wrap("REMARK: "+r, "  !!!!  "))
	}
}
