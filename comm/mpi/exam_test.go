//go:build mpi && cgo

package mpi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
)

// The tests run in one process, and so does each rank of their groups: frames go from the process to itself. Under mpirun
// that is its first process, and the others send back what it sends them, so that every frame crosses between processes
// twice:
//
//	CC=mpicc CGO_ENABLED=1 go test -c -tags mpi ./comm/mpi
//	./mpi.test && mpirun -n 3 ./mpi.test
const echoEnds = 0 // the MPI tag of what tells the others that the tests are over

func TestMain(m *testing.M) {
	flag.Parse()
	if *role != "" {
		os.Exit(play(*role))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	const timeout = time.Minute
	g, err := Init(timeout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	e, over, code := process.e, make(chan error, 1), 0
	if e.rank > 0 {
		e.echo(over)
	}
	if err = comm.Barrier(context.Background(), g); err == nil && e.rank > 0 {
		err = <-over
	}
	if err == nil && e.rank == 0 {
		code = m.Run()
		for r := 1; r < e.size; r++ {
			e.mu.Lock()
			err = errors.Join(err, e.send(r, echoEnds, HeaderBytes, 0, func(b []byte) { clear(b) }))
			e.mu.Unlock()
		}
	}
	if err := errors.Join(err, g.Close(), Finalize()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// echo has what comes from now on sent back, until it is told to stop.
func (e *engine) echo(over chan<- error) {
	say := func(err error) {
		select {
		case over <- err:
		default:
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stray = func(source, tag int, frame []byte) {
		if tag == echoEnds {
			say(nil)
		} else if err := e.send(source, tag, len(frame), 0, func(b []byte) { copy(b, frame) }); err != nil {
			say(err)
		}
	}
}

// pairs numbers the MPI tags of tests' groups. World's first group has tag 1.
var pairs struct {
	sync.Mutex
	last int
}

// open makes a group of n ranks in this process.
func open(_ testing.TB, n int, timeout time.Duration) []comm.Group {
	e := process.e
	pairs.Lock()
	first := pairs.last + 2
	pairs.last += n * n
	pairs.Unlock()
	groups := make([]comm.Group, n)
	for r := range groups {
		groups[r] = e.open(comm.Rank(r), n, timeout, func(p comm.Rank) route {
			out, in := first+r*n+int(p), first+int(p)*n+r
			over := func(tag int) int { // the process that sends it back
				if e.size == 1 {
					return 0
				}
				return 1 + tag%(e.size-1)
			}
			return route{to: over(out), out: out, from: over(in), in: in}
		})
	}
	return groups
}

// kill makes a rank vanish. MPI tells nobody of a death, so the peers are told here.
func kill(_ *testing.T, groups []comm.Group, r comm.Rank) {
	g := groups[r].(*group)
	g.Vanish()
	for _, l := range g.links {
		if l != nil {
			l.end(frameBroken, comm.ErrClosed)
		}
	}
}

// TestExam sits the exam of all transports.
func TestExam(t *testing.T) {
	commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group { return open(t, n, timeout) },
		commtest.Options{Sizes: []int{1, 2, 3, 4, 5, 8, 12, 17}, Kill: kill})
}
