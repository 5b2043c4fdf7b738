package shell

import (
	"fmt"
	"regexp"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
)

// manCommand prints the manual page, made from the same text as --help.
func manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Usage: "print the manual page (roff)", Hidden: true, HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			page, err := c.App.ToManWithSection(1)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.App.Writer, page)
			return err
		},
	}
}

var plainName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// completionCommand prints a script for bash, zsh or fish.
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
			// The function's name must be a shell identifier.
			fn := "_" + regexp.MustCompile(`-`).ReplaceAllString(name, "_")
			switch args[0] {
			case "bash":
				fmt.Fprintf(c.App.Writer, `%[1]s() {
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null | sed 's/:.*//')" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F %[1]s %[2]s
`, fn, name)
			case "zsh":
				fmt.Fprintf(c.App.Writer, `#compdef %[2]s
%[1]s() {
  local -a found
  found=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 ${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
  _describe 'command' found || _files
}
compdef %[1]s %[2]s
`, fn, name)
			case "fish":
				page, err := c.App.ToFishCompletion()
				if err != nil {
					return err
				}
				fmt.Fprint(c.App.Writer, page)
			default:
				return advice.New(advice.Usage, "one of bash, zsh, fish", "no completion for the shell %q", args[0])
			}
			return nil
		},
	}
}
