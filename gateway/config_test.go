package gateway

import (
	"os"
	"strings"
	"testing"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/strict"
)

const minimal = `listen: 127.0.0.1:0
environment: test
tls: {certificate: c.pem, key: k.pem}
trust: {source: repo, root: 1.root.json, state: state}
registry: {path: devices.db}
upstream: {url: "http://127.0.0.1:1"}
`

func TestExampleConfig(t *testing.T) {
	s, err := LoadSettings("../docs/examples/hanaper-gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s.header != DefaultIdentityHeader || s.limits.Connections != defaultConnections || !s.environments[0].requireCRL || s.environments[0].tls12 {
		t.Errorf("the example does not state the defaults: %+v", s)
	}
	if page, err := os.ReadFile("../docs/examples/hanaper-gateway.yaml"); err != nil || string(page) != string(Example) {
		t.Errorf("docs/examples and what the program prints differ (%v)", err)
	}
	if !strings.HasSuffix(s.registry.Path, "/docs/examples/devices.db") {
		t.Errorf("registry.path is not relative to the file: %s", s.registry.Path)
	}
}

func settings(yaml string) (*Settings, error) {
	var c Config
	if err := strict.Unmarshal("test.yaml", []byte(yaml), &c); err != nil {
		return nil, err
	}
	return NewSettings(c, "/etc/hanaper")
}

func TestConfigRefusals(t *testing.T) {
	if _, err := settings(minimal); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to, want string }{
		{"typo", "listen:", "lisen:", "lisen"},
		{"no listen", "127.0.0.1:0\n", "\"\"\n", "listen is missing"},
		{"listen without port", "127.0.0.1:0\n", "localhost\n", "listen"},
		{"admin on the network", "environment: test", "environment: test\nadmin: 0.0.0.0:9000", "loopback"},
		{"no environment", "environment: test", "", "environment is missing"},
		{"bad environment", "environment: test", "environment: ../x", "../x"},
		{"no key", "key: k.pem", "key: ''", "tls.key is missing"},
		{"old tls", "key: k.pem", "key: k.pem, min_version: '1.1'", "min_version"},
		{"http trust", "source: repo", "source: http://example.com/", "not https"},
		{"trust with password", "source: repo", "source: https://a:b@example.com/", "no plain URL"},
		{"crl rule", "source: repo", "source: repo, crl: never", "trust.crl"},
		{"http upstream elsewhere", "http://127.0.0.1:1", "http://10.0.0.1:1", "another machine"},
		{"socket without a name", "http://127.0.0.1:1", "unix:", "names no socket"},
		{"ftp upstream", "http://127.0.0.1:1", "ftp://127.0.0.1:1", "scheme"},
		{"no upstream", "http://127.0.0.1:1", "", "upstream.url is missing"},
		{"identity header", "environment: test", "environment: test\nidentity_header: Connection", "meaning of its own"},
		{"identity header with space", "environment: test", "environment: test\nidentity_header: 'a b'", "no header name"},
		{"header limit", "environment: test", "environment: test\nlimits: {header_bytes: 1}", "header_bytes"},
		{"negative limit", "environment: test", "environment: test\nlimits: {connections: -1}", "negative"},
		{"log level", "environment: test", "environment: test\nlog: {level: loud}", "log.level"},
		{"log format", "environment: test", "environment: test\nlog: {format: xml}", "log.format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := settings(strings.Replace(minimal, c.from, c.to, 1))
			if err == nil || !strings.Contains(err.Error(), c.want) || advice.KindOf(err) != advice.Usage {
				t.Errorf("got %v (kind %d), want a usage error with %q", err, advice.KindOf(err), c.want)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../docs/examples/hanaper-gateway.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add(minimal)
	f.Add("listen: [")
	f.Fuzz(func(t *testing.T, yaml string) {
		s, err := settings(yaml)
		if err == nil && (len(s.environments[0].routes) == 0 || s.registry.Path == "" && s.registry.Postgres == "" || s.limits.BodyBytes <= 0) {
			t.Errorf("accepted with holes: %+v", s)
		}
	})
}
