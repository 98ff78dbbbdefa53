package vec

import "sync"

// SideBySide calls f(0) to f(n-1), the last on the caller's goroutine and each of the others on its own, and returns when
// all have returned. It is for work in few big parts, in rooms that start no goroutines themselves: nothing that the parts
// compute may depend on which ends first.
func SideBySide(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n - 1 {
		all.Go(func() { f(i) })
	}
	if n > 0 {
		f(n - 1)
	}
	all.Wait()
}
