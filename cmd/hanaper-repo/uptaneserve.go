package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
	"github.com/hanaper/hanaper/internal/socket"
	"github.com/hanaper/hanaper/internal/supervisor"
	"github.com/hanaper/hanaper/uptane"
	"github.com/hanaper/hanaper/uptane/reposerver"
)

func publicPEM(k uptane.Key) ([]byte, error) {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.SPKI()}), nil
}

// uptaneServers are the two listeners of the Uptane repositories.
type uptaneServers struct {
	desk    *uptaneDesk
	servers []*http.Server
	// addresses are those of the servers; knocker asks them whether they answer.
	addresses []net.Addr
	knocker   supervisor.Knocker
	failed    chan error
	log       *slog.Logger

	image    *reposerver.Image
	director *reposerver.Director
	release  func() // of the lock that says that this folder is served
	stop     chan struct{}
	tending  sync.WaitGroup
}

// readied is what the configuration names beside the repositories, read and checked before anything is opened or said.
type readied struct {
	access         reposerver.AccessConfig
	admin, devices *tls.Config
}

func (c *config) readyToServe() (*readied, error) {
	u := c.Uptane
	secrets, err := clientSecrets(c)
	if err != nil {
		return nil, err
	}
	r := &readied{access: reposerver.AccessConfig{Credentials: secrets, Open: u.Admin.Open}}
	if u.Admin.byCertificate() {
		if r.access.Certificate, err = newOperators(c); err != nil {
			return nil, err
		}
	}
	if err := r.access.Check(); err != nil {
		return nil, err
	}
	if err := c.storage().Check(); err != nil {
		return nil, err
	}
	if u.Admin.TLS != nil {
		if r.admin, err = u.Admin.TLS.load(c, len(secrets) == 0 && !u.Admin.Open); err != nil {
			return nil, err
		}
	}
	if u.Devices.TLS != nil {
		if r.devices, err = u.Devices.TLS.load(c, true); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func uptaneServeAlone(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	starter := supervisor.FromEnvironment()
	log := slog.New(supervisor.Handler(slog.LevelInfo, false))
	u, err := serveUptane(c.Context, cfg, log, make(chan error, 2))
	if err != nil {
		return hsm.Unattended(err)
	}
	starter.Ready("serving Uptane's repositories")
	context.AfterFunc(c.Context, starter.Stopping)
	go starter.Watch(c.Context, log, func(ctx context.Context) (string, error) {
		if err := u.answer(ctx); err != nil {
			return "", err
		}
		if err := u.director.NoteFleet(ctx); err != nil {
			return "serving Uptane's repositories; the high-water mark is not noted: " + err.Error(), nil
		}
		return "serving Uptane's repositories", nil
	})
	select {
	case <-c.Context.Done():
		err = nil
	case err = <-u.failed:
	}
	return errors.Join(err, u.Close())
}

// serveUptane opens the repositories and accepts; nil without a section uptane. What fails later goes to failed.
func serveUptane(ctx context.Context, cfg *config, log *slog.Logger, failed chan error) (*uptaneServers, error) {
	if cfg.Uptane == nil {
		return nil, nil
	}
	ready, err := cfg.readyToServe()
	if err != nil {
		return nil, err
	}
	d, err := openUptane(ctx, cfg)
	if err != nil {
		return nil, err
	}
	u := &uptaneServers{desk: d, failed: failed, log: log, stop: make(chan struct{})}
	if err := u.start(ctx, cfg, ready, log); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func (u *uptaneServers) start(ctx context.Context, cfg *config, ready *readied, log *slog.Logger) error {
	if err := u.desk.checkApart(ctx, os.Stderr); err != nil {
		return err
	}
	image, director, err := u.desk.open(ctx)
	if err != nil {
		return err
	}
	u.image, u.director = image, director
	if u.release, err = reposerver.ServingLock(cfg.path(cfg.Uptane.Folder)); err != nil {
		return err
	}
	if err := image.Marked(ctx, director); err != nil {
		return err
	}
	if cfg.Uptane.Keys.Folder != "" {
		log.Warn("the Uptane keys are files, which the server gives out on request: only for moving over from other tools")
	}
	if err := image.Refresh(ctx); err != nil {
		return fmt.Errorf("signing online: %w", err)
	}
	server, err := reposerver.NewServer(reposerver.ServerConfig{Image: image, Director: director, Log: log, Now: now,
		Storage: cfg.storage(),
		Access:  ready.access})
	if err != nil {
		return err
	}
	admin, err := u.listen(cfg, cfg.Uptane.Admin.Listen, ready.admin, server.Admin(), log)
	if err != nil {
		return err
	}
	devices, err := u.listen(cfg, cfg.Uptane.Devices.Listen, ready.devices, server.Devices(), log)
	if err != nil {
		return err
	}
	log.Info("serving uptane", "admin", admin, "devices", devices, "director", director != nil)
	u.tending.Go(u.tend)
	return nil
}

// tend notes now and then how far the fleet store is, and removes uploads that nothing names.
func (u *uptaneServers) tend() {
	note, sweep := time.NewTicker(5*time.Second), time.NewTicker(time.Hour)
	defer note.Stop()
	defer sweep.Stop()
	cfg := u.desk.config
	for {
		select {
		case <-u.stop:
			return
		case <-note.C:
			if err := u.director.NoteFleet(context.Background()); err != nil {
				u.log.Error("the high-water mark", "error", err.Error())
			}
		case <-sweep.C:
			if cfg.Uptane.Uploads.Keep == 0 {
				continue
			}
			gone, err := reposerver.RemoveUnused(context.Background(), cfg.storage(), u.image, u.director, cfg.Uptane.Uploads.Keep)
			for _, f := range gone {
				u.log.Info("upload removed", "name", f.Name, "sha256", f.SHA256, "size", f.Size)
			}
			if err != nil {
				u.log.Error("removing uploads", "error", err.Error())
			}
		}
	}
}

// listen accepts on an address; config is nil without TLS.
func (u *uptaneServers) listen(cfg *config, address string, config *tls.Config, h http.Handler, log *slog.Logger) (string, error) {
	l, url, err := listenAt(cfg, address)
	if err != nil {
		return "", err
	}
	if config != nil {
		l, url = tls.NewListener(l, config), "https://"+l.Addr().String()
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Minute, WriteTimeout: 30 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	u.servers, u.addresses = append(u.servers, s), append(u.addresses, l.Addr())
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			u.failed <- err
		}
	}()
	return url, nil
}

// answer asks every listener whether it answers at all; there are none without a section uptane.
func (u *uptaneServers) answer(ctx context.Context) error {
	if u == nil {
		return nil
	}
	for _, address := range u.addresses {
		if err := u.knocker.Answers(ctx, address); err != nil {
			return err
		}
	}
	return nil
}

// listenAt accepts on HOST:PORT, or on the socket file of unix:PATH, which its owner and group may open.
func listenAt(cfg *config, address string) (net.Listener, string, error) {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, "", advice.Wrap(advice.Failed, err, "is the address of this machine, and free?")
		}
		return l, "http://" + l.Addr().String(), nil
	}
	path = cfg.path(path)
	l, err := socket.Listen(path, 0o660, -1)
	switch {
	case errors.Is(err, socket.ErrInUse):
		return nil, "", advice.New(advice.Refused, "stop it first", "another process is serving at %s", show.Text(path))
	case errors.Is(err, fs.ErrExist):
		return nil, "", advice.New(advice.Refused, "name another file, or move that one away", "%s is there, and is no socket", show.Text(path))
	case err != nil:
		return nil, "", advice.Wrap(advice.Failed, err, "is its folder there, and may this user write to it?")
	}
	return l, "unix:" + path, nil
}

// storage is where uploaded files lie.
func (c *config) storage() reposerver.StorageConfig {
	up := c.Uptane.Uploads
	folder := up.Folder
	if folder == "" {
		folder = filepath.Join(c.Uptane.Folder, "uploads")
	}
	return reposerver.StorageConfig{Dir: c.path(folder), MaxFile: up.MaxFile, PartSize: up.PartSize, Now: now}
}

func (t *mutualConfig) load(cfg *config, strict bool) (*tls.Config, error) {
	identity, err := tls.LoadX509KeyPair(cfg.path(t.Certificate), cfg.path(t.Key))
	if err != nil {
		return nil, advice.New(advice.Usage, "PEM files, the certificate first in its chain", "uptane: tls: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{identity}, MinVersion: tls.VersionTLS12}
	if t.Clients == "" {
		return out, nil
	}
	data, err := input.ReadFile(cfg.path(t.Clients))
	if err != nil {
		return nil, advice.Wrap(advice.Usage, err, "tls.clients names the CA of client certificates, PEM")
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(data) {
		return nil, advice.New(advice.Usage, "", "%s holds no certificate", show.Text(cfg.path(t.Clients)))
	}
	out.ClientAuth = tls.VerifyClientCertIfGiven
	if strict {
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return out, nil
}

// clientSecrets reads the secrets' files, which nobody else may read.
func clientSecrets(cfg *config) ([]reposerver.Credential, error) {
	var out []reposerver.Credential
	for _, c := range cfg.Uptane.Admin.Clients {
		at := cfg.path(c.Secret)
		info, err := os.Stat(at)
		if err != nil {
			return nil, advice.Wrap(advice.Usage, err, "admin.clients: secret names a file")
		}
		if input.LetsOthersIn(at, info) {
			return nil, advice.New(advice.Refused, "run: chmod 600 "+at, "%s lets group or others read a secret", show.Text(at))
		}
		data, err := input.ReadFile(at)
		if err != nil {
			return nil, err
		}
		out = append(out, reposerver.Credential{ID: c.ID, Secret: bytes.TrimRight(data, "\r\n"), May: c.May})
	}
	return out, nil
}

// Close ends what is under way, within five seconds.
func (u *uptaneServers) Close() error {
	if u == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var faults []error
	for _, s := range u.servers {
		faults = append(faults, s.Shutdown(ctx))
	}
	close(u.stop)
	u.tending.Wait()
	if len(u.servers) > 0 {
		faults = append(faults, u.director.NoteFleet(context.WithoutCancel(ctx)))
	}
	if u.release != nil {
		u.release()
	}
	u.desk.Close()
	return errors.Join(faults...)
}
