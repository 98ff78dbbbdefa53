package vec

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallelMin is how many products a call must have to be worth a second thread, about 50 microseconds of one.
const parallelMin = 1 << 21

// spins is how often a thread looks for more to do, or for the others' end, before it parks: some tens of microseconds.
// To wake a parked one costs as much.
const spins = 20_000

var pool struct {
	sync.Mutex // held by SetThreads
	n          atomic.Int32
	helpers    atomic.Pointer[[]*helper] // nil when n is 1
	all        sync.WaitGroup
}

// Threads is how many threads a big call may use.
func Threads() int {
	if n := pool.n.Load(); n > 1 {
		return int(n)
	}
	return 1
}

// SetThreads sets how many threads a big call (a matrix product of two million multiplications or more) may use,
// the caller's included; the default is 1. Threads split rows and columns, never a sum, so that no bit depends
// on their number.
//
// The n-1 threads beside the callers' are goroutines that live until the next SetThreads. One that has done its part
// looks out for the next for some tens of microseconds, letting other goroutines run, and then parks. All callers share
// them, and a caller that finds none free computes by itself.
// SetThreads(1) ends them and waits until they have ended: a test that looks for leaked goroutines calls it first.
func SetThreads(n int) {
	n = max(n, 1)
	pool.Lock()
	defer pool.Unlock()
	if n == Threads() {
		return
	}
	if old := pool.helpers.Swap(nil); old != nil {
		for _, h := range *old {
			h.quit.Store(true)
			h.give(nil, parked)
		}
		pool.all.Wait()
	}
	pool.n.Store(int32(n))
	if n == 1 {
		return
	}
	hs := make([]*helper, n-1)
	for i := range hs {
		hs[i] = &helper{wake: make(chan struct{}, 1)}
		pool.all.Add(1)
		go hs[i].serve()
	}
	pool.helpers.Store(&hs)
}

// helper is a compute thread. Whoever moves its state from free or parked to taken gives it something to do.
type helper struct {
	state atomic.Int32
	task  atomic.Pointer[gemm]
	quit  atomic.Bool
	wake  chan struct{} // one token, for a helper taken while parked
}

const (
	free int32 = iota // looks at its task
	parked
	taken
)

// give hands g to a helper in a state, and says whether it was in that state.
func (h *helper) give(g *gemm, state int32) bool {
	if !h.state.CompareAndSwap(state, taken) {
		return false
	}
	h.task.Store(g)
	if state == parked {
		h.wake <- struct{}{}
	}
	return true
}

func (h *helper) serve() {
	defer pool.all.Done()
	for {
		g := h.next()
		if g == nil {
			return
		}
		w := scratches.Take()
		g.run(w)
		scratches.Put(w)
		of := g.of // g is the caller's again as soon as it knows
		h.task.Store(nil)
		h.state.Store(free)
		of.group.Done()
		of.left.Add(-1)
	}
}

// next waits for something to do; nil is the end.
func (h *helper) next() *gemm {
	for i := 0; ; i++ {
		if g := h.task.Load(); g != nil {
			return g
		}
		if h.quit.Load() && h.state.CompareAndSwap(free, taken) {
			return nil
		}
		if i%128 == 127 {
			runtime.Gosched()
		}
		if i >= spins && h.state.CompareAndSwap(free, parked) {
			if h.quit.Load() && h.state.CompareAndSwap(parked, taken) {
				return nil // SetThreads has looked before this parked
			}
			<-h.wake
			if g := h.task.Load(); g != nil || h.quit.Load() {
				return g
			}
		}
	}
}

// split computes g by up to t threads.
func (g *gemm) split(t int) {
	byRow, unit, units := g.cut(t)
	t = min(t, units)
	s := parted(t)
	var hs []*helper
	if p := pool.helpers.Load(); p != nil {
		hs = *p
	}
	w := scratches.Take()
	for i := t - 1; i >= 0; i-- { // the caller's own part comes last
		p := &s.part[i]
		*p = *g
		lo, hi := units*i/t*unit, units*(i+1)/t*unit
		if byRow {
			p.rlo, p.rhi = lo, min(hi, g.m)
		} else {
			p.clo, p.chi = lo, min(hi, g.n)
		}
		p.of = s
		if i == 0 || !s.hand(p, hs) {
			p.run(w)
		}
	}
	scratches.Put(w)
	for i := 0; i < spins && s.left.Load() > 0; i++ {
		if i%128 == 127 {
			runtime.Gosched()
		}
	}
	s.group.Wait()
	for s.left.Load() > 0 { // the last instruction of who has just told the group
		runtime.Gosched()
	}
	clear(s.part) // keep no matrix alive
	splits.Put(s)
}

// cut says along which side a product is cut for t threads, and into how many pieces of which size it can be. Each
// thread packs what it needs of both matrices: of b, whose packing costs more, only its own part when columns are cut.
func (g *gemm) cut(t int) (byRow bool, unit, units int) {
	s := shape()
	unit = s.cols
	if s.narrow {
		unit /= 2
	}
	if units = (g.n + unit - 1) / unit; units >= 4*t || g.m < s.rows*t {
		return false, unit, units
	}
	return true, s.rows, (g.m + s.rows - 1) / s.rows
}

// hand gives a part to a helper that is free, one that is awake if there is one.
func (s *split) hand(p *gemm, hs []*helper) bool {
	s.group.Add(1)
	s.left.Add(1)
	for _, state := range []int32{free, parked} {
		for _, h := range hs {
			if h.give(p, state) {
				return true
			}
		}
	}
	s.group.Done()
	s.left.Add(-1)
	return false
}

// split is what one call hands out.
type split struct {
	part  []gemm
	group sync.WaitGroup // of the parts handed out
	left  atomic.Int32   // the same number, to look at
}

var (
	scratches FreeList[scratch]
	splits    FreeList[split]
)

// parted returns a split of t parts.
func parted(t int) *split {
	s := splits.Take()
	if cap(s.part) < t {
		s.part = make([]gemm, t)
	}
	s.part = s.part[:t]
	return s
}
