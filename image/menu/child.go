package menu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// command is a verb with its arguments. None of them is a secret: verbs take none.
func (m *menu) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.Program, args...)
	cmd.Dir = m.Folder
	cmd.Env = append(os.Environ(), m.environment...)
	if s := m.state(); s != "" {
		cmd.Env = append(cmd.Env, "HANAPER_STATE="+s)
	}
	return cmd
}

// spelled is a command as people would type it, on one line.
func spelled(args []string) string {
	var words []string
	for _, a := range args {
		if strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=%,+@") != "" || a == "" {
			a = "'" + strings.ReplaceAll(show.Line(a), "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return "hanaper " + strings.Join(words, " ")
}

// exitWords say what an exit code of hanaper means.
func exitWords(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "Done."
	case !errors.As(err, &exit):
		return "It did not run: " + err.Error()
	}
	words := map[int]string{1: "It failed.", 2: "The call, or a file that it was given, is wrong.", 3: "It was REFUSED, by quorum or policy.", 4: "It does NOT VERIFY."}
	if w := words[exit.ExitCode()]; w != "" {
		return w + fmt.Sprintf(" (exit code %d)", exit.ExitCode())
	}
	return "It ended: " + exit.String()
}

// shows runs a verb that asks nothing, and shows what it says, page by page. After one that did not end well it is errBack: what people
// wanted next hangs on it.
func (m *menu) shows(ctx context.Context, title string, args ...string) error {
	return m.says(ctx, title, nil, args...)
}

// says is shows for a verb that writes to the sticks on which paths lie, while it runs.
func (m *menu) says(ctx context.Context, title string, paths []string, args ...string) error {
	m.page(title, spelled(args), "", "One moment ...")
	back, err := m.sticks.writable(paths...)
	if err != nil {
		return err
	}
	out, err := m.command(ctx, args...).CombinedOutput()
	closed := back()
	shown := m.pages(title, spelled(args)+"\n\n"+string(out)+"\n"+exitWords(err))
	if shown == nil && err != nil {
		shown = errBack
	}
	if closed != nil {
		return closed
	}
	return shown
}

// talks runs a verb that asks people at this terminal. What it writes to is named in paths.
func (m *menu) talks(ctx context.Context, title string, paths []string, args ...string) error {
	body := []string{"This will be run:", "", "  " + spelled(args), ""}
	if m.sticks != nil {
		body = append(body, "Anchor: "+m.memoryWords())
	}
	if m.tokens != "" {
		body = append(body, "Tokens in files: "+m.tokens)
	}
	answer, err := m.asks(title, "Type go and Enter; Enter alone goes back: ", append(body, "Nothing was done so far.")...)
	if err != nil {
		return err
	}
	if answer != "go" {
		return errBack
	}
	back, err := m.sticks.writable(append(paths, m.memoryPaths()...)...)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(m.Out, m.clear)
	cmd := m.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, m.Out, m.Out
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt) // it is the verb's, not the menu's
	err = cmd.Run()
	signal.Stop(caught)
	m.interrupts()
	closed := back()
	_, _ = fmt.Fprintf(m.Out, "\n%s\n%s\n", line, exitWords(err))
	return errors.Join(m.wait(), closed)
}
