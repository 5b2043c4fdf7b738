// Command hanaper-sign is the release engineer's and the build machine's tool for Uptane metadata, and a drop-in for
// garage-sign: same commands, flags, files and exit codes, also when it is called by that name. Keys may stay in tokens:
// wherever garage-sign takes the name of a key file, a file that names a key in a token, or the key's URI, will do.
//
// It trusts its local repository (see package uptane/repo) and believes nothing that a server sends before it is
// verified against the root that the repository holds. docs/runbooks/release-engineer.md is its manual.
package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	pkcs11.OnSlow(pkcs11.SlowAfter, shell.Hanging("hanaper-sign", "if it does not come back, press Ctrl-C twice, and call the command again"))
	// Build machines are small, and a command ends soon: memory counts for more than the processor's time.
	debug.SetGCPercent(40)
	os.Exit(run(os.Args))
}

func run(args []string) int {
	// -h is --home-dir here, and several commands have a --version of their own.
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "print commands and options"}
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print the version"}
	app := &cli.App{
		Name:  "hanaper-sign",
		Usage: "sign Uptane metadata; a drop-in for garage-sign",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "home-dir", Aliases: []string{"h"}, Value: "tuf", Usage: "the `DIR` of local repositories and user keys"},
			&cli.BoolFlag{Name: "verbose", Usage: "say more"},
		},
		Commands:                  withExamples(commands()),
		Action:                    cli.ShowAppHelp,
		Metadata:                  map[string]any{shell.FlagsAnywhere: true},
		DisableSliceFlagSeparator: true,
	}
	if name := filepath.Base(args[0]); strings.HasPrefix(name, "garage-sign") {
		app.Name = "garage-sign"
	}
	arranged, err := arrange(app, args)
	if err != nil {
		// Nothing runs, but the error is told in the one way.
		app.Before = func(*cli.Context) error { return err }
		arranged = args[:1]
	}
	defer forgetPINs()
	return shell.RunCodes(app, arranged, exitCode)
}

func commands() []*cli.Command {
	return []*cli.Command{
		initCommand(), keyCommand(), userKeysCommand(), moveOfflineCommand(), rootCommand(), targetsCommand(), delegationsCommand(),
		exportCommand(), importCertCommand(), signJSONCommand(), verifyJSONCommand(), deployCommand(), getTargetsCommand(), verifyRootCommand(),
	}
}
