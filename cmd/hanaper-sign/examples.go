package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// examples are what the help of each command shows, without the program's name; --repo stands wherever a command needs it.
var examples = []string{
	"init --repo myrepo --credentials credentials.zip",
	"key generate --repo myrepo --name mytargets --type ed25519",
	`key link --repo myrepo --name mytargets --uri "pkcs11:token=release;object=mytargets?module-path=/usr/lib/softhsm/libsofthsm2.so"`,
	"user-keys gen --key-name supplier --type ed25519",
	"user-keys id --input supplier.pub",
	"user-keys importpub --repo myrepo --key-name supplier --input supplier.pub",
	"move-offline --repo myrepo --new-root myroot --new-targets mytargets --old-root-alias old-root",
	"root pull --repo myrepo",
	"root push --repo myrepo",
	"root get-unsigned --repo myrepo",
	"root increment-version --repo myrepo",
	"root key add --repo myrepo --key-name myroot2",
	"root key remove --repo myrepo --key-name myroot",
	"root targets-key add --repo myrepo --key-name mytargets2",
	"root targets-key remove --repo myrepo --key-name mytargets",
	"root sign --repo myrepo --key-name myroot --expire-after 1Y",
	"root set-threshold --repo myrepo --threshold 2",
	"targets init --repo myrepo --version 1 --expires 2027-01-01T00:00:00Z",
	"targets add --repo myrepo --name firmware --version 2.1 --length 1048576 --sha256 $(sha256sum firmware.bin | cut -c1-64) --hardwareids imx8-board",
	"targets add-uploaded --repo myrepo --name firmware --version 2.1 --input firmware.bin --hardwareids imx8-board --verifyIntegrity",
	"targets upload --repo myrepo --name firmware --version 2.1 --input firmware.bin",
	"targets verify-uploaded --repo myrepo --name firmware --version 2.1 --input firmware.bin",
	"targets delete --repo myrepo --filename firmware-2.0",
	"targets get-unsigned --repo myrepo",
	"targets increment-version --repo myrepo",
	"targets sign --repo myrepo --key-name mytargets --expire-after 1M",
	"targets pull --repo myrepo",
	"targets push --repo myrepo",
	"targets set-threshold --repo myrepo --threshold 2",
	"targets delegations add --repo myrepo --name supplier --prefix 'supplier-*' --key supplier.pub",
	"targets delegations list --repo myrepo",
	"targets delegations remove --repo myrepo --name supplier",
	"delegations init > supplier.json",
	"delegations sign --key-name supplier --input supplier.json --inplace",
	"delegations renew --input supplier.json --inplace --expire-after 1Y",
	"delegations push --repo myrepo --name supplier --input supplier.json",
	"delegations pull --repo myrepo --name supplier --output supplier.json",
	"delegations add-target --name supplier-app --version 1.0 --length 1048576 --sha256 $(sha256sum app.bin | cut -c1-64) --hardwareids imx8-board --input supplier.json --inplace",
	"export-credentials --repo myrepo --key-name mytargets --output build-machine.zip",
	"import-client-cert --repo myrepo --client-cert client.p12 --server-cert server.p12",
	"sign-json --priv-key supplier.sec --pub-key supplier.pub --input document.json",
	"verify-json --pub-key supplier.pub --input document.json",
	"deploy --fetch-credentials development.zip --push-credentials production.zip --commit $COMMIT --name firmware --key-name mytargets",
}

// withExamples puts the examples into the commands' help.
func withExamples(list []*cli.Command) []*cli.Command {
	for _, text := range examples {
		level, last := list, (*cli.Command)(nil)
		for word := range strings.FieldsSeq(text) {
			next := find(level, word)
			if next == nil {
				break
			}
			last, level = next, next.Subcommands
		}
		if last == nil {
			continue
		}
		if last.Description != "" {
			last.Description += "\n\n"
		}
		last.Description += "Example:\n  hanaper-sign " + text
	}
	return list
}

func find(list []*cli.Command, name string) *cli.Command {
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	return nil
}
