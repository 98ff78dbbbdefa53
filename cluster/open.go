package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/covey-ml/covey/comm"
)

// Open reaches a run's store on a NATS server, trying again while the server or the run is not there yet, until ctx ends. run is
// its name; empty: the only one that the server has.
func Open(ctx context.Context, a Access, run string, clock comm.Clock) (Store, error) {
	s, err := connect(ctx, a, clock)
	if err != nil {
		return nil, err
	}
	var last error // said by a server, and not by the end of ctx
	for {
		name, err := run, error(nil)
		try, done := clock.WithTimeout(ctx, soon)
		if name == "" {
			name, err = s.only(try)
		}
		if err == nil {
			err = s.bucket(try, name, 0)
		}
		done()
		if err == nil {
			return s, nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if clock.Sleep(ctx, turn) != nil {
			s.Close()
			return nil, fmt.Errorf("no run to join at %s: %w", strings.Join(a.Servers, ", "), last)
		}
	}
}

// Create makes a run's store on a NATS server, kept on as many of its servers as it has, up to three; one of that name is taken
// up again.
func Create(ctx context.Context, a Access, run string, clock comm.Clock) (Store, error) {
	s, err := connect(ctx, a, clock)
	if err != nil {
		return nil, err
	}
	replicas := min(3, max(1, len(s.nc.Servers())))
	if replicas == 2 {
		replicas = 1 // of two, both would be needed
	}
	for {
		try, done := clock.WithTimeout(ctx, soon) // servers that have no leader yet do not answer, and would not later
		err := s.bucket(try, run, replicas)
		done()
		if err == nil {
			return s, nil
		}
		if clock.Sleep(ctx, turn) != nil {
			s.Close()
			return nil, fmt.Errorf("the server at %s does not keep a run: %w", strings.Join(a.Servers, ", "), err)
		}
	}
}

// only is the name of the only run that a server has.
func (s *natsStore) only(ctx context.Context) (string, error) {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return "", err
	}
	var all []string
	list := js.KeyValueStoreNames(ctx)
	for name := range list.Name() {
		if run, ok := strings.CutPrefix(name, "covey-"); ok {
			all = append(all, run)
		}
	}
	if err := list.Error(); err != nil {
		return "", err
	}
	slices.Sort(all)
	switch len(all) {
	case 0:
		return "", fmt.Errorf("the server at %s has no run", s.nc.ConnectedAddr())
	case 1:
		return all[0], nil
	}
	return "", fmt.Errorf("the server at %s has several runs: say which with --run: %s", s.nc.ConnectedAddr(), strings.Join(all, ", "))
}
