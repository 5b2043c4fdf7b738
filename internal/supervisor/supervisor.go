// Package supervisor is what a service tells the program that started it (systemd, or another that keeps its rules): that it is ready, that
// it is alive, that it stops; and how it writes a log that goes to the journal.
//
// Who sets NOTIFY_SOCKET is told so much and no more: words of ours, without device ids. Who can write to that socket in the place of the
// service can claim that it is ready; so the variable is taken out of the environment, and no child of the service knows it.
package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hanaper/hanaper/internal/show"
)

// Supervisor is who started this service. Its zero value is nobody, to whom nothing is told.
type Supervisor struct {
	address  *net.UnixAddr
	watchdog time.Duration
}

// FromEnvironment reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as sd_notify(3) and sd_watchdog_enabled(3) do, and takes them out of
// the environment. What cannot be used counts as absent: a service does not stay away for the sake of who watches it.
func FromEnvironment() *Supervisor {
	s := new(Supervisor)
	if name := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(name, "/") || strings.HasPrefix(name, "@") && len(name) > 1 {
		// The standard library reads "@" at the beginning as an abstract name.
		s.address = &net.UnixAddr{Net: "unixgram", Name: name}
	}
	mine := os.Getenv("WATCHDOG_PID")
	if us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && us < int64(24*time.Hour/time.Microsecond) && (mine == "" || mine == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(us) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name)
	}
	return s
}

// tell sends lines; nobody may be listening any more, and that stops no service.
func (s *Supervisor) tell(lines ...string) {
	if s.address == nil {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, s.address)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte(strings.Join(lines, "\n")))
}

// Ready says that the service serves from now on.
func (s *Supervisor) Ready(status string) { s.tell("READY=1", "STATUS="+show.Line(status)) }

// Stopping says that the service ends, and lets the requests in work finish.
func (s *Supervisor) Stopping() { s.tell("STOPPING=1", "STATUS=stopping: requests in work finish") }

// Watch says that the service is alive, as often as the supervisor wants it, until ctx ends. alive asks the service itself, and gives words
// for people about its health; an error, or no answer within half of the supervisor's time, is no sign of life, and the supervisor ends the service. So alive must
// fail only where a new start helps: a token that is away is none of its matters. Without a watchdog the words are kept up to date every minute.
func (s *Supervisor) Watch(ctx context.Context, log *slog.Logger, alive func(context.Context) (status string, err error)) {
	if s.address == nil {
		return
	}
	every := s.watchdog / 3
	if every == 0 {
		every = time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		status, err := answer(ctx, every*3/2, alive)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			log.Error("no sign of life is given", "error", err, "hint", "a supervisor with a watchdog ends this service and starts it anew")
			s.tell("STATUS=" + show.Line("no sign of life: "+err.Error()))
			last = ""
		case s.watchdog != 0 && status == last:
			s.tell("WATCHDOG=1")
		case s.watchdog != 0:
			s.tell("WATCHDOG=1", "STATUS="+show.Line(status))
			last = status
		default:
			s.tell("STATUS=" + show.Line(status))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answer waits for alive no longer than limit: what hangs in a lock knows no context.
func answer(ctx context.Context, limit time.Duration, alive func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		status string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		status, err := alive(ctx)
		done <- result{status, err}
	}()
	select {
	case r := <-done:
		return r.status, r.err
	case <-ctx.Done():
		return "", fmt.Errorf("the service did not answer itself within %s", limit.Round(time.Millisecond))
	}
}
