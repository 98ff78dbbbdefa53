package train

import "testing"

// What is due after a step is done when all workers of the newest generation have done it, whatever servers have heard.
func TestWhatIsDueIsDone(t *testing.T) {
	worker := func(gen uint64, step int, unended bool) pastSaid {
		return pastSaid{Gen: gen, Step: step, Unended: unended}
	}
	server := func(gen uint64, step int, unended bool) pastSaid {
		return pastSaid{Gen: gen, Step: step, Unended: unended, Served: true}
	}
	for _, of := range []struct {
		all  [][]pastSaid
		want bool
	}{
		{[][]pastSaid{{worker(2, 8, false)}, {worker(2, 8, false)}, {server(2, 8, true)}}, true},
		{[][]pastSaid{{worker(2, 8, false)}, {worker(2, 8, true)}, {server(2, 8, false)}}, false},
		{[][]pastSaid{{worker(2, 8, false)}, {worker(2, 7, false)}, {server(2, 8, false)}}, false},
		{[][]pastSaid{{worker(2, 9, true)}, {worker(2, 8, false), worker(1, 4, true)}}, true},
		{[][]pastSaid{{worker(1, 8, false)}, {server(2, 8, true)}}, false},
		{[][]pastSaid{{worker(1, 4, true)}, {server(2, 8, false)}}, true},
		{[][]pastSaid{nil, nil}, true},
	} {
		if got := ended(of.all, 8); got != of.want {
			t.Errorf("%+v: %v, want %v", of.all, got, of.want)
		}
	}
}
