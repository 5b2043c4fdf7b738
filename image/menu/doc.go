// Package menu is what officers and auditors see of hanaper when they name no verb: a page that fills the screen of a plain terminal
// of 80 columns and 24 lines, and, on a machine that was started from the ceremony image, the sticks, the clock and the power.
//
// It knows nothing of ceremonies. It looks at which files there are, asks which of them are meant, and runs hanaper's own verbs as
// child processes, whose arguments it shows first. A PIN is asked for by the child, at the terminal, and never passes through here.
//
// An attacker who made a stick chooses names of files, labels, and what is in the files. Names and labels are shown by internal/show; what
// the files say is judged by the verbs alone. A file that looks like a script, and is none, costs an entry in a list. Sticks are
// mounted so that nothing on them runs, is a device, or gives rights, and read-only unless a verb is about to write.
package menu
