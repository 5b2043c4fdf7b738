package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// uptaneCommand is the offline half of Uptane signing: drafts are edited as files, requests go out to officers, and
// their responses are merged. hanaper-sign is the half that speaks with a server.
func uptaneCommand() *cli.Command {
	return &cli.Command{
		Name: "uptane", Usage: "draft, review, sign and merge Uptane metadata, offline and with several officers",
		Subcommands: []*cli.Command{
			uptaneKeyCommand(), uptaneRootCommand(), uptaneTargetsCommand(), uptaneDelegationCommand(),
			uptaneShowCommand(), uptaneDiffCommand(), uptaneRequestCommand(), uptaneSignCommand(), uptaneMergeCommand(),
			uptaneStatusCommand(), uptaneVerifyCommand(),
		},
	}
}

var (
	repositoryFlag = &cli.StringFlag{Name: "repository", Value: "image", Usage: "`WHICH` repository the metadata belongs to, image or director"}
	uptaneTimeFlag = &cli.StringFlag{Name: "time", Usage: "the `TIME` now (UTC, as 2026-11-21T09:00:00Z), where the machine's clock is not to be trusted"}
)

func repositoryOf(c *cli.Context) (uptane.Repository, error) {
	switch r := uptane.Repository(c.String("repository")); r {
	case uptane.Image, uptane.Director:
		return r, nil
	default:
		return "", advice.New(advice.Usage, "one of image, director", "--repository %q", r)
	}
}

// timeNow is --time, or the machine's clock.
func timeNow(c *cli.Context) (time.Time, error) {
	text := c.String("time")
	if text == "" {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	return uptane.ParseTime(text)
}

// expiryFlags and expiryOf give a new version its date: --expires, or --expire-after from now, or after by default.
func expiryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "expires", Usage: "it expires at `TIME`, in UTC, such as 2027-01-01T00:00:00Z"},
		&cli.StringFlag{Name: "expire-after", Usage: "it expires after a `PERIOD` of years, months and days, such as 1Y3M5D"},
		uptaneTimeFlag,
	}
}

func expiryOf(c *cli.Context, otherwise uptane.Period) (time.Time, error) {
	if c.IsSet("expires") && c.IsSet("expire-after") {
		return time.Time{}, advice.New(advice.Usage, "give one of them", "--expires and --expire-after exclude each other")
	}
	now, err := timeNow(c)
	if err != nil {
		return now, err
	}
	if c.IsSet("expires") {
		return uptane.ParseTime(c.String("expires"))
	}
	if c.IsSet("expire-after") {
		if otherwise, err = uptane.ParsePeriod(c.String("expire-after")); err != nil {
			return now, err
		}
	}
	return otherwise.After(now), nil
}

// readDocument reads root, targets, snapshot or timestamp metadata, signed, or the signed part of a root or targets alone.
func readDocument(repo uptane.Repository, path string) (doc uptane.Document, signed bool, err error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			doc, err = nil, fmt.Errorf("%s: %w", path, err)
		}
	}()
	var probe struct {
		Type   string `json:"_type"`
		Signed *struct {
			Type string `json:"_type"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return nil, false, advice.New(advice.Usage, "", "not Uptane metadata: %w", err)
	}
	if probe.Signed != nil {
		doc, err = uptane.ParseDocument(repo, uptane.Role(strings.ToLower(probe.Signed.Type)), data, uptane.Local())
		return doc, true, err
	}
	switch probe.Type {
	case "Root":
		root, err := uptane.ParseUnsignedRoot(data)
		if err != nil {
			return nil, false, err
		}
		return root, false, nil
	case "Targets":
		t, err := uptane.ParseUnsignedTargets(repo, data)
		if err != nil {
			return nil, false, err
		}
		return t, false, nil
	}
	return nil, false, advice.New(advice.Usage, "", "it is neither signed metadata nor a draft of a root or targets")
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > 64<<20 {
		return nil, advice.New(advice.Usage, "", "%s is longer than 64 MiB", path)
	}
	return readFile(path)
}

func readRoot(path string) (*uptane.Root, error) {
	doc, signed, err := readDocument(uptane.Image, path)
	if err != nil {
		return nil, err
	}
	root, ok := doc.(*uptane.Root)
	if !ok || !signed {
		return nil, advice.New(advice.Usage, "", "%s is not a signed root.json", path)
	}
	return root, nil
}

func readTargets(repo uptane.Repository, path string) (*uptane.Targets, error) {
	doc, _, err := readDocument(repo, path)
	if err != nil {
		return nil, err
	}
	t, ok := doc.(*uptane.Targets)
	if !ok {
		return nil, advice.New(advice.Usage, "", "%s is not a targets.json", path)
	}
	return t, nil
}

// readPublicKey reads a key's public half from a .pub file or a PEM.
func readPublicKey(path string) (uptane.Key, error) {
	data, err := readBounded(path)
	if err != nil {
		return uptane.Key{}, err
	}
	key, err := uptane.ParsePublic(data)
	if err != nil {
		return key, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// newKeys reads keys that are about to be listed somewhere. A key in a token must prove first that it can sign Uptane
// metadata; that is a signature, and so it goes into a transcript.
func newKeys(c *cli.Context, names []string) ([]uptane.Key, error) {
	var out []uptane.Key
	var uris []string
	for _, name := range names {
		if hsm.IsURI(name) {
			uris = append(uris, name)
			continue
		}
		key, err := readPublicKey(name)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	if len(uris) == 0 {
		return out, nil
	}
	if err := keysThere(uris); err != nil {
		return nil, err
	}
	opened, err := openKeyLog(c, c.String("transcript"), uptaneLogOrigin)
	if err != nil {
		return nil, err
	}
	log := uptaneLog{opened}
	defer log.Close()
	ask, _, done, err := prompter(c)
	if err != nil {
		return nil, err
	}
	defer done()
	keys, closer, err := openOfficer(c.Context, uris, ask)
	if err != nil {
		return nil, err
	}
	defer closer()
	for i, k := range keys {
		uri, _ := hsm.ParseURI(uris[i])
		key, err := uptane.NewKey(k.Public())
		if err != nil {
			return nil, err
		}
		leaf := uptaneLeaf{Kind: "uptane-key-check-intent", Keys: []string{key.ID()}, Token: uri.Token}
		if err := log.write(leaf); err != nil {
			return nil, err
		}
		leaf.Kind = "uptane-key-check"
		if err := log.outcome(leaf, uptane.CheckSigner(k)); err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

func addKeys(list []uptane.Key, more []uptane.Key) []uptane.Key {
	for _, k := range more {
		if !slices.ContainsFunc(list, func(have uptane.Key) bool { return have.ID() == k.ID() }) {
			list = append(list, k)
		}
	}
	return list
}
