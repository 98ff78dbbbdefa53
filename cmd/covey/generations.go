package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/train"
)

// generations gives a worker its groups: it takes its place in the next generation, and meets the others there. It implements
// train.Generations.
type generations struct {
	m       *cluster.Worker
	reach   *reach
	host    string // this host's address, where it listens for the others
	clock   comm.Clock
	timeout time.Duration                        // of the groups
	around  func(comm.Group) (comm.Group, error) // what goes around each; nil: nothing

	rank    atomic.Int32 // in the generation under way
	leaving atomic.Bool
	current *cluster.Generation
}

// errLeft says that this worker left a run that goes on.
var errLeft = errors.New("it left, as asked")

// meetWait is how long the workers of a new generation may take to meet: they all are there.
const meetWait = 10 * time.Second

// Next implements train.Generations.
func (g *generations) Next(ctx context.Context, ended error) (train.Generation, error) {
	for {
		if g.leaving.Load() {
			return train.Generation{}, errLeft
		}
		gen, group, err := g.next(ctx, ended)
		if err == nil {
			return gen, nil
		}
		var peer *comm.PeerError
		if !g.m.Run.Elastic || g.current == nil || !errors.As(err, &peer) || ctx.Err() != nil {
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
	fd, err := shmFile()
	if err != nil {
		return none, nil, err
	}
	var peers *tcp.Listener
	listens := ""
	if fd < 0 {
		creds, err := g.reach.creds.load()
		if err != nil {
			return none, nil, err
		}
		if peers, err = tcp.Listen(ctx, net.JoinHostPort(g.host, "0"), creds); err != nil {
			return none, nil, err
		}
		defer peers.Close()
		listens = peers.Addr()
	}
	was := uint64(0)
	if g.current != nil {
		was = g.current.Number
	}
	gen, err := g.m.Next(ctx, listens, was, g.lost(ended))
	if err != nil {
		return none, nil, err
	}
	before := g.current
	g.current = gen
	rank := comm.Rank(gen.Rank(g.m.ID))
	g.rank.Store(int32(rank))
	var group comm.Group
	if fd >= 0 {
		f := os.NewFile(uintptr(fd), "shm")
		defer f.Close()
		group, err = shm.Attach(f, rank, startUp, g.timeout)
	} else {
		group, err = g.connect(ctx, peers, rank)
	}
	if err != nil {
		return none, nil, err
	}
	if g.around != nil {
		if group, err = g.around(group); err != nil {
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

func (g *generations) connect(ctx context.Context, peers *tcp.Listener, rank comm.Rank) (comm.Group, error) {
	secret, err := g.current.Key()
	if err != nil {
		return nil, err
	}
	addrs := make([]string, len(g.current.Seats))
	for r, s := range g.current.Seats {
		addrs[r] = s.Addr
	}
	setup := startUp
	if g.m.Run.Elastic {
		setup = meetWait
	}
	strangers := cluster.NewRefusals(g.clock, func(text string) { g.m.Event(event{Refused: fmt.Sprintf("worker %d: %s", rank, text)}) })
	defer strangers.Close()
	return peers.Connect(ctx, rank, addrs, tcp.Config{Generation: g.current.Number, Secret: secret, Timeout: g.timeout, Setup: setup, Refused: strangers.Add})
}

// lost is whom this worker lost in the generation that ended.
func (g *generations) lost(ended error) []cluster.Loss {
	var peer *comm.PeerError
	if g.current == nil || !errors.As(ended, &peer) || peer.Rank < 0 || int(peer.Rank) >= len(g.current.Seats) {
		return nil
	}
	seat := g.current.Seats[peer.Rank]
	if seat.ID == g.m.ID {
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
