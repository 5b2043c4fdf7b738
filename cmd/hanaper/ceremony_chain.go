package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

// verifyChain verifies the folders that are named as one chain.
func verifyChain(c *cli.Context) error {
	if c.String("earlier") != "" {
		return advice.New(advice.Usage, "give that digest with --since", "--earlier is for a single folder, not for a chain")
	}
	var a ceremony.ChainAnchors
	for name, d := range map[string]**[32]byte{"roster": &a.Roster, "checkpoint": &a.Checkpoint, "since": &a.Since} {
		var err error
		if *d, err = digestFlag(c, name); err != nil {
			return err
		}
	}
	folders, leftOut, err := chainFolders(c)
	if err != nil {
		return err
	}
	r, err := ceremony.VerifyChain(c.Context, folders, a)
	if r == nil {
		return err
	}
	for _, name := range leftOut {
		r.Notes = append(r.Notes, name+" is of a rehearsal and was left out")
	}
	if c.Bool("json") {
		return errors.Join(shell.JSON(c.App.Writer, r), err)
	}
	tellChain(c.App.Writer, r)
	if err != nil {
		return err
	}
	held := "of the roster given"
	if a.Roster == nil {
		held = "of the checkpoint given"
	}
	fmt.Fprintf(c.App.Writer, "\nverified: %d ceremonies are one chain, %s\n", len(r.Ceremonies), held)
	if a.Checkpoint == nil {
		fmt.Fprintln(c.App.Writer, "That none was held after the last one, no folder can show: compare its checkpoint with the officers' paper, or give it with --checkpoint.")
	}
	return nil
}

// chainFolders are those named, and those that lie in one that is named; a rehearsal that lies there is left out.
func chainFolders(c *cli.Context) (folders []ceremony.ChainFolder, leftOut []string, err error) {
	if !c.Args().Present() {
		return nil, nil, advice.New(advice.Usage, "see 'hanaper ceremony verify --help'", "no folder given")
	}
	for _, dir := range c.Args().Slice() {
		if strings.HasPrefix(dir, "-") {
			return nil, nil, advice.New(advice.Usage, "see 'hanaper ceremony verify --help'", "flags stand before DIR: %q", dir)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, nil, advice.Wrap(advice.Usage, err, "name the folder of a ceremony, or one that holds such folders")
		}
		if is, _ := ceremony.IsChainFolder(input.Dir(dir)); is {
			folders = append(folders, ceremony.ChainFolder{Name: dir, Folder: input.Dir(dir)})
			continue
		}
		found := len(folders) + len(leftOut)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if st, err := os.Stat(name); err != nil || !st.IsDir() {
				continue
			}
			switch is, rehearsal := ceremony.IsChainFolder(input.Dir(name)); {
			case rehearsal:
				leftOut = append(leftOut, name)
			case is:
				folders = append(folders, ceremony.ChainFolder{Name: name, Folder: input.Dir(name)})
			}
		}
		if len(folders)+len(leftOut) == found {
			return nil, nil, advice.New(advice.Usage, "name the folder of a ceremony, or one that holds such folders", "%s: neither is nor holds the folder of a ceremony", dir)
		}
	}
	return folders, leftOut, nil
}

// tellChain prints what a verified chain says.
func tellChain(w io.Writer, r *ceremony.ChainReport) {
	unvouched(w, r.Authenticated, true) // the table says of each whether it is attested
	fmt.Fprintf(w, "environment %s\n\n", show.Text(r.Environment))
	var rows [][]string
	for i, l := range r.Ceremonies {
		how := "finished"
		switch {
		case l.Aborted:
			how = "ABORTED"
		case !l.Attested:
			how = "NOT ATTESTED"
		}
		if !l.New {
			how += ", verified before"
		}
		roster := "as before"
		switch {
		case i == 0:
			roster = fmt.Sprintf("%.16s", l.Roster)
		case len(l.RosterBy) > 0:
			roster = fmt.Sprintf("%.16s, approved by %s", l.Roster, strings.Join(l.RosterBy, ", "))
		}
		folder := strings.Join(l.Folders, ", ")
		if folder == "" {
			folder = "copy in a later one"
		}
		rows = append(rows, []string{l.Ceremony, l.Ended, how, roster, strings.Join(l.Signers, ", "), folder})
	}
	shell.Table(w, []string{"ceremony", "ended (UTC)", "how", "roster", "signed by", "folder"}, rows)
	rows = nil
	for _, s := range r.Numbers {
		var used []string
		for _, n := range s.Numbers {
			text := n.Number + " (" + n.Ceremony + ")"
			if n.Withdrawn {
				text = n.Number + " (" + n.Ceremony + ", never released)"
			}
			used = append(used, text)
		}
		rows = append(rows, []string{s.What, strings.Join(used, ", ")})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		shell.Table(w, []string{"numbers of", "used"}, rows)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote: %s\n", show.Line(n))
	}
	last := r.Ceremonies[len(r.Ceremonies)-1]
	fmt.Fprintf(w, "\nfirst checkpoint %s\nlast checkpoint  %s\n", show.Text(r.Ceremonies[0].Checkpoint), show.Text(last.Checkpoint))
}
