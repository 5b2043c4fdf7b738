package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
)

// usageError is a call that is not well formed: exit code 255.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{advice.New(advice.Usage, "try --help", format, args...)}
}

func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// level is the program or one of its commands, with the options that were given for it.
type level struct {
	name  string
	flags []cli.Flag
	given []string
}

// arrange puts a command line in the order that the library wants. garage-sign takes options anywhere: before and after
// commands, as --key value, --key=value or --key:value; an option belongs to the innermost command that has it.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) > 1 && (args[1] == "man" || args[1] == "completion") {
		return args, nil
	}
	levels := []*level{{name: args[0], flags: app.Flags}}
	commands, seen := app.Commands, map[cli.Flag]bool{}
	var help bool
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == arg })
			if at < 0 {
				return nil, usagef("unknown argument %q", arg)
			}
			levels = append(levels, &level{name: arg, flags: commands[at].Flags})
			commands = commands[at].Subcommands
			continue
		}
		name, value, hasValue := cutOption(arg)
		if name == "help" && strings.HasPrefix(arg, "--") {
			help = true
			continue
		}
		flag, owner := findFlag(levels, arg, name)
		if flag == nil && arg == "--version" {
			return []string{args[0], "--version"}, nil
		}
		if flag == nil {
			return nil, usagef("unknown option %s", strings.TrimSuffix(arg, arg[len(arg)-len(value):]))
		}
		name = flag.Names()[0]
		if _, repeatable := flag.(*cli.StringSliceFlag); seen[flag] && !repeatable {
			return nil, usagef("option --%s is given more than once", name)
		}
		seen[flag] = true
		if _, isBool := flag.(*cli.BoolFlag); isBool {
			if hasValue {
				return nil, usagef("option --%s takes no value", name)
			}
			owner.given = append(owner.given, "--"+name)
			continue
		}
		if !hasValue {
			if i++; i == len(args) {
				return nil, usagef("missing value after --%s", name)
			}
			value = args[i]
		}
		owner.given = append(owner.given, "--"+name+"="+value)
	}
	out := args[:1:1]
	for i, l := range levels {
		if i > 0 {
			out = append(out, l.name)
		}
		if !help {
			out = append(out, l.given...)
		}
	}
	if help {
		for _, l := range levels {
			waive(l.flags)
		}
		return append(out, "--help"), nil
	}
	if len(levels) > 1 && len(commands) > 0 {
		return nil, usagef("a command is missing after %q", strings.Join(out[1:], " "))
	}
	if len(levels) == 1 {
		return out, nil
	}
	for _, l := range levels {
		for _, f := range l.flags {
			if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() && !seen[f] {
				return nil, usagef("missing option --%s", f.Names()[0])
			}
		}
	}
	return out, nil
}

// waive lets help be asked for without the options that a command needs.
func waive(flags []cli.Flag) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Required = false
		case *cli.StringSliceFlag:
			f.Required = false
		case *cli.IntFlag:
			f.Required = false
		}
	}
}

// cutOption splits an option at the first = or :, neither of which is part of a name.
func cutOption(arg string) (name, value string, hasValue bool) {
	arg = strings.TrimLeft(arg, "-")
	if i := strings.IndexAny(arg, "=:"); i >= 0 {
		return arg[:i], arg[i+1:], true
	}
	return arg, "", false
}

// findFlag looks from the innermost command outwards. One dash is for names of one letter.
func findFlag(levels []*level, arg, name string) (cli.Flag, *level) {
	long := strings.HasPrefix(arg, "--")
	if long == (len(name) == 1) || strings.HasPrefix(arg, "---") {
		return nil, nil
	}
	for _, l := range slices.Backward(levels) {
		for _, f := range l.flags {
			if slices.Contains(f.Names(), name) {
				return f, l
			}
		}
	}
	return nil, nil
}

// say tells what was done, on standard error: standard output is for results.
func say(c *cli.Context, format string, args ...any) {
	fmt.Fprintf(c.App.ErrWriter, format+"\n", args...)
}

func warn(c *cli.Context, format string, args ...any) { say(c, "warning: "+format, args...) }
