package factory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/hanaper/hanaper/ca"
	"github.com/hanaper/hanaper/csr"
	"github.com/hanaper/hanaper/factory/record"
	"github.com/hanaper/hanaper/internal/show"
)

// DeviceProfile is the name of the built-in profile, which the section devices of the configuration shapes. A profile of one's own may not
// have this name.
const DeviceProfile = "device"

// Profile says which certificate a device gets, and what its request may ask for.
type Profile struct {
	// Name is what lots and the configuration call it.
	Name string
	// Certificate is what the certificate holds, Policy what the request may hold.
	Certificate *ca.Profile
	Policy      *csr.Policy
	// IDs is what a whole device id must match.
	IDs *regexp.Regexp
	// Days is how long a certificate lasts, MinimumDays how long at least; both in days.
	Days, MinimumDays int
	// Organization is written into the subject; empty for none.
	Organization string
	// Names holds names to lists; nil for none.
	Names NamePolicy
	// unit is the OU in the subject; empty for none.
	unit string
	// form is what the id must be besides; nil for anything.
	form *idForm
}

// builtinProfile is the profile that the configuration's section devices describes.
func builtinProfile(c *ServiceConfig) (*Profile, error) {
	cert, err := ca.Builtin("device")
	if err != nil {
		return nil, err
	}
	p := &Profile{Name: DeviceProfile, Certificate: cert, Policy: csr.DevicePolicy(), IDs: c.IDs, Days: c.Days, MinimumDays: c.MinimumDays, Organization: c.Organization}
	if c.Attestation != nil {
		p.Policy = csr.AttestedDevicePolicy()
	}
	return p, nil
}

// takeProfiles keeps the profiles by name, the built-in one among them.
func (s *Service) takeProfiles() error {
	device, err := builtinProfile(&s.c)
	if err != nil {
		return err
	}
	s.profiles = map[string]*Profile{DeviceProfile: device}
	for _, p := range s.c.Profiles {
		if p == nil || p.Certificate == nil || p.Policy == nil || p.IDs == nil {
			return errors.New("factory: a profile is not complete")
		}
		if s.profiles[p.Name] != nil {
			return fmt.Errorf("factory: two profiles have the name %s", show.Text(p.Name))
		}
		s.profiles[p.Name] = p
	}
	_, err = s.profile("")
	return err
}

// profile finds a profile by the name that a lot or a record gives; the empty name is that of devices.profile, else of the built-in one.
func (s *Service) profile(name string) (*Profile, error) {
	name = cmp.Or(name, s.c.DefaultProfile, DeviceProfile)
	if p := s.profiles[name]; p != nil {
		return p, nil
	}
	return nil, fault(CodePolicy, "name its file under profiles in hanaperd's configuration, on every server", "hanaperd has no profile %.80q", name)
}

// profileOf finds the profile for devices of a lot: that of its order, else the default.
func (s *Service) profileOf(lot string) (*Profile, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	l, err := s.lotOf(ctx, lot, false)
	if err != nil {
		return nil, err
	}
	return s.profile(l.Profile)
}

// profileOn finds the profile that an intent on record names. Those of before profiles had names were made by the built-in one.
func (s *Service) profileOn(in *record.Intent) (*Profile, error) {
	if p := s.benches[in.Profile]; p != nil {
		return p, nil
	}
	return s.profile(cmp.Or(in.Profile, DeviceProfile))
}

// checkID refuses a device id that is not of the profile's form.
func (p *Profile) checkID(id string) *Fault {
	if !p.IDs.MatchString(id) {
		return fault(CodePolicy, "put an id of that form into the request's CN; devices.id_pattern in hanaperd's configuration is "+p.IDs.String(), "device id %.80q is not of the allowed form", id)
	}
	if p.form != nil {
		return p.form.check(id)
	}
	return nil
}
