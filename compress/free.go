package compress

import "sync"

// freeList keeps memory that a call works with for the next one, as vec's does: the steady state does not allocate.
type freeList[T any] struct {
	mu  sync.Mutex
	all []*T
}

// take returns one that was put back, or a new one.
func (f *freeList[T]) take() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.all) - 1
	if n < 0 {
		return new(T)
	}
	x := f.all[n]
	f.all = f.all[:n]
	return x
}

func (f *freeList[T]) put(x *T) {
	f.mu.Lock()
	f.all = append(f.all, x)
	f.mu.Unlock()
}
