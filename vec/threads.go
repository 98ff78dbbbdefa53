package vec

import (
	"sync"
	"sync/atomic"
)

// parallelMin is how many products a call must have to be worth a second thread, about 50 microseconds of one.
const parallelMin = 1 << 21

var pool struct {
	sync.Mutex // held by SetThreads
	n          atomic.Int32
	queue      atomic.Pointer[queue] // nil when n is 1
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
// The n-1 threads beside the callers' are goroutines that live until the next SetThreads, parked on a channel
// when there is nothing to do. All callers share them, and a caller that finds none free computes by itself.
// SetThreads(1) ends them and waits until they have ended: a test that looks for leaked goroutines calls it first.
func SetThreads(n int) {
	n = max(n, 1)
	pool.Lock()
	defer pool.Unlock()
	if n == Threads() {
		return
	}
	if old := pool.queue.Swap(nil); old != nil {
		close(old.quit)
		pool.all.Wait()
	}
	pool.n.Store(int32(n))
	if n == 1 {
		return
	}
	q := &queue{work: make(chan *gemm), quit: make(chan struct{})}
	for range n - 1 {
		pool.all.Add(1)
		go q.serve()
	}
	pool.queue.Store(q)
}

// queue is one generation of compute threads.
type queue struct {
	work chan *gemm
	quit chan struct{}
}

func (q *queue) serve() {
	defer pool.all.Done()
	for {
		select {
		case g := <-q.work:
			w := takeScratch()
			g.run(w)
			putScratch(w)
			g.group.Done()
		case <-q.quit:
			return
		}
	}
}

// split computes g by up to t threads, cutting the side that has more tiles.
func (g *gemm) split(t int) {
	k := shape()
	rows, cols := (g.m+k.rows-1)/k.rows, (g.n+k.cols-1)/k.cols
	byRow := rows >= cols
	tiles, width := cols, k.cols
	if byRow {
		tiles, width = rows, k.rows
	}
	t = min(t, tiles)
	s := takeSplit(t)
	q := pool.queue.Load()
	w := takeScratch()
	for i := t - 1; i >= 0; i-- { // the caller's own part comes last
		p := &s.part[i]
		*p = *g
		lo, hi := tiles*i/t*width, tiles*(i+1)/t*width
		if byRow {
			p.rlo, p.rhi = lo, min(hi, g.m)
		} else {
			p.clo, p.chi = lo, min(hi, g.n)
		}
		p.group = &s.group
		if i > 0 && q != nil {
			s.group.Add(1)
			select {
			case q.work <- p:
				continue
			default: // nobody is free
				s.group.Done()
			}
		}
		p.run(w)
	}
	putScratch(w)
	s.group.Wait()
	putSplit(s)
}

// split is what one call hands out.
type split struct {
	part  []gemm
	group sync.WaitGroup
	next  *split
}

// Free lists rather than sync.Pool, which a garbage collection empties: the steady state does not allocate, and
// as many are kept as were once in use together.
var free struct {
	sync.Mutex
	scratch *scratch
	split   *split
}

func takeScratch() *scratch {
	free.Lock()
	defer free.Unlock()
	w := free.scratch
	if w == nil {
		return new(scratch)
	}
	free.scratch = w.next
	return w
}

func putScratch(w *scratch) {
	free.Lock()
	w.next, free.scratch = free.scratch, w
	free.Unlock()
}

func takeSplit(t int) *split {
	free.Lock()
	s := free.split
	if s != nil {
		free.split = s.next
	}
	free.Unlock()
	if s == nil {
		s = new(split)
	}
	if cap(s.part) < t {
		s.part = make([]gemm, t)
	}
	s.part = s.part[:t]
	return s
}

func putSplit(s *split) {
	clear(s.part) // keep no matrix alive
	free.Lock()
	s.next, free.split = free.split, s
	free.Unlock()
}
