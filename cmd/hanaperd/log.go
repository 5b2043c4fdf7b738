package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/issuancelog"
	"github.com/hanaper/hanaper/factory/logbook"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/journal"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name:        "log",
		Usage:       "the issuance log: its key, checks, proofs, archives",
		Subcommands: []*cli.Command{logKeyCommand(), logVerifyCommand(), logProveCommand(), logArchiveCommand(), logRebuildCommand()},
	}
}

// logPolicy is whose checkpoints the configuration believes.
func logPolicy(c *factory.Config) (*logbook.Policy, error) {
	if c.Log == nil {
		return nil, advice.New(advice.Usage, "see `hanaperd config`", "the configuration has no section log")
	}
	if c.Log.Verifier == "" {
		return nil, advice.New(advice.Usage, "'hanaperd log key' makes the key and prints its verifier key", "log.verifier is missing")
	}
	pc := logbook.PolicyConfig{Key: c.Log.Verifier, Cosignatures: c.Log.Cosignatures}
	for _, w := range c.Log.Witnesses {
		pc.Witnesses = append(pc.Witnesses, w.Key)
	}
	return logbook.NewPolicy(pc)
}

// theLog is the issuance log that a configuration names; nil if it names none.
func (p *parts) theLog(ctx context.Context, store record.Store, log *slog.Logger, tell func(said string)) (*issuancelog.Log, error) {
	c := p.config
	if c.Log == nil {
		return nil, nil
	}
	policy, err := logPolicy(c)
	if err != nil {
		return nil, err
	}
	key, err := p.logKey(ctx, tell)
	if err != nil {
		return nil, err
	}
	conf := issuancelog.Config{Folder: c.Log.Folder, Policy: policy, Key: key, Record: issuancelog.Of(store), Log: log}
	for i, w := range policy.Witnesses() {
		conf.Witnesses = append(conf.Witnesses, issuancelog.WitnessConfig{Name: w.Name(), URL: c.Log.Witnesses[i].URL})
	}
	return issuancelog.New(conf)
}

// logKey finds the checkpoint key, in an issuing key's token or in one of its own. A key that issues is refused.
func (p *parts) logKey(ctx context.Context, tell func(said string)) (hsm.Key, error) {
	uri := p.config.Log.URI()
	token, err := p.tokenOf(ctx, uri, tell)
	if err != nil {
		return nil, fmt.Errorf("log.key: %w", err)
	}
	key, err := token.Key(ctx, uri.Query())
	if err != nil {
		return nil, advice.Wrap(advice.KindOf(err), fmt.Errorf("log.key: %w", err), "'hanaperd log key' makes it")
	}
	for _, i := range p.issuers {
		if ca.SameKey(key.Public(), i.chain[0].PublicKey) {
			return nil, advice.New(advice.Refused, "make one with 'hanaperd log key'", "log.key is an issuing key; the log needs a key of its own")
		}
	}
	return key, nil
}

// served is the log as the factory's API shows it.
type served struct{ *issuancelog.Log }

var _ factory.IssuanceLog = served{}

// maxLogFile bounds a file of the log that is handed out, in bytes.
const maxLogFile = 64 << 10

// Latest implements factory.IssuanceLog.
func (s served) Latest(ctx context.Context, held int64) factory.LogAnswer {
	a := s.Log.Latest(ctx, held)
	return factory.LogAnswer{Checkpoint: string(a.Note), Words: a.Words, From: a.From, Consistency: logbook.FormatHashes(a.Proof)}
}

// Read implements factory.IssuanceLog.
func (s served) Read(ctx context.Context, path string) ([]byte, error) {
	if !logbook.ValidPath(path) {
		return nil, fs.ErrNotExist
	}
	return s.Files().Read(ctx, path, maxLogFile)
}

// witnesses are what the log and the checkpoints that callers carry know of the record.
func (s served) witnesses() []factory.Witness {
	return []factory.Witness{{Name: "the issuance log", Sequence: s.Known}, {Name: "a checkpoint of the issuance log that a caller carries", Sequence: s.Carried}}
}

func logKeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "make the key that signs the issuance log's checkpoints, if it is not there, and print its verifier key",
		Description: "The verifier key goes into log.verifier, and to everybody who checks the log. --name names the log for good, as in factory.plant7.example/issuance.\n\n" +
			"Example:\n  hanaperd log key --config hanaperd.yaml --name factory.plant7.example/issuance",
		Flags: []cli.Flag{configFlag,
			&cli.StringFlag{Name: "key", Usage: "checkpoint key `URI`, instead of the configuration's log.key"},
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Required: true, Usage: "the log's `NAME`, without spaces"},
			&cli.StringFlag{Name: "algorithm", Value: string(hsm.Ed25519), Usage: "Ed25519, P-256 or P-384, for a new key; not every verifier knows the latter two"},
		},
		Before: noArgs,
		Action: makeLogKey,
	}
}

func makeLogKey(c *cli.Context) error {
	uri, conf, err := logURI(c)
	if err != nil {
		return err
	}
	if uri.Opaque == "" && uri.Object == "" {
		return advice.New(advice.Usage, "add ;object=NAME", "the key URI names no object")
	}
	switch hsm.Algorithm(c.String("algorithm")) {
	case hsm.Ed25519, hsm.P256, hsm.P384:
	default:
		return advice.New(advice.Usage, "Ed25519 is known to every verifier", "checkpoints are not signed with %.40q", c.String("algorithm"))
	}
	// What is wrong with the name is known before the token is touched.
	if _, err := journal.SignCheckpoint(journal.FormatCheckpoint(c.String("name"), 0, journal.Hash{})); errors.Is(err, journal.ErrCheckpoint) {
		return advice.New(advice.Usage, "use up to 200 printable characters without space and plus, such as factory.plant7.example/issuance", "--name %.220q", c.String("name"))
	}
	token, err := openToken(c.Context, conf, uri, 1, shell.Saying("hanaperd"))
	if err != nil {
		return err
	}
	defer token.Close()
	key, err := token.Key(c.Context, uri.Query())
	if errors.Is(err, hsm.ErrNoKey) {
		key, err = token.Generate(c.Context, hsm.GenerateSpec{Label: uri.Object, ID: uri.ID, Algorithm: hsm.Algorithm(c.String("algorithm")), Class: hsm.Sealed})
	}
	if err != nil {
		return err
	}
	vkey, err := journal.VerifierKey(c.String("name"), key.Public())
	if err != nil {
		return advice.Wrap(advice.Refused, err, "name another object: checkpoints are signed with Ed25519 or ECDSA")
	}
	_, err = fmt.Fprintln(c.App.Writer, show.Text(vkey))
	return err
}

// logURI is the key's URI, and the configuration that says how its token is opened; with --key it may be missing.
func logURI(c *cli.Context) (hsm.URI, *factory.Config, error) {
	if s := c.String("key"); s != "" {
		uri, err := hsm.ParseURI(s)
		conf := factory.DefaultConfig()
		return uri, &conf, err
	}
	conf, err := factory.LoadConfig(c.String("config"))
	if err != nil {
		return hsm.URI{}, nil, err
	}
	if conf.Log == nil {
		return hsm.URI{}, nil, advice.New(advice.Usage, "give --key, or write the section first", "the configuration has no section log")
	}
	return conf.Log.URI(), conf, nil
}
