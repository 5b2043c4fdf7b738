package trust_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/trust"
	"github.com/hanaper/hanaper/trust/trusttest"
)

// shortSalt is an RSA key that signs with a salt of 20 bytes, whatever it is asked.
type shortSalt struct{ crypto.Signer }

func (s shortSalt) Sign(r io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(r, digest, &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
}

// nextRoot is a second root that all officers signed, with changed roles and keys.
func nextRoot(t *testing.T, w *trusttest.World, f trust.Files, edit func(roles, keys map[string]any)) {
	t.Helper()
	f["metadata/2.root.json"] = f["metadata/1.root.json"]
	trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) {
		s["version"] = 2
		edit(s["roles"].(map[string]any), s["keys"].(map[string]any))
	}, w.RootKeys...)
}

// TestRootsThatDoNotFollow: a second root that its own keys signed well, and that does not follow from the first. go-tuf alone takes both.
func TestRootsThatDoNotFollow(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1)
	for _, c := range []struct {
		name, says string
		want       error
		edit       func(signed map[string]any)
		signers    []crypto.Signer
	}{
		{"one old officer's signature has a short salt", "2.root.json", trust.ErrSignature, func(s map[string]any) {
			s["roles"].(map[string]any)["root"] = map[string]any{"threshold": 2, "keyids": []any{trusttest.KeyID(t, w.TargetsKeys[0].Public()), trusttest.KeyID(t, w.TargetsKeys[1].Public())}}
		}, []crypto.Signer{w.TargetsKeys[0], w.TargetsKeys[1], w.RootKeys[0], shortSalt{w.RootKeys[2]}}},
		{"it is of another environment", "2.root.json", trust.ErrEnvironment, func(s map[string]any) { s["hanaper_environment"] = "other" }, w.RootKeys},
	} {
		f := trusttest.Snap(t, w.Dir)
		f["metadata/2.root.json"] = f["metadata/1.root.json"]
		trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) {
			s["version"] = 2
			c.edit(s)
		}, c.signers...)
		if _, err := trust.Open(f, w.Pin, w.Now); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Another file in the pinned root's place would be served to readers who have the digest only.
	f := trusttest.Snap(t, w.Dir)
	f["metadata/1.root.json"] = trusttest.New(t).Offline["metadata/1.root.json"]
	if _, err := trust.Open(f, w.Pin, w.Now); !errors.Is(err, trust.ErrPin) {
		t.Errorf("another first root: %v", err)
	}
}

// TestCAKeyOnline: a CA's key is no key for the timestamp, whoever says so.
func TestCAKeyOnline(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1)
	f := trusttest.Snap(t, w.Dir)
	k, err := metadata.KeyFromPublicKey(w.Issuing.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := trusttest.KeyID(t, w.Issuing.Key.Public())
	nextRoot(t, w, f, func(roles, keys map[string]any) {
		keys[id] = map[string]any{"keytype": k.Type, "scheme": k.Scheme, "keyval": map[string]any{"public": k.Value.PublicKey}}
		roles["timestamp"].(map[string]any)["keyids"] = []any{id}
	})
	trusttest.Forge(t, f, "metadata/timestamp.json", nil, w.Issuing.Key)
	if _, err := trust.Open(f, w.Pin, w.Now); !errors.Is(err, trust.ErrMalformed) || !strings.Contains(err.Error(), "online trust key as well") {
		t.Errorf("got %v", err)
	}
}

// TestOfficersPartExpires: the officers' part opens until its targets end, and until its root ends, where that is first.
func TestOfficersPartExpires(t *testing.T) {
	for _, c := range []struct{ root, targets, end int }{{2, 1, 1}, {1, 2, 1}} {
		w := trusttest.New(t)
		w.Validity = trust.Validity{RootExpires: w.Now.AddDate(c.root, 0, 0), TargetsExpires: w.Now.AddDate(c.targets, 0, 0)}
		w.Rebuild()
		end := w.Now.AddDate(c.end, 0, 0)
		if _, err := trust.OpenRepository(w.Offline, w.Pin, end.Add(-time.Second)); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := trust.OpenRepository(w.Offline, w.Pin, end); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("%+v, at its end: %v", c, err)
		}
	}
}

// TestRootEndsFirst: a view does not outlive its root, were that the first to end.
func TestRootEndsFirst(t *testing.T) {
	w := trusttest.New(t)
	w.Validity.RootExpires = w.Now.Add(12 * time.Hour)
	w.Rebuild()
	w.Import()
	w.AddCRL(1)
	v := w.View()
	if !v.Expires().Equal(w.Validity.RootExpires) || v.Valid(w.Now.Add(12*time.Hour)) == nil || v.Valid(w.Now.Add(11*time.Hour)) != nil {
		t.Errorf("the view ends %v, its root %v", v.Expires(), w.Validity.RootExpires)
	}
}

// TestOfficersCRLCounts: what the officers' CRL of a CA revokes is revoked, also where the online CRL is there and does not list it.
func TestOfficersCRLCounts(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(3, 6)
	w.Content.CRLs = append(w.Content.CRLs, w.MakeCRL(w.Issuing, 2, 5))
	w.Rebuild()
	w.Import()
	for serial, want := range map[int64]bool{5: true, 6: true, 7: false} {
		if w.View().Revoked(w.Issuing.Cert, big.NewInt(serial)) != want {
			t.Errorf("serial %d: revoked is not %v", serial, want)
		}
	}
}

// TestCRLDates: a CRL of a later time, or one that is over, is not published.
func TestCRLDates(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	now := w.Now
	for name, at := range map[string]time.Time{"in the future": now.Add(time.Hour), "past its nextUpdate": now.AddDate(-5, 0, 0)} {
		w.Now = at
		list := w.MakeCRL(w.Issuing, 1)
		w.Now = now
		before := trusttest.Snap(t, w.Dir)
		if err := w.Publish(func(p *trust.Publisher) error { return p.AddCRL(list) }); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a CRL of %v: %v", at, err)
		}
		if !maps.EqualFunc(before, trusttest.Snap(t, w.Dir), bytes.Equal) {
			t.Errorf("a CRL of %v: something was published", at)
		}
	}
}

// TestOlderTimestamp: an older timestamp over the same snapshot, whose time is not over yet: nothing but its version tells.
func TestOlderTimestamp(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1)
	old := trusttest.Snap(t, w.Dir)
	w.Now = w.Now.Add(13 * time.Hour)
	if err := w.Publish(func(p *trust.Publisher) error { return p.Refresh() }); err != nil {
		t.Fatal(err)
	}
	now := trusttest.Snap(t, w.Dir)
	seen, err := trust.Open(now, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	now["metadata/timestamp.json"] = old["metadata/timestamp.json"]
	if _, err := trust.Open(now, w.Pin, w.Now); err != nil {
		t.Fatalf("to a reader without history: %v", err)
	}
	if _, err := trust.OpenAfter(now, seen, w.Pin, w.Now); !errors.Is(err, trust.ErrRollback) || !strings.Contains(err.Error(), "timestamp") {
		t.Errorf("got %v", err)
	}
}

// TestAttacksOnFiles: an attacker with none or some of the keys changes what a reader without history sees.
func TestAttacksOnFiles(t *testing.T) {
	other := trusttest.New(t)
	other.Content.Environment = "other"
	for _, c := range []struct {
		name string
		want error
		edit func(w *trusttest.World, f trust.Files)
	}{
		{"timestamp by a stranger", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", nil, w.Key())
		}},
		{"timestamp with a stranger's signature under the key's id", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			stranger := w.Key()
			trusttest.Forge(t, f, "metadata/timestamp.json", nil, stranger)
			f["metadata/timestamp.json"] = bytes.ReplaceAll(f["metadata/timestamp.json"],
				[]byte(trusttest.KeyID(t, stranger.Public())), []byte(trusttest.KeyID(t, w.Timestamp.Public())))
		}},
		{"targets below the threshold", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/1.targets.json", nil, w.TargetsKeys[0])
			redescribe(t, w, f)
		}},
		{"targets with one key's signature twice", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/1.targets.json", nil, w.TargetsKeys[0], w.TargetsKeys[0])
			redescribe(t, w, f)
		}},
		{"root below the threshold", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			f["metadata/2.root.json"] = f["metadata/1.root.json"]
			trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) { s["version"] = 2 }, w.RootKeys[0])
		}},
		{"root with a threshold of zero", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			nextRoot(t, w, f, func(roles, _ map[string]any) { roles["timestamp"].(map[string]any)["threshold"] = 0 })
		}},
		{"root whose timestamp key is an officer's", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			nextRoot(t, w, f, func(roles, _ map[string]any) {
				roles["timestamp"].(map[string]any)["keyids"] = []any{trusttest.KeyID(t, w.TargetsKeys[0].Public())}
			})
		}},
		{"targets whose delegated key is an officer's", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			var root struct {
				Signed struct{ Keys map[string]any }
			}
			if err := json.Unmarshal(f["metadata/1.root.json"], &root); err != nil {
				t.Fatal(err)
			}
			id := trusttest.KeyID(t, w.TargetsKeys[0].Public())
			trusttest.Forge(t, f, "metadata/1.targets.json", func(s map[string]any) {
				d := s["delegations"].(map[string]any)
				d["keys"] = map[string]any{id: root.Signed.Keys[id]}
				d["roles"].([]any)[0].(map[string]any)["keyids"] = []any{id}
			}, w.TargetsKeys...)
			redescribe(t, w, f)
		}},
		// go-tuf takes any salt.
		{"root with a PSS salt of 20 bytes", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			f["metadata/2.root.json"] = f["metadata/1.root.json"]
			trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) { s["version"] = 2 }, w.RootKeys[0], shortSalt{w.RootKeys[2]})
		}},
		{"a second root signed only by itself", trust.ErrSignature, func(w *trusttest.World, f trust.Files) {
			mallory := trusttest.New(t)
			f["metadata/2.root.json"] = mallory.Offline["metadata/1.root.json"]
			trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) { s["version"] = 2 }, mallory.RootKeys...)
		}},
		{"a root that skips a version", trust.ErrMixed, func(w *trusttest.World, f trust.Files) {
			f["metadata/2.root.json"] = f["metadata/1.root.json"]
			trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) { s["version"] = 3 }, w.RootKeys...)
		}},
		{"the same root again", trust.ErrMixed, func(w *trusttest.World, f trust.Files) {
			f["metadata/2.root.json"] = f["metadata/1.root.json"]
		}},
		{"a P-384 key in the root", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			f["metadata/2.root.json"] = f["metadata/1.root.json"]
			trusttest.Forge(t, f, "metadata/2.root.json", func(s map[string]any) {
				s["version"] = 2
				for _, k := range s["keys"].(map[string]any) {
					k.(map[string]any)["scheme"] = "ecdsa-sha2-nistp384"
				}
			}, w.RootKeys...)
		}},
		{"mixed: another snapshot under the timestamp", trust.ErrMixed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/2.snapshot.json", func(s map[string]any) { s["expires"] = "2026-05-01T00:00:00Z" }, w.Snapshot)
		}},
		{"mixed: a snapshot of another version, hash and all", trust.ErrMixed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/2.snapshot.json", func(s map[string]any) { s["version"] = 7 }, w.Snapshot)
			trusttest.Forge(t, f, "metadata/timestamp.json", trusttest.Describe(f, "snapshot.json", "metadata/2.snapshot.json", 2), w.Timestamp)
		}},
		{"mixed: an old CRL file under the new name", trust.ErrMixed, func(w *trusttest.World, f trust.Files) {
			f[crlPath(f)] = w.MakeCRL(w.Issuing, 2)
		}},
		{"a CRL by a stranger, signed in by the online keys", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			swapCRL(t, w, f, w.MakeCRL(w.NewCA("Stranger", nil), 9))
		}},
		{"a CRL by another CA of the environment", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			swapCRL(t, w, f, w.MakeCRL(w.Root, 9))
		}},
		{"the online role signs an anchor", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/2.crl.json", func(s map[string]any) {
				targets := s["targets"].(map[string]any)
				for _, v := range targets {
					targets["anchors.pem"] = v
				}
			}, w.CRL)
			redescribe(t, w, f)
		}},
		{"the online role delegates", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/2.crl.json", func(s map[string]any) {
				s["delegations"] = map[string]any{"keys": map[string]any{}, "roles": []any{}}
			}, w.CRL)
			redescribe(t, w, f)
		}},
		{"another environment's name in the timestamp", trust.ErrEnvironment, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["hanaper_environment"] = "prod" }, w.Timestamp)
		}},
		{"no environment", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { delete(s, "hanaper_environment") }, w.Timestamp)
		}},
		{"the format of the online role's metadata in a timestamp", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["hanaper_format"] = 2 }, w.Timestamp)
		}},
		{"a format that nobody knows", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["hanaper_format"] = 3 }, w.Timestamp)
		}},
		{"expired timestamp", trust.ErrExpired, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["expires"] = "2026-03-01T12:00:00Z" }, w.Timestamp)
		}},
		{"a key that stands twice in the JSON", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			f["metadata/timestamp.json"] = bytes.Replace(f["metadata/timestamp.json"], []byte(`"version":3`), []byte(`"version":3,"version":3`), 1)
		}},
		{"a null where a file should be", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["meta"] = map[string]any{"snapshot.json": nil} }, w.Timestamp)
		}},
		{"endless data: a timestamp of 20 kB", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			f["metadata/timestamp.json"] = append(f["metadata/timestamp.json"], bytes.Repeat([]byte(" "), 20<<10)...)
		}},
		{"a version that none can follow", trust.ErrMalformed, func(w *trusttest.World, f trust.Files) {
			trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) { s["version"] = 1 << 40 }, w.Timestamp)
		}},
		{"half a copy", trust.ErrIncomplete, func(w *trusttest.World, f trust.Files) { delete(f, "metadata/2.snapshot.json") }},
		{"half a copy: targets", trust.ErrIncomplete, func(w *trusttest.World, f trust.Files) { delete(f, crlPath(f)) }},
		{"another repository", trust.ErrPin, func(w *trusttest.World, f trust.Files) {
			clear(f)
			maps.Copy(f, trusttest.New(t).Offline)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := trusttest.New(t)
			w.Import()
			w.AddCRL(1, 5)
			w.Now = w.Now.Add(12 * time.Hour)
			if err := w.Publish((*trust.Publisher).Refresh); err != nil {
				t.Fatal(err)
			}
			f := trusttest.Snap(t, w.Dir)
			pin, err := trust.ParsePin(w.Pin.String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := trust.Open(f, pin, w.Now); err != nil {
				t.Fatalf("before the attack: %v", err)
			}
			c.edit(w, f)
			_, err = trust.Open(f, pin, w.Now)
			if !errors.Is(err, c.want) || advice.KindOf(err) != advice.Unverified {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func crlPath(f trust.Files) string {
	for name := range f {
		if strings.HasPrefix(name, "targets/crl/") {
			return name
		}
	}
	return ""
}

// redescribe makes snapshot and timestamp match the (forged) targets and crl metadata: the attacker holds the online keys.
func redescribe(t *testing.T, w *trusttest.World, f trust.Files) {
	t.Helper()
	trusttest.Forge(t, f, "metadata/2.snapshot.json", func(s map[string]any) {
		trusttest.Describe(f, "targets.json", "metadata/1.targets.json", 1)(s)
		trusttest.Describe(f, "crl.json", "metadata/2.crl.json", 2)(s)
	}, w.Snapshot)
	trusttest.Forge(t, f, "metadata/timestamp.json", trusttest.Describe(f, "snapshot.json", "metadata/2.snapshot.json", 2), w.Timestamp)
}

// swapCRL puts another CRL in the place of the issuing CA's: the attacker holds the online keys.
func swapCRL(t *testing.T, w *trusttest.World, f trust.Files, der []byte) {
	t.Helper()
	hash := trust.PinRoot(der).Digest()
	name := "crl/" + trust.IssuerID(w.Issuing.Cert).String() + ".crl"
	hex := trust.ID(hash).String()
	f["targets/crl/"+hex+"."+strings.TrimPrefix(name, "crl/")] = der
	trusttest.Forge(t, f, "metadata/2.crl.json", func(s map[string]any) {
		s["targets"].(map[string]any)[name] = map[string]any{"length": len(der), "hashes": map[string]any{"sha256": hex}}
	}, w.CRL)
	redescribe(t, w, f)
}

// TestAttacksOnHistory: an attacker, with online keys and the issuing CA's key even, against a reader that has seen more.
func TestAttacksOnHistory(t *testing.T) {
	type scene struct {
		*trusttest.World
		old, seen trust.Files
		prev      *trust.View
	}
	for _, c := range []struct {
		name string
		want error
		edit func(s *scene) trust.Files
	}{
		{"nothing new", nil, func(s *scene) trust.Files { return s.seen }},
		{"replay of the old repository", trust.ErrRollback, func(s *scene) trust.Files { return s.old }},
		{"an old snapshot under a new timestamp", trust.ErrRollback, func(s *scene) trust.Files {
			trusttest.Forge(t, s.old, "metadata/timestamp.json", func(m map[string]any) { m["version"] = 9 }, s.Timestamp)
			return s.old
		}},
		{"another timestamp of the same version", trust.ErrRollback, func(s *scene) trust.Files {
			trusttest.Forge(t, s.seen, "metadata/timestamp.json", func(m map[string]any) { m["expires"] = "2026-03-02T00:00:00Z" }, s.Timestamp)
			return s.seen
		}},
		{"freeze: the same repository for two days", trust.ErrExpired, func(s *scene) trust.Files {
			s.Now = s.Now.AddDate(0, 0, 2)
			return s.seen
		}},
		{"a CRL with a serial less", trust.ErrLoosened, func(s *scene) trust.Files {
			next(t, s.World, s.seen, s.MakeCRL(s.Issuing, 3, 5))
			return s.seen
		}},
		{"a CRL with a lower number", trust.ErrRollback, func(s *scene) trust.Files {
			next(t, s.World, s.seen, s.MakeCRL(s.Issuing, 1, 5, 6))
			return s.seen
		}},
		{"no CRL at all", trust.ErrLoosened, func(s *scene) trust.Files {
			next(t, s.World, s.seen, nil)
			return s.seen
		}},
		{"a CRL with a serial more", nil, func(s *scene) trust.Files {
			next(t, s.World, s.seen, s.MakeCRL(s.Issuing, 3, 4, 5, 6, 7))
			return s.seen
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := trusttest.New(t)
			w.Import()
			w.AddCRL(1, 5)
			s := &scene{World: w, old: trusttest.Snap(t, w.Dir)}
			w.AddCRL(2, 5, 6)
			s.seen, s.prev = trusttest.Snap(t, w.Dir), w.View()
			_, err := trust.OpenAfter(c.edit(s), s.prev, w.Pin, s.Now)
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// next makes versions 4 of the online half by hand, with this CRL of the issuing CA (none if nil).
func next(t *testing.T, w *trusttest.World, f trust.Files, der []byte) {
	t.Helper()
	f["metadata/4.crl.json"], f["metadata/4.snapshot.json"] = f["metadata/3.crl.json"], f["metadata/3.snapshot.json"]
	name := trust.IssuerID(w.Issuing.Cert).String() + ".crl"
	trusttest.Forge(t, f, "metadata/4.crl.json", func(s map[string]any) {
		s["version"] = 4
		s["targets"] = map[string]any{}
		if der != nil {
			hex := trust.ID(trust.PinRoot(der).Digest()).String()
			f["targets/crl/"+hex+"."+name] = der
			s["targets"].(map[string]any)["crl/"+name] = map[string]any{"length": len(der), "hashes": map[string]any{"sha256": hex}}
		}
	}, w.CRL)
	trusttest.Forge(t, f, "metadata/4.snapshot.json", func(s map[string]any) {
		s["version"] = 4
		trusttest.Describe(f, "crl.json", "metadata/4.crl.json", 4)(s)
	}, w.Snapshot)
	trusttest.Forge(t, f, "metadata/timestamp.json", func(s map[string]any) {
		s["version"] = 4
		trusttest.Describe(f, "snapshot.json", "metadata/4.snapshot.json", 4)(s)
	}, w.Timestamp)
}

// TestRelease: the officers release a serial; then, and only then, a CRL may leave it out.
func TestRelease(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5, 6)
	prev := w.View()
	without := func(p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 2, 6)) }
	before := trusttest.Snap(t, w.Dir)
	if err := w.Publish(without); !errors.Is(err, trust.ErrLoosened) {
		t.Fatalf("got %v", err)
	}
	sameFiles(t, before, trusttest.Snap(t, w.Dir))
	w.Content.Releases = []trust.Release{{Issuer: trust.IssuerID(w.Issuing.Cert), Serial: big.NewInt(5)}}
	w.Rebuild()
	w.Import()
	if !w.View().Revoked(w.Issuing.Cert, big.NewInt(5)) {
		t.Error("a release by itself un-revokes")
	}
	if err := w.Publish(without); err != nil {
		t.Fatal(err)
	}
	v, err := trust.OpenAfter(trusttest.Snap(t, w.Dir), prev, w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	if v.Revoked(w.Issuing.Cert, big.NewInt(5)) || !v.Revoked(w.Issuing.Cert, big.NewInt(6)) {
		t.Error("after the release 5 should be free and 6 not")
	}
}

// TestPublisherRefuses: every refusal leaves the folder as it was.
func TestPublisherRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
		do   func(w *trusttest.World, p *trust.Publisher) error
	}{
		{"CRL of a stranger", nil, func(w *trusttest.World, p *trust.Publisher) error {
			return p.AddCRL(w.MakeCRL(w.NewCA("Stranger", nil), 1))
		}},
		{"not a CRL", nil, func(w *trusttest.World, p *trust.Publisher) error { return p.AddCRL([]byte("hello")) }},
		{"CRL number again", trust.ErrRollback, func(w *trusttest.World, p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 3, 5, 6)) }},
		{"serial gone", trust.ErrLoosened, func(w *trusttest.World, p *trust.Publisher) error { return p.AddCRL(w.MakeCRL(w.Issuing, 4)) }},
		{"older officers' part", trust.ErrRollback, func(w *trusttest.World, p *trust.Publisher) error {
			return p.Import(w.Offline)
		}},
		{"other officers", trust.ErrPin, func(w *trusttest.World, p *trust.Publisher) error { return p.Import(trusttest.New(t).Offline) }},
		{"empty folder", trust.ErrEmpty, func(w *trusttest.World, p *trust.Publisher) error { return p.Import(trust.Files{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := trusttest.New(t)
			w.Import()
			w.AddCRL(3, 5)
			first := w.Offline
			w.Rebuild()
			w.Import()
			w.Offline = first
			before := trusttest.Snap(t, w.Dir)
			err := w.Publish(func(p *trust.Publisher) error { return c.do(w, p) })
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			sameFiles(t, before, trusttest.Snap(t, w.Dir))
		})
	}
}

// TestOnlineKeyRotation: after the officers have replaced the online keys, the old ones count for nothing, and versions that the
// old keys had driven up do not lock readers out.
func TestOnlineKeyRotation(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	old := trusttest.Snap(t, w.Dir)
	stolenTimestamp := w.Timestamp
	trusttest.Forge(t, old, "metadata/timestamp.json", func(s map[string]any) { s["version"] = 1 << 30 }, stolenTimestamp)
	prev, err := trust.OpenAfter(old, w.View(), w.Pin, w.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.Timestamp = w.Key()
	w.Keys.Timestamp = trust.One(w.Timestamp.Public())
	w.Rebuild()
	w.Import()
	files := trusttest.Snap(t, w.Dir)
	v, err := trust.OpenAfter(files, prev, w.Pin, w.Now)
	if err != nil {
		t.Fatalf("after the rotation: %v", err)
	}
	if v.Versions().Root != 2 || !v.Revoked(w.Issuing.Cert, big.NewInt(5)) {
		t.Errorf("%+v", v.Versions())
	}
	// The stolen key signs a timestamp; the new root is there, or withheld: refused either way.
	forged := maps.Clone(files)
	trusttest.Forge(t, forged, "metadata/timestamp.json", func(s map[string]any) { s["version"] = 1<<30 + 1 }, stolenTimestamp)
	withheld := maps.Clone(forged)
	delete(withheld, "metadata/2.root.json")
	for _, f := range []trust.Files{forged, withheld, old} {
		if _, err := trust.OpenAfter(f, v, w.Pin, w.Now); !errors.Is(err, trust.ErrSignature) {
			t.Errorf("got %v", err)
		}
	}
}

// TestPublicationSurvivesCrash: cut after any number of moves, the next publisher finishes the publication.
func TestPublicationSurvivesCrash(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	before := trusttest.Snap(t, w.Dir)
	w.AddCRL(1, 5)
	after := trusttest.Snap(t, w.Dir)
	var fresh []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !bytes.Equal(before[name], after[name]) {
			fresh = append(fresh, name)
		}
	}
	for moved := 0; moved <= len(fresh); moved++ {
		for _, whole := range []bool{true, false} {
			if !whole && moved > 0 {
				continue
			}
			w.Dir = t.TempDir()
			put(t, w.Dir, before)
			put(t, w.Dir, pick(after, fresh[:moved], ""))
			put(t, w.Dir, pick(after, fresh[moved:], ".pending/"))
			if whole {
				put(t, w.Dir, trust.Files{".pending/complete": nil})
			}
			p, err := trust.NewPublisher(w.PublisherConfig())
			if err != nil {
				t.Fatalf("cut after %d: %v", moved, err)
			}
			if got := p.View().Revoked(w.Issuing.Cert, big.NewInt(5)); got != whole {
				t.Errorf("cut after %d (whole %v): revoked %v", moved, whole, got)
			}
			w.View()
		}
	}
}

func pick(f trust.Files, names []string, prefix string) trust.Files {
	out := trust.Files{}
	for _, n := range names {
		out[prefix+n] = f[n]
	}
	return out
}

// TestEveryByteCounts: a changed byte in any file is refused.
func TestEveryByteCounts(t *testing.T) {
	w := trusttest.New(t)
	w.Import()
	w.AddCRL(1, 5)
	files := trusttest.Snap(t, w.Dir)
	n := 0
	for name, data := range files {
		if strings.HasPrefix(name, "metadata/1.") && name != "metadata/1.root.json" && name != "metadata/1.targets.json" {
			continue // superseded
		}
		for i := 0; i < len(data); i += 23 {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << (i % 7)
			f := maps.Clone(files)
			f[name] = changed
			pin, _ := trust.ParsePin(w.Pin.String())
			if _, err := trust.Open(f, pin, w.Now); err == nil {
				t.Errorf("%s byte %d", name, i)
			}
			n++
		}
	}
	if n < 300 {
		t.Errorf("only %d bytes tried", n)
	}
}
