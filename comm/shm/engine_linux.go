package shm

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
	"golang.org/x/sys/unix"
)

// engine moves bytes between one rank's rings and its mesh. A pass looks at every ring once; passes are made by
// goroutines that wait (drive) and by the one goroutine that sleeps in the kernel on their behalf (watch).
//
// No wake-up is lost. A writer publishes its tail (or a reader its head), then loads the peer's sleep word, and rings
// the peer's bell if it is 1. A process stores sleep = 1 under mu, then makes one more pass, then sleeps on the value
// that the bell had before the store. All these are sequentially consistent, so of the writer's store-then-load and
// the sleeper's store-then-look at least one sees the other: either the pass finds the bytes, or the writer finds
// sleep = 1 and rings, and a bell that has rung since its value was read ends the sleep at once. sleep is 1 only while
// watch is on its way into the kernel or in it (parked) and nobody drives; a driver takes it to 0, so that nobody
// rings for it, and the last one to leave while watch is parked sets it to 1 and makes the extra pass. A goroutine
// that waits for room in a ring, or for leave, puts itself down under mu before it looks for the last time, and every
// pass looks for those who are down.
type engine struct {
	layout
	mesh   *comm.Mesh
	mem    []byte
	file   *os.File // holds the lock of this rank's slot
	shared *memory
	self   *slot
	// links by rank, nil at this one.
	links  []*link
	spin   time.Duration
	yields int

	mu      sync.Mutex // guards what follows, the links' reading sides and the mapping
	drivers int
	parked  bool
	closed  bool
	looked  time.Time // when the peers' lives were last looked at

	spoken bool // this rank's slot says why it gave up
	late   int  // sleeps that lasted lookEvery though there was something to do: a test holds that there are none
	mute   bool // nothing is said to peers any more: for tests of sudden death

	sending  sync.RWMutex // read-locked by every Send, so that the memory stays
	unmapped bool         // guarded by sending

	order atomic.Uint64 // see raceEnabled: what Send read of its p is read before an answer is written there

	closing chan struct{} // closed when Close begins
	stopped chan struct{} // closed when watch has ended
}

// group is the Group that Attach returns.
type group struct {
	*comm.Mesh
	e     *engine
	board *comm.Board // nil in a group of one
	once  sync.Once
	err   error
}

var (
	_ comm.Group     = (*group)(nil)
	_ comm.Poster    = (*group)(nil)
	_ comm.Poisoner  = (*group)(nil)
	_ comm.Framer    = (*group)(nil)
	_ comm.Boarder   = (*group)(nil)
	_ comm.Allocator = (*group)(nil)
)

// Overhead implements comm.Framer.
func (g *group) Overhead(n int) int { return Overhead(n) }

// Board implements comm.Boarder.
func (g *group) Board() *comm.Board { return g.board }

// Alloc implements comm.Allocator.
func (g *group) Alloc(n int) []float32 { return g.e.shared.alloc(n) }

// Close implements comm.Group. What Alloc gave stays.
func (g *group) Close() error {
	g.once.Do(func() {
		close(g.e.closing)
		g.err = g.Mesh.Close()
		if err := g.e.shutdown(); g.err == nil {
			g.err = err
		}
	})
	return g.err
}

func newGroup(m *comm.Mesh, own *os.File, l layout, mem []byte, shared *memory) *group {
	e := &engine{layout: l, mesh: m, mem: mem, file: own, shared: shared, self: l.slot(mem, int(m.Rank())), links: make([]*link, l.Size),
		looked: time.Now(), closing: make(chan struct{}), stopped: make(chan struct{})}
	e.spin, e.yields = patience(l.Size)
	for r := range e.links {
		if comm.Rank(r) != m.Rank() {
			e.links[r] = newLink(e, comm.Rank(r))
			m.Connect(comm.Rank(r), e.links[r])
		}
	}
	g := &group{Mesh: m, e: e}
	if l.Size == 1 {
		close(e.stopped)
	} else {
		m.Idle(func(done <-chan struct{}) { e.drive(func() bool { return len(done) > 0 }) })
		g.board = comm.NewBoard(m, shared, comm.BoardConfig{Spin: e.spin, Yields: e.yields})
		go e.watch()
	}
	return g
}

// pass looks at every ring once and tells whether there was anything to do. mu is held.
func (e *engine) pass() (busy bool) {
	for _, l := range e.links {
		if l != nil && l.look() {
			busy = true
		}
	}
	return busy
}

// drive makes passes until stop says so or patience ends. It tells whether stop did.
func (e *engine) drive(stop func() bool) bool {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return stop()
	}
	e.drivers++
	e.self.sleep.Store(0)
	e.pass()
	e.mu.Unlock()
	ok := stop()
	if !ok {
		ok = e.patiently(stop)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.drivers--; e.drivers == 0 && e.parked && !e.closed {
		e.self.sleep.Store(1)
		e.pass()
	}
	return ok || stop()
}

func (e *engine) patiently(stop func() bool) bool {
	if e.spin > 0 {
		for start := time.Now(); time.Since(start) < e.spin; runtime.Gosched() {
			for range 16 {
				e.try()
				if stop() {
					return true
				}
			}
		}
	}
	for start, i := time.Now(), 0; i < e.yields && time.Since(start) < longestYield; i++ {
		giveWay()
		e.try()
		if stop() {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// try makes a pass unless another goroutine is at it.
func (e *engine) try() {
	if e.mu.TryLock() {
		if !e.closed {
			e.pass()
		}
		e.mu.Unlock()
	}
}

// nudge makes a pass.
func (e *engine) nudge() {
	e.mu.Lock()
	if !e.closed {
		e.pass()
	}
	e.mu.Unlock()
}

// watch makes passes while there is something to do and sleeps in the kernel while there is not, until shutdown.
func (e *engine) watch() {
	defer close(e.stopped)
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return
		}
		busy := e.pass()
		if now := time.Now(); now.Sub(e.looked) >= lookEvery {
			e.looked = now
			e.census()
		}
		if busy {
			e.mu.Unlock()
			runtime.Gosched() // to whom the pass has woken
			continue
		}
		bell := e.self.bell.Load()
		e.parked = true
		if e.drivers == 0 {
			e.self.sleep.Store(1)
			busy = e.pass()
		}
		e.mu.Unlock()
		overslept := !busy && futexWait(&e.self.bell, bell, lookEvery)
		e.mu.Lock()
		if overslept && !e.closed && e.pass() && e.self.bell.Load() == bell {
			e.late++ // there was something, and nobody rang
		}
		e.parked = false
		e.self.sleep.Store(0)
		e.mu.Unlock()
	}
}

// census looks which peers are alive. mu is held.
func (e *engine) census() {
	for r, l := range e.links {
		if l == nil || l.dead.Load() || locked(e.file, e.lockAt(r)) {
			continue
		}
		for l.look() { // what it said before it went
		}
		if !l.dead.Load() && l.in.said.Load()&saidClosed == 0 {
			l.lose(died(l.slot))
		}
	}
}

// ring wakes a process if nobody in it looks at its rings.
func ring(s *slot) {
	if s.sleep.Load() == 1 && s.sleep.CompareAndSwap(1, 0) {
		s.bell.Add(1)
		futexWake(&s.bell)
	}
}

// shutdown lets go of the memory. The links have said goodbye.
func (e *engine) shutdown() error {
	e.self.state.Store(slotClosed)
	e.mu.Lock()
	e.closed = true
	e.self.bell.Add(1)
	futexWake(&e.self.bell)
	e.mu.Unlock()
	<-e.stopped
	err := e.shared.close() // when no collective is under way
	e.sending.Lock()
	defer e.sending.Unlock()
	e.mu.Lock() // whoever drives is in no pass, and makes no more of them
	defer e.mu.Unlock()
	e.unmapped = true
	if merr := unix.Munmap(e.mem); err == nil {
		err = merr
	}
	if cerr := e.file.Close(); err == nil {
		err = cerr
	}
	return err
}
