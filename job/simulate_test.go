package job

import (
	"context"
	"strings"
	"testing"
)

// TestSimulate: the memory of this host does not bound workers that are simulated.
func TestSimulate(t *testing.T) {
	defer func(was func() float64) { memory = was }(memory)
	memory = func() float64 { return 64 << 30 }
	for _, simulated := range []bool{false, true} {
		j := &Job{Data: "synthetic:8192", Model: "profile:vgg16", Workers: 4096, Batch: 4096, Transport: Inproc}
		if simulated {
			j.Simulate()
		}
		if err := j.Fill(); err != nil {
			t.Fatal(err)
		}
		tr, test, err := j.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		_, err = j.Build(tr, test)
		if refused := err != nil && strings.Contains(err.Error(), "138357544 parameters need"); refused == simulated {
			t.Errorf("simulated: %v: %v", simulated, err)
		}
	}
}
