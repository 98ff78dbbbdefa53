package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/covey-ml/covey/comm"
)

const (
	// DefaultTimeout bounds every wait of a group whose Config has no Timeout.
	DefaultTimeout = 30 * time.Second
	// DefaultSetup bounds Connect when Config has no Setup.
	DefaultSetup = 30 * time.Second
	// MinSecret is the fewest bytes that a group's secret may have. Draw them from crypto/rand.
	MinSecret = 16

	handshake = 5 * time.Second        // a stranger who says nothing is sent away after this
	strangers = 64                     // handshakes at one time beyond the group's own
	firstWait = 5 * time.Millisecond   // before dialling a peer again who was not there yet; doubled up to
	lastWait  = 250 * time.Millisecond // this
)

// Config is what Connect needs to know beside ranks and addresses. It must be the same on every rank, but for Refused.
type Config struct {
	Generation uint64        // the group's number; peers of another are refused
	Secret     []byte        // proves that a peer belongs to the group; at least MinSecret random bytes; never sent
	Timeout    time.Duration // bounds every Send and Recv; 0 means DefaultTimeout
	Setup      time.Duration // bounds Connect; 0 means DefaultSetup
	// Refused hears of each stranger that was sent away while the group formed, from several goroutines; nil: nobody does. It is
	// this rank's own, and must be fast.
	Refused func(addr, why string)
}

// Listener is a worker's open door until its group is whole.
type Listener struct {
	tcp *net.TCPListener
	tls *tls.Config // nil without TLS

	mu   sync.Mutex
	used bool
}

// Listen opens addr, "host:port" with port 0 for any free one. conf is the node's credentials, as package pki loads
// them; it may be nil on loopback addresses only. Nobody is accepted before Connect.
func Listen(ctx context.Context, addr string, conf *tls.Config) (*Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("tcp: cannot listen on %q: want host:port, such as 127.0.0.1:0", addr)
	}
	if conf != nil {
		if conf, err = strict(conf); err != nil {
			return nil, err
		}
	} else if err := loopback(ctx, host); err != nil {
		return nil, fmt.Errorf("tcp: not listening on %s: %w", addr, err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		if inUse(err) {
			return nil, fmt.Errorf("tcp: port %s on %s is in use: stop the program that listens there, or take another port (0 takes any free one): %w",
				port, host, err)
		}
		return nil, fmt.Errorf("tcp: %w", err)
	}
	l := &Listener{tcp: ln.(*net.TCPListener), tls: conf}
	if conf == nil && !l.tcp.Addr().(*net.TCPAddr).IP.IsLoopback() {
		ln.Close()
		return nil, fmt.Errorf("tcp: not listening on %s: %w", l.Addr(), errExposed)
	}
	return l, nil
}

// Addr is the address with the port that was bound.
func (ln *Listener) Addr() string { return ln.tcp.Addr().String() }

// Close closes a listener. After Connect it does nothing.
func (ln *Listener) Close() error {
	if err := ln.tcp.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("tcp: %w", err)
	}
	return nil
}

var errExposed = errors.New("beyond loopback both sides must show certificates: make them with `covey ca init DIR` and " +
	"`covey ca issue DIR NAME HOST...` and give them to every worker, or stay on 127.0.0.1")

// loopback refuses a host that is not, or not only, this machine to itself.
func loopback(ctx context.Context, host string) error {
	if ip := net.ParseIP(host); ip != nil {
		if !ip.IsLoopback() {
			return errExposed
		}
		return nil
	}
	if host == "" {
		return errExposed
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return errExposed
		}
	}
	return nil
}

func inUse(err error) bool {
	const wsaeAddrInUse = syscall.Errno(10048) // Windows has a number of its own
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, wsaeAddrInUse)
}

// strict returns conf held to TLS 1.3 with both sides verified, or says what it lacks for that.
func strict(conf *tls.Config) (*tls.Config, error) {
	bad := func(what string) (*tls.Config, error) {
		return nil, fmt.Errorf("tcp: the TLS configuration %s: load one that `covey ca` made", what)
	}
	switch {
	case len(conf.Certificates) == 0:
		return bad("has no certificate")
	case conf.RootCAs == nil || conf.ClientCAs == nil:
		return bad("does not name the cluster's CA for both sides, and the system's authorities would do instead")
	case conf.InsecureSkipVerify:
		return bad("skips verification")
	case conf.MaxVersion != 0 && conf.MaxVersion < tls.VersionTLS13:
		return bad("forbids TLS 1.3")
	}
	conf = conf.Clone()
	conf.MinVersion = tls.VersionTLS13
	conf.DynamicRecordSizingDisabled = true // small first records are for browsers
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	conf.GetConfigForClient = nil // it could hand out a laxer one
	conf.SessionTicketsDisabled = true
	conf.DynamicRecordSizingDisabled = true // small first records are for browsers // our writes are whole frames
	return conf, nil
}

// Connect forms the group: this rank's view of len(addrs) ranks, whose listeners have those addresses (the rank's own
// is not used). It dials the lower ranks, again and again while they are not there yet, and accepts the higher ones,
// and returns when all are connected or with an error that names who is not, a *comm.PeerError when Setup has passed. Those
// who are connected already are told. It uses the listener up.
func (ln *Listener) Connect(ctx context.Context, rank comm.Rank, addrs []string, cfg Config) (comm.Group, error) {
	defer ln.Close()
	ln.mu.Lock()
	used := ln.used
	ln.used = true
	ln.mu.Unlock()
	switch {
	case used:
		return nil, errors.New("tcp: Connect was called before on this listener: each group needs a new one")
	case rank < 0 || int(rank) >= len(addrs):
		return nil, fmt.Errorf("tcp: rank %d in a group of %d addresses", rank, len(addrs))
	case len(cfg.Secret) < MinSecret:
		return nil, fmt.Errorf("tcp: the group's secret has %d bytes, want at least %d random ones", len(cfg.Secret), MinSecret)
	case cfg.Timeout < 0 || cfg.Setup < 0:
		return nil, fmt.Errorf("tcp: timeout %v, setup %v: neither may be negative", cfg.Timeout, cfg.Setup)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Setup == 0 {
		cfg.Setup = DefaultSetup
	}
	for r, a := range addrs {
		if _, _, err := net.SplitHostPort(a); comm.Rank(r) < rank && err != nil {
			return nil, fmt.Errorf("tcp: address %q of rank %d: want host:port", a, r)
		}
	}
	f := &forming{ln: ln, rank: rank, addrs: addrs, cfg: cfg, sockets: make([]*socket, len(addrs)),
		last: make([]error, len(addrs)), news: make(chan struct{}, 1),
		member: member{generation: cfg.Generation, size: len(addrs), secret: cfg.Secret}}
	if err := f.run(ctx); err != nil {
		f.part(err)
		return nil, err
	}
	return newGroup(rank, cfg, f.sockets), nil
}

// forming is a group that is not whole yet.
type forming struct {
	member
	ln    *Listener
	rank  comm.Rank
	addrs []string
	cfg   Config
	news  chan struct{} // a token: look again

	mu      sync.Mutex
	sockets []*socket      // by rank
	last    []error        // by rank, what went wrong last
	fatal   error          // what no waiting will mend
	refused error          // what the last stranger did
	guests  []*net.TCPConn // those in a handshake, the oldest first
}

// run returns when the group is whole or cannot become so. Nothing that it started lives on.
func (f *forming) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Setup)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer f.ln.tcp.Close()
	defer cancel()
	for r := range f.rank {
		wg.Go(func() { f.dial(ctx, r) })
	}
	if int(f.rank) < len(f.addrs)-1 {
		wg.Go(func() { f.accept(ctx, &wg) })
	}
	for {
		whole, err := f.state()
		if whole || err != nil {
			return err
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			return f.missing(ctx)
		}
	}
}

func (f *forming) state() (whole bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r, s := range f.sockets {
		if s == nil && comm.Rank(r) != f.rank {
			return false, f.fatal
		}
	}
	return true, nil
}

// missing says who did not come, and what is known about why.
func (f *forming) missing(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	cause, first := context.Cause(ctx), comm.AnyRank
	if errors.Is(cause, context.DeadlineExceeded) {
		cause = comm.ErrTimeout
	}
	var errs []error
	for r, s := range f.sockets {
		if s != nil || comm.Rank(r) == f.rank {
			continue
		}
		if first == comm.AnyRank {
			first = comm.Rank(r)
		}
		err := cause
		switch last := f.last[r]; {
		case last != nil:
			err = fmt.Errorf("%w, last: %w", cause, last)
		case comm.Rank(r) > f.rank && f.refused != nil:
			err = fmt.Errorf("%w, and a stranger was sent away: %w", cause, f.refused)
		}
		if comm.Rank(r) < f.rank {
			err = fmt.Errorf("tcp: rank %d cannot reach rank %d at %s: %w", f.rank, r, f.addrs[r], err)
		} else {
			err = fmt.Errorf("tcp: rank %d (%s) did not call rank %d at %s: %w", r, f.addrs[r], f.rank, f.ln.Addr(), err)
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if cause == comm.ErrTimeout {
		err = &comm.PeerError{Rank: first, Op: comm.OpControl, Step: -1, Cause: err}
	}
	return err
}

// part takes leave of those who are connected: some may be at work in the group already, to whom it must look as if
// this rank had poisoned and closed it. Whoever did not come is to blame, else this rank, which gives up.
func (f *forming) part(err error) {
	e := &comm.PeerError{Rank: f.rank, Op: comm.OpControl, Step: -1, Cause: err}
	errors.As(err, &e)
	var wg sync.WaitGroup
	for _, s := range f.sockets {
		if s == nil {
			continue
		}
		wg.Go(func() {
			s.tcp.SetWriteDeadline(time.Now().Add(linger))
			if _, err := s.control(kindAbort, f.cfg.Generation, f.rank, comm.AppendPeerError(nil, e)); err == nil {
				s.control(kindGoodbye, f.cfg.Generation, f.rank, nil)
			}
			hangUp(s.tcp)
		})
	}
	wg.Wait()
}

// note records how an attempt ended and wakes run.
func (f *forming) note(r comm.Rank, s *socket, err error, fatal bool) {
	f.mu.Lock()
	switch {
	case s != nil:
		f.sockets[r] = s
	case r < 0:
		f.refused = err
	default:
		f.last[r] = err
	}
	if fatal && f.fatal == nil {
		f.fatal = fmt.Errorf("tcp: rank %d at %s: %w", r, f.addrs[r], err)
	}
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// dial connects to a lower rank, however often it takes within ctx.
func (f *forming) dial(ctx context.Context, to comm.Rank) {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		s, err := f.dialOnce(ctx, to)
		if err == nil {
			f.note(to, s, nil, false)
			return
		}
		if ctx.Err() != nil {
			return // what that made of the attempt is no news
		}
		fatal := errors.Is(err, ErrRefused) || errors.Is(err, errExposed)
		f.note(to, nil, err, fatal)
		if fatal {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (f *forming) dialOnce(ctx context.Context, to comm.Rank) (*socket, error) {
	d := net.Dialer{}
	conf := f.ln.tls
	if conf == nil { // checked on the very address that is dialled, after names were looked up
		d.ControlContext = func(_ context.Context, _, addr string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(addr); err != nil || !net.ParseIP(host).IsLoopback() {
				return errExposed
			}
			return nil
		}
	}
	c, err := d.DialContext(ctx, "tcp", f.addrs[to])
	if err != nil {
		return nil, err
	}
	f.note(to, nil, errors.New("it took the connection and did not answer"), false) // which holds until it does
	stop := context.AfterFunc(ctx, func() { c.Close() })
	var wrap func(net.Conn) *tls.Conn
	if conf != nil {
		if conf.ServerName == "" {
			conf = conf.Clone()
			conf.ServerName, _, _ = net.SplitHostPort(f.addrs[to])
		}
		wrap = func(c net.Conn) *tls.Conn { return tls.Client(c, conf) }
	}
	s := newSocket(c.(*net.TCPConn), wrap)
	err = secure(ctx, s)
	if err == nil {
		err = credentials(f.call(s, f.rank, to))
	}
	if !stop() { // from here on the connection outlives ctx
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

// secure does the TLS handshake, if there is one.
func secure(ctx context.Context, s *socket) error {
	if s.tls == nil {
		return nil
	}
	return credentials(s.tls.HandshakeContext(ctx))
}

// credentials marks TLS's ways of saying that one side did not accept the other.
func credentials(err error) error {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var remote *net.OpError // how crypto/tls wraps the other side's alert
	switch {
	case errors.As(err, &verify), errors.As(err, &alert), errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return errors.New("it hung up in the middle of the handshake; do both sides use TLS, or neither?")
	}
	return err
}

// accept lets strangers in for a handshake, each in a goroutine of its own, until the listener is closed. When there
// are too many, the one who has taken longest is sent away: a peer of the group needs no time to think.
func (f *forming) accept(ctx context.Context, wg *sync.WaitGroup) {
	for {
		c, err := f.ln.tcp.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			f.note(-1, nil, err, false)
			t := time.NewTimer(lastWait) // out of file descriptors, say: others may give some back
			select {
			case <-t.C:
				continue
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
		f.mu.Lock()
		if len(f.guests) >= strangers+len(f.addrs) {
			f.guests[0].Close()
			f.guests = slices.Delete(f.guests, 0, 1)
		}
		f.guests = append(f.guests, c)
		f.mu.Unlock()
		wg.Go(func() {
			f.greet(ctx, c)
			f.mu.Lock()
			defer f.mu.Unlock()
			if i := slices.Index(f.guests, c); i >= 0 {
				f.guests = slices.Delete(f.guests, i, i+1)
			}
		})
	}
}

// greet is one handshake with whoever called.
func (f *forming) greet(ctx context.Context, c *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	c.SetDeadline(time.Now().Add(min(handshake, f.cfg.Setup)))
	var wrap func(net.Conn) *tls.Conn
	if f.ln.tls != nil {
		wrap = func(c net.Conn) *tls.Conn { return tls.Server(c, f.ln.tls) }
	}
	s := newSocket(c, wrap)
	r, err := comm.Rank(-1), secure(ctx, s)
	if err == nil {
		r, err = f.answer(s, f.rank, f.free)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err == nil && stop() { // from here on the connection outlives ctx
		if f.seat(r, s) {
			return
		}
		err = f.free(r)
	}
	if err != nil && ctx.Err() == nil {
		f.note(-1, nil, fmt.Errorf("%s: %w", c.RemoteAddr(), err), false)
		if f.cfg.Refused != nil {
			f.cfg.Refused(c.RemoteAddr().String(), err.Error())
		}
	}
	hangUp(c)
	stop()
}

// hangUp closes a connection so that the other side can read why: with unread bytes here, closing would reset it.
func hangUp(c *net.TCPConn) {
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(linger))
	io.CopyN(io.Discard, c, 64<<10)
	c.Close()
}

// free tells whether a rank is still awaited.
func (f *forming) free(r comm.Rank) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sockets[r] != nil {
		return errors.New("rank " + strconv.Itoa(int(r)) + " is connected already")
	}
	return nil
}

// seat gives a rank its place, unless it has one.
func (f *forming) seat(r comm.Rank, s *socket) bool {
	f.mu.Lock()
	taken := f.sockets[r] != nil
	if !taken {
		f.sockets[r] = s
	}
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
	return !taken
}
