package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/uptane"
)

// serveUptane starts the repositories from what the ceremony made; their roots and the Image targets stay offline.
func (p *play) serveUptane(ctx context.Context) error {
	p.title("Uptane repositories")
	if _, err := p.run(ctx, "hanaper-repo", "uptane", "init", "--config", "hanaper-repo.yaml", "--image-root", "ceremony/uptane/image/root.json",
		"--image-targets", "ceremony/uptane/image/targets.json", "--director-root", "ceremony/uptane/director/root.json"); err != nil {
		return err
	}
	if _, err := p.serve(ctx, p.devices, "hanaper-repo", "serve", "--config", "hanaper-repo.yaml"); err != nil {
		return err
	}
	p.say("hanaper-repo serves trust at %s, and behind the gateway the Image and Director repositories at %s", p.repo, p.devices)
	p.say("what it signs by itself lies in token \"uptane-online\"; the roots and the Image targets key it does not have")
	return nil
}

// releaseSoftware signs a firmware with the offline targets key, as a release engineer does with garage-sign's commands.
func (p *play) releaseSoftware(ctx context.Context) error {
	p.title("Software is released")
	firmware := []byte("the firmware of the demo fleet, 2.1\n")
	sum := sha256.Sum256(firmware)
	if err := p.release(ctx, []string{"targets", "add", "--name", "firmware", "--version", "2.1", "--length", strconv.Itoa(len(firmware)), "--sha256", hex.EncodeToString(sum[:]),
		"--hardwareids", "demo-board", "--url", "https://images.example/firmware-2.1"}); err != nil {
		return err
	}
	p.say("hanaper-sign, with garage-sign's commands: pull, add firmware-2.1, sign with the key in the token, push")
	return nil
}

// release runs a release engineer's commands: those given in the middle.
func (p *play) release(ctx context.Context, middle ...[]string) error {
	if err := p.credentials(); err != nil {
		return err
	}
	roots := p.boards["roots"]
	key := hsm.URI{Token: roots.Label, Serial: roots.Serial, Object: "Demo Image Targets", ModulePath: roots.Module, PINSource: roots.PINFile}
	for _, args := range slices.Concat([][]string{
		{"init", "--credentials", "credentials.zip"},
		{"key", "link", "--name", "targets", "--uri", key.String()},
		{"targets", "pull"},
	}, middle, [][]string{
		{"targets", "sign", "--key-name", "targets", "--expire-after", "31D"},
		{"targets", "push"},
	}) {
		verb := args
		if i := len(args); i > 1 && args[0] != "init" {
			verb = args[:2]
		}
		args = append(args, "--repo", "demo", "--home-dir", "release")
		if _, err := p.run(ctx, "hanaper-sign", args...); err != nil {
			return fmt.Errorf("%v: %w", verb, err)
		}
	}
	return nil
}

// credentials packs what a release engineer is given: where the server is, and, on loopback, no login.
func (p *play) credentials() error {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range []struct{ name, text string }{{"treehub.json", `{"no_auth":true,"ostree":{"server":"http://` + p.admin + `/treehub"}}`}, {"tufrepo.url", "http://" + p.admin}} {
		w, err := z.Create(f.name)
		if err != nil {
			return err
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return p.write("credentials.zip", b.String())
}

// fetchSoftware walks the Image repository through the gateway, as a device does that pins the ceremony's root.
func (p *play) fetchSoftware(ctx context.Context) error {
	p.title("A device verifies it")
	pinned, err := p.read("devices", "vin-0001", "repo", "root.json")
	if err != nil {
		return err
	}
	root, err := uptane.ParseRoot(pinned)
	if err != nil {
		return err
	}
	d, err := p.device(ctx, "vin-0001")
	if err != nil {
		return err
	}
	defer d.close()
	var f uptane.ImageFiles
	for name, to := range map[string]*[]byte{"timestamp": &f.Timestamp, "snapshot": &f.Snapshot, "targets": &f.Targets} {
		status, body, err := p.get(d.client, "/repo/"+name+".json", nil)
		if err != nil || status != http.StatusOK {
			return errors.Join(fmt.Errorf("/repo/%s.json through the gateway: status %d: %.200s", name, status, body), err)
		}
		*to = []byte(body)
	}
	image, err := uptane.VerifyImage(root, f, nil, time.Now())
	if err != nil {
		return err
	}
	if _, err := image.Find("firmware-2.1"); err != nil {
		return err
	}
	p.say("vin-0001 pins the ceremony's root.json, fetches timestamp, snapshot and targets through the gateway, and finds firmware-2.1 signed by the offline key")
	return nil
}
