// Package sim connects workers that live in a simulated world: goroutines of this process, on virtual time, over a
// network and on machines that a network.Network describes.
//
//	net, err := network.New("gigabit", 64)
//	w, err := sim.New(sim.Config{Network: net, Workers: 64, Timeout: time.Minute})
//	err = w.Run(ctx, func(g *sim.Group) { ... })  // each worker's program, written for any comm.Group
//
// A worker's program is the one that runs on real transports: it sends, receives, and asks its clock for time and
// goroutines; what it computes it really computes, and what that costs it tells the clock (comm.Clock.Spend). Messages
// take the time that links have for them, computations the time that cores have. Nothing depends on this machine's speed,
// its cores or the Go scheduler: a world that is run again gives the same times, and the same trace, byte for byte.
//
// A program may use whatever goroutines its clock started (comm.Clock.Go), and may block on nothing but the world: a
// goroutine that waits for a channel or a WaitGroup stops it for good.
//
// What is modelled: of a message, the processors' time at both ends, the links' latency, jitter, loss and bandwidth, shared
// fairly with whatever crosses them at the same time, in order for each pair of workers; of a computation, the floating
// point operations and bytes of memory, on cores and memory that workers of a host share.
package sim

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/network"
)

// Config is a world to be.
type Config struct {
	Network *network.Network
	Workers int
	Timeout time.Duration // of each wait for another worker, in the world's time; it must be positive
	Seed    uint64        // of jitter, loss, speeds and tails
	Faults  fault.Script
	// Hollow makes messages carry their lengths and no bytes, and vectors from comm.Alloc share one place: for timing, when
	// nobody looks at a number.
	Hollow bool
	Trace  io.Writer // where the trace goes, in the Chrome trace format; nil: none is made
	// Endless makes receives wait without a deadline: a mistake, for tests of what finds mistakes.
	Endless bool
	Cores   int // of this machine that may run workers at the same time; 0: all. No result depends on it
}

// World is hosts, links, the workers on them, and the time. Its methods are for one goroutine.
type World struct {
	c     Config
	nodes []*node // by rank
	hosts []host
	links []resource
	now   time.Duration
	ran   bool
	cores int

	events []slot // a heap of four branches
	seq    uint64
	turns  uint64
	ready  []*node // those with something to run
	spare  []*node
	alive  atomic.Int64 // goroutines of workers

	dirty  []*resource
	round  uint64
	fillRs []*resource
	fillAs []*activity

	messages int64  // sent
	bytes    int64  // of them, headers included
	arrived  uint64 // messages
	gone     int    // workers
	free     pools

	trace  *trace
	faults *faults
	pace   *pace // nil: the world has its own time
}

// host is where workers are.
type host struct {
	machine network.Machine
	cores   resource
	memory  resource // in cores that stream at full speed
	speed   float64  // against the machine's
	roomy   bool     // computations have cores and memory to themselves, and one speed
}

// New makes the world. It fails when the network has no room for the workers, and says how many fit.
func New(c Config) (*World, error) {
	if c.Workers < 1 || c.Timeout <= 0 {
		return nil, fmt.Errorf("sim: %d workers with a timeout of %v", c.Workers, c.Timeout)
	}
	place, err := c.Network.Place(c.Workers)
	if err != nil {
		return nil, err
	}
	w := &World{c: c, cores: realCores(c.Cores)}
	w.hosts = make([]host, len(c.Network.Hosts))
	for i := range w.hosts {
		m := c.Network.Hosts[i].Machine
		h := &w.hosts[i]
		h.machine, h.speed = m, m.Speed.Factor(c.Seed, i)
		h.cores.cap = float64(m.Cores)
		h.memory.cap = float64(m.Cores)
		if m.MemoryAll > 0 {
			h.memory.cap = m.MemoryAll / m.Memory
		}
	}
	w.links = make([]resource, len(c.Network.Links))
	for i, l := range c.Network.Links {
		w.links[i].cap = throughput(l)
	}
	w.nodes = make([]*node, c.Workers)
	for r := range w.nodes {
		w.nodes[r] = newNode(w, comm.Rank(r), place[r])
	}
	here := make([]int, len(w.hosts))
	for _, h := range place {
		here[h]++
	}
	for i := range w.hosts {
		// A worker computes, sums aside, receives: of these three as many as there are workers may go on at once.
		h, m := &w.hosts[i], 3*float64(here[i])
		h.roomy = h.cores.cap >= m && h.memory.cap >= m && len(h.machine.Slow) == 0
	}
	w.trace = newTrace(w, c.Trace)
	if w.faults, err = newFaults(w, c.Faults); err != nil {
		return nil, err
	}
	return w, nil
}

// Now returns the world's time: after Run, how long it took.
func (w *World) Now() time.Duration { return w.now }

// Sent returns how many messages were sent, and their bytes, headers included.
func (w *World) Sent() (messages, bytes int64) { return w.messages, w.bytes }

// Outcomes says, after the run, of every fault that was asked for whether it fired, and why not.
func (w *World) Outcomes() []fault.Outcome {
	step := 0
	for _, n := range w.nodes {
		step = max(step, n.step)
	}
	w.faults.books.Ended(w.now, step)
	return w.faults.books.Report()
}

// Hosts returns where the workers are, as comm.Tree.On takes it.
func (w *World) Hosts() comm.Hosts {
	var h comm.Hosts
	for r, n := range w.nodes {
		if r == 0 || n.host != w.nodes[r-1].host {
			h = append(h, comm.Rank(r))
		}
	}
	return h
}

// Workers returns how many workers there are.
func (w *World) Workers() int { return len(w.nodes) }

// Alive tells whether no fault has killed a worker.
func (w *World) Alive(r comm.Rank) bool { return !w.nodes[r].dead }

// Hollow tells whether the world is one for times alone.
func (w *World) Hollow() bool { return w.c.Hollow }
