package main

import "github.com/urfave/cli/v2"

func commands() []*cli.Command {
	return []*cli.Command{ceremonyCommand(), officerCommand(), rosterCommand(), tokenCommand(), uptaneCommand(), trustCommand(), calendarCommand(), releaseCommand(), menuCommand()}
}
