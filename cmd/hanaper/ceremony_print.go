package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/ceremony/paper"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
)

func paperFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "pdf or html; by default as the name of the file ends"},
		&cli.StringFlag{Name: "out", Usage: "write to the new `FILE`", Required: true},
	}
}

func ceremonyPrintCommand() *cli.Command {
	return &cli.Command{
		Name:        "print",
		Usage:       "make the script on paper: numbered steps, expected values, room for initials, times and exceptions",
		Description: "Example:\n  hanaper ceremony print --out script.pdf script.yaml",
		ArgsUsage:   "SCRIPT",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "tool", Usage: "the published `SHA256` of the program that will run; by default this one's"},
		}, paperFlags()...),
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "SCRIPT")
			if err != nil {
				return err
			}
			write, err := paperFormat(c)
			if err != nil {
				return err
			}
			plan, err := loadPlan(c, args[0])
			if err != nil {
				return err
			}
			program, err := thisTool()
			if err != nil {
				return err
			}
			if t := c.String("tool"); t != "" {
				d, err := ceremony.ParseDigest(t)
				if err != nil {
					return err
				}
				program = ceremony.Tool{SHA256: hexDigest(d)}
			}
			return putPaper(c, write, plan.Paper(program))
		},
	}
}

func ceremonyRecordCommand() *cli.Command {
	return &cli.Command{
		Name:      "record",
		Usage:     "verify a finished ceremony's folder and render what was done, step by step",
		ArgsUsage: "DIR",
		Flags:     append(anchorFlags(), paperFlags()...),
		Description: "Without --roster, --checkpoint and --earlier the record is marked on every page as not authenticated, and the exit code is 4.\n\n" +
			"Example:\n  hanaper ceremony record --roster $(cat roster.sha256) --out record.pdf ceremony-1",
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "DIR")
			if err != nil {
				return err
			}
			return record(c, args[0])
		},
	}
}

func record(c *cli.Context, dir string) error {
	write, err := paperFormat(c)
	if err != nil {
		return err
	}
	held, err := anchors(c, "")
	if err != nil {
		return err
	}
	if st, err := os.Stat(dir); err != nil {
		return advice.Wrap(advice.Usage, err, "name the folder of a ceremony")
	} else if !st.IsDir() {
		return advice.New(advice.Usage, "name the folder of a ceremony", "%s is no folder", dir)
	}
	if err := notARelease(dir); err != nil {
		return err
	}
	d, err := ceremony.Record(c.Context, input.Dir(dir), held)
	if d == nil {
		return err
	}
	// A record that is marked as unverified is written, and the exit code says so too.
	return errors.Join(putPaper(c, write, d), err)
}

type paperWriter func(io.Writer, *paper.Document) error

// paperFormat reads --format, or how the name of --out ends.
func paperFormat(c *cli.Context) (paperWriter, error) {
	format, out := c.String("format"), c.String("out")
	if format == "" {
		if i := strings.LastIndexByte(out, '.'); i >= 0 {
			format = out[i+1:]
		}
	}
	switch format {
	case "pdf":
		return paper.PDF, nil
	case "html":
		return paper.HTML, nil
	}
	return nil, advice.New(advice.Usage, "give --format pdf or --format html", "the format %q is neither pdf nor html", format)
}

func putPaper(c *cli.Context, write paperWriter, d *paper.Document) error {
	var b bytes.Buffer
	if err := write(&b, d); err != nil {
		return err
	}
	out := c.String("out")
	if err := durable.Create(out, b.Bytes(), 0o644); errors.Is(err, fs.ErrExist) {
		return advice.Wrap(advice.Usage, err, "name a file that does not exist with --out")
	} else if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "written to %s\n", out)
	return nil
}
