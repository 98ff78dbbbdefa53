// Package shm is the transport between processes of one host. Collectives read and write the ranks' vectors where they
// lie in shared memory; for messages, every pair of ranks shares a ring of bytes.
//
// The launcher makes the memory and hands it to its workers as an inherited file; each worker attaches as one rank:
//
//	f, err := shm.Create(4, shm.Options{})          // launcher
//	cmd.ExtraFiles = []*os.File{f}                  // is descriptor 3 in the worker
//
//	g, err := shm.Attach(os.NewFile(3, "shm"), rank, setup, timeout) // worker: a comm.Group once all four are there
//
// The file is anonymous (memfd): it has no name, so nothing can be left behind, whatever dies and however. It is not
// under /dev/shm either, so a container's small /dev/shm does not limit it. A file serves one generation of a group;
// the next generation gets a new file.
//
// Where there is no such memory (other systems than Linux, or no /proc), Available says so and what to use instead.
//
// # Layout
//
// One header page; a slot for each rank (its doorbell, its last words); for each ordered pair of ranks the positions
// of a ring with one writer and one reader; then the rings' bytes; for each rank its cell on the board (see comm.Board)
// and its scratch; last, for each rank, its arena. A frame is a 16-byte header and its payload, padded
// in the ring to 16 bytes; the pad is skipped, not written.
//
// A message of at most comm.EagerBytes goes into the ring at once, unless more than comm.EagerBytes would then be on
// that pair of ranks that the receiver's mesh did not take. All others ask for leave first: the receiver answers, by a
// word in the pair's block, once it knows where the payload goes, and it follows in parts of 256 KiB. So nothing stays
// in a ring, no message waits behind one that nobody has asked for, and the payload goes straight from the ring to the
// receiver's buffer, sender and receiver at work at the same time. Asking is control, not in Overhead. Where the message lies in
// the sender's arena the parts only say where, the receiver copies them from there, and Send returns when it has: one copy
// instead of two, and none by the sender.
//
// A rank's arena is where comm.Alloc puts its vectors. The file is sparse, so an arena costs address space until vectors
// are made in it, and these get their memory then and there, in pages of 2 MiB where the kernel gives them (see
// /sys/kernel/mm/transparent_hugepage/shmem_enabled). A collective shows the others where its vectors are; they are
// summed in place, and nothing is copied. A vector that is elsewhere goes through its rank's scratch, piece by piece.
// What Alloc gave stays mapped, after Close too, until the process ends; all else goes with Close.
//
// A collective that fails returns when no living peer touches its vectors any more. One exception cannot be helped: a
// peer that was stopped (SIGSTOP) while it wrote a piece of a result writes on, if it ever goes on, until it
// hears of the failure.
//
// Nothing that is read from the memory is believed: positions, lengths, numbers and places are checked before use. A peer
// whose ring makes no sense is lost with a cause that says so, and one whose cell makes none fails the collective.
//
// # Waiting
//
// In a collective on the board, who waits looks at the others' cells: for ten microseconds without pause, if there is a
// core for each rank, then between giving way a few times, and then it sleeps on a word of its own cell, by which the
// last to come wakes it.
//
// Who waits for a message moves the bytes itself: for ten microseconds without pause, if there is a core for each rank, then between
// giving way to other threads a few times. Then it sleeps, and one goroutine of the process waits in the kernel (futex)
// for the process's doorbell, which peers ring when they have something for a process that sleeps. So a process at
// rest uses one blocked thread and no processor time. Every 100 ms that goroutine looks whether the peers are alive:
// each rank holds a kernel lock on its slot, and the kernel drops it however the process dies. A peer that is stopped,
// not dead, is found by the group's timeout.
package shm

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Options is how Create lays the memory out.
type Options struct {
	// Ring is the size of the ring of each ordered pair of ranks, in bytes: a power of two from 4096 to 1 GiB.
	// 0 takes 1 MiB, or less from 17 ranks on so that all rings together stay within 256 MiB. Memory is used only
	// once it is written to.
	Ring int
	// Arena is how much of shared memory each rank can give to vectors (see comm.Alloc), in bytes; it is rounded up to
	// whole pages of 2 MiB. 0 takes 16 GiB, or less from 17 ranks on so that all together stay within 256 GiB, and a
	// sixteenth of what a limit of the address space (ulimit -v) leaves all together. Address space is all that it takes
	// until a vector is made there. -1 makes none: vectors are then on the heap, and sums copy them twice more.
	Arena int
	// Generation is the number that the launcher gave to this group, for Stat to tell. Default 0.
	Generation uint64
}

// MaxRanks is how many ranks one file can hold.
const MaxRanks = 256

const (
	minRing    = 4 << 10
	maxRing    = 1 << 30
	wantRing   = 1 << 20
	totalRings = 256 << 20
	minArena   = hugePage
)

// validate fills in the defaults and refuses what cannot be.
func (o *Options) validate(n int) error {
	if n < 1 || n > MaxRanks {
		return fmt.Errorf("shm: a group of %d ranks: want 1 to %d", n, MaxRanks)
	}
	if o.Ring == 0 {
		o.Ring = wantRing
		for n > 1 && o.Ring > minRing && n*(n-1) > totalRings/o.Ring {
			o.Ring /= 2
		}
	}
	if o.Ring < minRing || o.Ring > maxRing || o.Ring&(o.Ring-1) != 0 {
		near := minRing
		if o.Ring > minRing {
			near = min(1<<(bits.Len(uint(o.Ring))-1), maxRing)
		}
		return fmt.Errorf("shm: rings of %d bytes: want a power of two from %d to %d, such as %d", o.Ring, minRing, maxRing, near)
	}
	switch {
	case o.Arena == 0:
		o.Arena = min(wantArena, min(totalArenas, addressSpace()/16)/n)
		if o.Arena < minArena {
			o.Arena = 0
		}
	case o.Arena == -1:
		o.Arena = 0
	case o.Arena < 0 || o.Arena > math.MaxInt-minArena:
		return fmt.Errorf("shm: arenas of %d bytes: want at least %d, 0 for the default, or -1 for none", o.Arena, minArena)
	}
	o.Arena = (o.Arena + minArena - 1) &^ (minArena - 1)
	return nil
}

// Info is what a file was made for.
type Info struct {
	Size       int    // ranks
	Ring       int    // bytes of each ring
	Arena      int    // bytes of each rank's arena
	Generation uint64 // as given to Create
}

// hugePage is the size of pages that the kernel is asked to use for vectors of at least that size.
const hugePage = 2 << 20

// wantArena and totalArenas bound the default; a system of 32 bits has no room for any.
var wantArena, totalArenas = func() (int, int) {
	if bits.UintSize < 64 {
		return 0, 0
	}
	return math.MaxInt >> 29, math.MaxInt >> 25 // 16 GiB and 256 GiB, less a page
}()

// ErrUnavailable is the cause of every error of Available, Create and Attach on a system without this transport.
var ErrUnavailable = errors.New("shared memory between processes is not available on this system: use transport tcp (processes) or inproc (goroutines)")
