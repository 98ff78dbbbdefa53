package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster/k8s"
	"github.com/covey-ml/covey/ops"
)

// opsFlags say where workers show their numbers, and how they log.
type opsFlags struct {
	addr  string
	token string // file
	log   string
	level string
}

func (o *opsFlags) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.addr, "ops", os.Getenv(k8s.EnvOps), "address at which a worker shows its health, metrics and status over HTTP, as in :9090, which is loopback; the next worker of this host takes the next port (default: $"+k8s.EnvOps+", or nowhere)")
	c.Flags().Lookup("ops").DefValue = ""
	c.Flags().StringVar(&o.token, "ops-token", "", "file with the token for that, and for profiles (default: $"+ops.EnvToken+")")
	c.Flags().StringVar(&o.log, "log", "", "write a log to standard error, as text or json (default: none)")
	c.Flags().StringVar(&o.level, "log-level", "", "least that is logged: "+strings.Join(ops.Levels, ", ")+" (default: info)")
}

// args are the flags by which a worker that this process starts does the same.
func (o *opsFlags) args() []string {
	var all []string
	for _, f := range [][2]string{{"--ops", o.addr}, {"--ops-token", o.token}, {"--log", o.log}, {"--log-level", o.level}} {
		if f[1] != "" {
			all = append(all, f[0], f[1])
		}
	}
	return all
}

// serve shows a meter, that of the worker with this number on its host; nil when nobody asked for it.
func (o *opsFlags) serve(ctx context.Context, m *ops.Meter, creds *tls.Config, number int, log *slog.Logger) (*ops.Server, error) {
	if o.addr == "" {
		return nil, nil
	}
	token, err := readToken(o.token)
	if err != nil {
		return nil, err
	}
	addr, err := nthPort(o.addr, number)
	if err != nil {
		return nil, err
	}
	s, err := ops.Serve(ctx, ops.Config{Addr: addr, TLS: creds, Token: token, Meter: m, Log: log})
	if err != nil {
		return nil, &usageError{fmt.Errorf("--ops: %w", err)}
	}
	return s, nil
}

// logger is the log that was asked for; it says nothing when none was.
func (o *opsFlags) logger(w io.Writer, run string) (*slog.Logger, *ops.Where, error) {
	if o.log == "" {
		if o.level != "" {
			return nil, nil, usagef("--log-level without --log: say how to log, as %s", strings.Join(ops.Formats, " or "))
		}
		w = io.Discard
	}
	l, where, err := ops.Logger(w, o.log, o.level, run)
	if err != nil {
		return nil, nil, &usageError{err}
	}
	return l, where, nil
}

// readToken reads the file of a token, or the environment without one.
func readToken(path string) (string, error) {
	token, from := os.Getenv(ops.EnvToken), "$"+ops.EnvToken
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return "", &usageError{err}
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 4<<10))
		if err != nil {
			return "", &usageError{err}
		}
		token, from = strings.TrimSpace(string(b)), path
		if token == "" {
			return "", usagef("%s holds no token: make one with openssl rand -hex 16 > %s", path, path)
		}
	}
	if err := ops.CheckToken(token); err != nil {
		return "", &usageError{fmt.Errorf("%s: %w", from, err)}
	}
	return token, nil
}

// nthPort is an address so many ports on; port 0 is any.
func nthPort(addr string, n int) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	port, bad := strconv.Atoi(text)
	if err != nil || bad != nil || port < 0 || port > 65535 {
		return "", usagef("--ops %s: expected HOST:PORT with a port up to 65535, as in 127.0.0.1:9090", addr)
	}
	if port == 0 {
		return addr, nil
	}
	if port+n > 65535 {
		return "", usagef("--ops %s: worker %d of this host would need port %d, and there are 65535: begin lower", addr, n, port+n)
	}
	return net.JoinHostPort(host, strconv.Itoa(port+n)), nil
}
