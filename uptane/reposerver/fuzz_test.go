package reposerver

import (
	"strings"
	"testing"

	"github.com/hanaper/hanaper/uptane"
)

const (
	seedKey          = `{"keytype":"ED25519","keyval":{"public":"D75A980182B10AB7D54BFED3C964073A0EE172F3DAA62325AF021A68F707511A"}}`
	seedRegistration = `{"primary_ecu_serial":"e","ecus":[{"ecu_serial":"e","hardware_identifier":"h","clientKey":` + seedKey + `}]}`
	seedManifest     = `{"signatures":[{"keyid":"k","method":"ed25519","sig":"AAAA"}],"signed":{"ecu_version_manifests":{"e":{"signatures":[],"signed":{"ecu_serial":"e","installed_image":{"fileinfo":{"hashes":{"sha256":"00"},"length":1},"filepath":"f"}}}},"installation_report":{"report":{"correlation_id":"urn:hanaper:assignment:7:00","result":{"success":false,"code":"X","description":""},"items":[{"ecu":"e","result":{"success":false,"code":"X","description":""}}]}},"primary_ecu_serial":"e"}}`
	seedEvents       = `[{"id":"1","deviceTime":"2026-01-02T03:04:05Z","eventType":{"id":"EcuInstallationCompleted","version":0},"event":{"ecu":"e","success":true}}]`
	seedIndex        = `{"repository":"image","first_root":1,"roots":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}`
	seedDevice       = `{"device":"d","primary_ecu_serial":"e","ecus":{"e":{"hardware_id":"h","key":{}}},"registered":"x"}`
)

// TestSeeds: the seeds are what they pretend to be.
func TestSeeds(t *testing.T) {
	if _, err := parseRegistration([]byte(seedRegistration)); err != nil {
		t.Error(err)
	}
	if m, err := parseManifest([]byte(seedManifest)); err != nil || m.report == nil || m.believed() != 7 {
		t.Error(err)
	}
	if list, err := parseEvents([]byte(seedEvents), "x"); err != nil || len(list) != 1 {
		t.Error(err)
	}
	if _, err := parseIndex("x", []byte(seedIndex)); err != nil {
		t.Error(err)
	}
	if _, err := DecodeDevice("x", []byte(seedDevice)); err != nil {
		t.Error(err)
	}
	if _, err := parseKeyPair([]byte(seedPair)); err != nil {
		t.Error(err)
	}
}

// TestKeyPairs: what the server writes, the client reads; a public half that is not the key's is refused by its id.
func TestKeyPairs(t *testing.T) {
	for _, bad := range []string{"", "{}", strings.Replace(seedPair, "9d61", "9d6", 1), strings.Replace(seedPair, "ED25519", "RSA", 1), strings.Replace(seedPair, "ED25519", "ECPRIME256V1", 1)} {
		if _, err := parseKeyPair([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

const seedPair = `{"keytype":"ED25519","keyval":{"public":"","private":"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"}}`

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(seedRegistration))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRegistration(data)
		if err != nil {
			return
		}
		for serial, e := range r.ECUs {
			if _, err := uptane.ParseKey(e.Key); err != nil || serial == "" {
				t.Errorf("%q: %v", serial, err)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(seedManifest))
	dev := &Device{ID: "d", Primary: "e", ECUs: map[string]ECU{"e": {"h", []byte(strings.ToLower(seedKey))}}}
	if k, err := deviceKey([]byte(seedKey)); err == nil {
		form, _ := k.MarshalJSON()
		dev.ECUs["e"] = ECU{"h", form}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err == nil && m.verify(dev) == nil {
			t.Error("a manifest that nobody signed is believed")
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(seedIndex))
	f.Fuzz(func(t *testing.T, data []byte) {
		if ix, err := parseIndex("x", data); err == nil {
			for d := range ix.digests() {
				if strings.ContainsAny(d, "/.") {
					t.Errorf("%q could leave the folder", d)
				}
			}
		}
	})
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte(seedDevice))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = DecodeDevice("x", data) })
}

func FuzzKeyPair(f *testing.F) {
	f.Add([]byte(seedPair))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := parseKeyPair(data); err == nil {
			if _, err := uptane.NewKey(k.Public()); err != nil && !strings.Contains(err.Error(), "bits") {
				t.Error(err)
			}
		}
	})
}

// FuzzReports: a manifest that parses leaves a record that can be stored, whatever it reports.
func FuzzReports(f *testing.F) {
	f.Add([]byte(seedManifest))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		dev := &Device{ID: "d", Primary: "e", Registered: "x", ECUs: map[string]ECU{"e": {HardwareID: "h", Key: []byte("{}")}}, Correlation: "urn:hanaper:assignment:7:00",
			Assigned: map[string]Assigned{"e": {Target: "t", SHA256: "00"}}, Versions: Versions{Targets: 7}}
		again := dev.take(m, "now")
		if dev.Versions.Targets != 7 || len(dev.Assigned) == 0 && !again {
			t.Errorf("versions %+v, assigned %v, again %v", dev.Versions, dev.Assigned, again)
		}
		record, err := EncodeDevice(dev)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeDevice("record", record); err != nil {
			t.Errorf("stored and not read: %v", err)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte(seedEvents))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseEvents(data, "now")
		if err == nil && len(list) > KeepEvents {
			t.Errorf("%d events", len(list))
		}
		for _, e := range list {
			if e.ID == "" || len(e.ID) > maxEventID || e.Kind == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}
