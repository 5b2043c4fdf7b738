package kms

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"os"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/sshagentkms"
	"go.step.sm/crypto/sshutil"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/show"
)

// agentManager is an ssh-agent, over one connection.
type agentManager struct {
	*sshagentkms.SSHAgentKMS
	conn   net.Conn
	client agent.Agent
}

func openAgent(ctx context.Context, a *Address, _ hsm.TokenInfo, _ hsm.PINSource) (manager, error) {
	socket := cmp.Or(a.values["socket"], os.Getenv("SSH_AUTH_SOCK"))
	if socket == "" {
		return nil, fmt.Errorf("%w: no agent's socket is named, neither by socket= nor by SSH_AUTH_SOCK", hsm.ErrGone)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	client := agent.NewClient(conn)
	m, err := sshagentkms.NewFromAgent(ctx, apiv1.Options{}, client)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &agentManager{m, conn, client}, nil
}

func (m *agentManager) Close() error { return m.conn.Close() }

// gone puts the agent client's own words for a connection that ended, which wrap nothing.
func gone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", hsm.ErrGone, err)
}

// agentSigner gives the public key in Go's form.
type agentSigner struct {
	crypto.Signer
	public crypto.PublicKey
}

func (s *agentSigner) Public() crypto.PublicKey { return s.public }

// signer finds the one key with this comment: the agent's own look-up would take the first.
func (m *agentManager) signer(comment string) (crypto.Signer, error) {
	keys, err := m.client.List()
	if err != nil {
		return nil, gone(err)
	}
	found := 0
	for _, k := range keys {
		if k.Comment == comment {
			found++
		}
	}
	switch {
	case found == 0:
		return nil, hsm.ErrNoKey
	case found > 1:
		return nil, fmt.Errorf("%d keys in the agent have this comment: %w", found, hsm.ErrAmbiguous)
	}
	s, err := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: "sshagentkms:" + comment})
	if err != nil {
		return nil, gone(err)
	}
	public, ok := s.Public().(ssh.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: a public key of type %T", hsm.ErrUnsupported, s.Public())
	}
	parsed, err := ssh.ParsePublicKey(public.Marshal())
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	pub, err := sshutil.CryptoPublicKey(parsed)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	return &agentSigner{s, pub}, onlyEd25519(pub, nil)
}

func (m *agentManager) create(string, hsm.Algorithm) (string, error) {
	return "", fmt.Errorf("%w: make it with ssh-keygen and ssh-add", hsm.ErrUnsupported)
}

func (m *agentManager) list() (names []string, err error) {
	keys, err := m.client.List()
	if err != nil {
		return nil, gone(err)
	}
	for _, k := range keys {
		if k.Comment == "" {
			return nil, fmt.Errorf("a key of type %s in the agent has no comment to name it by: %w", show.Text(k.Format), hsm.ErrUnsupported)
		}
		names = append(names, k.Comment)
	}
	return names, nil
}

func (m *agentManager) destroy(string) error {
	return fmt.Errorf("%w: remove it with ssh-add -d", hsm.ErrUnsupported)
}
