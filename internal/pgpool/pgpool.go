// Package pgpool makes connections to PostgreSQL as all our stores want them: on this machine, or by TLS with the server's certificate checked; with commits
// that are durable when they return; and with deadlines. A connection string comes from a configuration; it may not hold a password, and is not quoted in
// errors, for it may hold what should not be in it.
package pgpool

import (
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hanaper/hanaper/internal/advice"
)

// Config says where a database is.
type Config struct {
	// Section is the configuration's, for errors: "store".
	Section string
	// Database is a connection string of libpq, keywords or URL, without a password.
	Database string
	// Password is that of the database's user; empty for none.
	Password string
	// Connections bounds the connections of this process; 0 means 16.
	Connections int
	// Application is the program's name, for those who look at the server.
	Application string
}

// Parse checks the configuration, and connects to nothing.
func Parse(c Config) (*pgxpool.Config, error) {
	bad := func(hint, format string, args ...any) (*pgxpool.Config, error) {
		return nil, advice.New(advice.Usage, hint, c.Section+".postgres: "+format, args...)
	}
	if strings.Contains(strings.ToLower(c.Database), "password") {
		return bad("put it into a file that only this service may read, and name that in "+c.Section+".password_file", "holds a password")
	}
	conf, err := pgxpool.ParseConfig(c.Database)
	if err != nil {
		return bad("write it as host=HOST dbname=NAME user=NAME", "is no connection string of libpq")
	}
	conn := conf.ConnConfig
	if c.Password != "" {
		conn.Password = c.Password
	}
	type way struct {
		host    string
		checked bool
	}
	ways := []way{{conn.Host, conn.TLSConfig != nil && !conn.TLSConfig.InsecureSkipVerify}}
	for _, f := range conn.Fallbacks {
		ways = append(ways, way{f.Host, f.TLSConfig != nil && !f.TLSConfig.InsecureSkipVerify})
	}
	for _, to := range ways {
		if !to.checked && !local(to.host) {
			return bad("add sslmode=verify-full and sslrootcert=FILE", "the connection to %s is not encrypted, or the server's certificate not checked", to.host)
		}
	}
	conf.MaxConns = int32(c.Connections)
	if conf.MaxConns == 0 {
		conf.MaxConns = 16
	}
	conn.ConnectTimeout = 5 * time.Second
	for name, value := range map[string]string{
		// A commit is durable when it returns, whatever the server's default.
		"synchronous_commit": "on", "default_transaction_isolation": "read committed", "timezone": "UTC",
		// A server that lost its client frees what that held.
		"idle_in_transaction_session_timeout": "60000", "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
		"lock_timeout": "20000", "application_name": c.Application,
	} {
		conn.RuntimeParams[name] = value
	}
	return conf, nil
}

// local says that nobody between us and the host can read or change what is said.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || ip != nil && ip.IsLoopback()
}
