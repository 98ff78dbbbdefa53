package main

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
)

// child is a worker's process, as its launcher sees it.
type child struct {
	process
	Rank int    // that it was started as
	ID   string // by which the others know it
	What string // in words
}

type process interface {
	Ended() <-chan struct{}
	End() (how string, well bool) // after Ended
	Died() bool                   // rather than to exit; after Ended
	Kill()
}

// here is a process of this host.
func here(p *cluster.Process, err error) (*child, error) {
	if err != nil {
		return nil, err
	}
	return &child{p, p.Rank, p.ID, fmt.Sprintf("process %d", p.Pid())}, nil
}

// own starts this same binary with args.
func (f *follower) own(args []string) func(int) (*child, error) {
	return func(rank int) (*child, error) {
		return here(cluster.StartOne(rank, args, f.base.Token, f.memory, f.clock))
	}
}

// reap waits until all have ended, kills after the time of grace those that have not, and waits for them too.
func reap(all []*child, clock comm.Clock) {
	ctx, cancel := clock.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, p := range all {
		select {
		case <-p.Ended():
		case <-ctx.Done():
			kill(all)
		}
	}
	for _, p := range all {
		<-p.Ended()
	}
}

func kill(all []*child) {
	for _, p := range all {
		p.Kill()
	}
}
