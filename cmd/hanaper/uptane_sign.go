package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
	"github.com/hanaper/hanaper/uptane"
)

func uptaneSignCommand() *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "show what a request would have you sign, ask, and sign it with keys in tokens; keeps a log",
		Description: "A request is held against the root that you keep, never against what it brings. What verifies under your root is compared and shown as a change, and you type Yes. " +
			"If something does not verify, everything is shown as new, and you type another word.\n\n" +
			"Example:\n  hanaper uptane sign --trusted-root 1.root.json --key \"pkcs11:token=ada;object=targets?module-path=/usr/lib/softhsm/libsofthsm2.so\" --out response-ada.json request.json", ArgsUsage: "REQUEST",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "key", Required: true, Usage: "`URI` of your key (pkcs11:...), or an encrypted key file; may be repeated"},
			outFlag("write the response to `FILE`"),
			&cli.StringFlag{Name: "policy", Usage: "the policy `FILE` to hold the document against (YAML); by default it must only be what devices accept"},
			&cli.StringFlag{Name: "transcript", Usage: "the log `FILE` to add to, or to begin, which nobody signs; by default the response's name with .transcript"},
			repositoryFlag, uptaneTimeFlag, answersFlag,
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
	which, err := repositoryOf(c)
	if err != nil {
		return err
	}
	trusted, err := trustedRoot(c)
	if err != nil {
		return err
	}
	if trusted == nil {
		return advice.New(advice.Usage, "add --trusted-root FILE, the root.json that you keep where nobody else can change it", "no root is trusted, so that nothing can be signed")
	}
	data, err := readBounded(args[0])
	if err != nil {
		return err
	}
	r, err := uptane.ParseRequest(data)
	if err != nil {
		return err
	}
	review, err := uptane.NewReview(r, which, trusted)
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
	if err := nothingThere(out); err != nil {
		return err
	}
	findings, err := policy.Check(r.Document(), now)
	if err != nil {
		return err
	}
	if err := keysThere(c.StringSlice("key")); err != nil {
		return err
	}
	ask, scripted, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	explainRequest(c.App.Writer, review, trusted, findings)
	if err := confirmRequest(ask, review); err != nil {
		return err
	}
	keys, closer, err := openOfficer(c.Context, c.StringSlice("key"), ask)
	if err != nil {
		return err
	}
	defer closer()
	leaf := uptaneLeaf{Kind: "uptane-sign-intent", Title: r.Title(), Digest: r.Digest(), Request: hexDigest(sha256.Sum256(data)), Scripted: scripted,
		Root: hexDigest(trusted.Digest()), Unverified: review.Unverified()}
	for _, k := range keys {
		id, err := uptane.NewKey(k.Public())
		if err != nil {
			return err
		}
		if _, ok := review.Authority().Key(id.ID()); !ok {
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
	opened, err := openKeyLog(c, transcript, uptaneLogOrigin)
	if err != nil {
		return err
	}
	log := uptaneLog{opened}
	defer log.Close()
	if err := log.write(leaf); err != nil {
		return err
	}
	leaf.Kind = "uptane-sign"
	response, err := uptane.SignRequest(review, keys...)
	if err == nil {
		leaf.Response = hexDigest(sha256.Sum256(response.Bytes()))
	}
	if err := log.outcome(leaf, err); err != nil {
		return err
	}
	if err := createFile(out, response.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed %s with %d key(s); response %s; log %s, which nobody signs and which proves nothing\n", r.Title(), len(keys), out, transcript)
	return nil
}

// confirmRequest asks for the word of the review. What nothing vouches for needs another one than what was compared, so
// that a habit does not sign it.
func confirmRequest(ask term.Prompter, review *uptane.Review) error {
	word := review.Word()
	question := fmt.Sprintf("Compare the digest with those who made the request. Type %s to sign: ", word)
	if len(review.Unverified()) > 0 {
		question = fmt.Sprintf("You compare with nothing that is verified. If you know every entry and compared the digest, type %s to sign: ", word)
	}
	answer, err := ask.Line(question)
	if err != nil {
		return err
	}
	if answer != word {
		return advice.New(advice.Refused, "", "not signed: the answer was not %s", word)
	}
	return nil
}

// explainRequest writes all that an officer needs to judge.
func explainRequest(w io.Writer, review *uptane.Review, trusted *uptane.Root, findings []uptane.Finding) {
	r := review.Request()
	d := r.Document().Digest()
	fmt.Fprintf(w, "%s\ndigest %s\n  %s\nheld against your root, version %d\n\n", r.Title(), r.Digest(), quorum.Words(d[:]), trusted.Version())
	fmt.Fprintln(w, review)
	for _, s := range review.Authority().Standing(r.Document()) {
		fmt.Fprintf(w, "%s: %d of %d signatures\n", show.Text(s.Rule), len(s.Signed), s.Threshold)
	}
	for _, f := range findings {
		fmt.Fprintf(w, "warning: %s\n", show.Line(f.Text))
	}
}
