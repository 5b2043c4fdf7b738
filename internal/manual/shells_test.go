package manual

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shells are those that the packages bring completions for, and how each is started so that it reads the test's settings alone. In these Ctrl-G shows
// the line that is being typed, and Ctrl-O first puts all that the shell offers for its last word into it.
var shells = map[string]struct {
	args     []string
	file, rc string
}{
	"bash": {[]string{"bash", "--rcfile", "rc", "-i"}, "rc", `. /usr/share/bash-completion/bash_completion
PS1='READY> '
shown() { printf '\nLINE<%s>\n' "$READLINE_LINE"; READLINE_LINE= READLINE_POINT=0; }
bind -x '"\C-g": shown'
bind '"\C-o": insert-completions'
`},
	"zsh": {[]string{"zsh", "-d", "-i"}, ".zshrc", `fpath=($SHARE/zsh/vendor-completions $fpath)
autoload -Uz compinit
compinit -u -d $HOME/dump
PS1='READY> '
shown() { zle -I; print -r -- "LINE<$BUFFER>"; BUFFER= }
zle -N shown
bindkey '^G' shown
all() { _main_complete; compstate[insert]=all compstate[list]= }
zle -C all complete-word all
bindkey '^O' all
`},
	"fish": {[]string{"fish", "-i"}, ".config/fish/config.fish", `set fish_greeting
set fish_autosuggestion_enabled 0
function fish_prompt
    echo 'READY> '
end
function shown
    echo
    echo "LINE<"(commandline)">"
    commandline -r ''
end
function all
    set -l words (complete -C (commandline) | string replace -r '\t.*' '')
    test (count $words) -gt 0; and commandline -rt -- "$words "
end
bind \cg shown
bind \co all
`},
}

// typing is a shell at a terminal.
type typing struct {
	*testing.T
	terminal *os.File
	seen     string
}

// typed gives the line that stands there after keys were pressed.
func (s *typing) typed(keys string) string {
	s.Helper()
	if _, err := io.WriteString(s.terminal, keys+"\a"); err != nil {
		s.Fatal(err)
	}
	return s.wait(regexp.MustCompile(`LINE<([^>]*)>`))[1]
}

// wait reads until something is shown, and forgets what came up to it.
func (s *typing) wait(want *regexp.Regexp) []string {
	s.Helper()
	chunk := make([]byte, 4096)
	for {
		if m := want.FindStringSubmatchIndex(s.seen); m != nil {
			found := []string{s.seen[m[0]:m[1]], ""}
			if len(m) > 2 {
				found[1] = s.seen[m[2]:m[3]]
			}
			s.seen = s.seen[m[1]:]
			return found
		}
		n, err := s.terminal.Read(chunk)
		if err != nil {
			s.Fatalf("the shell is gone: %v; it showed %q", err, s.seen)
		}
		s.seen += string(chunk[:n])
	}
}

// offered are the words that the shell offers at the end of line.
func (s *typing) offered(line string) []string {
	s.Helper()
	got, ok := strings.CutPrefix(s.typed(line+"\x0f"), line[:strings.LastIndexByte(line, ' ')+1])
	if !ok {
		s.Fatalf("%q became %q", line, got)
	}
	return strings.Fields(got)
}

// installed puts the programs' completions where their packages install them, and gives the folder that is /usr/share there.
func installed(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	lists, err := filepath.Glob("../../packaging/debian/*.install")
	if err != nil || len(lists) != len(programs()) {
		t.Fatalf("%d packages, %v", len(lists), err)
	}
	for _, list := range lists {
		program := strings.TrimSuffix(filepath.Base(list), ".install")
		lines, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^completion/(\w+)/(\S+) (\S+)$`).FindAllStringSubmatch(string(lines), -1) {
			dir := filepath.Join(root, m[3])
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, m[2]), []byte(output(t, program, "completion", m[1])), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(root, "usr/share")
}

// at starts a shell, whose programs are ours in a folder that has two files; each of them says in a file ran that it ran.
func at(t *testing.T, name, share string) (s *typing, ran string) {
	t.Helper()
	home := t.TempDir()
	shell, ran := shells[name], filepath.Join(home, "ran")
	rc := filepath.Join(home, shell.file)
	if err := os.MkdirAll(filepath.Dir(rc), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{rc: shell.rc, filepath.Join(home, "sealed-key.pem"): "", filepath.Join(home, "script.yaml"): ""}
	for _, p := range programs() {
		files[filepath.Join(home, "bin", p)] = fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >> %s\nexec %s \"$@\"\n", p, ran, filepath.Join(bin, p))
	}
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ptmx, pts := openTerminal(t)
	cmd := exec.Command(shell.args[0], shell.args[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = home, pts, pts, pts
	cmd.Env = []string{"HOME=" + home, "ZDOTDIR=" + home, "SHARE=" + share, "XDG_DATA_DIRS=" + share, "XDG_CONFIG_HOME=" + home + "/.config", "XDG_DATA_HOME=" + home + "/.local/share",
		"PATH=" + home + "/bin:/usr/bin:/bin", "TERM=vt100", "LC_ALL=C.UTF-8", "COLUMNS=20000"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pts.Close()
	kill := time.AfterFunc(4*time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	t.Cleanup(func() {
		kill.Stop()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		ptmx.Close()
	})
	s = &typing{T: t, terminal: ptmx}
	s.wait(regexp.MustCompile(`READY> `))
	return s, ran
}

// TestCompletions: bash, zsh and fish, with the completions where the packages install them, complete what is typed at a terminal, and offer each verb's
// verbs and flags and no other's; files where a file may stand. No program of ours is run for it.
func TestCompletions(t *testing.T) {
	all, share := verbs(t), installed(t)
	for name := range shells {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ran := at(t, name, share)
			for line, want := range map[string]string{
				"hanaper cere":                           "hanaper ceremony ",
				"hanaper ceremony rehe":                  "hanaper ceremony rehearse ",
				"hanaper ceremony run --bind":            "hanaper ceremony run --bindings ",
				"hanaperd att":                           "hanaperd attestation ",
				"hanaperd lot cl":                        "hanaperd lot close ",
				"hanaperd serve --conf":                  "hanaperd serve --config ",
				"hanaper-gateway adm":                    "hanaper-gateway admit ",
				"hanaper-gateway devices retir":          "hanaper-gateway devices retire ",
				"hanaper-gateway devices list --regi":    "hanaper-gateway devices list --registry ",
				"hanaper-repo dire":                      "hanaper-repo director ",
				"hanaper-repo director assi":             "hanaper-repo director assign ",
				"hanaper-repo director assign --ec":      "hanaper-repo director assign --ecu ",
				"hanaper-station enr":                    "hanaper-station enroll ",
				"hanaper-station spool ex":               "hanaper-station spool export ",
				"hanaper-station enroll --conf":          "hanaper-station enroll --config ",
				"hanaper-sign dele":                      "hanaper-sign delegations ",
				"hanaper-sign key gen":                   "hanaper-sign key generate ",
				"hanaper-sign key generate --na":         "hanaper-sign key generate --name ",
				"hanaper-sign --home-dir key key gen":    "hanaper-sign --home-dir key key generate ",
				"hanaper-sign targets --repo r add --le": "hanaper-sign targets --repo r add --length ",
				"hanaper-sign targets add --rep":         "hanaper-sign targets add --repo ",
				"hanaper-gateway devices delete --wh":    "hanaper-gateway devices delete --why ",
				// A verb of the same name elsewhere has other flags, and a verb's name may be a flag's value.
				"hanaper officer show --bind":               "hanaper officer show --bind",
				"hanaper rehearse":                          "hanaper rehearse",
				"hanaper ceremony run --out abort --bind":   "hanaper ceremony run --out abort --bindings ",
				"hanaper ceremony run --out=abort --bind":   "hanaper ceremony run --out=abort --bindings ",
				"hanaper ceremony run --time a:b=c:d --bin": "hanaper ceremony run --time a:b=c:d --bindings ",
				// Files: a flag's, and what a verb works on; flags stand before it.
				"hanaper ceremony run --out seal":        "hanaper ceremony run --out sealed-key.pem ",
				"hanaper ceremony run --out=seal":        "hanaper ceremony run --out=sealed-key.pem ",
				"hanaper ceremony run scr":               "hanaper ceremony run script.yaml ",
				"hanaper ceremony run script.yaml --bin": "hanaper ceremony run script.yaml --bin",
				"hanaper ceremony run -- scr":            "hanaper ceremony run -- script.yaml ",
				"hanaper ceremony run -- --bin":          "hanaper ceremony run -- --bin",
				"hanaper ceremony scr":                   "hanaper ceremony scr",
			} {
				if got := s.typed(line + "\t"); got != want {
					t.Errorf("%q and the tabulator: %q, want %q", line, got, want)
				}
			}
			n := 0
			for _, program := range all {
				program.each(func(v *verb) {
					n++
					line := strings.Join(v.path, " ") + " "
					if subs := slices.Sorted(maps.Keys(v.subs)); len(subs) > 0 {
						if got := s.offered(line); !subset(subs, got) {
							t.Errorf("%soffers %q, want %q", line, got, subs)
						}
					}
					var flags []string
					for f := range v.flags {
						if strings.HasPrefix(f, "--") {
							flags = append(flags, f)
						}
					}
					got := slices.Sorted(slices.Values(s.offered(line + "--")))
					if slices.Sort(flags); !slices.Equal(flags, got) && (v.path[0] != "hanaper-sign" || !subset(flags, got)) {
						t.Errorf("%s-- offers %q, want %q", line, got, flags)
					}
				})
			}
			if n < 100 {
				t.Errorf("%d verbs", n)
			}
			if calls, err := os.ReadFile(ran); err == nil {
				t.Errorf("programs were run to complete what is not finished:\n%.300s", calls)
			}
		})
	}
}

func subset(part, all []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(all, s) })
}
