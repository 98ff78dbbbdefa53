package worker

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/train"
)

// Listen is where the first of a launcher's processes has the server that the others look for.
func Listen(p *place.Place) string {
	if at := Address(p); cluster.Loopback(at) {
		return at
	}
	return net.JoinHostPort("", strconv.Itoa(p.Port))
}

// Address is where the others look for it.
func Address(p *place.Place) string { return net.JoinHostPort(p.Address, strconv.Itoa(p.Port)) }

// Host is by which name or address the others reach the host of one of a launcher's processes; empty: that is not known.
func Host(p *place.Place) string {
	if p.Host == "" && p.Rank == 0 {
		return p.Address
	}
	return p.Host
}

// RunName makes of what something is called a name for a run that servers take.
func RunName(name, end string) string {
	return strings.Map(func(c rune) rune {
		if c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '-'
	}, fmt.Sprintf("%.40s%.60s", name, end))
}

// PlacedRun is what the processes of a launcher call their run.
func PlacedRun(p *place.Place) string { return RunName(p.Launcher, "-"+p.Job) }

// Token is that of the run of a launcher's processes: COVEY_TOKEN, or what they make of the launcher's name for them and a secret
// of their user's that stays on his machines.
func Token(p *place.Place) (string, error) {
	if token := os.Getenv(cluster.EnvToken); token != "" {
		return token, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("%w: set %s to a secret of your own, the same for all processes", err, cluster.EnvToken)
	}
	secret, err := userSecret(filepath.Join(dir, "covey", "secret"))
	if err != nil {
		return "", fmt.Errorf("%w: set %s to a secret of your own, the same for all processes", err, cluster.EnvToken)
	}
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%s %s %s %d", p.Launcher, p.Job, p.Address, p.Port)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// userSecret reads the secret in a file, and makes it if it is not there. Several processes may do so at the same time.
func userSecret(path string) ([]byte, error) {
	const size = 32
	if b, err := os.ReadFile(path); err == nil && len(b) == size {
		return b, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "secret-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	b := make([]byte, size)
	rand.Read(b)
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) { // whole, and never over another's
		return nil, err
	}
	b, err = os.ReadFile(path)
	if err == nil && len(b) != size {
		err = fmt.Errorf("%s does not hold a secret of %d bytes: remove it", path, size)
	}
	return b, err
}

// placed takes part as the one of a launcher's processes that the place says. The first has the run's server beside its own part.
func (o *options) placed(ctx context.Context, c train.Config, p *place.Place) (*Report, error) {
	creds, err := o.credentials()
	if err != nil {
		return nil, err
	}
	a := cluster.Access{Servers: []string{Address(p)}, TLS: creds}
	if creds == nil { // else certificates say who may
		if a.Token, err = Token(p); err != nil {
			return nil, err
		}
	}
	var head *lead
	if p.Rank == 0 {
		if head, err = o.lead(ctx, p, a); err != nil {
			return nil, err
		}
		defer head.close()
	}
	store, err := open(ctx, a, PlacedRun(p))
	if err != nil {
		return nil, err
	}
	defer store.Close()
	m, err := Join(ctx, store, Joining{Rank: p.Rank, Writer: p.Rank == 0 || c.Dir == "", TLS: creds, Shm: -1})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	m.Host = Host(p)
	r, err := o.take(ctx, c, m, max(1, p.LocalSize))
	if head != nil {
		head.wait(ctx, m.ID)
	}
	return r, err
}

// lead is what the first process does for all.
type lead struct {
	server  *cluster.Server
	store   cluster.Store
	c       *cluster.Coordinator
	clock   comm.Clock
	elastic bool

	mu      sync.Mutex
	living  map[string]bool
	changed comm.Event
}

func (o *options) lead(ctx context.Context, p *place.Place, a cluster.Access) (*lead, error) {
	l := &lead{clock: comm.RealClock(), living: map[string]bool{}}
	l.changed = l.clock.Event()
	fewest := p.Size
	if o.fewest > 0 {
		fewest = min(p.Size, o.fewest)
	}
	l.elastic = fewest < p.Size
	err := l.start(ctx, p, a, cluster.Run{Job: Program, Local: max(1, p.LocalSize), Elastic: l.elastic, Orphan: orphan,
		Limits: cluster.Limits{Min: fewest, Max: p.Size, Meet: startUp, Wait: orphan, Patience: o.timeout}})
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lead) start(ctx context.Context, p *place.Place, a cluster.Access, run cluster.Run) (err error) {
	if l.server, err = cluster.Serve(cluster.ServerConfig{Listen: Listen(p), Token: a.Token, TLS: a.TLS}); err != nil {
		return err
	}
	ctx, done := l.clock.WithTimeout(ctx, startUp)
	defer done()
	if l.store, err = cluster.Create(ctx, a, PlacedRun(p), l.clock); err != nil {
		return err
	}
	if l.c, err = cluster.Coordinate(ctx, l.store, l.clock, l.hear); err != nil {
		return err
	}
	return l.c.Start(ctx, run, p.Size)
}

func (l *lead) hear(n cluster.News) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case n.Joined != nil && n.Joined.State != cluster.Ended:
		l.living[n.Joined.ID] = true
	case n.Ended != nil:
		delete(l.living, n.Ended.ID)
		if n.Ended.Code != 0 && !l.elastic { // who has not met the others yet would wait for it
			l.clock.Go(func() { l.c.Stop() })
		}
	}
	l.changed.Set()
}

// wait gives the others, who need the server to say that they are done, the time of grace.
func (l *lead) wait(ctx context.Context, own string) {
	ctx, done := l.clock.WithTimeout(ctx, grace)
	defer done()
	for {
		l.mu.Lock()
		delete(l.living, own)
		left := len(l.living)
		l.mu.Unlock()
		if left == 0 || l.changed.Wait(ctx) != nil {
			return
		}
	}
}

func (l *lead) close() {
	if l.c != nil {
		l.c.Close()
	}
	if l.store != nil {
		l.store.Close()
	}
	if l.server != nil {
		l.server.Close()
	}
}
