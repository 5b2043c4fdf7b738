package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/open"
	"github.com/hanaper/hanaper/hsm/piv"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/term"
	"github.com/hanaper/hanaper/quorum"
)

func officerSetupCommand() *cli.Command {
	return &cli.Command{
		Name:  "card-setup",
		Usage: "take a blank PIV card to an enrolled officer: PIN, PUK, a signing and a decryption key made in the card; keeps a log",
		Description: "The keys are made in the slots 9C (signing, which wants the PIN each time) and 9D (decryption), and a certificate is written for each, for OpenSC finds a key by " +
			"its certificate. Then both are used through PKCS#11, and the enrolment is written. What the PIV standard has no command for is told at the end.\n\n" +
			"Example:\n  hanaper officer card-setup --name ada --module /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so --transcript cards.log --out ada.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "the officer's `NAME`", Required: true},
			&cli.StringFlag{Name: "role", Usage: "officer, witness or auditor", Value: string(quorum.RoleOfficer)},
			&cli.StringFlag{Name: "reader", Usage: "the card's `READER`; needed where there are several with a card"},
			&cli.StringFlag{Name: "algorithm", Usage: "of both keys: P-256, P-384 or RSA-2048", Value: string(hsm.P256)},
			&cli.StringFlag{Name: "management-key", Usage: "read the card's management key, in hexadecimal, from `FILE` (mode 0600) instead of asking"},
			&cli.BoolFlag{Name: "replace", Usage: "replace keys and certificates that are in the card; they are lost"},
			&cli.StringFlag{Name: "out", Usage: "write the enrolment to `FILE`", Required: true},
			moduleFlag, transcriptFlag, answersFlag,
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return advice.New(advice.Usage, "see 'hanaper officer card-setup --help'", "card-setup takes no argument")
			}
			return setUpCard(c)
		},
	}
}

// setup is a card that is being set up, with what its holder typed.
type setup struct {
	c                             *cli.Context
	ask                           term.Prompter
	reader                        string
	algorithm                     hsm.Algorithm
	card                          *piv.Card
	pin, newPIN, puk, newPUK, key []byte
	made                          map[piv.Slot]crypto.PublicKey
}

func (s *setup) wipe() {
	for _, b := range [][]byte{s.pin, s.newPIN, s.puk, s.newPUK, s.key} {
		clear(b)
	}
}

func setUpCard(c *cli.Context) error {
	s := &setup{c: c, algorithm: hsm.Algorithm(c.String("algorithm")), made: map[piv.Slot]crypto.PublicKey{}}
	if !slices.Contains(piv.Algorithms(), s.algorithm) {
		return advice.New(advice.Usage, "use P-256, P-384 or RSA-2048", "PIV cards have no keys of %q", s.algorithm)
	}
	if name := c.String("name"); name == "" || len(name) > 32 || strings.TrimSpace(name) != name {
		return advice.New(advice.Usage, "use 1 to 32 bytes; OpenSC makes the token's label of it", "the name %q does not fit on a card", name)
	}
	if err := absent(c.String("out")); err != nil {
		return err
	}
	module, err := moduleOf(c, hsm.URI{})
	if err != nil {
		return err
	}
	ask, _, done, err := prompter(c)
	if err != nil {
		return err
	}
	defer done()
	s.ask = ask
	if s.reader, err = theReader(c.String("reader")); err != nil {
		return err
	}
	defer s.wipe()
	if err := s.perform(); err != nil {
		return err
	}
	return s.enrol(module)
}

// theReader is the reader that is named, or the only one with a card.
func theReader(named string) (string, error) {
	all, err := piv.Readers()
	if err != nil {
		return "", err
	}
	var with []string
	why := ""
	for _, r := range all {
		card, err := piv.Open(r)
		if err == nil {
			card.Close()
			with = append(with, r)
		} else if r == named || errors.Is(err, piv.ErrHeld) {
			return "", err
		} else if !errors.Is(err, piv.ErrNoCard) {
			why += "; " + err.Error()
		}
	}
	switch {
	case named != "" && slices.Contains(with, named):
		return named, nil
	case named != "":
		return "", advice.New(advice.Usage, "name one of them", "no reader %q is connected; readers: %s", named, show.List(all))
	case len(with) == 0:
		return "", advice.New(advice.Failed, "put a PIV card into a reader", "no PIV card is in any reader; readers: %s%s", show.List(all), show.Line(why))
	case len(with) > 1:
		return "", advice.New(advice.Usage, "name it with --reader, or pull the others", "PIV cards are in several readers: %s", show.List(with))
	}
	return with[0], nil
}

// perform changes the card. Until all that its holder typed was found right, as far as that can be known, nothing is changed.
func (s *setup) perform() (err error) {
	if s.card, err = piv.Open(s.reader); err != nil {
		return err
	}
	defer s.card.Close()
	if err := s.look(); err != nil {
		return err
	}
	if err := s.secrets(); err != nil {
		return err
	}
	log, err := openTranscript(s.c.String("transcript"), s.c.String("name"))
	if err != nil {
		return err
	}
	defer log.Close()
	return change(log, changeLeaf{Kind: "card-setup", Reader: s.reader, Officer: s.c.String("name")}, func(done *changeLeaf) error {
		err := s.act()
		done.Keys = map[string]string{}
		for slot, pub := range s.made {
			if id, err := quorum.KeyID(pub); err == nil {
				done.Keys[fmt.Sprintf("%X", byte(slot))] = id
			}
		}
		return err
	})
}

// look says what is in the card, and asks whether to go on.
func (s *setup) look() error {
	var there []string
	for _, slot := range []piv.Slot{piv.Signature, piv.KeyManagement} {
		cert, err := s.card.Certificate(slot)
		switch {
		case err == nil:
			there = append(there, fmt.Sprintf("%X: a certificate of %s", byte(slot), show.Text(cert.Subject.String())))
		case !errors.Is(err, hsm.ErrNoKey):
			there = append(there, fmt.Sprintf("%X: a certificate that cannot be read", byte(slot)))
		}
	}
	if len(there) > 0 && !s.c.Bool("replace") {
		return advice.New(advice.Refused, "enrol its keys with `hanaper officer enroll`, take a blank card, or, if its keys may be lost, add --replace", "the card in reader %s is not blank: %s", show.Text(s.reader), strings.Join(there, "; "))
	}
	tries := "the card does not say how many"
	if n, err := s.card.Tries(); err == nil && n == 0 {
		return advice.New(advice.Refused, "unblock it with the PUK: `hanaper token unblock`, or use another card", "the card in reader %s: %w", show.Text(s.reader), hsm.ErrPINLocked)
	} else if err == nil {
		tries = fmt.Sprint(n)
	}
	w := s.c.App.ErrWriter
	fmt.Fprintf(w, "The card in reader %s. Tries of its PIN left: %s.\n%s\n", show.Text(s.reader), tries,
		term.Wrap("A new card has the PIN, the PUK and the management key of its maker: see its papers. After a card-setup that was broken off, the PUK, or the PUK and the PIN, may be the new ones.", ""))
	for _, t := range there {
		fmt.Fprintln(w, term.Wrap(t, "  "))
	}
	return yes(s.ask, "Keys that are in its slots 9C and 9D now are LOST. Type Yes to go on: ")
}

// secrets asks for what the card has and gets. The PIN and the management key are tried at once, the PIN once.
func (s *setup) secrets() (err error) {
	if file := s.c.String("management-key"); file != "" {
		s.key, err = readManagementKey(s.c, file)
	} else {
		s.key, err = s.askManagementKey()
	}
	if err != nil {
		return err
	}
	if err := s.card.Manage(s.key); err != nil {
		return err
	}
	if s.pin, err = s.ask.Secret("PIN of the card now, which is tried once: "); err != nil {
		return err
	}
	if err := s.card.VerifyPIN(s.pin); err != nil {
		return err
	}
	if s.puk, err = s.ask.Secret("PUK of the card now, which is tried once: "); err != nil {
		return err
	}
	known := func(check func([]byte) error, makers string) func([]byte) error {
		return func(b []byte) error {
			if string(b) == makers {
				return errors.New("that one is the maker's, which everybody knows")
			}
			return check(b)
		}
	}
	if s.newPIN, err = newSecret(s.ask, "New PIN, 6 to 8 digits: ", known(piv.CheckPIN, "123456")); err != nil {
		return err
	}
	s.newPUK, err = newSecret(s.ask, "New PUK, 8 characters, which unblocks the PIN: ", known(piv.CheckPUK, "12345678"))
	return err
}

func (s *setup) askManagementKey() ([]byte, error) {
	text, err := s.ask.Secret("Management key in hexadecimal, or - for the makers' one that everybody knows: ")
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if string(text) == "-" {
		return piv.MakersKey(), nil
	}
	return piv.ParseManagementKey(text)
}

// readManagementKey reads the key from a file that nobody else may read; one line end may follow it.
func readManagementKey(c *cli.Context, file string) ([]byte, error) {
	text, err := pinFile(file)(c.Context, hsm.TokenInfo{Label: "management key"})
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return piv.ParseManagementKey(text)
}

// act makes the card an officer's. The PUK, which was not tried yet, comes first; the certificate of the signing key, by which others see that the card
// is not blank, comes last.
func (s *setup) act() error {
	if err := s.card.ChangePUK(s.puk, s.newPUK); err != nil {
		if declined(err) {
			return err
		}
		return holding(err, "its PIN is as it was; its PUK may be the old one or the new one")
	}
	if err := s.card.ChangePIN(s.pin, s.newPIN); err != nil {
		if declined(err) {
			return holding(err, "its PUK is the new one; its PIN is as it was")
		}
		return holding(err, "its PUK is the new one; its PIN may be the old one or the new one")
	}
	if err := s.fill(); err != nil {
		return holding(err, "its PIN and its PUK are the new ones; run this again with --replace")
	}
	return nil
}

// declined says whether the card answered that it does not take a PIN or PUK, and so changed nothing.
func declined(err error) bool {
	return errors.Is(err, hsm.ErrPIN) || errors.Is(err, hsm.ErrPINLocked) || advice.KindOf(err) == advice.Usage
}

// holding adds to a failure what its holder has to know of the card, for whoever types a PIN that it no longer has loses a try.
func holding(err error, has string) error {
	if hint := advice.Hint(err); hint != "" {
		has = hint + "; " + has
	}
	return advice.New(advice.KindOf(err), has, "%w", err)
}

// fill makes keys and certificates.
func (s *setup) fill() error {
	if _, err := s.card.GUID(); errors.Is(err, hsm.ErrNoKey) {
		var guid [16]byte
		rand.Read(guid[:])
		guid[6], guid[8] = guid[6]&0x0f|0x40, guid[8]&0x3f|0x80 // RFC 9562, version 4
		if err := s.card.PutGUID(guid); err != nil {
			return err
		}
	}
	for _, slot := range []piv.Slot{piv.KeyManagement, piv.Signature} {
		pub, err := s.card.Generate(slot, s.algorithm)
		if err != nil {
			if !piv.Answered(err) {
				return err
			}
			return advice.New(advice.KindOf(err), byHand(s.reader, s.c.String("name"), s.algorithm), "%w", err)
		}
		s.made[slot] = pub
	}
	for _, slot := range []piv.Slot{piv.KeyManagement, piv.Signature} {
		der, err := s.certificate(slot)
		if err != nil {
			return err
		}
		if err := s.card.PutCertificate(slot, der); err != nil {
			return err
		}
	}
	return nil
}

// certificate carries a public key, and nothing that anybody trusts: the enrolment does that. The signing key signs both, since a decryption key
// signs nothing on many cards. It does not end (RFC 5280, section 4.1.2.5), and no clock is read for it.
func (s *setup) certificate(slot piv.Slot) ([]byte, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40
	name := pkix.Name{CommonName: s.c.String("name")}
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), Subject: name, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	if slot == piv.KeyManagement {
		template.KeyUsage = x509.KeyUsageKeyAgreement
		if s.algorithm == hsm.RSA2048 {
			template.KeyUsage = x509.KeyUsageKeyEncipherment
		}
	}
	signing := s.made[piv.Signature]
	return x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: name}, s.made[slot], s.card.Signer(piv.Signature, signing, s.newPIN))
}

// enrol uses both keys as every later command does, through PKCS#11, and writes the enrolment.
func (s *setup) enrol(module string) error {
	const hint = "the card is set up; when this is mended, `hanaper officer enroll` makes the enrolment"
	infos, err := pkcs11.List(module)
	if err != nil {
		return advice.Wrap(advice.Failed, err, hint)
	}
	i := slices.IndexFunc(infos, func(t hsm.TokenInfo) bool { return t.Reader == s.reader })
	if i < 0 {
		return advice.New(advice.Failed, hint, "the PKCS#11 library %s shows no token in reader %s", show.Text(module), show.Text(s.reader))
	}
	uri := infos[i].URI().InLibrary(module)
	token, err := open.Token(s.c.Context, open.Config{URI: uri, PIN: hsm.PINBytes(s.newPIN)})
	if err != nil {
		return advice.Wrap(advice.Failed, err, hint)
	}
	defer token.Close()
	keys := map[piv.Slot]*obtained{}
	for slot, id := range map[piv.Slot]byte{piv.Signature: 2, piv.KeyManagement: 3} {
		key, err := token.Key(s.c.Context, hsm.Query{ID: []byte{id}})
		if err != nil {
			return advice.Wrap(advice.Failed, err, hint)
		}
		if pub, is := s.made[slot].(interface{ Equal(crypto.PublicKey) bool }); !is || !pub.Equal(key.Public()) {
			return advice.New(advice.Refused, "find out which program wrote to the card meanwhile", "%s: the key in %X is not the one that was made a moment ago", infos[i].Name(), byte(slot))
		}
		keys[slot] = &obtained{key: key}
	}
	if err := enrolKeys(s.c, keys[piv.Signature], keys[piv.KeyManagement]); err != nil {
		return advice.Wrap(advice.Failed, err, hint)
	}
	uri.ID = []byte{2}
	sign := uri.String()
	uri.ID = []byte{3}
	w := s.c.App.Writer
	fmt.Fprintf(w, "the card is %s, in reader %s\n  sign with      --officer %q\n  open shares by --custodian %q\n", infos[i].Name(), show.Text(s.reader), sign, uri.String())
	if bytes.Equal(s.key, piv.MakersKey()) {
		fmt.Fprintln(w, "\n"+term.Wrap("STILL TO DO: the card's management key is the makers', which everybody knows: whoever holds the card can replace its keys, though not use them. The PIV standard has no command that changes it; the maker's tool does. For a YubiKey, with this card alone in a reader (it asks for both keys):", ""))
		fmt.Fprintln(w, "  ykman piv access change-management-key")
	}
	return nil
}

// byHand are the commands that do with Yubico's tool what the card did not let us do: they ask for PIN and management key themselves.
func byHand(reader, name string, a hsm.Algorithm) string {
	algorithm := map[hsm.Algorithm]string{hsm.P256: "ECCP256", hsm.P384: "ECCP384", hsm.RSA2048: "RSA2048"}[a]
	var steps []string
	for _, slot := range []string{"9c", "9d"} {
		tool := fmt.Sprintf("yubico-piv-tool --reader=%s --slot=%s ", shellWord(reader), slot)
		steps = append(steps,
			tool+"--key --action=generate --algorithm="+algorithm+" --output="+slot+".pub",
			tool+fmt.Sprintf("--action=verify-pin --action=selfsign-certificate --subject=%s --input=%s.pub --output=%s.pem", shellWord("/CN="+name+"/"), slot, slot),
			tool+"--key --action=import-certificate --input="+slot+".pem")
	}
	return "the maker's tool may make the keys; for a YubiKey: " + strings.Join(steps, "; ") + "; then `hanaper officer enroll`"
}

// shellWord writes a word of a command that people copy: the name of a reader is what the device says of itself, and a shell must not run it.
func shellWord(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
