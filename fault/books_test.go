package fault

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestBooks(t *testing.T) {
	s := mustParse(t, "kill 1 at step 5\nstop 2 at 1m for 1s\ndrop 1% on link a-b\nkill 3 at step 50\nslow 2 x5 from 1s to 2s")
	b := NewBooks(s)
	for i := range 3 {
		b.Fired(2, time.Duration(i+1)*time.Second, i)
	}
	b.Missed(0, "rank 1 has left")
	b.Fired(0, 90*time.Second, 5)
	b.Missed(0, "too late for that")
	b.Missed(4, "rank 2 computed nothing then")
	b.Ended(30*time.Second, 9)
	want := strings.TrimPrefix(`
kill 1 at step 5         fired once, at 1m30s, step 5
stop 2 at 1m for 1s      did not fire: the run ended at 30s
drop 1% on link a-b      fired 3 times, first at 1s
kill 3 at step 50        did not fire: the run ended after step 9
slow 2 x5 from 1s to 2s  did not fire: rank 2 computed nothing then
2 of 5 faults fired
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b, want)
	}
	r := b.Report()
	if o := r[2]; o.Fired != 3 || o.At != time.Second || o.Step != 0 || o.Why != "" || o.Fault.String() != s[2].String() {
		t.Errorf("%+v", o)
	}
	r[2].Fired = 99
	if b.Report()[2].Fired != 3 {
		t.Error("the report is the books themselves")
	}
}

func TestFaultInJSON(t *testing.T) {
	b := NewBooks(mustParse(t, "kill 3 at step 120\nstop 1 at 5s"))
	b.Fired(0, time.Second, 120)
	b.Missed(1, "the run ended at 2s")
	text, err := json.Marshal(b.Report())
	want := `[{"fault":"kill 3 at step 120","fired":1,"first_ns":1000000000,"step":120},` +
		`{"fault":"stop 1 at 5s","fired":0,"first_ns":0,"not_for":"the run ended at 2s"}]`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
