//go:build cgo && !noyubikey

package kms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-piv/piv-go/v2/piv"
	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/yubikey"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// openYubiKey opens a YubiKey through PC/SC. Without a PIN step's package would try the one that cards are sold with, and
// without a management key theirs: neither is left to it.
func openYubiKey(ctx context.Context, a *Address, info hsm.TokenInfo, pin hsm.PINSource) (manager, error) {
	if pin == nil {
		return nil, advice.New(advice.Usage, "add ?pin-source=/path to the key URI", "the card's PIN is not given")
	}
	secret, err := pin(ctx, info)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if len(secret) == 0 {
		return nil, fmt.Errorf("%w: it is empty", hsm.ErrPIN)
	}
	o := apiv1.Options{Pin: string(secret)}
	if source := a.values["management-key-source"]; source != "" {
		key, err := hsm.PINFile(source)(ctx, info)
		if err != nil {
			return nil, err
		}
		defer clear(key)
		o.ManagementKey = string(key)
	}
	if serial := a.values["serial"]; serial != "" {
		o.URI = "yubikey:serial=" + serial
	}
	m, err := yubikey.New(ctx, o)
	if err != nil {
		switch {
		case strings.Contains(err.Error(), "error detecting yubikey"):
			err = fmt.Errorf("%w: there is no reader", hsm.ErrGone)
		case strings.Contains(err.Error(), "failed to find key with serial number"):
			err = fmt.Errorf("%w: no YubiKey with serial number %s is in a reader", hsm.ErrGone, show.Text(a.values["serial"]))
		}
		return nil, err
	}
	return &cardManager{&stepManager{m, a, nil}}, nil
}

type cardManager struct{ *stepManager }

func (m *cardManager) create(slot string, alg hsm.Algorithm) (string, error) {
	if m.address.values["management-key-source"] == "" {
		return "", advice.New(advice.Usage, "add management-key-source=/path to the key URI, and change the key that the card was sold with", "%w: keys are made with the card's management key, which is not given", hsm.ErrUnsupported)
	}
	return m.stepManager.create(slot, alg)
}

// cardKind is the kind of a card's answer.
func cardKind(err error) error {
	var wrong piv.AuthErr
	switch {
	case errors.As(err, &wrong) && wrong.Retries == 0:
		return hsm.ErrPINLocked
	case errors.As(err, &wrong):
		return hsm.ErrPIN
	case errors.Is(err, piv.ErrNotFound):
		return hsm.ErrNoKey
	}
	// PC/SC's own words for a card that was pulled or reset (pcsc-lite, winscard errors 0x80100069, 0x80100068, 0x8010002E).
	for _, words := range []string{"card was removed", "has been removed", "card has been reset", "no smart card reader", "reader is unavailable", "service is not running", "no service"} {
		if strings.Contains(strings.ToLower(err.Error()), words) {
			return hsm.ErrGone
		}
	}
	return nil
}
