package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/uptane"
)

// Config is config.json.
type Config struct {
	// Reposerver is the URL of the Image repository or of the Director's gateway.
	Reposerver string
	Auth       Auth
	Treehub    Treehub
	// Kind is the repository: image is written RepoServer, director is written Director.
	Kind uptane.Repository
}

type configFile struct {
	Reposerver string  `json:"reposerver"`
	Auth       Auth    `json:"auth"`
	Treehub    Treehub `json:"treehub"`
	ServerType string  `json:"repoServerType"`
}

// MarshalJSON writes garage-sign's form.
func (c Config) MarshalJSON() ([]byte, error) {
	f := configFile{c.Reposerver, c.Auth, c.Treehub, "RepoServer"}
	if c.Kind == uptane.Director {
		f.ServerType = "Director"
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads garage-sign's form; an absent repoServerType is RepoServer.
func (c *Config) UnmarshalJSON(b []byte) error {
	var f configFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*c = Config{f.Reposerver, f.Auth, f.Treehub, uptane.Image}
	switch f.ServerType {
	case "", "RepoServer":
	case "Director":
		c.Kind = uptane.Director
	default:
		return fmt.Errorf("repoServerType %q is neither RepoServer nor Director", f.ServerType)
	}
	return CheckURL(c.Reposerver)
}

// Auth is how to log in to the server; all nil means not at all.
type Auth struct {
	OAuth2 *OAuth2
	TLS    *MutualTLS
	Basic  *BasicAuth
}

// OAuth2 are client credentials. Server is the URL of the authorisation server, Scope "none" if there is none.
type OAuth2 struct {
	Server       string `json:"server"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Scope        string `json:"scope"`
}

// BasicAuth is a user name and password.
type BasicAuth struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// MutualTLS names PKCS#12 files in the repository's directory, with an empty password.
type MutualTLS struct {
	CertPath       string `json:"certPath"`
	ServerCertPath string `json:"serverCertPath,omitempty"`
}

// String hides what is secret.
func (o OAuth2) String() string { return "OAuth2 client " + o.ClientID + " of " + o.Server }

// GoString hides what is secret from %#v too.
func (o OAuth2) GoString() string { return o.String() }

// String hides what is secret.
func (b BasicAuth) String() string { return "user " + b.User }

// GoString hides what is secret from %#v too.
func (b BasicAuth) GoString() string { return b.String() }

// MarshalJSON writes the one that is set, or null.
func (a Auth) MarshalJSON() ([]byte, error) {
	switch {
	case a.OAuth2 != nil:
		return json.Marshal(a.OAuth2)
	case a.TLS != nil:
		return json.Marshal(a.TLS)
	case a.Basic != nil:
		return json.Marshal(a.Basic)
	}
	return []byte("null"), nil
}

// UnmarshalJSON tells the kinds apart by their members.
func (a *Auth) UnmarshalJSON(b []byte) error {
	*a = Auth{}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return errors.New("auth is neither an object nor null")
	}
	has := func(k string) bool { _, ok := m[k]; return ok }
	switch {
	case m == nil:
		return nil
	case has("client_id"):
		a.OAuth2 = &OAuth2{}
		if err := json.Unmarshal(b, a.OAuth2); err != nil {
			return errors.New("auth: malformed OAuth2 credentials")
		}
		return a.OAuth2.check()
	case has("certPath"):
		a.TLS = &MutualTLS{}
		if err := json.Unmarshal(b, a.TLS); err != nil {
			return errors.New("auth: malformed certPath")
		}
		for _, p := range []string{a.TLS.CertPath, a.TLS.ServerCertPath} {
			if p != "" {
				if err := checkEntryName(p); err != nil {
					return err
				}
			}
		}
		return nil
	case has("user"):
		a.Basic = &BasicAuth{}
		if err := json.Unmarshal(b, a.Basic); err != nil {
			return errors.New("auth: malformed user and password")
		}
		return nil
	}
	return errors.New("auth is none of OAuth2, a client certificate, or user and password")
}

func (o *OAuth2) check() error {
	if o.Scope == "" {
		o.Scope = "none"
	}
	if err := CheckURL(o.Server); err != nil {
		return fmt.Errorf("oauth2: %w", err)
	}
	if o.ClientID == "" || o.ClientSecret == "" {
		return errors.New("oauth2: client_id or client_secret is empty")
	}
	return nil
}

// Treehub is treehub.json. Members that are not known are kept.
type Treehub struct {
	OAuth2    *OAuth2
	BasicAuth *BasicAuth
	NoAuth    bool
	// OSTree holds {"server": URL}, and is kept as it was read.
	OSTree json.RawMessage
	extra  map[string]json.RawMessage
}

// OSTreeServer is the server of the OSTree repository, empty if there is none.
func (t Treehub) OSTreeServer() string {
	var o struct {
		Server string `json:"server"`
	}
	_ = json.Unmarshal(t.OSTree, &o) // checked when it was read
	return o.Server
}

// UnmarshalJSON reads treehub.json.
func (t *Treehub) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return advice.New(advice.Usage, "", "not a JSON object")
	}
	*t = Treehub{extra: map[string]json.RawMessage{}}
	for k, v := range m {
		var err error
		switch k {
		case "oauth2":
			if err = json.Unmarshal(v, &t.OAuth2); err == nil && t.OAuth2 != nil {
				if err = t.OAuth2.check(); err != nil {
					return err
				}
			}
		case "basic_auth":
			err = json.Unmarshal(v, &t.BasicAuth)
		case "no_auth":
			err = json.Unmarshal(v, &t.NoAuth)
		case "ostree":
			var o *struct {
				Server string `json:"server"`
			}
			err = json.Unmarshal(v, &o)
			t.OSTree = v
		default:
			t.extra[k] = v
		}
		if err != nil {
			return fmt.Errorf("%q has the wrong type", k) // the cause may quote a secret
		}
	}
	return nil
}

// MarshalJSON writes treehub.json.
func (t Treehub) MarshalJSON() ([]byte, error) {
	m := map[string]any{"no_auth": t.NoAuth}
	for k, v := range maps.All(t.extra) {
		m[k] = v
	}
	if t.OAuth2 != nil {
		m["oauth2"] = t.OAuth2
	}
	if t.BasicAuth != nil {
		m["basic_auth"] = t.BasicAuth
	}
	m["ostree"] = map[string]any{}
	if len(t.OSTree) > 0 && string(t.OSTree) != "null" {
		m["ostree"] = t.OSTree
	}
	return json.Marshal(m)
}
