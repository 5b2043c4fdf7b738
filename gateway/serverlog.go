package gateway

import (
	"strings"
)

// serverLog takes what net/http has to say, which is of use to developers, but for panics. It does no handshakes: see doorway.
type serverLog struct{ gateway *Gateway }

func (l serverLog) Write(p []byte) (int, error) {
	text := strings.TrimSuffix(string(p), "\n")
	if strings.HasPrefix(text, "http: panic") {
		l.gateway.log.Error("a fault of the gateway", "what", text)
		return len(p), nil
	}
	l.gateway.log.Debug("connection", "what", text)
	return len(p), nil
}
