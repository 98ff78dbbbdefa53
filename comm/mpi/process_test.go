//go:build mpi && cgo

package mpi

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/covey-ml/covey/comm"
)

var role = flag.String("role", "", "under mpirun, in place of the tests: stopped, native, absent or bench")

// Roles are what real processes do under mpirun, one rank each; package integration reads what they print.
var roles = map[string]func(ctx context.Context, g comm.Group) error{"stopped": stopOne, "native": native, "absent": absent, "bench": bench}

func play(name string) int {
	f := roles[name]
	if f == nil {
		fmt.Fprintf(os.Stderr, "no role is called %q\n", name)
		return 2
	}
	g, err := Init(5 * time.Second)
	if err == nil {
		err = errors.Join(f(context.Background(), g), g.Close(), Finalize())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// stopOne has rank 1 stop itself. The others sum, print what that comes to, and rank 0 kills the one that stands, which
// ends the job.
func stopOne(ctx context.Context, g comm.Group) error {
	pid := binary.LittleEndian.AppendUint64(nil, uint64(os.Getpid()))
	if err := comm.Broadcast(ctx, g, 1, pid); err != nil {
		return err
	}
	if err := comm.Barrier(ctx, g); err != nil {
		return err
	}
	if g.Rank() == 1 {
		err := syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		if err == nil {
			select {} // another thread may be the first to stop
		}
		return err
	}
	x := make([]float32, 1<<20)
	err := comm.AllReduce(ctx, g, comm.NewTree(g.Size(), g.Size()), [][]float32{x})
	fmt.Printf("rank %d says: %v\n", g.Rank(), err)
	told := comm.MakeTag(comm.OpSend, 1)
	if g.Rank() > 0 {
		if err := g.Send(ctx, 0, told, nil); err != nil {
			return err
		}
		_, _, err = g.Recv(ctx, 0, told, nil) // the end of the job comes before the timeout
		return err
	}
	for r := comm.Rank(2); int(r) < g.Size(); r++ {
		if _, _, err := g.Recv(ctx, r, told, nil); err != nil {
			return err
		}
	}
	return syscall.Kill(int(binary.LittleEndian.Uint64(pid)), syscall.SIGKILL)
}

// native sums by MPI_Allreduce what any order adds to the same, and holds it to the books.
func native(ctx context.Context, g comm.Group) error {
	books := comm.NewLedger()
	g = comm.Count(g, books)
	leaves := 2*g.Size() + 1
	tree := comm.NewTree(leaves, g.Size())
	for _, n := range []int{1, 1000, 1 << 20} {
		parts := make([][]float32, tree.Vectors(g.Rank()))
		for j := range parts {
			parts[j] = make([]float32, n)
			for i := range parts[j] {
				parts[j][i] = float32(i % 1000)
			}
		}
		if err := comm.AllReduceBy(ctx, g, tree, parts, comm.Native); err != nil {
			return err
		}
		for i, v := range parts[0] {
			if want := float32(i % 1000 * len(tree.AllParts())); v != want {
				return fmt.Errorf("element %d of %d is %v, not %v", i, n, v, want)
			}
		}
		if _, b := books.Take(); !b[comm.OpAllReduce].Closes() || b[comm.OpAllReduce].Payload != int64(4*n) {
			return fmt.Errorf("%d elements: the books say\n%s", n, b.String())
		}
	}
	fmt.Printf("rank %d sums natively\n", g.Rank())
	return comm.Barrier(ctx, g)
}

// absent has rank 1 stay away from a sum of the library's. Everybody must hear of it, and the library cannot be ended.
func absent(ctx context.Context, g comm.Group) error {
	tree := comm.NewTree(g.Size(), g.Size())
	var err error
	if g.Rank() == 1 {
		for range 3 { // its own timeout may come first
			if err == nil || g.(comm.Poisoner).Poisoned() == nil {
				_, _, err = g.Recv(ctx, 0, comm.MakeTag(comm.OpBroadcast, 1), nil)
			}
		}
	} else {
		err = comm.AllReduceBy(ctx, g, tree, [][]float32{make([]float32, 100)}, comm.Native)
	}
	again := comm.AllReduceBy(ctx, g, tree, [][]float32{make([]float32, 100)}, comm.Native)
	var pe *comm.PeerError
	if !errors.As(err, &pe) || !errors.Is(err, comm.ErrTimeout) || !errors.Is(again, comm.ErrTimeout) {
		return fmt.Errorf("the sum gave %v, and the next %v", err, again)
	}
	fmt.Printf("rank %d says: %v\n", g.Rank(), again)
	said := comm.MakeTag(comm.OpSend, 1)
	for r := range comm.Rank(g.Size()) { // the first that ends badly ends the job
		if err := g.Send(ctx, r, said, nil); err != nil {
			return err
		}
	}
	for r := range comm.Rank(g.Size()) {
		if _, _, err := g.Recv(ctx, r, said, nil); err != nil {
			return err
		}
	}
	return nil
}

// bench times comm's sum, with the bits of the canonical order, beside Native, in turns, and prints the means.
func bench(ctx context.Context, g comm.Group) error {
	tree := comm.NewTree(g.Size(), g.Size())
	algorithms := []comm.Algorithm{comm.Auto, comm.Native}
	for _, n := range []int{256, 4 << 10, 64 << 10, 1 << 20, 4 << 20} {
		turns := max(20, min(1000, 1<<26/n/4))
		var took [2]time.Duration
		x := make([]float32, n)
		for turn := range turns + 2 {
			for i, a := range algorithms {
				for j := range x {
					x[j] = float32(j % 100)
				}
				if err := comm.Barrier(ctx, g); err != nil {
					return err
				}
				begun := time.Now()
				if err := comm.AllReduceBy(ctx, g, tree, [][]float32{x}, a); err != nil {
					return err
				}
				if turn >= 2 { // the first warm up
					took[i] += time.Since(begun)
				}
				if want := float32(99 % n * g.Size()); x[99] != want {
					return fmt.Errorf("%v: element 99 of %d is %v, not %v", a, n, x[99], want)
				}
			}
		}
		if g.Rank() == 0 {
			mean := func(i int) float64 { return took[i].Seconds() * 1e6 / float64(turns) }
			fmt.Printf("%9d bytes, %d processes: exact %.1f us, native %.1f us, ratio %.2f\n", 4*n, g.Size(), mean(0), mean(1), mean(1)/mean(0))
		}
	}
	return comm.Barrier(ctx, g)
}
