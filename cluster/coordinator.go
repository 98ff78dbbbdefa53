package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Coordinator waits for the workers of a run and keeps a connection to each.
type Coordinator struct {
	ln    net.Listener
	clock comm.Clock
	token string
	tls   bool

	mu      sync.Mutex
	members []*member
}

type member struct {
	c    *conn
	rank int
	addr string
	name string
	host string // its HostID
	any  bool   // it asked for no rank
}

// Listen opens the door. Without certificates only loopback addresses are allowed, and who joins must hold the token.
func Listen(addr, token string, creds *tls.Config, clock comm.Clock) (*Coordinator, error) {
	if creds == nil && !Loopback(addr) {
		return nil, fmt.Errorf("listening on %s, beyond loopback, needs certificates: make them with covey ca and give --tls DIR", addr)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w (choose another port with --listen)", addr, err)
	}
	if creds != nil {
		ln = tls.NewListener(ln, creds)
	}
	return &Coordinator{ln: ln, clock: clock, token: token, tls: creds != nil}, nil
}

// Addr is the address to join.
func (c *Coordinator) Addr() string { return c.ln.Addr().String() }

// NewToken makes a secret that a worker proves it holds.
func NewToken() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

// handshake is how long one stranger may take to say who it is.
const handshake = 5 * time.Second

// Gather waits until size workers are there, or ctx ends, and welcomes them. Members that ask for a rank get it; the
// others get the free ranks, host by host and otherwise in the order in which they came. Strangers and garbage are turned
// away and change nothing. arrived, which may be nil, hears of each worker as it comes: whether it asked for a rank, as
// those do that the launcher starts, and who it is.
func (c *Coordinator) Gather(ctx context.Context, size int, w Welcome, arrived func(asked bool, name string)) error {
	stop := context.AfterFunc(ctx, func() { c.ln.Close() })
	defer stop()
	w.Size, w.Secret = size, NewToken()
	seats := make([]*member, size)
	came := make(chan *member)
	over := make(chan struct{})
	defer close(over)
	c.clock.Go(func() {
		for {
			nc, err := c.ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors, say, which strangers may hold: they are sent away before long
				if c.clock.Sleep(ctx, 50*time.Millisecond) != nil {
					return
				}
				continue
			}
			c.clock.Go(func() {
				m, err := c.greet(ctx, newConn(nc))
				if err != nil {
					nc.Close()
					return
				}
				select {
				case came <- m:
				case <-over:
					m.c.write(Message{Kind: KindRefused, Error: "all workers of this run are there already"})
					nc.Close()
				}
			})
		}
	})
	for n := 0; n < size; {
		select {
		case m := <-came:
			if !seat(seats, m, w.Local) {
				m.c.write(Message{Kind: KindRefused, Error: fmt.Sprintf("there is no free rank %d", m.rank)})
				m.c.Close()
				continue
			}
			n++
			if arrived != nil {
				arrived(!m.any, m.name)
			}
		case <-ctx.Done():
			for _, m := range seats {
				if m != nil {
					m.c.Close()
				}
			}
			if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return fmt.Errorf("only %d of %d workers came in time", n, size)
		}
	}
	c.ln.Close() // nobody else joins this run
	byHost(seats)
	for _, m := range seats {
		w.Peers, w.Hosts = append(w.Peers, m.addr), append(w.Hosts, m.host)
	}
	for r, m := range seats {
		w := w
		w.Rank = r
		if err := m.c.write(Message{Kind: KindWelcome, Welcome: &w}); err != nil {
			return fmt.Errorf("worker %d (%s) left before the start: %w", r, m.name, err)
		}
	}
	c.mu.Lock()
	c.members = seats
	c.mu.Unlock()
	return nil
}

// greet hears who wants to join.
func (c *Coordinator) greet(ctx context.Context, k *conn) (*member, error) {
	ctx, cancel := c.clock.WithTimeout(ctx, handshake)
	defer cancel()
	var hello Message
	nonce := NewToken()
	err := k.bounded(ctx, func() error {
		err := k.write(Message{Kind: KindChallenge, Version: version, Nonce: nonce})
		if err == nil {
			hello, err = k.read()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	refuse := func(why string) (*member, error) {
		k.write(Message{Kind: KindRefused, Error: why})
		return nil, errors.New(why)
	}
	switch {
	case hello.Kind != KindHello:
		return refuse("expected hello")
	case hello.Version != version:
		return refuse(fmt.Sprintf("this run speaks version %d, the worker %d: use the same covey on all hosts", version, hello.Version))
	case (c.token != "" && !c.tls || hello.Proof != "") && !hmac.Equal([]byte(hello.Proof), []byte(prove(c.token, nonce))):
		return refuse("wrong token: give the one that covey train printed, as --token or in COVEY_TOKEN")
	}
	m := &member{c: k, rank: -1, addr: hello.Addr, name: hello.Name, host: hello.Host, any: hello.Want == nil}
	if hello.Want != nil {
		m.rank = *hello.Want
	}
	return m, nil
}

// seat gives m the rank it asks for, or the first free one beyond those that the launcher starts, who ask.
func seat(seats []*member, m *member, local int) bool {
	if m.rank >= 0 {
		if m.rank >= len(seats) || seats[m.rank] != nil {
			return false
		}
		seats[m.rank] = m
		return true
	}
	for r := local; r < len(seats); r++ {
		if seats[r] == nil {
			m.rank, seats[r] = r, m
			return true
		}
	}
	return false
}

// byHost numbers the members that asked for no rank host by host, among the ranks that they have together: first those
// on a host of others, in the order of those, then host by host as the first of each came.
func byHost(seats []*member) {
	var hosts []string
	for _, m := range seats {
		if !slices.Contains(hosts, m.host) {
			hosts = append(hosts, m.host)
		}
	}
	var free []int
	var movable []*member
	for r, m := range seats {
		if m.any {
			free, movable = append(free, r), append(movable, m)
		}
	}
	slices.SortStableFunc(movable, func(a, b *member) int {
		return slices.Index(hosts, a.host) - slices.Index(hosts, b.host)
	})
	for i, m := range movable {
		m.rank, seats[free[i]] = free[i], m
	}
}

// Names says, by rank, who the members are, for people. Call it after Gather.
func (c *Coordinator) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, len(c.members))
	for r, m := range c.members {
		names[r] = m.name
	}
	return names
}

// Hear calls hear, one call at a time, with everything that the members say, and with a message of Kind "" when one's
// connection has ended. It returns when all have.
func (c *Coordinator) Hear(hear func(rank int, m Message)) {
	type said struct {
		rank int
		m    Message
		end  bool
	}
	all := make(chan said)
	for _, m := range c.members {
		c.clock.Go(func() {
			for {
				msg, err := m.c.read()
				all <- said{m.rank, msg, err != nil}
				if err != nil {
					m.c.Close()
					return
				}
			}
		})
	}
	for left := len(c.members); left > 0; {
		s := <-all
		if s.end {
			left--
			s.m = Message{}
		}
		hear(s.rank, s.m)
	}
}

// Stop asks all members to save and stop.
func (c *Coordinator) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		m.c.write(Message{Kind: KindStop}) // one that is gone has nothing to stop
	}
}

// Close ends all connections.
func (c *Coordinator) Close() {
	c.ln.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		m.c.Close()
	}
}
