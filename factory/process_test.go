package factory_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanaper/hanaper/internal/programtest"
	"github.com/hanaper/hanaper/softhsm"
)

// run runs a program to its end and gives its exit code and output.
func run(t testing.TB, path string, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// writeConfig lays out everything that hanaperd's configuration names and gives its path. The address is free now.
func (p *plant) writeConfig(t testing.TB, dir string) (config, address string) {
	t.Helper()
	return p.writeConfigFor(t, dir, 0, "")
}

// writeConfigFor is writeConfig for one of several servers, on a PostgreSQL database if one is named.
func (p *plant) writeConfigFor(t testing.TB, dir string, n int, database string) (config, address string) {
	t.Helper()
	suffix := ""
	if n > 0 {
		suffix = fmt.Sprint("-", n+1)
	}
	address = programtest.FreeAddress(t)
	writePEM(t, filepath.Join(dir, "fleet-root.pem"), "CERTIFICATE", p.fleet.cert.Raw)
	writePEM(t, filepath.Join(dir, "operations-root.pem"), "CERTIFICATE", p.operations.cert.Raw)
	writePEM(t, filepath.Join(dir, "factory-ca.pem"), "CERTIFICATE", p.issuing.Raw)
	p.server.write(t, dir, "hanaperd")
	key := p.key.URI()
	key.ModulePath, key.PINSource = p.board.Module, p.board.PINFile
	config = filepath.Join(dir, "hanaperd"+suffix+".yaml")
	text := fmt.Sprintf(`listen: %s
state: state
issuing: {key: %q, certificate: factory-ca.pem, fleet_root: fleet-root.pem}
tls: {certificate: hanaperd.pem, key: hanaperd.key}
operations: {root: operations-root.pem}
crl: {file: factory-ca%s.crl}
store: {postgres: %q}
`, address, key.String(), suffix, database)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, address
}

// daemon is a running hanaperd.
type daemon struct {
	cmd *exec.Cmd
	// done is closed when the log ends, and with it the process.
	done chan struct{}
	log  said
}

// said is what a process has said so far.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.WriteString(line + "\n")
}

// Write is add for what writes lines.
func (s *said) Write(b []byte) (int, error) {
	s.add(string(b))
	return len(b), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start runs hanaperd serve and waits until it says that it is serving.
func start(t testing.TB, bin, config string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(filepath.Join(bin, "hanaperd"), "serve", "--config", config, "--log", "json"), done: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), softhsm.ForTest(t).Env()...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = w
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ready := make(chan struct{})
	go func() {
		defer close(d.done)
		defer r.Close()
		lines := bufio.NewScanner(r)
		told := false
		for lines.Scan() {
			var line struct{ Msg string }
			if json.Unmarshal(lines.Bytes(), &line) != nil || line.Msg != "enrolled" {
				d.log.add(lines.Text())
			}
			if line.Msg == "serving" && !told {
				told = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case <-ready:
	case <-d.done:
		d.cmd.Wait()
		t.Fatalf("hanaperd ended: %s", d.log.String())
	case <-time.After(time.Minute):
		d.kill()
		t.Fatalf("hanaperd does not serve: %s", d.log.String())
	}
	return d
}

// kill ends the process as a power cut would.
func (d *daemon) kill() {
	_ = d.cmd.Process.Signal(syscall.SIGKILL)
	<-d.done
	_ = d.cmd.Wait()
}

// stop asks it to end and gives the exit code.
func (d *daemon) stop() int {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.done
	_ = d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode()
}
