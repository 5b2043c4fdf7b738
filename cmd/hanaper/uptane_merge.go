package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneMergeCommand() *cli.Command {
	return &cli.Command{
		Name: "merge", Usage: "add the signatures of responses, in any order, to a request's document",
		Description: "Example:\n  hanaper uptane merge --out targets.json request.json response-ada.json response-grace.json", ArgsUsage: "REQUEST RESPONSE...",
		Flags: []cli.Flag{
			outFlag("write the signed document to `FILE`"),
			&cli.BoolFlag{Name: "partial", Usage: "write it though signatures are missing, as before move-offline, where the server's old key signs last"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() < 2 {
				return advice.New(advice.Usage, "see 'hanaper uptane merge --help'", "REQUEST and at least one RESPONSE are needed")
			}
			r, err := readRequest(c.Args().First())
			if err != nil {
				return err
			}
			responses, err := readResponses(c.Args().Tail())
			if err != nil {
				return err
			}
			doc, err := uptane.Merge(r, responses...)
			if err != nil {
				return err
			}
			data := doc.Bytes()
			if !c.Bool("partial") {
				if data, err = uptane.Emit(doc, r.Authority()); err != nil {
					return advice.Wrap(advice.Refused, err, "'hanaper uptane status' says who is missing; --partial writes what is there")
				}
			}
			if err := createFile(c.String("out"), data); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: %d signatures, %s\n", r.Title(), len(doc.Signatures()), c.String("out"))
			return nil
		},
	}
}

func readRequest(path string) (*uptane.Request, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	r, err := uptane.ParseRequest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func readResponses(paths []string) ([]*uptane.Response, error) {
	var out []*uptane.Response
	for _, path := range paths {
		data, err := readBounded(path)
		if err != nil {
			return nil, err
		}
		resp, err := uptane.ParseResponse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, resp)
	}
	return out, nil
}

func uptaneShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show a document or a draft: keys, thresholds, targets, expiry",
		Description: "Example:\n  hanaper uptane show targets.draft.json", ArgsUsage: "FILE",
		Flags: []cli.Flag{repositoryFlag, jsonFlag},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "FILE")
			if err != nil {
				return err
			}
			return showDiff(c, "", args[0])
		},
	}
}

func uptaneDiffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "show what changes from one document or draft to another",
		Description: "Example:\n  hanaper uptane diff targets.json targets.draft.json", ArgsUsage: "OLD NEW",
		Flags: []cli.Flag{repositoryFlag, jsonFlag},
		Action: func(c *cli.Context) error {
			args, err := shell.Args(c, "OLD", "NEW")
			if err != nil {
				return err
			}
			return showDiff(c, args[0], args[1])
		},
	}
}

func showDiff(c *cli.Context, old, next string) error {
	which, err := repositoryOf(c)
	if err != nil {
		return err
	}
	var before uptane.Document
	if old != "" {
		if before, _, err = readDocument(which, old); err != nil {
			return err
		}
	}
	after, _, err := readDocument(which, next)
	if err != nil {
		return err
	}
	if before != nil && before.Role() != after.Role() {
		return advice.New(advice.Usage, "name two documents of one role", "%s is %s and %s is %s", old, before.Role(), next, after.Role())
	}
	d := uptane.DiffDocuments(before, after)
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, d)
	}
	_, err = d.WriteTo(c.App.Writer)
	return err
}
