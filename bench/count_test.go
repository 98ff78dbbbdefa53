package bench

import "testing"

// However long pushes go on, what they come to is what count says, and exact.
func TestCount(t *testing.T) {
	for _, workers := range []int{1, 2, 100, MaxWorkers} {
		turn := turnAfter(workers)
		if turn < batchesOfRows || turn%batchesOfRows != 0 {
			t.Fatalf("%d workers: the sign changes after %d pushes", workers, turn)
		}
		most := 0
		for w := range workers {
			most += turn * int(pushed(w, 6))
		}
		if turn > batchesOfRows && most > 1<<24 {
			t.Errorf("%d workers: sums of %d", workers, most)
		}
	}
	for _, turn := range []int{1, 8} {
		sum, sign := 0, 1
		for n := range 100 {
			if got := count(n, turn); got != sum {
				t.Fatalf("after %d pushes, whose sign changes after %d: %d, and count says %d", n, turn, sum, got)
			}
			if n > 0 && n%turn == 0 {
				sign = -sign
			}
			sum += sign
		}
	}
}
