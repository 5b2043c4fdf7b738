package factory

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
)

// ProxyFromEnvironment is the Proxy of a ClientConfig that does what HTTPS_PROXY and NO_PROXY say.
const ProxyFromEnvironment = "environment"

// maxCredentials bounds the file of a proxy's credentials, in bytes.
const maxCredentials = 1 << 10

// A proxy is asked for a way to hanaperd (CONNECT), and TLS with hanaperd goes through it: a proxy that lies can keep a caller away, and
// see when it calls and how much it says. What it answers is never more than a status code, for its words are no words of ours. Its
// credentials are in a request header to it, and in no error, log or argument.

// errProxy is a refusal of a proxy.
type errProxy struct {
	proxy  string
	status int
}

func (e *errProxy) Error() string {
	return fmt.Sprintf("the proxy %s refused the way (%d %s)", show.Text(e.proxy), e.status, http.StatusText(e.status))
}

// proxyFunc is what an http.Transport asks for the proxy of a request. setting is a URL without credentials, ProxyFromEnvironment, or empty
// for none; credentials is the file with "user:password", or empty.
func proxyFunc(setting, credentials string) (func(*http.Request) (*url.URL, error), error) {
	switch setting {
	case "":
		if credentials != "" {
			return nil, advice.New(advice.Usage, "name the proxy, or leave the credentials out", "credentials for a proxy are given, and no proxy")
		}
		return nil, nil
	case ProxyFromEnvironment:
		if credentials != "" {
			return nil, advice.New(advice.Usage, "name the proxy in the configuration, or put its credentials where the environment's proxy is named", "credentials for a proxy are given, and the proxy comes from the environment")
		}
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(setting)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, advice.New(advice.Usage, "write it as http://host:port or https://host:port", "the proxy's URL cannot be used")
	}
	if u.User != nil {
		return nil, advice.New(advice.Usage, "put them into a file of mode 0600, one line user:password, and name that", "the proxy's URL holds credentials")
	}
	if credentials != "" {
		if u.User, err = readCredentials(credentials); err != nil {
			return nil, err
		}
	}
	return http.ProxyURL(u), nil
}

func readCredentials(path string) (*url.Userinfo, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "one line user:password, mode 0600")
	}
	if input.LetsOthersIn(path, st) {
		return nil, advice.New(advice.Refused, "run: chmod 600 "+path, "the proxy's credentials %s: mode %04o lets group or others in", show.Text(path), st.Mode().Perm())
	}
	b, err := input.Read(path, maxCredentials)
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "")
	}
	defer clear(b)
	user, password, found := strings.Cut(strings.TrimRight(string(b), "\r\n"), ":")
	if !found || user == "" || strings.ContainsAny(user+password, "\r\n\x00") {
		return nil, advice.New(advice.Usage, "one line user:password", "%s holds no credentials for a proxy", show.Text(path))
	}
	return url.UserPassword(user, password), nil
}

// onProxyAnswer turns a proxy's refusal into an error that names the proxy.
func onProxyAnswer(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &errProxy{proxy.Host, resp.StatusCode}
}

// proxyAdvice says in words what a proxy did, nil if it is not to blame.
func proxyAdvice(err error, to string) error {
	var refused *errProxy
	if errors.As(err, &refused) {
		hint := "ask who runs the proxy to let this station through to hanaperd's address and port"
		kind := advice.Refused
		switch {
		case refused.status == http.StatusProxyAuthRequired:
			hint = "see factory.proxy_credentials"
		case refused.status >= 500:
			kind, hint = advice.Failed, "the proxy does not reach hanaperd: is hanaperd running, and is the URL right?"
		}
		return advice.New(kind, hint, "%s cannot be reached: %w", show.Text(to), refused)
	}
	if strings.Contains(err.Error(), "proxyconnect") {
		return advice.New(advice.Failed, "is the proxy running, and is factory.proxy right?", "%s cannot be reached: its proxy: %w", show.Text(to), err)
	}
	return nil
}
