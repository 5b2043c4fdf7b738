package pkcs11_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/hsm/pkcs11/shimtest"
)

// capabilities are the rows, in the order of the page.
var capabilities = rows()

func rows() []capability {
	all := []capability{
		{"The token", "found by its label, and opened once logged in", (*trial).found},
		{"The token", "a wrong PIN", (*trial).wrongPIN},
		{"The token", "a blank one is initialised (`hanaper token init`)", (*trial).initialise},
	}
	for _, a := range hsm.Algorithms() {
		all = append(all, capability{"Keys that Hanaper generates", "generate " + string(a), func(x *trial) (string, error) { return x.generate(a) }})
	}
	all = append(all,
		capability{"Keys that Hanaper generates", "an officer's key for agreement, P-256", func(x *trial) (string, error) { return x.officer(hsm.P256, hsm.Agreement) }},
		capability{"Keys that Hanaper generates", "an officer's key for decryption, RSA-2048", func(x *trial) (string, error) { return x.officer(hsm.RSA2048, hsm.Decryption) }},
		capability{"Keys that Hanaper generates", "backed up and restored, P-256", func(x *trial) (string, error) { return x.backup(hsm.P256) }},
		capability{"Keys that Hanaper generates", "backed up and restored, RSA-2048", func(x *trial) (string, error) { return x.backup(hsm.RSA2048) }})
	for _, a := range hsm.Algorithms() {
		for _, scheme := range schemes(a) {
			all = append(all, capability{"Signatures, with keys that any program made", strings.TrimSpace(string(a) + " " + scheme.name), func(x *trial) (string, error) { return x.sign(a, scheme.modes) }})
		}
	}
	return append(all,
		capability{"Signatures, with keys that any program made", "all keys in turn, in one program", (*trial).inTurn},
		capability{"What the token says of a key, and does", "the attributes of a sealed key read back", (*trial).readBack},
		capability{"What the token says of a key, and does", "refuses to give out its value", (*trial).probeValue},
		capability{"What the token says of a key, and does", "refuses to wrap it", (*trial).probeWrap},
		capability{"What the token says of a key, and does", "two keys of one id are told apart by their labels", (*trial).oneID},
		capability{"What the token says of a key, and does", "a certificate is stored and read", (*trial).certificate},
		capability{"What the token says of a key, and does", "a key is destroyed, and known to be gone", (*trial).destroy},
		capability{"Trouble", "the token takes one session only", (*trial).oneSession},
		capability{"Trouble", "it goes away and comes back", (*trial).outage},
		capability{"Trouble", "it hangs for a while", (*trial).hang},
	)
}

// scheme is a way of signing with its variants, all of which must work.
type scheme struct {
	name  string
	modes []mode
}

func schemes(a hsm.Algorithm) []scheme {
	all := modes(a)
	if !strings.HasPrefix(string(a), "RSA") {
		return []scheme{{"", all}}
	}
	return []scheme{{"PKCS #1", all[:3]}, {"PSS", all[3:]}}
}

// found: the token is found by its label alone, by label and serial, and another label is refused with what is there.
func (x *trial) found() (string, error) {
	c := x.p.Config()
	info := x.token.Info()
	c.URI.Token, c.URI.Serial = "no such label", ""
	_, err := pkcs11.Open(x.Context(), c)
	if !errors.Is(err, hsm.ErrNoToken) || !strings.Contains(err.Error(), info.Label) {
		x.Errorf("another label: %v", err)
	}
	c.URI.Token, c.URI.Serial = info.Label, info.Serial
	token, err := pkcs11.Open(x.Context(), c)
	if err != nil {
		return "", err
	}
	return "", token.Close()
}

// wrongPIN: it is refused, and the message says what the token says of the tries that are left. The right one works afterwards.
func (x *trial) wrongPIN() (string, error) {
	x.close()
	c := x.p.Config()
	wrong := bytes.Clone(x.p.PIN)
	wrong[0] ^= 1
	c.PIN = hsm.PINBytes(wrong)
	_, refused := pkcs11.Open(x.Context(), c)
	if !errors.Is(refused, hsm.ErrPIN) || strings.Contains(refused.Error(), string(wrong)) {
		x.Errorf("a wrong PIN: %v", refused)
	}
	x.open()
	if refused == nil {
		return "", errors.New("the token takes a wrong PIN")
	}
	return printed(refused), nil
}

// initialise makes a second token, where the module has room for one.
func (x *trial) initialise() (string, error) {
	x.close()
	defer x.open()
	so := x.p.SOPIN
	if so == nil {
		so = []byte("so-pin-1")
	}
	made, err := pkcs11.Init(x.Context(), x.p.Token.Library(), "", "second "+x.p.Name, so, x.p.PIN)
	if err != nil {
		return "", err
	}
	c := x.p.Config()
	c.URI = made.URI().InLibrary(x.p.Token.Library())
	token, err := pkcs11.Open(x.Context(), c)
	if err != nil {
		return "", err
	}
	return "", token.Close()
}

// generate makes a key as a ceremony does: of class sealed, read back and probed. Nothing may be left of one that is refused.
func (x *trial) generate(a hsm.Algorithm) (string, error) {
	before := pkcs11.CountObjects(x.token)
	label := "made-" + string(a)
	k, err := x.token.Generate(x.Context(), hsm.GenerateSpec{Label: label, Algorithm: a})
	if err != nil {
		if n := pkcs11.CountObjects(x.token); n != before {
			x.Errorf("%s: refused, and %d objects are left, before %d", a, n, before)
		}
		return "", err
	}
	if at := k.Attributes(); at.Algorithm != a || at.Label != label || at.CheckFresh(hsm.Sealed) != nil {
		x.Errorf("%+v", at)
	}
	x.made[a] = label
	return "", nil
}

// officer makes an officer's decryption key, and uses it.
func (x *trial) officer(a hsm.Algorithm, use hsm.Use) (string, error) {
	before := pkcs11.CountObjects(x.token)
	spec := hsm.GenerateSpec{Label: "officer-" + string(a), Algorithm: a, Use: use}
	made, err := x.token.Generate(x.Context(), spec)
	if err != nil {
		if n := pkcs11.CountObjects(x.token); n != before {
			x.Errorf("%s: refused, and %d objects are left, before %d", a, n, before)
		}
		return "", err
	}
	defer x.destroyed(spec.Label)
	k := made.(*pkcs11.Key)
	if use == hsm.Decryption {
		hash, err := k.OAEPHash(x.Context())
		if err != nil {
			return "", err
		}
		sealed, err := rsa.EncryptOAEP(hash.New(), rand.Reader, k.Public().(*rsa.PublicKey), []byte("share"), nil)
		if err != nil {
			x.Fatal(err)
		}
		d, err := k.Decrypter()
		if err != nil {
			return "", err
		}
		if got, err := d.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: hash}); err != nil || string(got) != "share" {
			return "", fmt.Errorf("decrypted %q: %w", got, err)
		}
		return "OAEP with " + hash.String(), nil
	}
	e, err := k.KeyExchanger()
	if err != nil {
		return "", err
	}
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		x.Fatal(err)
	}
	want, err := other.ECDH(e.PublicKey())
	if err != nil {
		x.Fatal(err)
	}
	got, err := e.ECDH(other.PublicKey())
	if err == nil && !bytes.Equal(got, want) {
		x.Error("another secret")
	}
	return "", err
}

// fresh opens the token anew where a peer must be tidied between two uses.
func (x *trial) fresh() {
	x.Helper()
	if x.p.Tidy != nil {
		x.close()
		x.open()
	}
}

func (x *trial) destroyed(label string) {
	x.Helper()
	if err := x.token.Destroy(x.Context(), hsm.Query{Label: label}); err != nil {
		x.Error(err)
	}
}

// backup: a key of class backup leaves under a trusted wrapping key, is sealed and destroyed, and comes back to sign.
func (x *trial) backup(a hsm.Algorithm) (string, error) {
	before := pkcs11.CountObjects(x.token)
	note, err := x.backupOnce(a)
	if n := pkcs11.CountObjects(x.token); n != before {
		x.Errorf("%s: %d objects afterwards, before %d", a, n, before)
	}
	return note, err
}

func (x *trial) backupOnce(a hsm.Algorithm) (string, error) {
	ctx := x.Context()
	q, wrapping := hsm.Query{Label: "backup-" + string(a)}, hsm.Query{Label: "wrapping", ID: []byte{0xee}}
	if err := x.token.CanWrap(a); err != nil {
		return "", err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	so := x.p.SOPIN
	if so == nil {
		so = []byte("so-pin-1")
	}
	if err := x.token.AsSecurityOfficer(ctx, so, func(so hsm.SecurityOfficer) error {
		return so.ImportWrappingKey(wrapping.Label, wrapping.ID, secret)
	}); err != nil {
		return "", err
	}
	defer func() {
		if err := x.token.DestroyWrappingKey(ctx, wrapping); err != nil {
			x.Error(err)
		}
	}()
	k, err := x.token.Generate(ctx, hsm.GenerateSpec{Label: q.Label, Algorithm: a, Class: hsm.Backup})
	if err != nil {
		return "", err
	}
	wrapped, err := x.token.WrapKey(ctx, wrapping, q)
	if err != nil {
		x.destroyed(q.Label)
		return "", err
	}
	_, err = x.token.SealAfterBackup(ctx, q)
	x.destroyed(q.Label)
	if err != nil {
		return "", err
	}
	back, err := x.token.UnwrapKey(ctx, hsm.RestoreSpec{Label: q.Label, ID: k.Attributes().ID, Public: k.Public(), Wrapping: wrapping, Wrapped: wrapped})
	if err != nil {
		return "", err
	}
	defer x.destroyed(q.Label)
	m := modes(a)[0]
	sig, err := back.Sign(nil, digest(m.opts, []byte("restored")), m.opts)
	if err != nil {
		return "", err
	}
	opensslVerify(x.T, k.Public(), m, []byte("restored"), sig)
	return "", nil
}

// sign signs in each variant of a scheme; openssl judges.
func (x *trial) sign(a hsm.Algorithm, variants []mode) (string, error) {
	k, err := x.key(a)
	if err != nil {
		return "", err
	}
	for _, m := range variants {
		message := []byte(x.p.Name + m.name)
		sig, err := k.Sign(nil, digest(m.opts, message), m.opts)
		if err != nil {
			return "", err
		}
		opensslVerify(x.T, k.Public(), m, message, sig)
	}
	return "", nil
}

// anyKey is a key of the first algorithm that the token has.
func (x *trial) anyKey() hsm.Key {
	x.Helper()
	for _, a := range []hsm.Algorithm{hsm.P256, hsm.RSA2048} {
		if k, err := x.key(a); err == nil {
			return k
		}
	}
	x.Fatal("no key")
	return nil
}

// signOnce makes one signature and checks it.
func signOnce(ctx context.Context, k hsm.Key) error {
	sum := digest(crypto.SHA256, []byte("once"))
	sig, err := k.SignContext(ctx, sum, crypto.SHA256)
	if err != nil {
		return err
	}
	switch pub := k.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, sum, sig) {
			return errors.New("the signature does not verify")
		}
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum, sig)
	}
	return nil
}

// inTurn: a program uses all keys of the token, which are more than a TPM has places for.
func (x *trial) inTurn() (string, error) {
	all, err := x.token.Keys(x.Context())
	if err != nil {
		return "", err
	}
	signed := 0
	for range 2 {
		for _, k := range all {
			if at := k.Attributes(); !at.Sign || at.Algorithm == hsm.Ed25519 {
				continue
			}
			if err := signOnce(x.Context(), k); err != nil {
				return "", err
			}
			signed++
		}
	}
	if signed < 6 {
		x.Errorf("only %d signatures", signed)
	}
	return "", nil
}

// readBack: what the token says of a key that was asked for as a sealed one.
func (x *trial) readBack() (string, error) {
	return "", x.anyKey().Attributes().CheckFresh(hsm.Sealed)
}

func (x *trial) probeValue() (string, error) {
	read, _ := pkcs11.Probe(x.token, x.anyKey())
	return "", read
}

func (x *trial) probeWrap() (string, error) {
	_, wrap := pkcs11.Probe(x.token, x.anyKey())
	return "", wrap
}

// oneID: two key pairs with one CKA_ID, as several tools leave them.
func (x *trial) oneID() (string, error) {
	if len(x.p.Keys) > 0 {
		return "", errors.New("the card gives each place for a key an id of its own")
	}
	a, id := hsm.AlgorithmOf(x.anyKey().Public()), []byte("one id")
	for _, label := range []string{"first", "second"} {
		if err := pkcs11.GenerateUnproven(x.token, label, id, a); err != nil {
			return "", err
		}
		defer func() { _ = x.token.Destroy(x.Context(), hsm.Query{Label: label}) }() // the token may have kept one of them only
		x.fresh()
	}
	if k, err := x.token.Key(x.Context(), hsm.Query{ID: id}); err == nil {
		return "", fmt.Errorf("the token kept %q alone, and the other is lost", k.Attributes().Label)
	} else if !errors.Is(err, hsm.ErrAmbiguous) {
		return "", err
	}
	var public [2]crypto.PublicKey
	for i, label := range []string{"first", "second"} {
		k, err := x.token.Key(x.Context(), hsm.Query{Label: label, ID: id})
		if err != nil {
			return "", err
		}
		if err := signOnce(x.Context(), k); err != nil {
			return "", err
		}
		public[i] = k.Public()
	}
	if public[0].(interface{ Equal(crypto.PublicKey) bool }).Equal(public[1]) {
		x.Error("both have one public key")
	}
	return "", nil
}

func (x *trial) certificate() (string, error) {
	k := x.anyKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "matrix"}, NotAfter: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return "", err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		x.Fatal(err)
	}
	id := []byte("a certificate")
	if err := x.token.PutCertificate(x.Context(), "certificate", id, cert); err != nil {
		return "", err
	}
	got, err := x.token.Certificate(x.Context(), id)
	if err == nil && !got.Equal(cert) {
		x.Error("another certificate came back")
	}
	return "", err
}

func (x *trial) destroy() (string, error) {
	k := x.anyKey()
	q := hsm.Query{Label: k.Attributes().Label}
	if len(x.p.Keys) == 0 {
		q.Label = "to be destroyed"
		if err := pkcs11.GenerateUnproven(x.token, q.Label, []byte(q.Label), hsm.AlgorithmOf(k.Public())); err != nil {
			return "", err
		}
		x.fresh()
		var err error
		if k, err = x.token.Key(x.Context(), q); err != nil {
			return "", err
		}
	}
	if err := x.token.Destroy(x.Context(), q); err != nil {
		return "", err
	}
	if _, err := x.token.Key(x.Context(), q); !errors.Is(err, hsm.ErrNoKey) {
		x.Errorf("destroyed, and found: %v", err)
	}
	switch err := signOnce(x.Context(), k); {
	case err == nil:
		x.Error("a key that was destroyed signs")
	case !errors.Is(err, hsm.ErrNoKey):
		return "", fmt.Errorf("it is destroyed; a program that goes on using it reads: %w", err)
	}
	return "", nil
}

// oneSession: a module between us and the peer's refuses a second session.
func (x *trial) oneSession() (string, error) {
	x.anyKey()
	x.close()
	defer x.open()
	s := shimtest.Over(x, x.p.Token.ModulePath)
	s.Plan(x, "C_OpenSession 1+ one-session")
	c := x.p.Config()
	c.URI.ModulePath = s.Module
	if x.p.Tidy != nil {
		x.p.Tidy()
	}
	token, err := pkcs11.Open(x.Context(), c)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := token.Close(); err != nil {
			x.Error(err)
		}
	}()
	for _, label := range x.made {
		k, err := token.Key(x.Context(), hsm.Query{Label: label})
		if err != nil {
			return "", err
		}
		if a := hsm.AlgorithmOf(k.Public()); a != hsm.P256 && a != hsm.RSA2048 {
			continue
		}
		for range 3 {
			if err := signOnce(x.Context(), k); err != nil {
				return "", err
			}
		}
	}
	if n := s.Count(x, "C_OpenSession"); n > 1 {
		x.Errorf("%d sessions", n)
	}
	return "", nil
}

// outage: what the token needs ends while it is used. A call that waits gets its signature when it is back, and nobody is asked for
// the PIN again; one whose time is over says what is wrong.
func (x *trial) outage() (string, error) {
	k := x.anyKey()
	if err := signOnce(x.Context(), k); err != nil {
		return "", err
	}
	pkcs11.MayRestart(x.token) // whatever the rows before did
	x.p.Cut()
	ctx, cancel := context.WithTimeout(x.Context(), 2*time.Second) // for several tries, on a busy machine too
	away := signOnce(ctx, k)
	cancel()
	answered := make(chan error, 1)
	go func() { answered <- signOnce(context.Background(), k) }()
	time.Sleep(100 * time.Millisecond)
	x.p.Restore()
	var err error
	select {
	case err = <-answered:
	case <-time.After(60 * time.Second):
		x.Error("a call outlived its patience")
	}
	if away == nil {
		return "signs on while it is away", err
	}
	return printed(away), err
}

// hang: the process that answers for the token stops, and goes on. A call within a deadline ends with it.
func (x *trial) hang() (string, error) {
	k := x.anyKey()
	if err := signOnce(x.Context(), k); err != nil {
		return "", err
	}
	if x.p.Stop == nil {
		return "runs in the program itself", nil
	}
	x.p.Stop()
	ctx, cancel := context.WithTimeout(x.Context(), 500*time.Millisecond)
	begin := time.Now()
	stopped := signOnce(ctx, k)
	took := time.Since(begin)
	cancel()
	x.p.Continue()
	if took > 20*time.Second {
		x.Errorf("a call outlived its context: %s", took)
	}
	ctx, cancel = context.WithTimeout(x.Context(), 20*time.Second)
	defer cancel()
	err := signOnce(ctx, k)
	if stopped == nil {
		return "signs on while its daemon is stopped", err
	}
	return printed(stopped), err
}
