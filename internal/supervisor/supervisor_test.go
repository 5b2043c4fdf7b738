package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listen is a supervisor's socket, and gives each message that is sent to it.
func listen(t *testing.T, name string) <-chan string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	got := make(chan string, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			got <- string(b[:n])
		}
	}()
	return got
}

func want(t *testing.T, got <-chan string, text string) {
	t.Helper()
	select {
	case m := <-got:
		if m != text {
			t.Fatalf("told %q, want %q", m, text)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing was told; want %q", text)
	}
}

func TestReadyAliveStopping(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@hanaper-test-%d", os.Getpid())} {
		got := listen(t, name)
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "60000")
		t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
		s := FromEnvironment()
		for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if _, there := os.LookupEnv(v); there {
				t.Errorf("a child would inherit %s", v)
			}
		}
		s.Ready("serving\nREADY=0")
		want(t, got, "READY=1\nSTATUS=serving\\nREADY=0")
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			s.Watch(ctx, slog.New(slog.DiscardHandler), func(context.Context) (string, error) { return "ok", nil })
			close(ended)
		}()
		want(t, got, "WATCHDOG=1\nSTATUS=ok")
		want(t, got, "WATCHDOG=1")
		stop()
		<-ended
		for len(got) > 0 {
			<-got
		}
		s.Stopping()
		want(t, got, "STOPPING=1\nSTATUS=stopping: requests in work finish")
	}
}

// TestNoSignOfLife: a service that fails or hangs gives no sign of life, and begins again when it is well.
func TestNoSignOfLife(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	got := listen(t, name)
	s := &Supervisor{address: &net.UnixAddr{Net: "unixgram", Name: name}, watchdog: 30 * time.Millisecond}
	ctx, stop := context.WithCancel(t.Context())
	ended, release := make(chan struct{}), make(chan struct{})
	var turn atomic.Int32
	var log bytes.Buffer
	go func() {
		defer close(ended)
		s.Watch(ctx, slog.New(slog.NewTextHandler(&log, nil)), func(context.Context) (string, error) {
			switch turn.Add(1) {
			case 1:
				return "", errors.New("the listener is gone")
			case 2:
				<-release
			}
			return "ok", nil
		})
	}()
	want(t, got, "STATUS=no sign of life: the listener is gone")
	want(t, got, "STATUS=no sign of life: the service did not answer itself within 15ms")
	close(release)
	for m := range got {
		if m == "WATCHDOG=1\nSTATUS=ok" {
			break
		}
		if strings.Contains(m, "WATCHDOG") {
			t.Fatalf("told %q", m)
		}
	}
	stop()
	<-ended
	if !strings.Contains(log.String(), "no sign of life is given") || !strings.Contains(log.String(), "the listener is gone") {
		t.Errorf("the log: %s", log.String())
	}
}

func TestNobodyListens(t *testing.T) {
	for name, env := range map[string][3]string{
		"nothing set":        {},
		"a relative path":    {"notify", "1000", ""},
		"an empty name":      {"@", "1000", ""},
		"vsock":              {"vsock:2:1234", "1000", ""},
		"nobody there":       {filepath.Join(t.TempDir(), "gone"), "", ""},
		"no number":          {"/nowhere", "soon", ""},
		"a negative number":  {"/nowhere", "-1", ""},
		"another one's dogs": {"/nowhere", "1000000", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", env[0])
			t.Setenv("WATCHDOG_USEC", env[1])
			t.Setenv("WATCHDOG_PID", env[2])
			s := FromEnvironment()
			if env[0] == "/nowhere" && s.watchdog != 0 {
				t.Errorf("a watchdog of %s", s.watchdog)
			}
			if (s.address != nil) != strings.HasPrefix(env[0], "/") {
				t.Errorf("address %v", s.address)
			}
			s.Ready("serving")
			s.Stopping()
		})
	}
}

func TestJournal(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(handler(&b, true, slog.LevelInfo, false))
	log.Debug("hidden")
	log.Info("serving", "address", "[::1]:8443")
	log.With("issuer", "a").WithGroup("g").Warn("ends soon", "time", 5)
	log.Error("foreign \x1b[2J\n<0>text")
	if got, want := b.String(), "<6>level=INFO msg=serving address=[::1]:8443\n"+
		"<4>level=WARN msg=\"ends soon\" issuer=a g.time=5\n"+
		"<3>level=ERROR msg=\"foreign \\\\x1b[2J\\\\n<0>text\"\n"; got != want {
		t.Errorf("the journal gets\n%s\nwant\n%s", got, want)
	}
	b.Reset()
	slog.New(handler(&b, true, slog.LevelDebug, true)).Debug("looked")
	if got := b.String(); !strings.HasPrefix(got, `<7>{"time":"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("JSON in the journal: %s", got)
	}
	b.Reset()
	slog.New(handler(&b, false, slog.LevelInfo, false)).Info("serving")
	if got := b.String(); !strings.HasPrefix(got, "time=") {
		t.Errorf("without a journal: %s", got)
	}
}

// TestJournalStream: only the very stream that systemd opened is the journal; a log that was sent elsewhere keeps its times.
func TestJournalStream(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	own := fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
	for stream, want := range map[string]bool{own: true, "": false, "1:2": false, "a": false, fmt.Sprintf("%d:%d", sys.Dev, sys.Ino+1): false} {
		if got := toJournal(f, stream); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %v", stream, got)
		}
	}
}
