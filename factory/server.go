package factory

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// shutdownTime is how long requests in work get to end at a shutdown.
const shutdownTime = 20 * time.Second

// Serve answers on l until ctx ends, then lets the requests in work finish.
func Serve(ctx context.Context, l net.Listener, h http.Handler, conf *tls.Config, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, TLSConfig: conf, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, IdleTimeout: idleTime,
		WriteTimeout: requestTime + headerTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), stoppingKey{}, ctx)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(tls.NewListener(l, conf)) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close()
		return errors.New("requests were still in work when the time to shut down was over")
	}
	return nil
}
