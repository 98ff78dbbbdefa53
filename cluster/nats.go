package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/covey-ml/covey/comm"
)

// Access is how a store is reached.
type Access struct {
	Servers []string    // HOST:PORT or nats://HOST:PORT, any of which will do
	Token   string      // of the run: who holds it can sign for it. It is never sent
	TLS     *tls.Config // required beyond loopback
	// Seed and Credentials are files by which a server of your own knows its users; empty: it needs none.
	Seed, Credentials string
}

// natsStore is a Store on a NATS server's JetStream: a key-value bucket a run.
type natsStore struct {
	clock comm.Clock
	nc    *nats.Conn
	kv    jetstream.KeyValue
	run   string

	mu    sync.Mutex
	lost  time.Duration // when the server went out of reach
	away  bool
	local string        // see Host
	epoch chan struct{} // closed when the server is in reach again
}

// connect reaches a server, trying again until ctx ends.
func connect(ctx context.Context, a Access, clock comm.Clock) (*natsStore, error) {
	s := &natsStore{clock: clock, epoch: make(chan struct{})}
	var servers []string
	for _, at := range a.Servers {
		u, err := address(at, a.TLS != nil)
		if err != nil {
			return nil, err
		}
		servers = append(servers, u.String())
	}
	opts := []nats.Option{
		nats.Name("covey"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.SetCustomDialer(s), nats.Timeout(handshake), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { s.reach(false) }),
		nats.ReconnectHandler(func(*nats.Conn) { s.reach(true) }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.IgnoreAuthErrorAbort(),
	}
	switch {
	case a.Seed != "":
		o, err := nats.NkeyOptionFromSeed(a.Seed)
		if err != nil {
			return nil, fmt.Errorf("%s is not an nkey's seed: %w", a.Seed, err)
		}
		opts = append(opts, o)
	case a.Credentials != "":
		opts = append(opts, nats.UserCredentials(a.Credentials))
	case a.Token != "":
		user, err := signer(a.Token)
		if err != nil {
			return nil, err
		}
		public, err := user.PublicKey()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Nkey(public, user.Sign))
	}
	if a.TLS != nil {
		opts = append(opts, nats.Secure(a.TLS.Clone()), nats.TLSHandshakeFirst())
	}
	for {
		nc, err := nats.Connect(strings.Join(servers, ","), opts...)
		if err == nil {
			s.nc = nc
			return s, nil
		}
		if final := refused(err, a); final != nil {
			return nil, final
		}
		if clock.Sleep(ctx, 100*time.Millisecond) != nil {
			return nil, fmt.Errorf("no run to join at %s: %w", strings.Join(a.Servers, ", "), err)
		}
	}
}

// address reads where a server is.
func address(at string, secure bool) (*url.URL, error) {
	full := at
	if !strings.Contains(at, "://") {
		full = "nats://" + at
	}
	u, err := url.Parse(full)
	if err != nil || u.Hostname() == "" || u.Scheme != "nats" {
		return nil, fmt.Errorf("%q is not the address of a NATS server: expected HOST:PORT or nats://HOST:PORT", at)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "4222")
	}
	if !secure && !Loopback(u.Host) {
		return nil, fmt.Errorf("joining %s, beyond loopback, needs certificates: make them with covey ca and give --tls DIR", u.Host)
	}
	return u, nil
}

// refused is what it means when a server that is there does not let us in; nil when trying again may help.
func refused(err error, a Access) error {
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return errors.New("not let in: wrong token: give the one that covey train printed, as --token or in COVEY_TOKEN")
	case errors.As(err, &unknown), strings.Contains(err.Error(), "remote error: tls"), strings.Contains(err.Error(), "certificate"):
		return fmt.Errorf("%s does not accept our certificate, or we do not accept its: %w", strings.Join(a.Servers, ", "), err)
	}
	return nil
}

// signer is the key pair that a token stands for. The server knows the public half, and has who comes sign a number of its
// own: the token itself is on no wire, and what was heard there once opens nothing later.
func signer(token string) (nkeys.KeyPair, error) {
	seed := sha256.Sum256([]byte("covey run token\x00" + token))
	raw, err := nkeys.EncodeSeed(nkeys.PrefixByteUser, seed[:])
	if err != nil {
		return nil, err
	}
	return nkeys.FromSeed(raw)
}

// bucket opens what a run's workers write to. With size above 0 it is made, on as many servers.
func (s *natsStore) bucket(ctx context.Context, run string, replicas int) error {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return err
	}
	s.run = run
	name := "covey-" + run
	if replicas == 0 {
		s.kv, err = js.KeyValue(ctx, name)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			return fmt.Errorf("%w: %q", ErrNoRun, run)
		}
		return err
	}
	s.kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: name, Description: "a run of covey", MaxValueSize: maxValue, Replicas: replicas, TTL: keep, Storage: jetstream.FileStorage,
	})
	if errors.Is(err, jetstream.ErrBucketExists) {
		s.kv, err = js.KeyValue(ctx, name)
	}
	return err
}

const (
	maxValue = 1 << 20              // bytes of a value: the largest is the job
	keep     = 366 * 24 * time.Hour // what nobody has written to for so long is forgotten: longer than a run, whose first keys are written once
)

func (s *natsStore) reach(there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if there == !s.away {
		return
	}
	s.away, s.lost = !there, s.clock.Now()
	if there {
		close(s.epoch)
		s.epoch = make(chan struct{})
	}
}

// Silent implements Store.
func (s *natsStore) Silent() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.away {
		return 0
	}
	return max(1, s.clock.Now()-s.lost)
}

// Put implements Store.
func (s *natsStore) Put(ctx context.Context, key string, value []byte) error {
	_, err := s.kv.Put(ctx, key, value)
	return err
}

// Swap implements Store.
func (s *natsStore) Swap(ctx context.Context, key string, value []byte, revision uint64) error {
	_, err := s.kv.Update(ctx, key, value, revision)
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return ErrSwapped
	}
	return err
}

// Watch implements Store. A server that was started anew has forgotten who watches, and of several the one that knew may be gone,
// which the client finds out after 10 to 20 seconds: too long to take nobody's silence for death. So who comes back to a server, or
// hears nothing for the time of some beats, watches anew, and leaves out what it knows.
func (s *natsStore) Watch(ctx context.Context, tell func(Entry), current func()) error {
	known := uint64(0)
	first := current
	for {
		s.mu.Lock()
		epoch := s.epoch
		s.mu.Unlock()
		err := s.watch(ctx, epoch, func(e Entry) {
			if e.Revision > known {
				known = e.Revision
				tell(e)
			}
		}, func() {
			if first != nil {
				first()
				first = nil
			}
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && (first != nil && !passing(err) || s.nc.IsClosed()):
			return err
		case err != nil:
			s.clock.Sleep(ctx, turn)
		}
	}
}

// forgotten is how long who watches hears nothing when there is nothing, or when it is not told any more.
const forgotten = 3 * beat

// passing tells of an error whether servers that look for a leader have it, and not this client.
func passing(err error) bool {
	var api *jetstream.APIError
	var watch *nats.APIError // the same, of watches
	return errors.As(err, &api) && api.Code == http.StatusServiceUnavailable || errors.As(err, &watch) && watch.Code == http.StatusServiceUnavailable ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
}

// watch is Watch until epoch ends.
func (s *natsStore) watch(ctx context.Context, epoch chan struct{}, tell func(Entry), current func()) error {
	w, err := s.kv.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		over, err := s.hear(ctx, w, epoch, tell, current)
		if over || err != nil {
			return err
		}
	}
}

// hear takes one piece of news. over says that it is time to watch anew.
func (s *natsStore) hear(ctx context.Context, w jetstream.KeyWatcher, epoch chan struct{}, tell func(Entry), current func()) (over bool, err error) {
	quiet, cancel := s.clock.WithTimeout(ctx, forgotten)
	defer cancel()
	select {
	case e, ok := <-w.Updates():
		switch {
		case !ok:
			return true, errors.New("cluster: the store was closed")
		case e == nil:
			current()
		case e.Operation() == jetstream.KeyValuePut:
			tell(Entry{e.Key(), e.Value(), e.Revision()})
		}
		return false, nil
	case <-epoch:
		return true, nil
	case <-quiet.Done():
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
		return true, nil
	}
}

func (s *natsStore) subject(topic string) string { return "covey." + s.run + "." + topic }

// Tell implements Store.
func (s *natsStore) Tell(topic string, p []byte, sure bool) error {
	err := s.nc.Publish(s.subject(topic), p)
	if err == nil && sure {
		err = s.nc.FlushTimeout(time.Second)
	}
	return err
}

// Listen implements Store.
func (s *natsStore) Listen(topic string, f func([]byte)) (off func(), err error) {
	sub, err := s.nc.Subscribe(s.subject(topic), func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return nil, err
	}
	if err := s.nc.Flush(); err != nil {
		return nil, err
	}
	return func() { sub.Unsubscribe() }, nil
}

// Host implements Store.
func (s *natsStore) Host() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local
}

// Dial implements nats.CustomDialer: it notes by which of this host's addresses the server is reached.
func (s *natsStore) Dial(network, addr string) (net.Conn, error) {
	c, err := net.DialTimeout(network, addr, handshake)
	if err != nil {
		return nil, err
	}
	if host, _, err := net.SplitHostPort(c.LocalAddr().String()); err == nil {
		s.mu.Lock()
		s.local = host
		s.mu.Unlock()
	}
	return c, nil
}

// Close implements Store.
func (s *natsStore) Close() error {
	if s.nc.IsConnected() { // else nobody would take it
		s.nc.FlushTimeout(time.Second)
	}
	s.nc.Close()
	return nil
}
