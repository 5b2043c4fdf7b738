package menu

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

// Next says what lies in the folder where people are, and offers what one does with it, in the order in which it is sensible. It is what
// hanaper says at a terminal without arguments.
func Next(ctx context.Context, c Config) error {
	m := newMenu(c)
	ctx = context.WithoutCancel(ctx)
	m.interrupts()
	m.clear, m.head = "", nil
	found := m.search([]string{c.Folder})
	_, _ = fmt.Fprintf(c.Out, "hanaper %s, SHA-256\n  %s\n\n", show.Text(c.Version), show.Text(c.SHA256))
	said, items := m.next(found)
	m.page(said, m.missedWords())
	for i, item := range items {
		_, _ = fmt.Fprintf(c.Out, "%4d  %s\n", i+1, item.text)
	}
	answer, err := m.ask("\nType a number and Enter, or Enter alone to leave: ")
	if err != nil || answer == "" {
		return nil
	}
	n := number(answer, len(items))
	if n == 0 {
		_, _ = fmt.Fprintln(c.Out, "There is no such number; see hanaper --help.")
		return nil
	}
	m.clear = newScreen(c.In, c.Out, c.Terminal).clear
	return m.act(ctx, items[n-1])
}

// next says what was found, and what is sensible.
func (m *menu) next(found []Found) (said string, items []item) {
	count := func(k Kind) int { return len(of(found, k)) }
	name := func(k Kind) string {
		paths := of(found, k)
		if len(paths) == 1 {
			return m.relative(paths[0])
		}
		return fmt.Sprintf("%d of them", len(paths))
	}
	add := func(text string, do func(context.Context) error) { items = append(items, item{text: text, do: do}) }
	switch {
	case count(Interrupted) > 0:
		said = "A ceremony was CUT SHORT here: " + name(Interrupted) + ". Touch nothing, take out no token. No error makes a second key."
		add("Go on with it, or abort it", m.resume)
	case count(Script) > 0:
		said = "A script lies here: " + name(Script) + fmt.Sprintf(", and %d approvals.", count(Approval))
		add("Check the script, and rehearse it on throw-away tokens", m.rehearse)
		if count(Approval) == 0 {
			add("How officers approve it", m.help("ceremony", "approve"))
		} else {
			add("Perform it", m.perform)
		}
	case count(Finished) > 0:
		said = "A ceremony that has ended lies here: " + name(Finished) + "."
	case count(Roster) > 0:
		said = "A roster lies here, and no script: " + name(Roster) + "."
		add("How the first script is written (docs/runbooks/officer.md, section 5)", m.help("ceremony", "new"))
	case count(Approval) > 0:
		said = "Approvals lie here, and no script: " + name(Approval) + ". A ceremony needs both, the approvals beside the script."
	case count(Officer) > 0:
		said = "Officers who have enrolled lie here: " + name(Officer) + ", and no roster."
		add("How the roster of officers is made", m.help("roster", "new"))
		add("How one more officer enrols", m.help("officer", "enroll"))
	case count(Key) > 0:
		said = "Officers' keys lie here: " + name(Key) + ", and nothing else."
		add("How an officer enrols with one", m.help("officer", "enroll"))
		add("How an officer approves a script with one", m.help("ceremony", "approve"))
	case count(Values) > 0:
		said = "What a release publishes of its image lies here: " + name(Values) + ". It is for verify --image."
		add("How a ceremony is held to it", m.help("ceremony", "verify"))
	default:
		said = "Nothing of Hanaper's lies in " + show.Text(m.Folder) + "."
		add("Begin: how an officer enrols", m.help("officer", "enroll"))
		add("Look at tokens and cards", m.listTokens)
	}
	if count(Finished) > 0 {
		add("Verify it, as an auditor does", m.verify)
		add("Print its record", m.output)
		if count(Interrupted) == 0 {
			add("How the next ceremony's script is made from it", m.help("ceremony", "new"))
		}
	} else if count(Script) > 0 {
		add("Print it, with boxes for what people write by hand", m.output)
	}
	add("The whole menu", func(ctx context.Context) error {
		err := Run(ctx, m.Config)
		var exit Exit
		if errors.As(err, &exit) {
			return nil
		}
		return err
	})
	return said, items
}

// help shows a verb's help.
func (m *menu) help(verb ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		return m.shows(ctx, "hanaper "+strings.Join(verb, " "), append(verb, "--help")...)
	}
}
