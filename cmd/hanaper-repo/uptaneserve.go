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
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/show"
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
	failed  chan error
}

func uptaneServeAlone(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{ReplaceAttr: show.Attr}))
	u, err := serveUptane(c.Context, cfg, log, make(chan error, 2))
	if err != nil {
		return err
	}
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
	secrets, err := clientSecrets(cfg)
	if err != nil {
		return nil, err
	}
	d, err := openUptane(ctx, cfg)
	if err != nil {
		return nil, err
	}
	u := &uptaneServers{desk: d, failed: failed}
	if err := u.start(ctx, cfg, secrets, log); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func (u *uptaneServers) start(ctx context.Context, cfg *config, secrets []reposerver.Credential, log *slog.Logger) error {
	if err := u.desk.checkApart(ctx, os.Stderr); err != nil {
		return err
	}
	image, director, err := u.desk.open(ctx)
	if err != nil {
		return err
	}
	if cfg.Uptane.Keys.Folder != "" {
		log.Warn("the Uptane keys are files, which the server gives out on request: only for moving over from other tools")
	}
	if err := image.Refresh(ctx); err != nil {
		return fmt.Errorf("signing online: %w", err)
	}
	a, dev := cfg.Uptane.Admin, cfg.Uptane.Devices
	var operators func(*tls.ConnectionState) (reposerver.Admitted, error)
	if a.byCertificate() {
		if operators, err = newOperators(cfg); err != nil {
			return err
		}
	}
	server, err := reposerver.NewServer(reposerver.ServerConfig{Image: image, Director: director, Log: log, Now: now,
		Storage: cfg.storage(),
		Access:  reposerver.AccessConfig{Credentials: secrets, Certificate: operators, Open: a.Open}})
	if err != nil {
		return err
	}
	admin, err := u.listen(cfg, a.Listen, a.TLS, len(secrets) == 0 && !a.Open, server.Admin(), log)
	if err != nil {
		return err
	}
	devices, err := u.listen(cfg, dev.Listen, dev.TLS, true, server.Devices(), log)
	if err != nil {
		return err
	}
	log.Info("serving uptane", "admin", admin, "devices", devices, "director", director != nil)
	return nil
}

// listen accepts on an address. strict demands a client certificate where there is a CA for them.
func (u *uptaneServers) listen(cfg *config, address string, t *mutualConfig, strict bool, h http.Handler, log *slog.Logger) (string, error) {
	var config *tls.Config
	if t != nil {
		var err error
		if config, err = t.load(cfg, strict); err != nil {
			return "", err
		}
	}
	l, url, err := listenAt(cfg, address)
	if err != nil {
		return "", err
	}
	if config != nil {
		l, url = tls.NewListener(l, config), "https://"+l.Addr().String()
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Minute, WriteTimeout: 30 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	u.servers = append(u.servers, s)
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			u.failed <- err
		}
	}()
	return url, nil
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
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, "", advice.New(advice.Refused, "stop it first", "another process is serving at %s", show.Text(path))
		}
		if err := os.Remove(path); err != nil { // left by a process that was killed
			return nil, "", err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, "", advice.Wrap(advice.Failed, err, "is its folder there, and may this user write to it?")
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, "", err
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
		if info.Mode().Perm()&0o077 != 0 {
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
	u.desk.Close()
	return errors.Join(faults...)
}
