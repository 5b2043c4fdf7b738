package menu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/show"
)

const stickChoices = `   1  Look again
   2  Take out: let go of all of them
   3  Make a stick for this machine's memory (it is ERASED)
   4  Finish what was being written when a stick was cut off
   5  Choose the stick of this machine's memory`

func (m *menu) stickPage(ctx context.Context) error {
	const title = "Sticks"
	for {
		m.sticks.scan(ctx)
		m.search(m.folders())
		answer, err := m.listed(title, "Type a number and Enter%s; Enter alone goes back: ", m.stickLines(), stickChoices)
		if err != nil {
			return err
		}
		do := map[string]func(context.Context) error{"2": m.takeOut, "3": m.makeState, "4": m.finishAll, "5": func(context.Context) error { return m.chooseMemory(title) }}[answer]
		if answer == "" {
			return errBack
		} else if do != nil {
			if err := do(ctx); err != nil && !errors.Is(err, errBack) {
				return err
			}
		}
	}
}

// stickLines tell what is plugged in.
func (m *menu) stickLines() (lines []string) {
	for _, s := range m.sticks.list {
		how := "read-only"
		if s.At == "" {
			how = "NOT mounted: " + show.Line(s.Why)
		}
		if s.Label == StateLabel {
			how += "; what this machine remembers"
			if used := m.sticks.state(); used != nil && used.same(s) {
				how += ", IN USE"
			}
		}
		if s.Unclean {
			how += "; it was CUT OFF once while it was written: verify what is on it, and save that to a new stick"
		}
		if why := m.missed[s.At]; s.At != "" && why != "" {
			how += "; NOT ALL of it was looked at: " + why
		}
		lines = append(lines, fmt.Sprintf("  %-6s %s %s, %s", s.Device, show.Text(s.Kind), strings.TrimPrefix(s.named(), s.Device+" "), how))
	}
	if lines == nil {
		lines = []string{"  None is plugged in."}
	}
	if len(m.sticks.memories()) == 0 {
		lines = append(lines, "", "None has the label "+StateLabel+": that is the stick of what this machine remembers, against which a ceremony that was cut short is held. "+
			"It goes into the bag of the token. Without it: the roster's digest, the transcript's, and M officers.")
	}
	return lines
}

func (m *menu) takeOut(context.Context) error {
	if err := m.sticks.release(); err != nil {
		return err
	}
	m.page("Sticks", "They can be taken out now. Enter looks for them again.")
	return m.wait()
}

// finishAll asks, of each stick that was cut off while it was written, whether that is to be finished.
func (m *menu) finishAll(ctx context.Context) error {
	m.sticks.left = nil
	if !slices.ContainsFunc(m.sticks.list, func(s Stick) bool { return s.Unfinished }) {
		m.page("Sticks", "No stick that is plugged in was cut off while it was written.")
		return m.wait()
	}
	return m.unfinished(ctx)
}

// unfinished asks, of each stick that was cut off while it was written, whether that is to be finished. Who wants it left alone is not asked
// again before page 3.
func (m *menu) unfinished(ctx context.Context) error {
	for i := range m.sticks.list {
		s := &m.sticks.list[i]
		if !s.Unfinished || slices.ContainsFunc(m.sticks.left, s.same) {
			continue
		}
		answer, err := m.asks("A stick was CUT OFF while it was written", "Type finish and Enter; Enter alone leaves it alone: ", "  "+s.named(), "",
			"The power failed, or it was pulled out. What was being written stands in its journal, and not yet in its place. Until that is finished the stick is not mounted, and nothing on it is found.", "",
			"After a power cut in your own ceremony: finish it, for each stick that is named. Nothing is lost by it.",
			"A stick that is evidence, or that nobody here wrote to: leave it alone. Finishing writes to it.")
		if err != nil && !errors.Is(err, errBack) {
			return err
		}
		if answer != "finish" {
			m.sticks.left = append(m.sticks.left, *s)
			continue
		}
		if err := m.sticks.finish(s); err != nil {
			m.sticks.left = append(m.sticks.left, *s)
			return fmt.Errorf("what was being written on %s could not be finished: %w", s, err)
		}
	}
	m.look(ctx)
	return nil
}
