package factory

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"
)

// SharedConfig is the section about shared credentials of test benches. The officers' policy, in the trust repository that it names, has the last word.
type SharedConfig struct {
	// Environment is the one of the repository.
	Environment string            `yaml:"environment"`
	Trust       SharedTrustConfig `yaml:"trust"`
	// ServerRoot is a file of the Gateway Server Roots, which benches are told of.
	ServerRoot string `yaml:"server_root"`
	// CredentialDays is how long a credential lasts at most, DeviceDays a bench's certificate.
	CredentialDays int `yaml:"credential_days"`
	DeviceDays     int `yaml:"device_days"`
}

// SharedTrustConfig says which trust repository to follow, as a gateway's configuration does.
type SharedTrustConfig struct {
	Source   string        `yaml:"source"`
	Root     string        `yaml:"root"`
	State    string        `yaml:"state"`
	Interval time.Duration `yaml:"interval"`
	CA       string        `yaml:"ca"`
}

// maxBenchDays bounds both.
const maxBenchDays = 366

func (c *SharedConfig) check() error {
	for _, f := range []struct{ key, value string }{
		{"environment", c.Environment}, {"trust.source", c.Trust.Source}, {"trust.root", c.Trust.Root}, {"trust.state", c.Trust.State}, {"server_root", c.ServerRoot},
	} {
		if f.value == "" {
			return fmt.Errorf("shared_credentials.%s is missing", f.key)
		}
	}
	c.CredentialDays, c.DeviceDays = cmp.Or(c.CredentialDays, 30), cmp.Or(c.DeviceDays, 90)
	if c.CredentialDays < 1 || c.CredentialDays > maxBenchDays || c.DeviceDays < 1 || c.DeviceDays > maxBenchDays {
		return fmt.Errorf("shared_credentials: credential_days and device_days are 1 to %d", maxBenchDays)
	}
	if c.Trust.Interval < 0 || c.Trust.Interval > 24*time.Hour {
		return errors.New("shared_credentials.trust.interval is not 0s to 24h")
	}
	return nil
}

// paths are those that may be relative to the configuration's folder.
func (c *SharedConfig) paths() []*string {
	list := []*string{&c.Trust.State, &c.Trust.CA, &c.ServerRoot}
	if !strings.Contains(c.Trust.Source, "://") {
		list = append(list, &c.Trust.Source)
	}
	if len(strings.TrimPrefix(c.Trust.Root, "sha256:")) != 64 {
		list = append(list, &c.Trust.Root)
	}
	return list
}
