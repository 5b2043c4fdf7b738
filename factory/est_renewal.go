package factory

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/hanaper/hanaper/factory/est"
)

// ClientCertHeader is where a gateway names the certificate whose key a device has proven to it (RFC 9440, section 2.1). Nobody but a gateway is
// read it of.
const ClientCertHeader = "Client-Cert"

// estRenew answers a gateway that hands on a device's simplereenroll.
func (a *api) estRenew(ctx context.Context, who Caller, h http.Header, body []byte) ([]byte, string, error) {
	cert, err := clientCert(h)
	if err != nil {
		return nil, "", err
	}
	return certsOnly(a.service.Renew(ctx, who.Name, RenewRequest{Certificate: cert, CSR: body}))
}

// clientCert reads the one byte sequence of the header (RFC 8941, section 3.3.5).
func clientCert(h http.Header) ([]byte, error) {
	values := h.Values(ClientCertHeader)
	if len(values) != 1 {
		return nil, fault(CodeCertificate, "a gateway sends the device's certificate once, as RFC 9440 has it", "%s stands %d times in the request", ClientCertHeader, len(values))
	}
	inner, found := strings.CutPrefix(values[0], ":")
	inner, ended := strings.CutSuffix(inner, ":")
	der, err := base64.StdEncoding.Strict().DecodeString(inner)
	if !found || !ended || err != nil || len(der) == 0 || strings.ContainsAny(inner, "\r\n") {
		return nil, fault(CodeCertificate, "a gateway sends the device's certificate as RFC 9440 has it: its DER in base64, between colons", "%s is no byte sequence", ClientCertHeader)
	}
	return der, nil
}

// estForGateway refuses what a gateway may not ask for: it names no lot.
func estForGateway(label string) error {
	if label == "" {
		return nil
	}
	return fault(CodeNotFound, "use "+est.Root+"/OPERATION: what a device is renewed as, its record says", "a gateway names no lot")
}
