package ceremony

import (
	"fmt"
	"strings"
)

// The questions of a ceremony, in one place: the program asks them and the printed form has them, word for word.
const (
	AskTime      = "Read the time aloud (UTC, as 2026-11-21T09:00:00Z): "
	AskBegin     = "Type Yes to begin: "
	AskPresent   = "Somebody else who is present (empty: nobody else): "
	AskSeal      = "A bag or seal number (empty: no more): "
	AskStop      = "Type next, exception or stop: "
	AskException = "An exception (empty: no more): "
	AskDeviation = "A deviation from the script (empty: no more): "
	AskAgain     = "The same again: "
	AskYes       = "Type Yes: "
)

// The questions about an exception, as the exception form has them.
const (
	AskReportedBy = "Reported by: "
	AskExpected   = "What was expected: "
	AskHappened   = "What happened: "
	AskDecided    = "What was decided and done, and why it is safe to go on: "
	AskRight      = "Is this right? Type Yes, or no to type it again: "
)

// AskPIN is the question for a PIN that no quorum holds; which is "user" or "so".
func AskPIN(token, which, label string) string {
	return fmt.Sprintf("The %s of token %q (label %q): ", map[string]string{"user": "user PIN", "so": "security officer (SO) PIN"}[which], token, label)
}

// asking is a step in which the program asks for something.
type asking interface{ asks(p *Plan) []string }

// asks are the questions of a step, in their order, the one at its end included.
func (p *Plan) asks(st scriptStep) []string {
	var list []string
	if a, ok := st.step.(asking); ok {
		list = a.asks(p)
	}
	list = append(list, AskStop)
	for i, q := range list {
		list[i] = strings.TrimSpace(q)
	}
	return list
}

// heldBefore says whether a quorum holds a PIN of a token when the step with this number begins: by the script's head, or by
// an earlier step.
func (p *Plan) heldBefore(step int, token, purpose string) bool {
	c := p.script.config.Tokens[token]
	if purpose == "user" && c.UserShares != "" || purpose == "so" && c.SOShares != "" {
		return true
	}
	for _, st := range p.script.steps {
		if h, ok := st.step.(*HoldSecret); ok && st.number < step && h.Token == token && h.Purpose == purpose {
			return true
		}
	}
	return false
}

// number of a step in the script.
func (p *Plan) number(step Step) int {
	for _, st := range p.script.steps {
		if st.step == step {
			return st.number
		}
	}
	return 0
}

func (i *InitToken) asks(p *Plan) []string {
	label := p.script.tokens[i.Token].Token
	return []string{AskPIN(i.Token, "so", label), AskAgain, AskPIN(i.Token, "user", label), AskAgain}
}
