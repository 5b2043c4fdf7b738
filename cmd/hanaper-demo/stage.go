package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/durable"
)

// marker stands in every folder that the demo made: nothing else is ever wiped.
const marker = "THIS-IS-A-HANAPER-DEMO"

// stage is where the demo plays: its folder, the programs, and those of them that keep running.
type stage struct {
	bin, dir string
	out      io.Writer
	env      []string
	started  time.Time
	scene    int
	servers  []*server
}

type server struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan error
}

func newStage(bin, dir string, out io.Writer) (*stage, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err == nil {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return nil, advice.New(advice.Usage, "name another folder with --dir", "%s exists and is no demo's: nothing was touched", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s := &stage{bin: bin, dir: dir, out: out, started: time.Now(), env: os.Environ()}
	return s, s.write(marker, "everything here is a throw-away: make demo wipes it\n")
}

func (s *stage) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *stage) write(name, content string) error {
	p := s.path(name)
	if err := durable.Mkdir(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(p, []byte(content), 0o600)
}

func (s *stage) read(elem ...string) ([]byte, error) { return os.ReadFile(s.path(elem...)) }

// title opens a scene of the demo; say narrates within it.
func (s *stage) title(format string, args ...any) {
	s.scene++
	fmt.Fprintf(s.out, "\n%d. %s\n", s.scene, fmt.Sprintf(format, args...))
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "   %s\n", fmt.Sprintf(format, args...))
}

// run runs one of the programs in the demo's folder and returns what it printed on standard output.
func (s *stage) run(ctx context.Context, program string, args ...string) (string, error) {
	out, code, err := s.exit(ctx, program, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s %s ended with exit code %d: %s", program, strings.Join(args, " "), code, lastLines(out.all.String(), 6))
	}
	return out.std.String(), err
}

// output is what a program printed: on standard output, and there or on standard error.
type output struct {
	std bytes.Buffer
	all shared
}

// shared is a buffer that two streams are copied to at once.
type shared struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *shared) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *shared) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// exit is run for those who want the exit code.
func (s *stage) exit(ctx context.Context, program string, args ...string) (*output, int, error) {
	cmd := exec.CommandContext(ctx, s.program(program), args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	o := new(output)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&o.std, &o.all), &o.all
	err := cmd.Run()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return o, ee.ExitCode(), nil
	}
	return o, 0, err
}

func (s *stage) program(name string) string {
	if strings.HasPrefix(name, "hanaper") {
		return filepath.Join(s.bin, name)
	}
	return name
}

// refused runs a program that must refuse: exit code want, and its last line is returned.
func (s *stage) refused(ctx context.Context, want int, program string, args ...string) (string, error) {
	o, code, err := s.exit(ctx, program, args...)
	if err != nil {
		return "", err
	}
	if code != want {
		return "", fmt.Errorf("%s %s: exit code %d, want %d: %s", program, strings.Join(args, " "), code, want, lastLines(o.all.String(), 6))
	}
	return firstLine(o.all.String(), program+":"), nil
}

// serve starts a program that keeps running, its log in NAME.log, and waits until it accepts connections at address.
func (s *stage) serve(ctx context.Context, address, program string, args ...string) (*server, error) {
	logPath := s.path(program + ".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.program(program), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, log, log
	// A child that outlives a killed demo would hold its port and token.
	// In a process group of its own, so that Ctrl-C at the terminal reaches the demo alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	srv := &server{name: program, cmd: cmd, log: logPath, done: make(chan error, 1)}
	go func() { srv.done <- cmd.Wait() }()
	s.servers = append(s.servers, srv)
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			return srv, nil
		}
		select {
		case <-srv.done:
			srv.done <- nil
			b, _ := os.ReadFile(logPath)
			return nil, fmt.Errorf("%s ended at its start: %s", program, lastLines(string(b), 6))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not accept connections at %s after 20 s: see %s", program, address, logPath)
		}
	}
}

// close ends what still runs.
func (s *stage) close() {
	for i := len(s.servers) - 1; i >= 0; i-- {
		srv := s.servers[i]
		_ = srv.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-srv.done:
		case <-time.After(5 * time.Second):
			_ = srv.cmd.Process.Kill()
			<-srv.done
		}
	}
}

// logLine waits for a line in a server's log that holds all of these words.
func (s *stage) logLine(ctx context.Context, srv *server, words ...string) (string, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		b, err := os.ReadFile(srv.log)
		if err != nil {
			return "", err
		}
	lines:
		for line := range strings.Lines(string(b)) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return strings.TrimSpace(line), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return "", fmt.Errorf("%s logged no line with %q: see %s", srv.name, words, srv.log)
}

// freeAddress is a loopback address that nobody listens at now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func firstLine(s, prefix string) string {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
	}
	return lastLines(s, 1)
}
