package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func argsApp() *cli.App {
	return &cli.App{Flags: []cli.Flag{&cli.StringFlag{Name: "home-dir", Aliases: []string{"h"}}, &cli.BoolFlag{Name: "verbose"}}, Commands: commands()}
}

func TestArrange(t *testing.T) {
	for in, want := range map[string]string{
		"p":                                             "p",
		"p --version":                                   "p --version",
		"p root --repo x pull":                          "p root --repo=x pull",
		"p root pull --repo x":                          "p root --repo=x pull",
		"p root pull -r x -h y --verbose":               "p --home-dir=y --verbose root --repo=x pull",
		"p --repo":                                      "!unknown option --repo",
		"p root pull --repo=a=b":                        "p root --repo=a=b pull",
		"p root pull --repo:a:b":                        "p root --repo=a:b pull",
		"p root pull --repo -x":                         "p root --repo=-x pull",
		"p root pull --repo":                            "!missing value after --repo",
		"p root pull":                                   "!missing option --repo",
		"p root --repo x":                               "!a command is missing",
		"p root pull extra --repo x":                    "!unknown argument",
		"p root pull --repo x --repo y":                 "!more than once",
		"p root pull --repo x --secret=hush":            "!unknown option --secret",
		"p root pull --repo x --force=1":                "!takes no value",
		"p root pull ---repo x":                         "!unknown option",
		"p root pull --r x":                             "!unknown option",
		"p root pull -repo x":                           "!unknown option",
		"p root pull --help":                            "p root pull --help",
		"p --help":                                      "p --help",
		"p targets sign -r x -k a -k b":                 "p targets --repo=x sign --key-name=a --key-name=b",
		"p targets sign -r x --version 3":               "p targets --repo=x sign --version=3",
		"p root sign -r x --version":                    "p --version",
		"p deploy -h a -f b -p c --commit d":            "p deploy --hardwareids=a --fetch-credentials=b --push-credentials=c --commit=d",
		"p user-keys gen -k a -p dir":                   "p user-keys --keys-path=dir gen --key-name=a",
		"p targets delegations add -r x -n a -p b -k c": "p targets --repo=x delegations add --name=a --prefix=b --key=c",
	} {
		got, err := arrange(argsApp(), strings.Fields(in))
		if text, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), text) || exitCode(err) != 255 || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s: %v, %v; want %q", in, got, err, text)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzArrange(f *testing.F) {
	for _, s := range []string{"root pull --repo x", "targets sign -r:x --key-name=a -k b --expire-after 1Y", "--home-dir=x init -c z --repo r", "--help", "-", "--", "-=", "--=", "root --repo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := append([]string{"p"}, strings.Fields(line)...)
		once, err := arrange(argsApp(), args)
		if err != nil {
			return
		}
		twice, err := arrange(argsApp(), once)
		if err != nil || !slices.Equal(once, twice) {
			t.Errorf("%q becomes %q, and that %q, %v", args, once, twice, err)
		}
	})
}
