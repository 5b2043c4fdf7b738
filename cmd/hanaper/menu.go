package main

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/hanaper/hanaper/ceremony"
	"github.com/hanaper/hanaper/hsm/tpm"
	"github.com/hanaper/hanaper/image/menu"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/quorum"
)

func menuCommand() *cli.Command {
	return &cli.Command{
		Name:  "menu",
		Usage: "a page for officers and auditors at a terminal of 80 columns, from which the other verbs are run",
		Description: "On a machine that was started from the ceremony image it is all that there is: sticks, the time, and the power are on it, too. " +
			"hanaper without arguments, at a terminal, offers what is sensible in the folder where you are.\n\nExample:\n  hanaper menu",
		Flags:  []cli.Flag{machineFlag},
		Before: shell.NoArgs,
		Action: func(c *cli.Context) error {
			config, err := menuConfig(c)
			if err != nil {
				return err
			}
			return leave(menu.Run(c.Context, config))
		},
	}
}

// bare is hanaper without arguments: at a terminal it offers the next step; a program that calls it so is told what is missing.
func bare(c *cli.Context) error {
	if c.Args().Present() || !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return shell.UnknownCommand(c)
	}
	config, err := menuConfig(c)
	if err != nil {
		return err
	}
	config.Machine = ""
	return leave(menu.Next(c.Context, config))
}

func menuConfig(c *cli.Context) (menu.Config, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return menu.Config{}, advice.New(advice.Usage, "run it at a terminal; each of its lines is a verb, too: see 'hanaper --help'", "no terminal to ask at")
	}
	tool, err := thisTool()
	if err != nil {
		return menu.Config{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return menu.Config{}, err
	}
	folder, err := os.Getwd()
	if err != nil {
		return menu.Config{}, err
	}
	return menu.Config{In: os.Stdin, Out: os.Stdout, Terminal: os.Getenv("TERM"), Program: program, Version: shell.Running(), SHA256: tool.SHA256,
		Words: func(d [32]byte) string { return aloud(quorum.Digest(d)) }, Folder: folder, Machine: c.String("machine"),
		Extend: func(ctx context.Context, d [32]byte) error {
			return tpm.Extend(ctx, tpm.DefaultDevice, ceremony.ShellRegister, d)
		}}, nil
}

// leave ends with the exit code that the menu asks for.
func leave(err error) error {
	var exit menu.Exit
	if errors.As(err, &exit) {
		if exit == 0 {
			return nil
		}
		os.Exit(int(exit))
	}
	return err
}
