package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory/station"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
)

func boardsCommand() *cli.Command {
	return &cli.Command{
		Name:  "boards",
		Usage: "enrol all boards of a list; run again, it goes on with those that are not enrolled",
		Description: "The list is a CSV file whose first row names the columns (device_id, and any of hardware_id, lot, token, import), or a folder with one folder a board. In token and import {id} stands for the device's id. " +
			"Each board's end is kept beside the list as soon as it is known, and a summary of all of them, with reasons, at the end of the run. Exit code 0: all are enrolled; 3: some were refused; 1: some failed, or were not begun.\n\n" +
			"Example:\n  hanaper-station boards --config station.yaml --boards monday.csv --import \"devices/{id}\" --concurrent 4",
		Flags: append(listFlags(),
			&cli.StringFlag{Name: "ends", Usage: "the `FILE` of the boards' ends; beside the list where it is not named", TakesFile: true},
			&cli.StringFlag{Name: "summary", Usage: "the summary, a CSV `FILE`; beside the list where it is not named", TakesFile: true},
			&cli.IntFlag{Name: "concurrent", Value: 4, Usage: "how many boards are at work at once, a `NUMBER` from 1 to 64"},
			&cli.BoolFlag{Name: "dry-run", Usage: "check the configuration and every row, and stop there"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"}),
		Before: shell.NoArgs,
		Action: boards,
	}
}

// listFlags are those of verbs about a list of boards.
func listFlags() []cli.Flag {
	return []cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "boards", Aliases: []string{"b"}, Required: true, Usage: "the `LIST`: a CSV file, or a folder with one folder a board", TakesFile: true},
		&cli.StringFlag{Name: "hardware-id", Usage: "the ECU's hardware `ID`, where the list has none"},
		&cli.StringFlag{Name: "lot", Usage: "production `LOT`, where the list has none"},
		&cli.StringFlag{Name: "token", Usage: "the devices' token, a pkcs11: or tpm: `URI` with {id} in it, where the list has none"},
		&cli.StringFlag{Name: "import", Usage: "import `FOLDER` with {id} in it, where the list has none", TakesFile: true},
	}
}

// listed reads configuration and list.
func listed(c *cli.Context) (*station.Config, []station.Board, error) {
	conf, err := loadConfig(c)
	if err != nil {
		return nil, nil, err
	}
	boards, err := station.ReadBoards(filepath.Clean(c.String("boards")))
	return conf, boards, err
}

func boards(c *cli.Context) error {
	conf, all, err := listed(c)
	if err != nil {
		return err
	}
	path := filepath.Clean(c.String("boards"))
	list := station.LineConfig{Boards: all, Ends: path + ".ends", Summary: path + ".summary.csv", Concurrent: c.Int("concurrent")}
	if c.IsSet("ends") {
		list.Ends = c.String("ends")
	}
	if c.IsSet("summary") {
		list.Summary = c.String("summary")
	}
	progress := term.Stderr()
	begun := time.Now()
	list.Progress = func(t station.Tally) { progress.Step("%s", tallied(t, time.Since(begun))) }
	line, err := station.NewLine(conf, list, station.With{OpenToken: openToken, Tokens: pkcs11.List, Done: progress.Done})
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		_, err := fmt.Fprintf(c.App.Writer, "%d boards: every row can be enrolled as far as this station can tell; nothing was made or sent\n", len(list.Boards))
		return err
	}
	t, err := line.Run(c.Context)
	progress.Clear()
	if err != nil {
		return err
	}
	return tell(c, t)
}

// tell prints what came of a run of many boards, and gives the error that it ends with.
func tell(c *cli.Context, t *station.Tally) (err error) {
	if c.Bool("json") {
		err = shell.JSON(c.App.Writer, t)
	} else {
		_, err = fmt.Fprintf(c.App.Writer, "%d boards: %d enrolled now, %d before, %d refused, %d failed, %d not begun; %.0f s; summary %s\n",
			t.Boards, t.Enrolled, t.Before, t.Refused, t.Failed, t.NotBegun, t.Seconds, show.Text(t.Summary))
	}
	if err != nil {
		return err
	}
	return t.Err()
}

// tallied is one line of progress.
func tallied(t station.Tally, took time.Duration) string {
	done := t.Boards - t.NotBegun
	line := fmt.Sprintf("%d of %d: %d enrolled, %d refused, %d failed", done, t.Boards, t.Enrolled+t.Before, t.Refused, t.Failed)
	if worked := t.Enrolled + t.Refused + t.Failed; worked > 0 && took > 0 {
		rate := float64(worked) / took.Minutes()
		line += fmt.Sprintf(", %.0f a minute, about %s left", rate, (time.Duration(float64(t.NotBegun)/rate*60) * time.Second).Round(time.Second))
	}
	return line
}
