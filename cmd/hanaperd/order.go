package main

import (
	"context"
	"crypto"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/factory"
	"github.com/hanaper/hanaper/factory/order"
	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

// maxOrderFile bounds an order with its signatures, and a list of ids, in bytes.
const maxOrderFile = 8 << 20

func orderCommand() *cli.Command {
	return &cli.Command{
		Name:  "order",
		Usage: "make, sign and show orders for lots; no service is asked",
		Subcommands: []*cli.Command{{
			Name:  "new",
			Usage: "write an order that nobody has signed yet",
			Description: "An operator who signs it gives --cert; where officers sign, there is none. What --from says counts unless a flag says otherwise; a draft has the keys of docs/spec/order.md.\n\n" +
				"Example:\n  hanaperd order new --lot brakes-48 --quantity 5000 --id-pattern 'vin-[0-9]{6}' --station line-3 --until 2026-12-05T00:00:00Z --cert olga.pem --out order.json\n" +
				"  hanaperd order new --from order.yaml --cert olga.pem --out order.json",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "from", Usage: "draft `FILE`, YAML or JSON, with the keys of docs/spec/order.md", TakesFile: true},
				&cli.StringFlag{Name: "lot", Usage: "the lot's `NAME`"},
				&cli.Int64Flag{Name: "quantity", Usage: "how `MANY` devices; as many as --ids has unless given"},
				&cli.StringFlag{Name: "id-pattern", Usage: "`RE2` that a whole device id must match"},
				&cli.StringFlag{Name: "ids", Usage: "`FILE` with the only ids, one a line", TakesFile: true},
				&cli.StringFlag{Name: "profile", Usage: "`NAME` of a certificate profile of hanaperd's configuration"},
				&cli.StringFlag{Name: "environment", Usage: "`NAME` of the environment that the order is for"},
				&cli.StringSliceFlag{Name: "station", Usage: "a station that may enrol, by `NAME`; may be repeated"},
				&cli.StringSliceFlag{Name: "hardware-id", Usage: "an allowed hardware `ID`; may be repeated"},
				&cli.StringFlag{Name: "begin", Usage: "enrol nobody before this `TIME`, such as 2026-11-27T06:00:00Z"},
				&cli.StringFlag{Name: "until", Usage: "enrol nobody from this `TIME` on"},
				&cli.StringFlag{Name: "replaces", Usage: "`DIGEST` of the order in force, to change an open lot"},
				&cli.StringFlag{Name: "note", Usage: "`WORDS` for people"},
				&cli.StringFlag{Name: "cert", Usage: "certificate `FILE` of the operator who signs", TakesFile: true},
				&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "order `FILE`, which must not exist", TakesFile: true},
			},
			Before: shell.NoArgs,
			Action: orderNew,
		}, {
			Name:  "sign",
			Usage: "sign an order, or add a signature to one that others signed",
			Description: "KEY is a key file (mode 0600, or encrypted: its passphrase is asked for, or read from the file after ?pin-source=), or the URI of a key in a token.\n\n" +
				"Example:\n  hanaperd order sign --key olga.key --out brakes-48.order order.json\n" +
				"  hanaperd order sign --key 'pkcs11:token=ada;object=sign?module-path=/usr/lib/softhsm/libsofthsm2.so' --out by-ada.order order.json\n" +
				"  hanaperd order sign --key bo.key --out brakes-48.order by-ada.order",
			ArgsUsage: "ORDER",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "key", Required: true, Usage: "the signing `KEY`: a file or a URI"},
				&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Required: true, Usage: "`FILE` for the signed order, which must not exist", TakesFile: true},
			},
			Action: orderSign,
		}, {
			Name:        "show",
			Usage:       "show what an order says, and who signed it as far as it says so itself",
			Description: "Whether the signatures count is for hanaperd to say.\n\nExample:\n  hanaperd order show brakes-48.order",
			ArgsUsage:   "ORDER",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print the order itself"}},
			Action:      orderShow,
		}},
	}
}

func orderNew(c *cli.Context) error {
	o := &order.Order{Format: order.Format}
	if path := c.String("from"); path != "" {
		b, err := input.Read(path, maxOrderFile)
		if err != nil {
			return advice.Wrap(advice.Usage, err, "")
		}
		if o, err = order.Read(path, b); err != nil {
			return err
		}
		if o.Format == "" {
			o.Format = order.Format
		}
	}
	for flag, into := range map[string]*string{"lot": &o.Lot, "id-pattern": &o.IDs.Pattern, "profile": &o.Profile, "environment": &o.Environment, "replaces": &o.Replaces, "note": &o.Note} {
		if c.IsSet(flag) {
			*into = c.String(flag)
		}
	}
	for flag, into := range map[string]*[]string{"station": &o.Stations, "hardware-id": &o.HardwareIDs} {
		if c.IsSet(flag) {
			*into = c.StringSlice(flag)
		}
	}
	for flag, into := range map[string]*time.Time{"begin": &o.From, "until": &o.Until} {
		at, err := moment(c, flag)
		if err != nil {
			return err
		}
		if !at.IsZero() {
			*into = at
		}
	}
	if path := c.String("ids"); path != "" {
		b, err := input.Read(path, maxOrderFile)
		if err != nil {
			return advice.Wrap(advice.Usage, err, "")
		}
		o.IDs.List = nil
		for line := range strings.Lines(string(b)) {
			if id := strings.TrimSpace(line); id != "" {
				o.IDs.List = append(o.IDs.List, id)
			}
		}
	}
	if c.IsSet("quantity") {
		o.Quantity = c.Int64("quantity")
	} else if o.Quantity == 0 {
		o.Quantity = int64(len(o.IDs.List))
	}
	if path := c.String("cert"); path != "" {
		certs, err := factory.LoadCertificates(path)
		if err != nil {
			return err
		}
		o.Certificate = ""
		for _, cert := range certs {
			o.Certificate += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
		}
	}
	if o.Issued.IsZero() {
		o.Issued = time.Now().UTC().Truncate(time.Second)
	}
	data, err := o.Encode()
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), data, 0o644); err != nil {
		return err
	}
	shell.Wrote(c, "order", c.String("out"))
	return printOrder(c, o, order.Digest(data), nil)
}

// moment reads a time that a flag gives; zero without.
func moment(c *cli.Context, flag string) (time.Time, error) {
	text := c.String(flag)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, advice.New(advice.Usage, "write it in UTC, as 2026-11-27T06:00:00Z", "--%s is %.40q", flag, text)
	}
	return at.UTC(), nil
}

func orderSign(c *cli.Context) error {
	args, err := shell.Args(c, "ORDER")
	if err != nil {
		return err
	}
	data, err := input.Read(args[0], maxOrderFile)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	key, done, err := signingKey(c.Context, c.String("key"))
	if err != nil {
		return err
	}
	defer done()
	signed, err := order.Sign(data, key)
	if err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), signed, 0o644); err != nil {
		return err
	}
	shell.Wrote(c, "signed order", c.String("out"))
	s, err := order.Unverified(signed)
	if err != nil {
		return err
	}
	return printOrder(c, s.Order, s.Digest, s)
}

// signingKey opens the key that signs an order.
func signingKey(ctx context.Context, text string) (key crypto.Signer, done func(), err error) {
	if hsm.IsURI(text) {
		uri, err := hsm.ParseURI(text)
		if err != nil {
			return nil, nil, err
		}
		if err := open.NamesKey(uri); err != nil {
			return nil, nil, err
		}
		token, err := open.Token(ctx, open.Config{URI: uri.TokenURI(), PIN: hsm.PINFromURI(uri, hsm.PINPrompt(term.TTY().Secret)), Sessions: 1, Tell: shell.Saying("hanaperd"), Stores: open.Stores()})
		if err != nil {
			return nil, nil, err
		}
		k, err := token.Key(ctx, uri.Query())
		if err != nil {
			_ = token.Close()
			return nil, nil, err
		}
		return k, func() { _ = token.Close() }, nil
	}
	path, source, _ := strings.Cut(strings.TrimPrefix(text, "file:"), "?pin-source=")
	if _, err := os.Stat(path); err != nil {
		return nil, nil, advice.Wrap(advice.Usage, err, "name the key of the certificate, or the officer's key")
	}
	b, err := input.Read(path, maxOrderFile)
	if err != nil {
		return nil, nil, advice.Wrap(advice.Usage, err, "")
	}
	defer clear(b)
	if block, _ := pem.Decode(b); block == nil || block.Type != "ENCRYPTED PRIVATE KEY" {
		key, _, err := factory.FileKey(path)
		return key, func() {}, err
	}
	var passphrase []byte
	if source != "" {
		if source, err = filepath.Abs(source); err != nil {
			return nil, nil, err
		}
		passphrase, err = hsm.PINFile(source)(ctx, hsm.TokenInfo{Label: path})
	} else {
		passphrase, err = term.TTY().Secret("Passphrase of " + path + ": ")
	}
	if err != nil {
		return nil, nil, err
	}
	defer clear(passphrase)
	key, err = quorum.OpenKey(b, passphrase)
	return key, func() {}, err
}

func orderShow(c *cli.Context) error {
	args, err := shell.Args(c, "ORDER")
	if err != nil {
		return err
	}
	data, err := input.Read(args[0], maxOrderFile)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	if s, err := order.Unverified(data); err == nil {
		return printOrder(c, s.Order, s.Digest, s)
	}
	o, err := order.Parse(data)
	if err != nil {
		return err
	}
	return printOrder(c, o, order.Digest(data), nil)
}

// printOrder shows an order; signed is nil where nobody signed it.
func printOrder(c *cli.Context, o *order.Order, digest [32]byte, signed *order.Signed) error {
	if c.Bool("json") {
		return shell.JSON(c.App.Writer, o)
	}
	rows := [][]string{{"digest", fmt.Sprintf("%x", digest)}, {"lot", o.Lot}, {"quantity", fmt.Sprint(o.Quantity)}}
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	add("ids", o.IDs.Pattern)
	if n := len(o.IDs.List); n > 0 {
		add("listed ids", fmt.Sprintf("%d, %s to %s", n, o.IDs.List[0], o.IDs.List[n-1]))
	}
	add("profile", o.Profile)
	add("environment", o.Environment)
	add("stations", strings.Join(o.Stations, ", "))
	add("hardware ids", strings.Join(o.HardwareIDs, ", "))
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"from", o.From}, {"until", o.Until}, {"issued", o.Issued}} {
		if !t.at.IsZero() {
			add(t.name, t.at.Format(time.RFC3339))
		}
	}
	add("replaces", o.Replaces)
	add("note", o.Note)
	chain, err := o.Chain()
	if err != nil {
		return err
	}
	who := "nobody yet"
	if signed != nil {
		ids, err := order.KeyIDs(signed.Envelope)
		if err != nil {
			return err
		}
		who = "keys " + strings.Join(slices.Collect(shortened(ids)), ", ")
	}
	if len(chain) > 0 {
		add("operator", chain[0].Subject.CommonName)
	}
	add("signed by", who)
	shell.Table(c.App.Writer, []string{"order", "says"}, rows)
	if signed != nil {
		fmt.Fprintf(c.App.Writer, "%s\n", show.Text("hanaperd verifies the signatures when the lot is opened"))
	}
	return nil
}

// shortened are key ids as people compare them.
func shortened(ids []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, id := range ids {
			if !yield(id[:min(16, len(id))]) {
				return
			}
		}
	}
}
