package cluster

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/covey-ml/covey/comm"
)

// ServerConfig is how a server of this process works.
type ServerConfig struct {
	Listen string // HOST:PORT; port 0 is any free one
	Token  string // who comes must hold it; empty: TLS says who may
	TLS    *tls.Config
	Dir    string // what it keeps; empty: a folder of its own, removed when it is closed
	// Warn hears of who was not let in and of what else the server finds worth saying, from several goroutines; nil:
	// nobody does.
	Warn func(text string)
	// Peers are the addresses at which the other servers of a cluster listen for each other, and Route that of this one; Name is
	// its own. Without Peers it is alone.
	Name  string
	Route string
	Peers []string
}

// Server is a NATS server inside this process.
type Server struct {
	s    *server.Server
	log  logger
	temp string
}

// handshake is how long a stranger may take to say who it is.
const handshake = 5 * time.Second

// mostConnections bounds what strangers can take of this host's memory: some 20 KiB each, while they say nothing. Workers have one, and
// who is turned away tries again. Tests make it smaller.
var mostConnections = 8192

// Serve starts a server. Without certificates only loopback addresses are allowed, and who joins must hold the token.
func Serve(c ServerConfig) (*Server, error) {
	host, port, err := splitListen(c.Listen)
	if err != nil {
		return nil, err
	}
	if c.TLS == nil && !Loopback(c.Listen) {
		return nil, fmt.Errorf("listening on %s, beyond loopback, needs certificates: make them with covey ca and give --tls DIR", c.Listen)
	}
	if c.TLS == nil && c.Token == "" {
		return nil, errors.New("a server without certificates needs a token")
	}
	o := &server.Options{
		ServerName: c.Name, Host: host, Port: port, NoSigs: true, DontListen: false,
		JetStream: true, StoreDir: c.Dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30,
		MaxPayload: maxValue + 4096, MaxPending: 8 << 20, AuthTimeout: handshake.Seconds(), MaxControlLine: 4096, WriteDeadline: 10 * time.Second,
		MaxConn: mostConnections, MaxClosedClients: 1, DisableShortFirstPing: true, NoSystemAccount: len(c.Peers) == 0, MaxTracedMsgLen: 64, // the servers of a cluster need that account
	}
	if port == 0 {
		o.Port = server.RANDOM_PORT
	}
	sv := &Server{log: logger{refused: NewRefusals(comm.RealClock(), c.Warn), other: NewRefusals(comm.RealClock(), c.Warn)}}
	if c.Dir == "" {
		if sv.temp, err = os.MkdirTemp("", "covey-nats-"); err != nil {
			return nil, err
		}
		o.StoreDir = sv.temp
	}
	if c.Token != "" {
		user, err := signer(c.Token)
		if err != nil {
			return nil, err
		}
		public, err := user.PublicKey()
		if err != nil {
			return nil, err
		}
		o.Nkeys = []*server.NkeyUser{{Nkey: public}}
	}
	if c.TLS != nil {
		o.TLSConfig, o.TLS, o.TLSVerify, o.TLSHandshakeFirst, o.TLSTimeout = c.TLS.Clone(), true, true, true, handshake.Seconds()
	}
	if len(c.Peers) > 0 {
		if err := joinCluster(o, c); err != nil {
			sv.remove()
			return nil, err
		}
	}
	if sv.s, err = server.NewServer(o); err != nil {
		sv.remove()
		return nil, err
	}
	sv.s.SetLogger(&sv.log, false, false)
	sv.s.Start()
	if !sv.s.ReadyForConnections(startServer) {
		sv.Close()
		return nil, fmt.Errorf("cannot listen on %s (choose another port with --listen)", c.Listen)
	}
	return sv, nil
}

const startServer = 20 * time.Second

// splitListen takes an address apart and finds out whether somebody has it.
func splitListen(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil {
		return "", 0, fmt.Errorf("cannot listen on %s: expected HOST:PORT", addr)
	}
	ln, err := net.Listen("tcp", addr) // the server itself would say so in its log alone
	if err != nil {
		return "", 0, fmt.Errorf("cannot listen on %s: %w (choose another port with --listen)", addr, err)
	}
	return host, port, ln.Close()
}

// joinCluster makes a server one of several that keep runs together.
func joinCluster(o *server.Options, c ServerConfig) error {
	host, port, err := splitListen(c.Route)
	if err != nil {
		return err
	}
	if c.TLS == nil && !Loopback(c.Route) {
		return fmt.Errorf("listening on %s, beyond loopback, needs certificates: make them with covey ca and give --tls DIR", c.Route)
	}
	switch {
	case c.Name == "":
		return errors.New("a server of a cluster needs a name that no other one has")
	case c.Dir == "":
		return errors.New("a server of a cluster needs a folder: with what it promised forgotten, it would promise it to others")
	case port == 0:
		return fmt.Errorf("listening for other servers on %s: give a port, by which they know it", c.Route)
	}
	o.Cluster = server.ClusterOpts{Name: "covey", Host: host, Port: port, AuthTimeout: handshake.Seconds()}
	var user *url.Userinfo
	if c.TLS != nil {
		o.Cluster.TLSConfig, o.Cluster.TLSTimeout = c.TLS.Clone(), handshake.Seconds() // asks for a certificate on both sides
	} else {
		o.Cluster.Username, o.Cluster.Password = "covey", routeSecret(c.Token)
		user = url.UserPassword(o.Cluster.Username, o.Cluster.Password)
	}
	// Itself, too: the servers take the number of routes for that of the cluster's members until all have met.
	o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: c.Route, User: user})
	for _, p := range c.Peers {
		if _, _, err := net.SplitHostPort(p); err != nil {
			return fmt.Errorf("%q is not the address of a server of the cluster: expected HOST:PORT", p)
		}
		if o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: p, User: user}); Loopback(p) != Loopback(c.Route) {
			return fmt.Errorf("%s and %s: the servers of a cluster are all on loopback, or none is", c.Route, p)
		}
	}
	return nil
}

// routeSecret is what the servers of a cluster on loopback show each other. They do send it, unlike the token, which cannot be
// found from it: what was heard between them opens the way between them and not that of a run.
func routeSecret(token string) string {
	sum := sha256.Sum256([]byte("covey route secret\x00" + token))
	return hex.EncodeToString(sum[:])
}

// Addr is the address to join.
func (s *Server) Addr() string { return s.s.Addr().String() }

// Close ends the server, and what it kept if nobody asked to keep it.
func (s *Server) Close() {
	s.s.Shutdown()
	s.s.WaitForShutdown()
	s.log.refused.Close()
	s.log.other.Close()
	s.remove()
}

func (s *Server) remove() {
	if s.temp != "" {
		os.RemoveAll(s.temp)
	}
}

// logger passes on what a server warns of, in our words. A server that misses its peers repeats itself, which must not keep anybody
// from hearing of strangers.
type logger struct{ refused, other *Refusals }

func (l *logger) say(format string, v ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, v...))
	if addr, why := refusal(line); addr != "" {
		l.refused.Add(addr, why)
	} else if !asMeant.MatchString(line) {
		l.other.Warn(why)
	}
}

// Noticef implements server.Logger.
func (*logger) Noticef(string, ...any) {}

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, v ...any) { l.say(format, v...) }

// Fatalf implements server.Logger.
func (l *logger) Fatalf(format string, v ...any) { l.say(format, v...) }

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, v ...any) { l.say(format, v...) }

// Debugf implements server.Logger.
func (*logger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (*logger) Tracef(string, ...any) {}
