package factory

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/quorum"
)

// LotConfig is the section lots of the configuration.
type LotConfig struct {
	Required    bool   `yaml:"required"`
	Environment string `yaml:"environment"`
	Orders      struct {
		// Officers is the roster's file, Digest its SHA-256 in hex; without them operators order.
		Officers  string `yaml:"officers"`
		Digest    string `yaml:"digest"`
		Threshold int    `yaml:"threshold"`
	} `yaml:"orders"`
}

// StationConfig is one entry of the list stations.
type StationConfig struct {
	Name      string   `yaml:"name"`
	Lots      []string `yaml:"lots"`
	PerMinute int      `yaml:"per_minute"`
	Burst     int      `yaml:"burst"`
}

// maxPerMinute bounds the rates that can be configured.
const maxPerMinute = 1_000_000

func checkRate(name string, perMinute, burst int) error {
	if perMinute < 0 || perMinute > maxPerMinute || burst < 0 || burst > maxPerMinute || burst > 0 && perMinute == 0 {
		return fmt.Errorf("%s: %d devices a minute and %d at once are no rate", name, perMinute, burst)
	}
	return nil
}

// checkLots checks the sections lots and stations.
func (c *Config) checkLots() error {
	o := c.Lots.Orders
	if err := checkWord("lots.environment", c.Lots.Environment); err != nil {
		return err
	}
	if (o.Officers == "") != (o.Digest == "") || o.Officers == "" && o.Threshold != 0 {
		return advice.New(advice.Usage, "name the roster's file, its digest from the ceremony's paper, and how many officers must sign", "lots.orders: officers, digest and threshold belong together")
	}
	if raw, err := hex.DecodeString(o.Digest); err != nil || o.Digest != "" && len(raw) != 32 {
		return errors.New("lots.orders.digest is not the SHA-256 of a roster in hex")
	}
	if err := checkRate("limits.station_per_minute", c.Limits.StationPerMinute, c.Limits.StationBurst); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, s := range c.Stations {
		name := fmt.Sprintf("stations, entry %d", i+1)
		switch {
		case !callerName.MatchString(s.Name):
			return fmt.Errorf("%s: name is %.80q", name, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("%s: %s stands there twice", name, show.Text(s.Name))
		}
		seen[s.Name] = true
		if err := checkRate(name, s.PerMinute, s.Burst); err != nil {
			return err
		}
		for _, l := range s.Lots {
			if err := checkLotName(l); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// LoadLots reads the roster, where officers order, and gives what the configuration says of lots and stations.
func (c *Config) LoadLots(callers *Callers) (LotPolicy, error) {
	p := LotPolicy{Verify: OperatorOrders(callers), Environment: c.Lots.Environment, Required: c.Lots.Required,
		Rate: Rate{c.Limits.StationPerMinute, c.Limits.StationBurst}, Stations: map[string]StationRule{}}
	for _, s := range c.Stations {
		p.Stations[s.Name] = StationRule{Lots: s.Lots, Rate: Rate{s.PerMinute, s.Burst}}
	}
	o := c.Lots.Orders
	if o.Officers == "" {
		return p, nil
	}
	b, err := readFile(o.Officers)
	if err != nil {
		return p, err
	}
	roster, err := quorum.ParseRoster(b)
	if err != nil {
		return p, advice.New(advice.KindOf(err), advice.Hint(err), "lots.orders.officers %s: %w", show.Text(o.Officers), err)
	}
	if d := roster.Digest(); hex.EncodeToString(d[:]) != o.Digest {
		return p, advice.New(advice.Unverified, "compare the roster's digest with the ceremony's paper", "lots.orders.officers %s has the digest %x, and lots.orders.digest is another", show.Text(o.Officers), d)
	}
	threshold := o.Threshold
	if threshold == 0 {
		threshold = roster.Threshold()
	}
	officers := 0
	for _, one := range roster.Officers() {
		if one.Role == quorum.RoleOfficer {
			officers++
		}
	}
	switch {
	case threshold < 1 || threshold > officers:
		return p, advice.New(advice.Usage, "", "lots.orders.threshold is %d, and the roster has %d officers", threshold, officers)
	case c.Lots.Environment != "" && c.Lots.Environment != roster.Environment():
		return p, advice.New(advice.Refused, "the officers of another environment order nothing here", "lots.environment is %s, and the roster is that of %s", show.Text(c.Lots.Environment), show.Text(roster.Environment()))
	}
	p.Verify = OfficerOrders(roster, threshold)
	return p, nil
}
