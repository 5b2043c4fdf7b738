package control

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/gateway"
	"github.com/hanaper/hanaper/internal/socket"
)

// Client is gateway.Records by way of the socket. Who acts is told by the kernel: By.Who and By.At are not sent.
type Client struct{ http *http.Client }

var _ gateway.Records = (*Client)(nil)

// Dial gives a client where a gateway listens on the socket, and nil where none does. It fails where one may, and we may not ask it.
func Dial(at string) (*Client, error) {
	call := func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return socket.Dial(ctx, at)
	}
	conn, err := call(context.Background())
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("control: %w", err)
	}
	conn.Close()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return call(ctx) }
	return &Client{&http.Client{Transport: &http.Transport{Proxy: nil, DialContext: dial}, Timeout: 2 * callTime}}, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// maxAnswer bounds what a gateway may answer, in bytes.
const maxAnswer = 256 << 20

func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	var send io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		send = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path+"?"+q.Encode(), send)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the gateway: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := json.Unmarshal(data, &f); err != nil || f.Code == "" {
			return fmt.Errorf("the gateway answered %d", resp.StatusCode)
		}
		return f.err()
	}
	return json.Unmarshal(data, out)
}

// Devices implements gateway.Records.
func (c *Client) Devices(ctx context.Context, f gateway.Filter) ([]gateway.Device, error) {
	var got []gateway.Device
	for len(got) < f.Limit {
		var a struct {
			Devices []gateway.Device `json:"devices"`
		}
		ask := min(f.Limit-len(got), maxPage)
		if err := c.call(ctx, http.MethodGet, "/v1/devices", url.Values{"environment": {f.Environment}, "state": {string(f.State)}, "flag": {f.Flag}, "prefix": {f.Prefix},
			"after_environment": {f.AfterEnvironment}, "after": {f.After}, "limit": {strconv.Itoa(ask)}}, nil, &a); err != nil {
			return nil, err
		}
		got = append(got, a.Devices...)
		if len(a.Devices) < ask {
			break
		}
		last := a.Devices[len(a.Devices)-1]
		f.AfterEnvironment, f.After = last.Environment, last.Name
	}
	return got, nil
}

// Device implements gateway.Records.
func (c *Client) Device(ctx context.Context, environment, name string) (d gateway.Device, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/device", url.Values{"environment": {environment}, "device_id": {name}}, nil, &d)
}

// Do implements gateway.Records.
func (c *Client) Do(ctx context.Context, a gateway.Act) error {
	return c.call(ctx, http.MethodPost, "/v1/act", nil, actRequest{a.Verb, a.Environment, a.Device, a.Text, a.Why}, &struct{}{})
}

// Import implements gateway.Records.
func (c *Client) Import(ctx context.Context, list []gateway.Registration, by gateway.By) error {
	q := importRequest{Why: by.Why}
	for _, one := range list {
		r := registration{Environment: one.Environment, Device: one.Device, Generation: one.Generation, Notes: one.Notes}
		if one.Key != ([32]byte{}) {
			r.Key = hex.EncodeToString(one.Key[:])
		}
		q.Devices = append(q.Devices, r)
	}
	return c.call(ctx, http.MethodPost, "/v1/import", nil, q, &struct{}{})
}

// Log implements gateway.Records.
func (c *Client) Log(ctx context.Context, f gateway.LogFilter) ([]gateway.LogEntry, error) {
	var a struct {
		Entries []gateway.LogEntry `json:"entries"`
	}
	return a.Entries, c.call(ctx, http.MethodGet, "/v1/log", url.Values{"after": {strconv.FormatInt(f.After, 10)}, "newest": {strconv.FormatBool(f.Newest)}, "environment": {f.Environment},
		"device_id": {f.Device}, "limit": {strconv.Itoa(min(f.Limit, maxPage))}}, nil, &a)
}

// Counts implements gateway.Records.
func (c *Client) Counts(ctx context.Context) ([]gateway.Count, error) {
	var a struct {
		Counts []gateway.Count `json:"counts"`
	}
	return a.Counts, c.call(ctx, http.MethodGet, "/v1/counts", nil, nil, &a)
}
