package gateway

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/trust"
)

// checkNames takes the names by which devices call the gateway of an environment.
func (e *EnvironmentSettings) checkNames(names []string) error {
	for _, n := range names {
		name := strings.ToLower(n)
		if trust.CheckGatewayName(name) != nil {
			return wrong("names:", "a DNS name, such as ota.example.com: no wildcard, no address, no port", "%s is no server name", show.Text(n))
		}
		if slices.Contains(e.names, name) {
			return wrong("names:", "write each once", "%s stands twice", show.Text(n))
		}
		e.names = append(e.names, name)
	}
	return nil
}

// withoutSNI reads the key of that name; byDefault is what its absence means.
func withoutSNI(value string, byDefault bool) (bool, error) {
	switch value {
	case "":
		return byDefault, nil
	case "refuse":
		return false, nil
	case "serve":
		return true, nil
	}
	return false, wrong("without_sni", `write "refuse" or "serve"`, "%s is unknown", show.Text(value))
}

// checkListOnly sees that nothing of one environment stands beside the list of them.
func (c Config) checkListOnly() error {
	for _, k := range []struct {
		key   string
		there bool
	}{
		{"environment", c.Environment != ""}, {"names", c.Names != nil}, {"registered_only", c.RegisteredOnly}, {"tls", c.TLS != TLSConfig{}}, {"trust", c.Trust != TrustConfig{}},
		{"upstream", !c.Upstream.empty() || len(c.Upstreams) > 0 || len(c.Routes) > 0}, {"renewal", c.Renewal != RenewalConfig{}},
	} {
		if k.there {
			return wrong(k.key, "put it into the environments that it is for", "stands at the top, beside environments")
		}
	}
	if c.WithoutSNI != "" && c.WithoutSNI != "refuse" {
		return wrong("without_sni", "devices must name their server: which environment they mean cannot be told otherwise", "is for a gateway of one environment")
	}
	return nil
}

// checkApart sees that several environments share no name and no state.
func (s *Settings) checkApart() error {
	environments, names, states := map[string]bool{}, map[string]string{}, map[string]string{}
	for _, e := range s.environments {
		if environments[e.name] {
			return wrong("environments:", "name each environment once", "%s stands twice", show.Text(e.name))
		}
		environments[e.name] = true
		if len(e.names) == 0 {
			return wrong("environments: "+show.Text(e.name)+": names", "the names by which devices call this environment, such as ota.example.com", "is missing")
		}
		for _, n := range e.names {
			if other, taken := names[n]; taken {
				return wrong("environments:", "a name leads to one environment", "%s is a name of %s and of %s", show.Text(n), show.Text(other), show.Text(e.name))
			}
			names[n] = e.name
		}
		if other, taken := states[e.trust.State]; taken {
			return wrong("environments:", "give each a folder of its own", "%s and %s have the same trust.state", show.Text(other), show.Text(e.name))
		}
		states[e.trust.State] = e.name
	}
	return nil
}

// serverNames say which environment a connection is for.
type serverNames struct {
	of map[string]*environment
	// any takes every name: the one environment of a gateway for which neither the configuration nor the officers name servers.
	any *environment
	// silent takes connections that name no server.
	silent *environment
}

// find gives the environment that a connection with this SNI is for, or why there is none.
func (n *serverNames) find(sni string) (*environment, Reason) {
	switch e := n.of[strings.ToLower(sni)]; {
	case sni == "" && n.silent != nil:
		return n.silent, ""
	case sni == "":
		return nil, NoServerName
	case e != nil:
		return e, ""
	case n.any != nil:
		return n.any, ""
	}
	return nil, OtherServerName
}

// hosts says whether a request for host, as Host or :authority has it, may come in on a connection to e. Without SNI the host may be an address: it is
// how a client that has no name calls.
func (n *serverNames) hosts(e *environment, sni, host string) bool {
	if n.any == e {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if n.of[strings.ToLower(name)] == e {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return sni == "" && n.silent == e && err == nil
}

// allowed are the names of e that the officers' list allows, and those of the configuration that it does not. Without a list all are allowed, and where the
// configuration names none, the list does.
func (e *EnvironmentSettings) allowed(officers []string) (names, stray []string) {
	if len(officers) == 0 {
		return e.names, nil
	}
	if len(e.names) == 0 {
		return officers, nil
	}
	for _, n := range e.names {
		if slices.Contains(officers, n) {
			names = append(names, n)
		} else {
			stray = append(stray, n)
		}
	}
	return names, stray
}

// strayNames says that the officers do not know these names.
func (e *EnvironmentSettings) strayNames(stray []string) error {
	if len(stray) == 0 {
		return nil
	}
	return advice.New(advice.Refused, "have the officers add them to gateway_names, or take them out of names",
		"the officers' policy of %s has other gateway_names than %s: devices that call by them are refused", show.Text(e.name), show.Text(strings.Join(stray, ", ")))
}
