package gateway

// Bound lets the gateway have more connections than this process may have descriptors: for connections that have none.
func (g *Gateway) Bound(connections int) {
	g.settings.limits.Connections, g.settings.limits.Handshakes = connections, connections
}

// Open counts the connections whose handshake is done, Closed those that were closed because their device lost admission.
func (g *Gateway) Open() int     { return len(g.sessions.all()) }
func (g *Gateway) Closed() int64 { return g.figures.closed.Load() }

// Generation is the extension in which a certificate says which one of its device it is.
var Generation = oidGeneration
