package fault_test

import (
	"fmt"
	"time"

	"github.com/covey-ml/covey/fault"
)

// A driver follows a script: it tells time and steps, does what begins and ends, and books it.
func Example() {
	script, err := fault.Parse("f.txt", []byte(`
slow {0-1} x2 from step 2 to step 3   # a neighbour on the same host
partition {0} {1} at 10s for 5s
kill 1 at step 9
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := script.Check(2, 10, nil); err != nil {
		fmt.Println(err)
		return
	}
	books := fault.NewBooks(script)
	state := fault.NewState(script, 2, 0)
	for step, at := 1, time.Duration(0); step <= 3; step, at = step+1, at+6*time.Second {
		for _, c := range state.Step(at, 0, step) {
			if c.Begins {
				books.Fired(c.Fault, at, step)
			}
		}
		fmt.Printf("step %d: rank 0 takes %v times as long, cut off: %v\n", step, state.Slow(0), state.Cut(0, 1))
	}
	books.Ended(18*time.Second, 3)
	fmt.Print(books)
	// Output:
	// step 1: rank 0 takes 1 times as long, cut off: false
	// step 2: rank 0 takes 2 times as long, cut off: false
	// step 3: rank 0 takes 1 times as long, cut off: true
	// slow {0-1} x2 from step 2 to step 3  fired once, at 6s, step 2
	// partition 0 1 at 10s for 5s          fired once, at 12s, step 3
	// kill 1 at step 9                     did not fire: the run ended after step 3
	// 2 of 3 faults fired
}

// The same numbers draw the same chaos.
func ExampleRandom() {
	fmt.Print(fault.Random(7, fault.Chaos{Workers: 8, Steps: 100, Span: time.Minute, Links: []string{"a-b"}, Faults: 6}))
	// Output:
	// corrupt gradient of {4-5} nan from step 27 to step 50
	// limit 100Mbit/s on link a-b from 10.08s to 17.82s
	// kill 3 at step 89
	// limit 1Gbit/s on link a-b from 7.44s to 8.16s
}

// A failure that needs a stall and a slow rank, found in a long script.
func ExampleShrink() {
	script, _ := fault.Parse("long.txt", []byte(`
kill 3 at step 120
stop 2 at 12.345s for 5s
drop 1% on link a-b
slow {0-7} x5 from 10s to 60s
partition {0-3} {4-7} at 30s for 20s
`))
	fails := func(s fault.Script) bool {
		var stopped, slow bool
		for _, f := range s {
			stopped = stopped || f.Kind == fault.Stop && f.From.Time >= 7*time.Second
			slow = slow || f.Kind == fault.Slow && f.Ranks[0] <= 6 && f.Ranks[len(f.Ranks)-1] >= 6
		}
		return stopped && slow
	}
	fmt.Print(fault.Shrink(script, fails, 1000))
	// Output:
	// stop 2 at 10s for 1ms
	// slow 6 x5 to 1ms
}
