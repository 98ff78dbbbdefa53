package fault

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	links := func(name string) error {
		if name != "a-b" {
			return fmt.Errorf("unknown link %q: did you mean \"a-b\"?", name)
		}
		return nil
	}
	for text, want := range map[string]string{
		"kill 7 at step 100\nkill {1-6} at 5s\ndrop 1% on link a-b": "",
		"stop 1 at 1s\nkill 8 at 5s":                                "line 2: kill 8 at 5s: there is no rank 8: the ranks of 8 workers are 0 to 7",
		"partition 1 {7-9} at 1s":                                   "line 1: partition 1 {7-9} at 1s: there is no rank 9",
		"kill 7 at step 101":                                        "line 1: kill 7 at step 101: the run ends after step 100",
		"\ndrop 1% on link a-c":                                     `line 2: drop 1% on link a-c: unknown link "a-c": did you mean "a-b"?`,
		"kill {1-3} at 1s\nkill 2 at step 5":                        "line 2: kill 2 at step 5: rank 2 is killed already by line 1: kill {1-3} at 1s",
	} {
		err := mustParse(t, text).Check(8, 100, links)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := mustParse(t, "kill 7 at step 101").Check(8, 0, nil); err != nil {
		t.Errorf("of a run of any length: %v", err)
	}
	if err := mustParse(t, "drop 1% on link a-b").Check(8, 0, nil); err == nil {
		t.Error("a link where there are none")
	}
	// What code built and Parse would never return.
	for want, f := range map[string]Fault{
		"there is no fault of kind 99":           {Kind: 99},
		"it concerns no rank":                    {Kind: Kill, From: Moment{Step: 1}},
		"ascending":                              {Kind: Kill, Ranks: []int{2, 1}, From: Moment{Step: 1}},
		"a kill has no end":                      {Kind: Kill, Ranks: []int{2}, To: Moment{Step: 1}},
		"expected a step from 1 to":              {Kind: Kill, Ranks: []int{2}, From: Moment{Step: 1, Time: 1}},
		"a stopped worker comes to no step":      {Kind: Stop, Ranks: []int{2}, From: Moment{Step: 3}, To: Moment{Step: 9}},
		"after a step, and no other end":         {Kind: Stop, Ranks: []int{2}, From: Moment{Time: 1}, For: 1},
		`"scale:1e2" is written "scale:100"`:     {Kind: Corrupt, Ranks: []int{2}, How: "scale:1e2"},
		"NaN: a share of packets is above 0%":    {Kind: Drop, Link: "a", Amount: math.NaN()},
		"NaN bit/s: expected 1 to 1e+14":         {Kind: Limit, Link: "a", Amount: math.NaN()},
		"xNaN: how many times slower is above 1": {Kind: Slow, Ranks: []int{2}, Factor: math.NaN()},
	} {
		if err := (Script{f}).Check(8, 0, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
