package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hanaper/hanaper/internal/address"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/internal/shell"
	"github.com/hanaper/hanaper/internal/show"
)

func credentialsCommand() *cli.Command {
	return &cli.Command{
		Name: "credentials", Usage: "write the credentials.zip of a release engineer or build machine; needs no token",
		Description: "With the newest root, the server's address and a login: an OAuth2 client of admin.clients, a client certificate (--p12), or\n" +
			"none. The archive holds the client's secret: hand it over as you would a password.\n\n" +
			"Example:\n  hanaper-repo uptane credentials --config hanaper-repo.yaml --url https://repo.example:8461 --client build --out credentials.zip",
		Flags: []cli.Flag{configFlag,
			&cli.StringFlag{Name: "url", Required: true, Usage: "`URL` of the admin side, as its users reach it"},
			&cli.StringFlag{Name: "client", Usage: "`ID` of a client in admin.clients"},
			&cli.StringFlag{Name: "p12", Usage: "PKCS#12 `FILE` without a password, in place of --client", TakesFile: true},
			&cli.StringFlag{Name: "treehub", Usage: "`URL` of the OSTree repository's server, if there is one"},
			&cli.StringFlag{Name: "out", Value: "credentials.zip", Usage: "`FILE` to write, mode 0600"}},
		Before: shell.NoArgs, Action: credentials,
	}
}

func credentials(c *cli.Context) error {
	cfg, err := uptaneSection(c)
	if err != nil {
		return err
	}
	url := strings.TrimRight(c.String("url"), "/")
	if _, err := address.ParseURL(url); err != nil {
		return advice.Wrap(advice.Usage, fmt.Errorf("--url: %w", err), "https://HOST:PORT, or http:// on this machine")
	}
	files, err := cfg.login(url, c.String("client"), c.String("p12"), c.String("treehub"))
	if err != nil {
		return err
	}
	desk, err := lookDesk(cfg)
	if err != nil {
		return err
	}
	defer desk.Close()
	image, director, err := desk.open(c.Context)
	if err != nil {
		return err
	}
	root, _, err := image.Root(0)
	if err != nil {
		return err
	}
	files = append(files, entry{"root.json", root}, entry{"tufrepo.url", []byte(url)})
	if director != nil {
		files = append(files, entry{"api_gateway.url", []byte(url)})
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f.name)
		if err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := durable.Create(c.String("out"), b.Bytes(), 0o600); err != nil {
		return err
	}
	shell.Wrote(c, "credentials for "+show.Line(url), c.String("out"))
	return nil
}

// entry is a file of the archive.
type entry struct {
	name string
	data []byte
}

// login is what of the archive says how to log in: exactly one way, which the configuration admits.
func (c *config) login(url, client, p12, treehub string) ([]entry, error) {
	a := c.Uptane.Admin
	doc := map[string]any{"ostree": map[string]string{"server": treehub}}
	var out []entry
	switch {
	case client != "" && p12 != "":
		return nil, advice.New(advice.Usage, "", "either --client or --p12")
	case client != "":
		secrets, err := clientSecrets(c)
		if err != nil {
			return nil, err
		}
		for _, s := range secrets {
			if s.ID == client {
				doc["oauth2"] = map[string]string{"server": url + "/token", "client_id": s.ID, "client_secret": string(s.Secret)}
			}
		}
		if doc["oauth2"] == nil {
			return nil, advice.New(advice.Usage, "admin.clients names them", "there is no client %q", client)
		}
	case p12 != "":
		if !a.byCertificate() {
			return nil, advice.New(advice.Usage, "set admin.tls.clients and admin.operators", "this server admits nobody by certificate")
		}
		data, err := input.Read(p12, 1<<20)
		if err != nil {
			return nil, err
		}
		doc["no_auth"] = true
		out = append(out, entry{"client_auth.p12", data})
	case a.Open:
		doc["no_auth"] = true
	default:
		return nil, advice.New(advice.Usage, "give --client or --p12", "this server asks for a login")
	}
	data, err := json.Marshal(doc)
	return append(out, entry{"treehub.json", data}), err
}
