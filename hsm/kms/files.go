package kms

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/pemutil"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
)

// files are keys in PEM files, with or without a pass phrase: software keys, for development and for what is worth no token.
type files struct {
	*softkms.SoftKMS
	ctx  context.Context
	info hsm.TokenInfo
	pin  hsm.PINSource
}

const maxKeyFile = 64 << 10

func openFiles(ctx context.Context, a *Address, info hsm.TokenInfo, pin hsm.PINSource) (manager, error) {
	m, err := softkms.New(ctx, apiv1.Options{})
	if err != nil {
		return nil, err
	}
	return &files{m, context.WithoutCancel(ctx), info, pin}, nil
}

func (m *files) signer(path string) (crypto.Signer, error) {
	text, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", hsm.ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	req := &apiv1.CreateSignerRequest{SigningKeyPEM: text, PasswordPrompter: apiv1.NonInteractivePasswordPrompter}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the file holds no PEM")
	}
	if strings.Contains(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		if m.pin == nil {
			return nil, advice.New(advice.Usage, "add ?pin-source=/path to the key URI", "%w: the key has a pass phrase, and none is given", hsm.ErrPIN)
		}
		if req.Password, err = m.pin(m.ctx, m.info); err != nil {
			return nil, err
		}
		defer clear(req.Password)
	}
	s, err := m.CreateSigner(req)
	if err != nil && len(req.Password) > 0 {
		return nil, fmt.Errorf("%w: the key does not open with this pass phrase: %w", hsm.ErrPIN, err)
	}
	return s, err
}

// readKeyFile refuses a file that others may read or change, or that belongs to somebody else.
func readKeyFile(path string) ([]byte, error) {
	f, err := input.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if input.LetsOthersIn(path, st) {
		return nil, advice.New(advice.Refused, "run: chmod 600 "+path+" (and replace the key if others could read it)", "mode %04o lets group or others in", st.Mode().Perm())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return nil, advice.New(advice.Refused, "let it belong to the user that the program runs as", "it belongs to user %d", sys.Uid)
	}
	return input.Read(path, maxKeyFile)
}

// create writes a new key into a new file, under the pass phrase where there is one.
func (m *files) create(path string, a hsm.Algorithm) (string, error) {
	made, err := m.CreateKey(&apiv1.CreateKeyRequest{Name: path, SignatureAlgorithm: algorithms[a].alg, Bits: algorithms[a].bits})
	if err != nil {
		return "", err
	}
	var how []pemutil.Options
	if m.pin != nil {
		secret, err := m.pin(m.ctx, m.info)
		if err != nil {
			return "", err
		}
		defer clear(secret)
		how = append(how, pemutil.WithPassword(secret))
	}
	block, err := pemutil.Serialize(made.PrivateKey, append(how, pemutil.WithPKCS8(true))...)
	if err != nil {
		return "", err
	}
	defer clear(block.Bytes)
	return path, durable.Create(path, pem.EncodeToMemory(block), 0o600)
}

func (m *files) list() ([]string, error) {
	return nil, fmt.Errorf("%w: name the key's file in the URI", hsm.ErrUnsupported)
}

func (m *files) destroy(string) error {
	return fmt.Errorf("%w: a file's bytes can outlive it on the disk; remove it yourself", hsm.ErrUnsupported)
}
