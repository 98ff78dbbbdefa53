package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/train"
)

// generations gives a worker its groups: it takes its place in the next generation, and meets the others there.
type generations struct{ *Member }

var _ train.Generations = (*generations)(nil)

// Next implements train.Generations.
func (g *generations) Next(ctx context.Context, ended error) (train.Generation, error) {
	for {
		if g.leaving.Load() {
			return train.Generation{}, ErrLeft
		}
		gen, group, err := g.next(ctx, ended)
		if err == nil {
			return gen, nil
		}
		var peer *comm.PeerError
		var gone *cluster.GoneError
		if !g.Worker.Run.Elastic || g.current == nil || !errors.As(err, &peer) && !errors.As(err, &gone) || ctx.Err() != nil {
			return train.Generation{}, err
		}
		if group != nil {
			group.Close()
		}
		ended = err // one of those who were to be there is gone again
	}
}

func (g *generations) next(ctx context.Context, ended error) (train.Generation, comm.Group, error) {
	var none train.Generation
	var peers *tcp.Listener
	listens := ""
	if g.shm < 0 {
		at, told := meetAt(g.host, g.Host, g.tls != nil)
		var err error
		if peers, err = tcp.Listen(ctx, net.JoinHostPort(at, "0"), g.tls); err != nil {
			return none, nil, err
		}
		defer peers.Close()
		if listens = peers.Addr(); told != "" {
			_, port, err := net.SplitHostPort(listens)
			if err != nil {
				return none, nil, err
			}
			listens = net.JoinHostPort(told, port)
		}
	}
	was := uint64(0)
	if g.current != nil {
		was = g.current.Number
	}
	if ended != nil && g.Stands != nil {
		g.Stands(ended)
	}
	wait, end := context.WithCancelCause(ctx)
	off := context.AfterFunc(g.gone, func() { end(ErrLeft) })
	g.waiting.Store(true)
	gen, err := g.Worker.Next(wait, listens, was, g.lost(ended))
	g.waiting.Store(false)
	off()
	end(nil)
	if err != nil {
		return none, nil, err
	}
	before := g.current
	g.current = gen
	rank := comm.Rank(gen.Rank(g.ID))
	g.rank.Store(int32(rank))
	if g.Sits != nil {
		g.Sits(gen, int(rank))
	}
	group, err := g.connect(ctx, peers, rank)
	if err != nil {
		return none, nil, err
	}
	if g.Around != nil {
		if group, err = g.Around(group); err != nil {
			return none, group, err
		}
	}
	out := train.Generation{Group: group, Hosts: comm.HostsOf(hostsOf(gen)), Number: gen.Number, Kept: gen.Seats[rank].Kept, Why: gen.Why}
	for _, l := range gen.Gone {
		name := l.ID
		if before != nil && before.Rank(l.ID) >= 0 {
			name = before.Seats[before.Rank(l.ID)].Name
		}
		out.Gone = append(out.Gone, name+": "+l.How)
	}
	return out, group, nil
}

// meetAt says at which of its addresses a worker listens for the others, and which host it tells them, empty: that address. seen is
// the address that it has from where the run's server is, and host what the others call it. Who is beside the server sees itself by a
// loopback address, where nobody else would find it. Without certificates all are on loopback, whatever a host is called.
func meetAt(seen, host string, certified bool) (listen, told string) {
	loops := func(h string) bool { return cluster.Loopback(net.JoinHostPort(h, "0")) }
	switch {
	case host == "" || !certified || loops(host):
		return seen, ""
	case loops(seen):
		return "", host
	}
	return seen, host
}

// connect meets the others of the current generation, peers being where it listens for them; nil where they share memory.
func (g *generations) connect(ctx context.Context, peers *tcp.Listener, rank comm.Rank) (comm.Group, error) {
	timeout := g.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	if peers == nil {
		f := os.NewFile(uintptr(g.shm), "shm")
		defer f.Close()
		return shm.Attach(f, rank, startUp, timeout)
	}
	secret, err := g.current.Key()
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(g.current.Seats))
	for r, s := range g.current.Seats {
		addrs[r] = s.Addr
	}
	setup := startUp
	if g.Worker.Run.Elastic { // they all are there
		setup = meetWait
	}
	c := tcp.Config{Generation: g.current.Number, Secret: secret, Timeout: timeout, Setup: setup}
	if g.Word != nil {
		strangers := cluster.NewRefusals(g.clock, g.say)
		defer strangers.Close()
		c.Refused = strangers.Add
	}
	met, end := g.WhileThere(ctx, g.current)
	group, err := peers.Connect(met, rank, addrs, c)
	end()
	var gone *cluster.GoneError
	if err != nil && errors.As(context.Cause(met), &gone) {
		return nil, gone
	}
	return group, err
}

// lost is whom this worker lost in the generation that ended.
func (g *generations) lost(ended error) []cluster.Loss {
	var peer *comm.PeerError
	if g.current == nil || !errors.As(ended, &peer) || peer.Rank < 0 || int(peer.Rank) >= len(g.current.Seats) {
		return nil
	}
	seat := g.current.Seats[peer.Rank]
	if seat.ID == g.ID {
		return nil
	}
	return []cluster.Loss{{ID: seat.ID, Stalled: errors.Is(ended, comm.ErrTimeout), How: peer.Cause.Error()}}
}

func hostsOf(gen *cluster.Generation) []string {
	all := make([]string, len(gen.Seats))
	for r, s := range gen.Seats {
		all[r] = s.Host
	}
	return all
}
