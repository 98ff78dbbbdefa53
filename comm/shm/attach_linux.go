package shm

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"golang.org/x/sys/unix"
)

// Available tells why this transport cannot work here, or nil.
func Available() error {
	f, err := makeFile(page)
	if err != nil {
		return fmt.Errorf("shm: %w (%v)", ErrUnavailable, err)
	}
	defer f.Close()
	g, err := reopen(f)
	if err != nil {
		return fmt.Errorf("shm: %w (%v)", ErrUnavailable, err)
	}
	return g.Close()
}

// Create makes the memory for a group of n ranks. The caller owns the file and may close it once every worker that is
// to inherit it has been started; the memory lives as long as somebody is attached.
func Create(n int, o Options) (*os.File, error) {
	if err := o.validate(n); err != nil {
		return nil, err
	}
	l, err := layoutOf(Info{Size: n, Ring: o.Ring, Arena: o.Arena, Generation: o.Generation})
	if err != nil {
		return nil, err
	}
	f, err := makeFile(l.total)
	if err != nil {
		return nil, fmt.Errorf("shm: making %d bytes of shared memory: %w", l.total, err)
	}
	if _, err = f.WriteAt(l.encode(), 0); err == nil {
		err = seal(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shm: %w", err)
	}
	return f, nil
}

// lookEvery is how often a process looks whether its peers are alive, and the longest sleep in the kernel.
const lookEvery = 100 * time.Millisecond

// Attach joins the group as rank and returns when all its ranks have attached. The error is a *comm.PeerError when one
// of them dies meanwhile, or has not come after setup; the others are told of it. timeout bounds every wait in the group.
// f stays the caller's, who may close it then.
//
// A rank attaches once to a file: a group that lost a worker needs a new file.
func Attach(f *os.File, rank comm.Rank, setup, timeout time.Duration) (comm.Group, error) {
	if setup <= 0 || timeout <= 0 {
		return nil, fmt.Errorf("shm: setup %v, timeout %v: want both above zero", setup, timeout)
	}
	l, err := readLayout(f)
	if err != nil {
		return nil, err
	}
	if rank < 0 || int(rank) >= l.Size {
		return nil, fmt.Errorf("shm: rank %d of a group of %d: want 0 to %d", rank, l.Size, l.Size-1)
	}
	own, err := reopen(f)
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(own.Fd()), 0, l.arenas, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		own.Close()
		return nil, fmt.Errorf("shm: mapping %d bytes: %w", l.arenas, err)
	}
	shared, err := mapArenas(own, l, mem, rank)
	if err == nil {
		if err = enter(own, l, mem, rank, setup); err != nil {
			shared.close()
		}
	}
	if err != nil {
		unix.Munmap(mem)
		own.Close()
		return nil, err
	}
	m := comm.NewMesh(rank, l.Size, comm.RealClock(), timeout)
	return newGroup(m, own, l, mem, shared), nil
}

// enter takes the rank's slot and waits for the others.
func enter(own *os.File, l layout, mem []byte, rank comm.Rank, setup time.Duration) error {
	s := l.slot(mem, int(rank))
	free, err := lock(own, l.lockAt(int(rank)))
	switch {
	case err != nil:
		return fmt.Errorf("shm: locking the slot of rank %d: %w", rank, err)
	case !free:
		return fmt.Errorf("shm: rank %d is attached already (process %d)", rank, s.pid.Load())
	case s.state.Load() != slotEmpty:
		return fmt.Errorf("shm: rank %d was attached before (process %d) and is gone: make a new file for the next generation", rank, s.pid.Load())
	}
	s.pid.Store(uint32(os.Getpid()))
	s.state.Store(slotHere)
	count := arrived(mem)
	count.Add(1)
	futexWake(count)
	for end := time.Now().Add(setup); ; {
		seen := count.Load()
		missing, pe := l.roll(own, mem, int(rank))
		left := time.Until(end)
		switch {
		case pe != nil:
		case len(missing) == 0:
			return nil
		case left <= 0:
			pe = &comm.PeerError{Rank: missing[0], Op: comm.OpControl, Step: -1, Cause: fmt.Errorf(
				"after %v %d of %d ranks have not attached: rank %s: %w", setup, len(missing), l.Size,
				strings.Trim(strings.ReplaceAll(fmt.Sprint(missing), " ", ", "), "[]"), comm.ErrTimeout)}
		default:
			futexWait(count, seen, min(left, lookEvery))
			continue
		}
		l.leave(mem, int(rank), pe)
		return pe
	}
}

// roll calls the ranks: who has not come yet, and the error that ends the wait, if one is gone.
func (l layout) roll(own *os.File, mem []byte, me int) (missing []comm.Rank, pe *comm.PeerError) {
	for r := range l.Size {
		s := l.slot(mem, r)
		switch state := s.state.Load(); {
		case r == me:
		case state == slotEmpty:
			missing = append(missing, comm.Rank(r))
		case state == slotLeft: // it says who was to blame
			if pe, err := parseAbort(slices.Clone(s.abort[:])); err == nil {
				return nil, pe
			}
			return nil, &comm.PeerError{Rank: comm.Rank(r), Op: comm.OpControl, Step: -1, Cause: comm.ErrLeft}
		case state == slotHere && !locked(own, l.lockAt(r)):
			if s.state.Load() == slotHere { // else it has said so since
				pe = &comm.PeerError{Rank: comm.Rank(r), Op: comm.OpControl, Step: -1, Cause: died(s)}
			}
		}
	}
	return missing, pe
}

// leave tells the others, those who wait for more ranks and those who are at work already, that this one gives up and
// why. It must look to them as if a group had been poisoned and closed.
func (l layout) leave(mem []byte, rank int, pe *comm.PeerError) {
	s := l.slot(mem, rank)
	putAbort(s.abort[:], pe)
	s.state.Store(slotLeft)
	for r := range l.Size {
		if r != rank {
			l.control(mem, rank, r).said.Or(saidAborted | saidClosed)
			ring(l.slot(mem, r))
		}
	}
	count := arrived(mem)
	count.Add(1) // nobody reads it as a number
	futexWake(count)
}

// lockAt is the byte that a rank holds locked while it lives.
func (l layout) lockAt(rank int) int { return l.slots + rank*slotBytes }

func died(s *slot) error {
	return fmt.Errorf("%w: process %d is gone", comm.ErrLost, s.pid.Load())
}

// patience says how to wait for n ranks on this machine: spinning that long, then giving way that often. Giving way
// comes back at once when no other thread wants the core, and lets the peer run when it is the one that does. With more ranks
// than cores somebody has work as a rule, and to give way often costs less than to sleep and be woken, until so many give way that
// they mostly do so to each other.
func patience(n int) (spin time.Duration, yields int) {
	if n <= runtime.NumCPU() {
		return 10 * time.Microsecond, 20
	}
	return 0, max(16, 1024/n)
}

// longestYield bounds how long a rank gives way before it sleeps: whoever has the core may keep it for a millisecond or more.
const longestYield = 2 * time.Millisecond
