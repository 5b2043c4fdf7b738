// Package control is the socket on which operators reach a running gateway: an API in JSON, its client, and pages for a browser.
//
// It trusts the kernel: who may open the socket file may do everything here, and the kernel says who he is, which is what the log of acts holds. What a
// browser sends besides comes through a tunnel (ssh -L), whose other end any web page may try to reach: a Host that is not this machine's own is refused
// (DNS rebinding), so is what another site's page sends, and nothing is changed without a token that only a page of ours holds. Device ids, serials and
// issuers on pages are foreign text. It decides nothing about devices: each act is one call of gateway.Records.
package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/show"
)

const (
	// maxBody bounds a request, in bytes: a list of the most devices that one import takes.
	maxBody = 64 << 20
	// callTime is how long one may take.
	callTime = 60 * time.Second
	// maxPage bounds the devices of one answer.
	maxPage = 10_000
)

// actRequest asks for an act.
type actRequest struct {
	Verb        gateway.Verb `json:"act"`
	Environment string       `json:"environment"`
	Device      string       `json:"device_id"`
	Text        string       `json:"text,omitempty"`
	Why         string       `json:"why,omitempty"`
}

// importRequest registers devices.
type importRequest struct {
	Devices []registration `json:"devices"`
	Why     string         `json:"why,omitempty"`
}

type registration struct {
	Environment string `json:"environment"`
	Device      string `json:"device_id"`
	Key         string `json:"key_sha256,omitempty"`
	Generation  int    `json:"generation,omitempty"`
	Notes       string `json:"notes,omitempty"`
}

func (r registration) parse() (g gateway.Registration, err error) {
	g = gateway.Registration{Environment: r.Environment, Device: r.Device, Generation: r.Generation, Notes: r.Notes}
	if r.Key != "" {
		sum, err := hex.DecodeString(r.Key)
		if err != nil || len(sum) != 32 {
			return g, fmt.Errorf("key_sha256 %.80q is no SHA-256 in hex", r.Key)
		}
		g.Key = [32]byte(sum)
	}
	return g, nil
}

// failure is an answer that is not what was asked for.
type failure struct {
	Code  string   `json:"code"`
	Error string   `json:"error"`
	Known []string `json:"known,omitempty"`
}

// codes are the answers of gateway.Records, as they are sent.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{gateway.ErrNoDevice, "no-device", http.StatusNotFound},
	{gateway.ErrState, "state", http.StatusConflict},
	{gateway.ErrFull, "full", http.StatusInsufficientStorage},
}

// answered is an error that was sent, and is what it was again.
type answered struct {
	text string
	is   error
}

func (a *answered) Error() string { return a.text }
func (a *answered) Unwrap() error { return a.is }

func failureOf(err error) (int, failure) {
	var known gateway.Duplicates
	if errors.As(err, &known) {
		return http.StatusConflict, failure{Code: "known", Error: err.Error(), Known: known}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.status, failure{Code: c.code, Error: err.Error()}
		}
	}
	return http.StatusInternalServerError, failure{Code: "failed", Error: err.Error()}
}

func (f failure) err() error {
	if f.Code == "known" {
		return gateway.Duplicates(f.Known)
	}
	for _, c := range codes {
		if f.Code == c.code {
			return &answered{show.Line(f.Error), c.err}
		}
	}
	return errors.New(show.Line(f.Error))
}
