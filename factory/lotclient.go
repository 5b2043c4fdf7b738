package factory

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// OpenLot has a signed order applied; operators only.
func (c *Client) OpenLot(ctx context.Context, envelope []byte) (*LotAnswer, error) {
	return posted[LotAnswer](ctx, c, "/v1/lots", json.RawMessage(envelope))
}

// CloseLot ends a lot for good; operators only.
func (c *Client) CloseLot(ctx context.Context, q CloseLotRequest) (*LotAnswer, error) {
	return posted[LotAnswer](ctx, c, "/v1/lots/"+url.PathEscape(q.Name)+"/close", q)
}

// Lot asks how a lot stands.
func (c *Client) Lot(ctx context.Context, name string) (*LotAnswer, error) {
	a := &LotAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/lots/"+url.PathEscape(name), nil, a)
	return a, err
}

// LotOrder fetches the signed order in force of a lot.
func (c *Client) LotOrder(ctx context.Context, name string) (envelope []byte, err error) {
	_, err = c.call(ctx, http.MethodGet, "/v1/lots/"+url.PathEscape(name)+"/order", nil, &envelope)
	return envelope, err
}

// Lots lists lots, a page at a time.
func (c *Client) Lots(ctx context.Context, q LotQuery) (*LotsAnswer, error) {
	v := url.Values{}
	set(v, "state", q.State)
	set(v, "after", q.After)
	setLimit(v, q.Limit)
	a := &LotsAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/lots?"+v.Encode(), nil, a)
	return a, err
}

// Devices lists enrolments, a page at a time.
func (c *Client) Devices(ctx context.Context, q DeviceQuery) (*DevicesAnswer, error) {
	v := url.Values{}
	for name, value := range map[string]string{"key": q.Key, "station": q.Station, "lot": q.Lot, "after": q.After} {
		set(v, name, value)
	}
	for name, at := range map[string]time.Time{"from": q.From, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	setLimit(v, q.Limit)
	a := &DevicesAnswer{}
	_, err := c.call(ctx, http.MethodGet, "/v1/devices?"+v.Encode(), nil, a)
	return a, err
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setLimit(v url.Values, limit int) {
	if limit != 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
}

// RevokeDevices revokes a page of devices; operators only.
func (c *Client) RevokeDevices(ctx context.Context, q RevokeDevicesRequest) (*RevokeDevicesAnswer, error) {
	return posted[RevokeDevicesAnswer](ctx, c, "/v1/revoke/devices", q)
}

// Reissue lets a device be enrolled again with another key; operators only.
func (c *Client) Reissue(ctx context.Context, q ReissueRequest) (*ActAnswer, error) {
	return posted[ActAnswer](ctx, c, "/v1/reissue", q)
}

// Scrap ends a device id; operators only.
func (c *Client) Scrap(ctx context.Context, q ScrapRequest) (*ActAnswer, error) {
	return posted[ActAnswer](ctx, c, "/v1/scrap", q)
}

// Swap gives each of two ids the other's key; operators only.
func (c *Client) Swap(ctx context.Context, q SwapRequest) (*ActAnswer, error) {
	return posted[ActAnswer](ctx, c, "/v1/swap", q)
}

func posted[A any](ctx context.Context, c *Client, path string, q any) (*A, error) {
	a := new(A)
	_, err := c.call(ctx, http.MethodPost, path, q, a)
	return a, err
}

// IsNotFound says that hanaperd answered that it has no such record.
func IsNotFound(err error) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == CodeNotFound
}
