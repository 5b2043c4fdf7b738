package pkcs11

import (
	"context"
	"crypto/x509"
	"errors"
	"io"

	"github.com/hanaper/hanaper/hsm"
)

// Config says which token to open and how.
type Config struct {
	// Module is the path of the PKCS#11 library; the URI's module-path is used where it is empty.
	Module string
	// URI names the token, by label, serial or both; its object is ignored.
	URI hsm.URI
	// PIN gives the user PIN; the URI's pin-source is used where it is nil. With neither, only a token that needs no
	// login can be used.
	PIN hsm.PINSource
	// Sessions bounds the pool; 0 means twice the CPUs.
	Sessions int
	// InitArgs is the reserved string of C_Initialize that NSS softokn needs, such as "configdir='sql:/dir'".
	InitArgs string
}

// Token is an open PKCS#11 token. It implements hsm.Token.
type Token struct{}

var _ hsm.Token = (*Token)(nil)

var errTODO = errors.New("pkcs11: not yet")

func Open(ctx context.Context, c Config) (*Token, error) { return nil, errTODO }

func OpenKey(ctx context.Context, uri string, pin hsm.PINSource) (hsm.Key, io.Closer, error) {
	return nil, nil, errTODO
}

func List(module string) ([]hsm.TokenInfo, error) { return nil, errTODO }

func Init(ctx context.Context, module, which, label string, soPIN, userPIN []byte) (hsm.TokenInfo, error) {
	return hsm.TokenInfo{}, errTODO
}

// InUse says whether this process has a token of the module open.
func InUse(module string) bool { return false }

func (t *Token) Info() hsm.TokenInfo                                   { return hsm.TokenInfo{} }
func (t *Token) Close() error                                          { return nil }
func (t *Token) Key(ctx context.Context, q hsm.Query) (hsm.Key, error) { return nil, errTODO }
func (t *Token) Keys(ctx context.Context) ([]hsm.Key, error)           { return nil, errTODO }
func (t *Token) Generate(ctx context.Context, s hsm.GenerateSpec) (hsm.Key, error) {
	return nil, errTODO
}
func (t *Token) Destroy(ctx context.Context, q hsm.Query) error { return errTODO }
func (t *Token) PutCertificate(ctx context.Context, label string, id []byte, cert *x509.Certificate) error {
	return errTODO
}
func (t *Token) Certificate(ctx context.Context, id []byte) (*x509.Certificate, error) {
	return nil, errTODO
}
