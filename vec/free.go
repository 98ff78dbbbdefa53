package vec

import (
	"slices"
	"sync"
)

// FreeList keeps memory that a call works with for the next one. It is no sync.Pool, which a garbage collection empties: the
// steady state does not allocate, and as many are kept as were once in use together. The zero value is empty; any goroutine may
// use it.
type FreeList[T any] struct {
	mu  sync.Mutex
	all []*T
}

// Take returns one that was put back, or a new one.
func (f *FreeList[T]) Take() *T {
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

// Put gives x back.
func (f *FreeList[T]) Put(x *T) {
	f.mu.Lock()
	f.all = append(f.all, x)
	f.mu.Unlock()
}

// Resized is s with n elements of any value: its own memory where that has room.
func Resized[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }
