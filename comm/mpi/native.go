//go:build mpi && cgo

package mpi

// #include "engine.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/covey-ml/covey/comm"
)

var _ comm.AllReducer = (*group)(nil)

// AllReduce implements comm.AllReducer by MPI_Iallreduce. The library's order of adding is its own: it may depend on the
// number of processes, on their places, on the length and on the library.
//
// MPI can neither take back a sum that has begun nor say whom it waits for. So a failure names every rank, and leaves the
// library to itself: MPI_Finalize cannot be called any more.
func (g *group) AllReduce(ctx context.Context, x []float32) error {
	e, n := g.e, len(x)
	if !g.world {
		return errors.New("mpi: only a group of all processes sums by itself")
	}
	if n > math.MaxInt32/4 { // bytes of a buffer
		return fmt.Errorf("mpi: MPI_Allreduce of %d elements; the most is %d: algorithm auto takes any number", n, math.MaxInt32/4)
	}
	e.mu.Lock()
	buf, err := (*C.uchar)(nil), e.broken
	switch {
	case err != nil:
	case e.stuck:
		err = errStuck
	default:
		if buf = C.covey_take(C.int(4 * n)); buf == nil {
			err = fmt.Errorf("mpi: no memory for a sum of %d bytes", 4*n)
		}
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	sum := unsafe.Slice((*float32)(unsafe.Pointer(buf)), n)
	copy(sum, x)
	e.mu.Lock()
	err = failure("MPI_Iallreduce", C.covey_sum(buf, C.int(n)))
	e.mu.Unlock()
	if err != nil {
		return err
	}
	end := time.Now().Add(g.Timeout())
	err = e.met(func() error {
		switch pe := g.Poisoned(); {
		case g.Closed():
			return comm.ErrClosed
		case pe != nil:
			return pe
		case ctx.Err() != nil:
			return g.late(n, context.Cause(ctx))
		case time.Now().After(end):
			return g.late(n, comm.ErrTimeout)
		}
		return nil
	})
	if err != nil {
		return err // the library has the buffer, for good
	}
	copy(x, sum)
	e.mu.Lock()
	C.covey_give(buf)
	e.mu.Unlock()
	return nil
}

func (g *group) late(n int, cause error) error {
	return &comm.PeerError{Rank: comm.AnyRank, Op: comm.OpAllReduce, Step: -1, Missing: int64(4 * n), Cause: cause}
}
