package main

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/repo"
)

func repoFlag() cli.Flag {
	return &cli.StringFlag{Name: "repo", Aliases: []string{"r"}, Required: true, Usage: "the local repository's `NAME`, a folder in the home directory; init makes it"}
}

func keyNamesFlag(required bool) cli.Flag {
	return &cli.StringSliceFlag{Name: "key-name", Aliases: []string{"k"}, Required: required,
		Usage: "base `NAME` of the key's files (NAME.pub, NAME.sec), or the URI of a key in a token; may be repeated"}
}

func keyTypeFlag() cli.Flag {
	return &cli.StringFlag{Name: "type", Aliases: []string{"t"}, Value: "rsa", Usage: "`TYPE` of the key, ed25519 or rsa"}
}

func keySizeFlag() cli.Flag {
	return &cli.IntFlag{Name: "keysize", Usage: "`BITS` of an RSA key: 2048, 3072 or 4096"}
}

func inputFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "input", Aliases: []string{"i"}, Required: true, Usage: usage}
}

func inPlaceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "inplace", Aliases: []string{"e"}, Usage: "change the input file instead of printing"}
}

func expiryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "expires", Usage: "the metadata expires at `TIME`, in UTC, such as 2027-01-01T00:01:00Z"},
		&cli.StringFlag{Name: "expire-after", Usage: "the metadata expires after a `PERIOD` of years, months and days, such as 1Y3M5D"},
		&cli.BoolFlag{Name: "force", Usage: "skip sanity checks: lets the expiry lie in the past"},
	}
}

func targetFlags(withLength bool) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` of the target"},
		&cli.StringFlag{Name: "version", Required: true, Usage: "`VERSION` of the target"},
		&cli.StringFlag{Name: "hardwareids", Required: true, Usage: "`LIST` of hardware ids that the target is for, separated by commas"},
		&cli.StringFlag{Name: "customMeta", Usage: "`JSON` object to add to the target's custom metadata"},
	}
	if withLength {
		flags = append(flags,
			&cli.StringFlag{Name: "length", Required: true, Usage: "length in `BYTES`, 0 for OSTree"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT`, ostree or binary; binary by default"},
			&cli.StringFlag{Name: "sha256", Required: true, Usage: "`HASH` of the binary, or of the OSTree commit"},
			&cli.StringFlag{Name: "url", Usage: "`URL` that devices download from, if not from the server"})
	}
	return flags
}

// instant reads a UTC time as garage-sign does; fractions of a second, which devices refuse, are an error.
func instant(c *cli.Context, flag string) (*time.Time, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	t, err := uptane.ParseTime(c.String(flag))
	if err != nil {
		return nil, asUsage(err)
	}
	return &t, nil
}

func period(c *cli.Context, flag string) (*uptane.Period, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	p, err := uptane.ParsePeriod(c.String(flag))
	if err != nil {
		return nil, asUsage(err)
	}
	return &p, nil
}

// expiry reads --expires and --expire-after, of which at most one may be given.
func expiry(c *cli.Context) (o repo.SignOptions, err error) {
	if c.IsSet("expires") && c.IsSet("expire-after") {
		return o, usagef("the expiration date should be given with either --expires or --expire-after, not both")
	}
	if o.Expires, err = instant(c, "expires"); err != nil {
		return o, err
	}
	o.ExpireAfter, err = period(c, "expire-after")
	return o, err
}

func keyType(c *cli.Context) (uptane.KeyType, error) {
	switch s := strings.ToLower(c.String("type")); s {
	case "ed25519":
		return uptane.Ed25519, nil
	case "rsa":
		return uptane.RSA, nil
	default:
		return "", usagef("invalid key type %q; valid are ed25519 and rsa", s)
	}
}

// signatures reads name=base64, several separated by commas.
func signatures(c *cli.Context) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, list := range c.StringSlice("signatures") {
		for part := range strings.SplitSeq(list, ",") {
			name, text, ok := strings.Cut(part, "=")
			sig, err := base64.StdEncoding.DecodeString(text)
			if !ok || err != nil || len(sig) == 0 {
				return nil, usagef("--signatures wants NAME=BASE64, separated by commas")
			}
			if _, twice := out[name]; twice {
				return nil, usagef("--signatures holds two signatures of %q", name)
			}
			out[name] = sig
		}
	}
	return out, nil
}

func version(c *cli.Context) (*int, error) {
	if !c.IsSet("version") {
		return nil, nil
	}
	n, err := strconv.Atoi(c.String("version"))
	if err != nil || n < 1 || n > uptane.MaxVersion {
		return nil, usagef("version %q is not a number from 1 to %d", c.String("version"), uptane.MaxVersion)
	}
	return &n, nil
}

// list splits a value at commas.
func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
