package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"go.step.sm/crypto/kms/apiv1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
)

// fail says of which store an error is, and what can be done about it. The texts of stores and their libraries are foreign.
func (t *Token) fail(err error, what string, args ...any) error {
	if err == nil {
		return nil
	}
	err = plain(err)
	text := fmt.Sprintf("%s: %s: %s", t.info.Name(), fmt.Sprintf(what, args...), show.Line(err.Error()))
	kind, hint := advice.KindOf(err), advice.Hint(err)
	if hint == "" {
		switch {
		case errors.Is(err, hsm.ErrGone):
			hint = t.address.scheme.reach
		case errors.Is(err, hsm.ErrPIN):
			hint = "check the PIN or the pass phrase with the store's own tool; it is not tried again by itself"
		case errors.Is(err, hsm.ErrNoKey):
			hint = "check the name in the key URI, and that this account may see the key"
		case !known(err):
			hint = t.address.scheme.reach
		}
	}
	return advice.Wrap(kind, &said{text: text, err: err}, hint)
}

// said is an error with a text that may be shown as it stands.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// plain puts an error of the stores' libraries into this package's words, as far as its kind is known.
func plain(err error) error {
	if known(err) {
		return err
	}
	as := func(known error) error { return fmt.Errorf("%w: %w", known, err) }
	var nowhere *net.DNSError
	var unreached *net.OpError
	switch {
	case errors.Is(err, apiv1.NotFoundError{}):
		return as(hsm.ErrNoKey)
	case errors.Is(err, apiv1.AlreadyExistsError{}):
		return as(hsm.ErrExists)
	case errors.Is(err, apiv1.NotImplementedError{}):
		return as(hsm.ErrUnsupported)
	case errors.Is(err, context.Canceled): // the caller's own end
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), errors.As(err, &nowhere), errors.As(err, &unreached):
		return as(hsm.ErrGone)
	}
	if known := cloudKind(err); known != nil {
		return as(known)
	}
	if known := cardKind(err); known != nil {
		return as(known)
	}
	return err
}

// known says whether an error is in the words of package hsm.
func known(err error) bool {
	return slices.ContainsFunc([]error{hsm.ErrPIN, hsm.ErrPINLocked, hsm.ErrGone, hsm.ErrNoKey, hsm.ErrExists, hsm.ErrUnsupported,
		hsm.ErrClosed, hsm.ErrAttributes, hsm.ErrAmbiguous}, func(w error) bool { return errors.Is(err, w) })
}

// cloudKind is the kind of an answer of one of the clouds.
func cloudKind(err error) error {
	var aws interface{ ErrorCode() string } // smithy.APIError
	if errors.As(err, &aws) {
		switch aws.ErrorCode() {
		case "NotFoundException":
			return hsm.ErrNoKey
		case "AlreadyExistsException":
			return hsm.ErrExists
		}
		return nil
	}
	var azure *azcore.ResponseError
	if errors.As(err, &azure) {
		switch azure.StatusCode {
		case http.StatusNotFound:
			return hsm.ErrNoKey
		case http.StatusConflict:
			return hsm.ErrExists
		}
		return nil
	}
	if s, ok := status.FromError(err); ok {
		switch s.Code() {
		case codes.NotFound:
			return hsm.ErrNoKey
		case codes.AlreadyExists:
			return hsm.ErrExists
		case codes.Unavailable, codes.DeadlineExceeded:
			return hsm.ErrGone
		}
	}
	return nil
}
