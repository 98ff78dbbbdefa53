package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Member is a worker's end of its connection to the coordinator.
type Member struct {
	Welcome Welcome
	c       *conn
	clock   comm.Clock
}

// Dial reaches the coordinator, trying again while it is not there yet, until ctx ends. Without certificates only
// loopback addresses are allowed.
func Dial(ctx context.Context, addr string, creds *tls.Config, clock comm.Clock) (net.Conn, error) {
	if creds == nil && !Loopback(addr) {
		return nil, fmt.Errorf("joining %s, beyond loopback, needs certificates: make them with covey ca and give --tls DIR", addr)
	}
	var last error
	for {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			if creds == nil {
				return nc, nil
			}
			creds := creds.Clone()
			creds.ServerName, _, _ = net.SplitHostPort(addr)
			tc := tls.Client(nc, creds)
			if err := tc.HandshakeContext(ctx); err != nil {
				nc.Close()
				return nil, fmt.Errorf("%s does not accept our certificate, or we do not accept its: %w", addr, err)
			}
			return tc, nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if clock.Sleep(ctx, 100*time.Millisecond) != nil {
			return nil, fmt.Errorf("no run to join at %s: %w", addr, last)
		}
	}
}

// answer is how long a coordinator may take for its first word: it has many workers to greet, on a busy host.
const answer = 30 * time.Second

// ErrCalledOff is returned by Join when the run ended before all its workers were there.
var ErrCalledOff = errors.New("the run was called off before all its workers were there")

// Join says who this worker is and waits to be welcomed. want is the rank it was started as, -1 for any; peers is the
// address at which it listens for the other workers, empty when they share memory.
func Join(ctx context.Context, nc net.Conn, token, peers string, want int, clock comm.Clock) (*Member, error) {
	k := newConn(nc)
	m := &Member{c: k, clock: clock}
	soon, cancel := clock.WithTimeout(ctx, answer)
	defer cancel()
	var ch Message
	err := k.bounded(soon, func() (err error) {
		ch, err = k.read()
		return err
	})
	if err != nil || ch.Kind != KindChallenge {
		nc.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s does not answer as a covey run does", nc.RemoteAddr())
	}
	err = k.bounded(ctx, func() error {
		host, _ := os.Hostname()
		hello := Message{Kind: KindHello, Version: version, Addr: peers, Host: HostID(), Name: fmt.Sprintf("%s, process %d", host, os.Getpid())}
		if token != "" {
			hello.Proof = prove(token, ch.Nonce)
		}
		if want >= 0 {
			hello.Want = &want
		}
		if err := k.write(hello); err != nil {
			return err
		}
		said, err := k.read()
		switch {
		case errors.Is(err, errGone):
			return ErrCalledOff
		case err != nil:
			return err
		case said.Kind == KindRefused:
			return fmt.Errorf("not let in: %s", said.Error)
		case said.Kind != KindWelcome || said.Welcome == nil:
			return fmt.Errorf("cluster: expected a welcome, got %q", said.Kind)
		}
		m.Welcome = *said.Welcome
		return m.Welcome.check()
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return m, nil
}

func (w Welcome) check() error {
	if w.Size < 1 || w.Rank < 0 || w.Rank >= w.Size || len(w.Peers) != w.Size || len(w.Hosts) != w.Size {
		return fmt.Errorf("cluster: a welcome to rank %d of %d with %d addresses on %d hosts", w.Rank, w.Size, len(w.Peers), len(w.Hosts))
	}
	return nil
}

// Watch calls stop once, when the coordinator asks to stop or is gone. It returns at once.
func (m *Member) Watch(stop func(cause error)) {
	m.clock.Go(func() {
		for {
			msg, err := m.c.read()
			if err != nil {
				stop(errors.New("the launcher is gone"))
				return
			}
			if msg.Kind == KindStop {
				stop(errors.New("asked to stop"))
				return
			}
		}
	})
}

// Event sends progress.
func (m *Member) Event(v any) error { return m.send(KindEvent, v) }

// Report sends the end of a run that went well.
func (m *Member) Report(v any) error { return m.send(KindReport, v) }

func (m *Member) send(kind string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	msg := Message{Kind: kind}
	if kind == KindEvent {
		msg.Event = b
	} else {
		msg.Report = b
	}
	return m.c.write(msg)
}

// Fail sends the end of a run that did not go well.
func (m *Member) Fail(err error, code int) error {
	return m.c.write(Message{Kind: KindError, Error: err.Error(), Code: code})
}

// Host is the address of this end of a connection, without its port: where a member listens for the other workers, so
// that they reach it by the coordinator's network.
func Host(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "127.0.0.1"
	}
	return host
}

// Close ends the connection.
func (m *Member) Close() error { return m.c.Close() }
