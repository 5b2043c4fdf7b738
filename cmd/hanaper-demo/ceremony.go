package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/hanaper/hanaper/hsm"
	"github.com/hanaper/hanaper/softhsm"
)

//go:embed script.yaml.tmpl
var scriptText string

var officers = []string{"ada", "grace", "katherine"}

// roots, the issuing CA, and the back office twice: each has a token of its own.
var tokenLabels = []string{"roots", "factory", "repo", "uptane-online"}

func (p *play) makeTokens(context.Context) error {
	p.title("Tokens")
	var err error
	if p.tokens, err = softhsm.New(p.path("tokens")); err != nil {
		return err
	}
	if err := p.tokens.Use(); err != nil {
		return err
	}
	p.env = append(p.env, p.tokens.Env()...)
	for _, label := range p.labels {
		if p.boards[label], err = p.tokens.Create(label); err != nil {
			return err
		}
	}
	p.say("%d throw-away SoftHSM tokens: %s", len(p.labels), strings.Join(p.labels, ", "))
	p.say("one trust domain a token; in your fleet the first is an HSM in a safe, the last are chips on boards")
	return nil
}

func (p *play) enrolOfficers(ctx context.Context) error {
	p.title("Officers")
	args := []string{"roster", "new", "--environment", "demo", "--threshold", "2", "--out", "officers/roster.json"}
	for _, name := range officers {
		if err := p.write("officers/"+name+".passphrase", rand.Text()+"\n"); err != nil {
			return err
		}
		if _, err := p.run(ctx, "hanaper", "officer", "enroll", "--name", name, "--key", p.officerKey(name), "--out", "officers/"+name+".json"); err != nil {
			return err
		}
		args = append(args, "officers/"+name+".json")
	}
	if _, err := p.run(ctx, "hanaper", args...); err != nil {
		return err
	}
	roster, err := p.read("officers", "roster.json")
	if err != nil {
		return err
	}
	p.roster = digest(roster)
	p.say("%s enrol their keys; any two of the three must agree", strings.Join(officers, ", "))
	p.say("roster SHA-256 %s: auditors get this digest on paper", p.roster)
	return nil
}

func (p *play) officerKey(name string) string {
	return p.path("officers", name+".key") + "?pin-source=" + p.path("officers", name+".passphrase")
}

// holdCeremony has two officers approve the script and one of them perform it.
func (p *play) holdCeremony(ctx context.Context) error {
	p.title("The ceremony")
	script, err := p.script()
	if err != nil {
		return err
	}
	if err := p.write("script.yaml", script); err != nil {
		return err
	}
	if _, err := p.run(ctx, "hanaper", "ceremony", "check", "script.yaml"); err != nil {
		return err
	}
	p.say("script.yaml passes `hanaper ceremony check`: every rule that can be known is checked before a token is touched")

	o, _, err := p.exit(ctx, "hanaper", "ceremony", "approve", "--officer", p.officerKey("ada"), "--out", "officers/approval-ada.json", "--answers", p.yes(), "script.yaml")
	if err != nil {
		return err
	}
	if _, err := p.read("officers", "approval-ada.json"); err != nil {
		return fmt.Errorf("ada's approval: %s", lastLines(o.all.String(), 3))
	}
	run := []string{"ceremony", "run", "--out", "ceremony", "--bindings", "bindings.yaml", "--state", "state", "--answers", p.yes(),
		"--time", p.now.Format("2006-01-02T15:04:05Z"), "--officer", p.officerKey("ada"), "--officer", p.officerKey("grace"), "--approval", "officers/approval-ada.json"}
	bindings := fmt.Sprintf("tokens:\n  roots: %q\n  uptane-online: %q\n", p.boards["roots"].URI, p.boards["uptane-online"].URI)
	if err := p.write("bindings.yaml", bindings); err != nil {
		return err
	}
	why, err := p.refused(ctx, 3, "hanaper", append(run, "script.yaml")...)
	if err != nil {
		return err
	}
	p.say("ada approves and tries alone: %s", why)
	if _, err := p.run(ctx, "hanaper", "ceremony", "approve", "--officer", p.officerKey("grace"), "--with", "officers/approval-ada.json",
		"--out", "officers/approval-grace.json", "--answers", p.yes(), "script.yaml"); err != nil {
		return err
	}
	out, err := p.run(ctx, "hanaper", append(run, "--approval", "officers/approval-grace.json", "script.yaml")...)
	if err != nil {
		return err
	}
	p.say("grace approves the same bytes, and it runs: %s", lastLines(strings.TrimSpace(firstLine(out, "done:")), 1))
	return nil
}

// yes is a file with the answers of a person who reads the words aloud and types Yes.
func (p *play) yes() string { return "answers.txt" }

func (p *play) verifyCeremony(ctx context.Context) error {
	p.title("Anyone can check it")
	if _, err := p.run(ctx, "hanaper", "ceremony", "verify", "--roster", p.roster, "ceremony"); err != nil {
		return err
	}
	p.say("`hanaper ceremony verify --roster DIGEST ceremony` needs no token, no network and no trust in whoever carried the folder")
	return nil
}

// script fills the template: dates, the tokens' serials, and the SHA-256 of every input.
func (p *play) script() (string, error) {
	if err := p.write(p.yes(), strings.Repeat("Yes\n", 8)); err != nil {
		return "", err
	}
	t, err := template.New("script.yaml").Funcs(template.FuncMap{
		"uri": func(label string) string {
			b := p.boards[label]
			return hsm.URI{Token: b.Label, Serial: b.Serial}.String()
		},
		"pin": func(file string) (string, error) {
			b, err := p.read(filepath.FromSlash(file))
			return fmt.Sprintf("{file: %s, sha256: %s}", file, digest(b)), err
		},
	}).Parse(scriptText)
	if err != nil {
		return "", err
	}
	today := p.now.Truncate(24 * time.Hour)
	at := func(years, days int) string { return today.AddDate(years, 0, days).Format(time.RFC3339) }
	var b bytes.Buffer
	err = t.Execute(&b, map[string]string{"Today": at(0, 0), "Tomorrow": at(0, 2), "In31Days": at(0, 31),
		"In1Year": at(1, 0), "In10Years": at(10, 0), "In15Years": at(15, 0), "In20Years": at(20, 0)})
	return b.String(), err
}

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}
