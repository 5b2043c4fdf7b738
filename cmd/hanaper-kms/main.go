// Command hanaper-kms serves keys in stores other than PKCS#11 tokens and TPMs (clouds, YubiKeys, ssh-agent, smallstep's TPM keys,
// key files) to the services, which run it as a child. It is a program of its own because the clouds' libraries are large: they see
// nothing of a service but what it has signed.
package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/kms"
	"github.com/hanaper/hanaper/hsm/pkcs11/apart"
	"github.com/hanaper/hanaper/internal/shell"
)

func main() {
	apart.Serve(func(ctx context.Context, a apart.Asked) (hsm.Token, int, error) {
		t, err := kms.Open(ctx, kms.Config{URI: a.URI, PIN: a.PIN, Sessions: a.Sessions})
		if err != nil {
			return nil, 0, err
		}
		return t, t.Sessions(), nil
	})
	os.Exit(shell.Run(&cli.App{
		Name:     "hanaper-kms",
		Usage:    "serves keys in clouds, cards, agents and files to hanaperd, hanaper-repo and hanaper-sign, which run it themselves",
		Commands: []*cli.Command{checkCommand()},
	}, os.Args))
}
