package shell

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
)

// FlagsAnywhere in an app's Metadata says that a verb takes the flags of the groups above it, too.
const FlagsAnywhere = "flags anywhere"

var plainName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// completionCommand prints a script for bash, zsh or fish. The scripts know all verbs and flags: to complete a line that is not finished runs nothing of
// it, and asks no token for anything.
func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the shell completion: completion bash|zsh|fish", ArgsUsage: "SHELL", Hidden: true, HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			args, err := Args(c, "SHELL")
			if err != nil {
				return err
			}
			name := c.App.Name
			if !plainName.MatchString(name) {
				return fmt.Errorf("no completion for the name %q", name)
			}
			s, ok := shells[args[0]]
			if !ok {
				return advice.New(advice.Usage, "one of bash, zsh, fish", "no completion for the shell %q", args[0])
			}
			_, anywhere := c.App.Metadata[FlagsAnywhere]
			var table strings.Builder
			tell(&table, s.row, []string{name}, c.App.VisibleFlags(), nil, c.App.VisibleCommands(), anywhere)
			// A function's name must be a shell's identifier.
			_, err = strings.NewReplacer("PROGRAM", name, "FUNCTION", "_"+strings.ReplaceAll(name, "-", "_"), "TABLE", table.String()).WriteString(c.App.Writer, s.script)
			return err
		},
	}
}

// word is a verb or flag as it may be typed, and what it does.
type word struct{ typed, does string }

// tell writes a row for the verb with these paths, of which there are several where verbs have other names, and rows for those below it.
func tell(w *strings.Builder, row func(paths []string, verbs, flags []word, valued []string) string, paths []string, own, outer []cli.Flag, below []*cli.Command, anywhere bool) {
	var verbs, flags []word
	var valued []string
	seen := map[string]bool{}
	for _, f := range append(slices.Clone(own), outer...) {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		for _, n := range f.Names() {
			if seen[n] {
				continue
			}
			seen[n] = true
			if d.TakesValue() {
				valued = append(valued, n)
			}
			flags = append(flags, word{strings.Repeat("-", min(2, len(n))) + n, plain(d.GetUsage())})
		}
	}
	for _, c := range below {
		for _, n := range c.Names() {
			verbs = append(verbs, word{n, plain(c.Usage)})
		}
	}
	fmt.Fprintln(w, row(paths, verbs, flags, valued))
	if !anywhere {
		own = nil
	}
	for _, c := range below {
		var longer []string
		for _, p := range paths {
			for _, n := range c.Names() {
				longer = append(longer, p+" "+n)
			}
		}
		flags := c.VisibleFlags()
		if !c.HideHelp && cli.HelpFlag != nil {
			flags = append(flags, cli.HelpFlag)
		}
		tell(w, row, longer, flags, append(slices.Clone(own), outer...), visible(c.Subcommands), anywhere)
	}
}

func visible(list []*cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(list), func(c *cli.Command) bool { return c.Hidden })
}

// plain is a line without the marks around a value's name.
func plain(usage string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(usage, "`", "")), " ")
}

// quoted are words in single quotes as POSIX's shells read them.
func quoted(words []string, between string) string {
	var out []string
	for _, w := range words {
		out = append(out, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(out, between)
}

func typed(words []word, form func(word) string) (list []string) {
	for _, w := range words {
		list = append(list, form(w))
	}
	return list
}

// The scripts walk along what was typed before the cursor: from verb to verb, over flags and their values, as the program will read it.
var shells = map[string]struct {
	row    func(paths []string, verbs, flags []word, valued []string) string
	script string
}{
	"bash": {
		func(paths []string, verbs, flags []word, valued []string) string {
			name := func(w word) string { return w.typed }
			return fmt.Sprintf("    %s) verbs='%s' flags='%s' valued=' %s ' ;;", quoted(paths, "|"), strings.Join(typed(verbs, name), " "), strings.Join(typed(flags, name), " "), strings.Join(valued, " "))
		},
		`# PROGRAM completion for bash. It runs nothing.
FUNCTION_at() {
  case $1 in
TABLE  esac
}
FUNCTION() {
  local at=PROGRAM verbs flags valued words=() word rest=$COMP_LINE value=
  # Bash parts words at = and :, too; those of the line are wanted.
  for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
    if [[ ${#words[@]} -gt 0 && $rest != [[:space:]]* ]]; then words[${#words[@]}-1]+=$word; else words+=("$word"); fi
    rest=${rest#"${rest%%[![:space:]]*}"}
    rest=${rest#"$word"}
  done
  FUNCTION_at "$at"
  COMPREPLY=()
  for word in "${words[@]:1:${#words[@]}-2}"; do
    if [ -n "$value" ]; then value=; continue; fi
    case $word in
      --) return ;;
      -*=*) ;;
      -?*) word=${word#-} word=${word#-}; [[ $valued != *" $word "* ]] || value=1 ;;
      *)
        [[ " $verbs " == *" $word "* ]] || return
        at="$at $word"
        FUNCTION_at "$at" ;;
    esac
  done
  word=${words[${#words[@]}-1]}
  if [[ -n $value || $word == -*=* ]]; then return; fi
  # Where a verb is to stand, no file does.
  [ -z "$verbs" ] || compopt +o default 2>/dev/null
  case $word in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$verbs" -- "$word")) ;;
  esac
}
complete -o default -F FUNCTION PROGRAM
`},
	"zsh": {
		func(paths []string, verbs, flags []word, valued []string) string {
			list := func(words []word) string {
				return quoted(typed(words, func(w word) string { return w.typed + ":" + w.does }), " ")
			}
			return fmt.Sprintf("    %s) verbs=(%s) flags=(%s) valued=(%s) ;;", quoted(paths, "|"), list(verbs), list(flags), quoted(valued, " "))
		},
		`#compdef PROGRAM
# PROGRAM completion for zsh. It runs nothing.
FUNCTION_at() {
  case $1 in
TABLE  esac
}
FUNCTION() {
  local at=PROGRAM word value= i
  local -a verbs flags valued
  FUNCTION_at $at
  for ((i = 2; i < CURRENT; i++)); do
    word=${(Q)words[i]}
    if [[ -n $value ]]; then value=; continue; fi
    case $word in
      --) _files; return ;;
      -*=*) ;;
      -?*) word=${${word#-}#-}; ((${valued[(Ie)$word]})) && value=1 ;;
      *)
        ((${verbs[(I)${(b)word}:*]})) || { _files; return }
        at="$at $word"
        FUNCTION_at $at ;;
    esac
  done
  if [[ -n $value ]]; then _files
  elif [[ $PREFIX == -*=* ]]; then compset -P '*='; _files
  elif [[ $PREFIX == -* ]]; then _describe -o flag flags
  elif (($#verbs)); then _describe verb verbs
  else _files
  fi
}
if [[ $funcstack[1] == _PROGRAM ]]; then FUNCTION "$@"; else compdef FUNCTION PROGRAM; fi
`},
	"fish": {
		func(paths []string, verbs, flags []word, valued []string) string {
			quote := func(s string) string {
				return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
			}
			list := func(name string, words []word) string {
				return strings.Join(append([]string{"            set " + name}, typed(words, func(w word) string { return quote(w.typed) + `\t` + quote(w.does) })...), " ")
			}
			return fmt.Sprintf("        case %s\n%s\n%s\n            set valued %s", quoted(paths, " "), list("verbs", verbs), list("flags", flags), strings.Join(valued, " "))
		},
		`# PROGRAM completion for fish. It runs nothing.
function FUNCTION_at --no-scope-shadowing
    switch $at
TABLE
    end
end
function FUNCTION_files
    set -l given (string match -r -- '^-[^=]*=' (commandline -ct))
    for file in (__fish_complete_path (string replace -r -- '^-[^=]*=' '' (commandline -ct)))
        echo "$given$file"
    end
end
function FUNCTION
    set -l at PROGRAM
    set -l verbs
    set -l flags
    set -l valued
    set -l value
    FUNCTION_at
    set -l words (commandline -opc)
    for word in $words[2..-1]
        if set -q value[1]
            set value
            continue
        end
        switch $word
            case --
                FUNCTION_files
                return
            case '-*=*'
            case '-?*'
                contains -- (string replace -r -- '^--?' '' $word) $valued; and set value 1
            case '*'
                if not contains -- $word (string replace -r -- '\t.*' '' $verbs)
                    FUNCTION_files
                    return
                end
                set at "$at $word"
                FUNCTION_at
        end
    end
    if set -q value[1]; or string match -q -- '-*=*' (commandline -ct)
        FUNCTION_files
    else if string match -q -- '-*' (commandline -ct)
        printf '%s\n' $flags
    else if set -q verbs[1]
        printf '%s\n' $verbs
    else
        FUNCTION_files
    end
end
complete -c PROGRAM -f -a '(FUNCTION)'
`},
}
