// Package shell is what the programs share around their work: one line and a hint for an error, exit codes, tables,
// shell completion and man pages.
package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

// Version is the release, set by the linker: -X github.com/hanaper/hanaper/internal/shell.Version=v1.2.3.
var Version = "devel"

// Run runs app with args (the program's name first), tells an error as one line and a hint on app.ErrWriter (standard
// error by default), and returns the exit code: 0 done, 1 failed, 2 usage, 3 refused by quorum or policy, 4
// verification failed.
func Run(app *cli.App, args []string) int {
	return RunCodes(app, args, func(err error) int { return int(advice.KindOf(err)) })
}

// RunCodes is Run for a program with exit codes of its own.
func RunCodes(app *cli.App, args []string, code func(error) int) int {
	ctx, stop := Context()
	defer stop()
	prepare(app)
	return report(app, app.RunContext(ctx, args), code)
}

func prepare(app *cli.App) {
	app.Version = version()
	app.HideHelpCommand = true
	app.Suggest = true
	// A comma is a character of URIs and paths; the library would make two values of one.
	app.DisableSliceFlagSeparator = true
	if app.Writer == nil {
		app.Writer = os.Stdout
	}
	app.Writer = show.Writer(term.Fitted(app.Writer))
	if app.ErrWriter == nil {
		app.ErrWriter = os.Stderr
	}
	app.ErrWriter = show.Writer(term.Fitted(app.ErrWriter))
	// The library must neither exit nor print by itself: report does both, once.
	app.ExitErrHandler = func(*cli.Context, error) {}
	app.OnUsageError = usageError
	app.CommandNotFound = nil
	if app.Action == nil {
		app.Action = UnknownCommand
	}
	app.Commands = append(app.Commands, manCommand(), completionCommand())
	for _, c := range app.Commands {
		strictUsage(c)
	}
}

// strictUsage makes a wrong flag, or a verb that a group does not have, an error of kind Usage at any depth.
func strictUsage(c *cli.Command) {
	c.OnUsageError = usageError
	if len(c.Subcommands) > 0 {
		c.HideHelpCommand = true
		if c.Action == nil {
			c.Action = UnknownCommand
		}
	}
	for _, s := range c.Subcommands {
		strictUsage(s)
	}
}

func usageError(c *cli.Context, err error, _ bool) error {
	return advice.Wrap(advice.Usage, err, fmt.Sprintf("see '%s --help'", path(c)))
}

// UnknownCommand refuses a verb that there is not, or shows what there is where none was named: the action of a program and of a group of verbs.
func UnknownCommand(c *cli.Context) error {
	if c.Args().Present() {
		return advice.New(advice.Usage, fmt.Sprintf("see '%s --help'", path(c)), "no such command: %s", strings.TrimSpace(path(c)+" "+c.Args().First()))
	}
	if c.Command == nil || len(c.Lineage()) <= 2 {
		_ = cli.ShowAppHelp(c)
	} else {
		_ = cli.ShowSubcommandHelp(c)
	}
	return advice.New(advice.Usage, "", "a command is missing")
}

func path(c *cli.Context) string {
	if c.Command != nil && c.Command.HelpName != "" {
		return c.Command.HelpName
	}
	return c.App.HelpName
}

func report(app *cli.App, err error, code func(error) int) int {
	if err == nil {
		// A list that was cut short by a full disk must not pass for a whole one.
		if err = show.Failed(app.Writer); err == nil {
			return 0
		}
		err = advice.New(advice.Failed, "what was to be written there is not whole; all else is done", "standard output: %w", err)
	}
	if durable.Full(err) && advice.Hint(err) == "" {
		err = advice.Wrap(advice.KindOf(err), err, "a disk is full: make room on it, and give the command again")
	}
	// The library's error for a required flag has no type that can be named here.
	if strings.HasPrefix(err.Error(), "Required flag") {
		err = advice.Wrap(advice.Usage, err, "give it; flags stand before the file or name that is worked on")
	}
	hint := advice.Hint(err)
	msg := show.Line(strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", "; ")))
	// Its messages begin with a capital letter. Others may begin with a name, which stays as it is.
	if rest, ok := strings.CutPrefix(msg, "Required flag"); ok {
		msg = "required flag" + rest
	}
	// What a server of the same name answered is named already.
	fmt.Fprintf(app.ErrWriter, "%s: %s\n", app.Name, strings.TrimPrefix(msg, app.Name+": "))
	if hint != "" {
		fmt.Fprintf(app.ErrWriter, "%s: hint: %s\n", app.Name, show.Line(hint))
	}
	return code(err)
}

// Wrote says which file a verb wrote, in the words that all verbs have for it; not where it prints JSON.
func Wrote(c *cli.Context, what, path string) {
	if !c.Bool("json") {
		fmt.Fprintf(c.App.Writer, "%s written to %s\n", what, show.Text(path))
	}
}

// NoArgs refuses positional arguments; a verb without any sets it as Before.
func NoArgs(c *cli.Context) error {
	if c.Args().Present() {
		return advice.New(advice.Usage, fmt.Sprintf("see '%s --help'", path(c)), "%s takes no argument, got %q", path(c), c.Args().First())
	}
	return nil
}

// ConfigCommand is a service's verb config, which prints example, a config file that explains every key. call is how people type it.
func ConfigCommand(call string, example []byte) *cli.Command {
	return &cli.Command{
		Name:        "config",
		Usage:       "print a config file that explains every key",
		Description: "Example:\n  " + call,
		Before:      NoArgs,
		Action: func(c *cli.Context) error {
			_, err := c.App.Writer.Write(example)
			return err
		},
	}
}

// Args returns the positional arguments, which must be as many as names has, and names the one that is missing.
func Args(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	hint := fmt.Sprintf("see '%s --help'", path(c))
	if len(got) < len(names) {
		return nil, advice.New(advice.Usage, hint, "%s is missing", names[len(got)])
	}
	if len(got) > len(names) {
		if strings.HasPrefix(got[len(names)], "-") {
			return nil, advice.New(advice.Usage, hint, "flags stand before %s: %q", strings.Join(names, " "), got[len(names)])
		}
		return nil, advice.New(advice.Usage, hint, "one argument too many: %q", got[len(names)])
	}
	return got, nil
}

// Context ends at SIGINT or SIGTERM. A second one ends the program, should it hang in somebody else's library.
func Context() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Hanging gives a function that tells the person at the terminal, or the log, that something from outside hangs, and what to
// do.
func Hanging(program, hint string) func(said string) {
	return func(said string) {
		fmt.Fprintf(os.Stderr, "\n%s\n%s\n", term.Wrap(program+": "+show.Line(said), ""), term.Wrap(program+": hint: "+hint, ""))
	}
}

// Saying gives a function that tells the person at the terminal, or the log, what happened beside the work.
func Saying(program string) func(said string) {
	return func(said string) { fmt.Fprintf(os.Stderr, "%s\n", term.Wrap(program+": "+show.Line(said), "")) }
}

// Table writes rows under header, in columns.
func Table(w io.Writer, header []string, rows [][]string) {
	var lines bytes.Buffer
	tw := tabwriter.NewWriter(&lines, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, strings.ToUpper(strings.Join(header, "\t")))
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = show.Cell(c)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	_ = tw.Flush()
	// A column of nothing but the last one's blanks would be a line of its own on a narrow terminal.
	for line := range strings.Lines(lines.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// JSON writes v, indented, for programs that read ours.
func JSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(show.JSON(b.Bytes()))
	return err
}

// Running is the version of the running program, as --version prints it.
func Running() string { return version() }

func version() string {
	if Version != "devel" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return Version
}
