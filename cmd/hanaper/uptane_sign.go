package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneSignCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "show what a request would have you sign, ask, and sign it with keys in tokens; keeps a transcript",
		Description: "Example:\n  hanaper uptane sign --trusted-root 1.root.json --key \"pkcs11:token=ada;object=targets?module-path=/usr/lib/softhsm/libsofthsm2.so\" --out response-ada.json request.json", ArgsUsage: "REQUEST",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "key", Required: true, Usage: "`URI` of your key (pkcs11:...), or an encrypted key file; may be repeated"},
			outFlag("write the response to `FILE`"),
			&cli.StringFlag{Name: "policy", Usage: "the policy `FILE` to hold the document against (YAML); by default it must only be what devices accept"},
			&cli.StringFlag{Name: "transcript", Usage: "the journal `FILE` to add to, or to begin; by default the response's name with .transcript"},
			uptaneTimeFlag, answersFlag,
		}, trustedRootFlags()...),
		Action: signRequest,
	}
}

func trustedRootFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "trusted-root", Usage: "the root.json `FILE` that you keep and trust"},
		&cli.StringSliceFlag{Name: "root-chain", Usage: "the next root.json `FILE` after the trusted one; repeated in order"},
	}
}

// trustedRoot follows the chain from the root that the caller keeps; nil if none is named.
func trustedRoot(c *cli.Context) (*uptane.Root, error) {
	path := c.String("trusted-root")
	if path == "" {
		return nil, nil
	}
	root, err := readRoot(path)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	for _, file := range c.StringSlice("root-chain") {
		next, err := readRoot(file)
		if err != nil {
			return nil, err
		}
		chain = append(chain, next.Bytes())
	}
	if len(chain) == 0 {
		return root, nil
	}
	// An expired root may still be followed by the one that renews it.
	return uptane.VerifyRootChain(root, chain, time.Time{})
}

func readPolicy(c *cli.Context) (*uptane.Policy, error) {
	path := c.String("policy")
	if path == "" {
		return uptane.DefaultPolicy(), nil
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	return uptane.ParsePolicy(path, data)
}

func signRequest(c *cli.Context) error {
	args, err := shell.Args(c, "REQUEST")
	if err != nil {
		return err
	}
	data, err := readBounded(args[0])
	if err != nil {
		return err
	}
	r, err := uptane.ParseRequest(data)
	if err != nil {
		return err
	}
	now, err := timeNow(c)
	if err != nil {
		return err
	}
	policy, err := readPolicy(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		return advice.New(advice.Refused, "name a file that does not exist", "%s is in the way", out)
	}
	if err := checkRequestRoot(c, r); err != nil {
		return err
	}
	findings, err := policy.Check(r.Document(), now)
	if err != nil {
		return err
	}
	ask, scripted, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	explainRequest(c.App.Writer, r, findings)
	if answer, err := ask.Line("Compare the digest with those who made the request. Type Yes to sign: "); err != nil {
		return err
	} else if answer != "Yes" {
		return advice.New(advice.Refused, "", "not signed: the answer was not Yes")
	}
	keys, closer, err := openOfficer(c.Context, c.StringSlice("key"), ask)
	if err != nil {
		return err
	}
	defer closer()
	leaf := uptaneLeaf{Kind: "uptane-sign-intent", Title: r.Title(), Digest: r.Digest(), Request: short(sha256.Sum256(data)), Scripted: scripted}
	for _, k := range keys {
		id, err := uptane.NewKey(k.Public())
		if err != nil {
			return err
		}
		if _, ok := r.Authority().Key(id.ID()); !ok {
			return advice.New(advice.Refused, "sign with a key that the root or the delegation lists", "%s does not need a signature of key %s", r.Title(), id.ID())
		}
		leaf.Keys = append(leaf.Keys, id.ID())
	}
	for _, f := range findings {
		leaf.Findings = append(leaf.Findings, f.Text)
	}
	transcript := c.String("transcript")
	if transcript == "" {
		transcript = out + ".transcript"
	}
	log, err := openUptaneLog(c, transcript)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.write(leaf); err != nil {
		return err
	}
	leaf.Kind = "uptane-sign"
	response, err := uptane.SignRequest(r, keys...)
	if err == nil {
		leaf.Response = short(sha256.Sum256(response.Bytes()))
	}
	if err := log.outcome(leaf, err); err != nil {
		return err
	}
	if err := createFile(out, response.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed %s with %d key(s); response %s, transcript %s\n", r.Title(), len(keys), out, transcript)
	return nil
}

// checkRequestRoot holds the root that a request brings against the one that the officer keeps.
func checkRequestRoot(c *cli.Context, r *uptane.Request) error {
	if r.Root() == nil {
		return nil // a repository's first root: the digest and the diff are all there is
	}
	if err := uptane.VerifyRoot(r.Root()); err != nil {
		return err
	}
	trusted, err := trustedRoot(c)
	if err != nil {
		return err
	}
	if trusted == nil {
		fmt.Fprintf(c.App.ErrWriter, "warning: no --trusted-root: compare the digest of root version %d with your own, %s\n", r.Root().Version(), short(r.Root().Digest()))
		return nil
	}
	if !bytes.Equal(trusted.Signed(), r.Root().Signed()) {
		return advice.New(advice.Unverified, "ask where the request comes from; or add the roots in between with --root-chain",
			"the request's root, version %d, is not the one that you trust, version %d", r.Root().Version(), trusted.Version())
	}
	return nil
}

// explainRequest writes all that an officer needs to judge.
func explainRequest(w io.Writer, r *uptane.Request, findings []uptane.Finding) {
	d := r.Document().Digest()
	fmt.Fprintf(w, "%s\ndigest %s\n  %s\n\n", r.Title(), r.Digest(), quorum.Words(d[:]))
	fmt.Fprintln(w, strings.TrimRight(r.Diff().String(), "\n"))
	fmt.Fprintln(w)
	for _, s := range r.Authority().Standing(r.Document()) {
		fmt.Fprintf(w, "%s: %d of %d signatures\n", s.Rule, len(s.Signed), s.Threshold)
	}
	for _, f := range findings {
		fmt.Fprintf(w, "warning: %s\n", f.Text)
	}
}
