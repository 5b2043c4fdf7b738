package uptane

import (
	"maps"
	"slices"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// DirectorFiles is what a device fetches from the Director, as the server sent it.
type DirectorFiles struct {
	// Roots are the roots after the trusted one, in order.
	Roots   [][]byte
	Targets []byte
}

// VerifiedDirector is the Director's metadata for one vehicle, verified against a trusted root.
type VerifiedDirector struct {
	root    *Root
	targets *Targets
}

// Targets is the vehicle's targets document.
func (v *VerifiedDirector) Targets() *Targets { return v.targets }

// VerifyDirector does what a device does with the Director: the root chain, then targets with its threshold of
// different keys, version and expiry, without delegations and with each ECU once. previous is what the device
// verified last, nil at first.
func VerifyDirector(trusted *Root, f DirectorFiles, previous *VerifiedDirector, now time.Time, opts ...Option) (*VerifiedDirector, error) {
	root, err := VerifyRootChain(trusted, f.Roots, now, opts...)
	if err != nil {
		return nil, err
	}
	targets, err := ParseTargets(Director, f.Targets, opts...)
	if err != nil {
		return nil, err
	}
	if err := verifyRole(root, targets, now); err != nil {
		return nil, err
	}
	if previous != nil {
		if err := verifyNotOlder(previous.targets, targets); err != nil {
			return nil, err
		}
		if err := verifyNotOlder(previous.root, root); err != nil {
			return nil, err
		}
	}
	return &VerifiedDirector{root, targets}, nil
}

// Assignment is a target that both repositories agree on, for one ECU.
type Assignment struct {
	ECU        string
	HardwareID string
	Name       string
	Director   Target
	Image      Target
}

// VerifyAgreement checks that all that the Director assigns is what the Image repository holds: same name, length and
// hashes, and each ECU's hardware id among those of the image. ecus are the vehicle's own, serial to hardware id: an
// assignment to any other ECU, or to one of other hardware, is refused. A nil ecus leaves that check out, for callers
// who do not know the vehicle.
func VerifyAgreement(d *VerifiedDirector, image *VerifiedImage, ecus map[string]string) ([]Assignment, error) {
	var out []Assignment
	for _, name := range d.targets.Names() {
		dt := d.targets.targets[name]
		it, err := image.Find(name)
		if err != nil {
			return nil, unverified(because(ErrDisagree, "the director assigns %q, which the image repository does not have", name))
		}
		if dt.Length != it.Length {
			return nil, unverified(because(ErrDisagree, "%q has %d bytes for the director and %d in the image repository", name, dt.Length, it.Length))
		}
		if dt.SHA256 != it.SHA256 || dt.SHA512 != "" && it.SHA512 != "" && dt.SHA512 != it.SHA512 {
			return nil, unverified(because(ErrDisagree, "%q has other hashes for the director than in the image repository", name))
		}
		dc, err := dt.DirectorCustom()
		if err != nil {
			return nil, err
		}
		ic, err := it.ImageCustom()
		if err != nil {
			return nil, inside(name, err)
		}
		for _, serial := range slices.Sorted(maps.Keys(dc.ECUs)) {
			id := dc.ECUs[serial]
			if !slices.Contains(ic.HardwareIDs, id) {
				return nil, unverified(because(ErrDisagree, "the director gives %q to ECU %s of hardware %q, and the image is for %q", name, show.Text(serial), id, ic.HardwareIDs))
			}
			if ecus != nil {
				own, ok := ecus[serial]
				if !ok {
					return nil, unverified(because(ErrDisagree, "the director assigns %q to ECU %s, which is not in this vehicle", name, show.Text(serial)))
				}
				if own != id {
					return nil, unverified(because(ErrDisagree, "ECU %s is of hardware %q, and the director says %q", show.Text(serial), own, id))
				}
			}
			out = append(out, Assignment{ECU: serial, HardwareID: id, Name: name, Director: dt, Image: it})
		}
	}
	return out, nil
}
