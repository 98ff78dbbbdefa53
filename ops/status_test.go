package ops_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"context"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

func TestStatus(t *testing.T) {
	c := newHand()
	c.pass(time.Hour)
	m := ops.NewMeter("digits", c, ops.Limits{Step: 10 * time.Second})
	e := m.Events(train.Events{})
	if s := m.Status(); s.State != ops.Waiting || !strings.Contains(s.Why, "first generation") || s.At != 0 || s.Loss != nil {
		t.Errorf("before all: %+v", s)
	}
	m.Sit(ops.Seat{Generation: 3, Rank: 1, Workers: 2, Own: 3, Of: 4})
	e.Start(train.StartInfo{Step: 10, Steps: 20, Epoch: 2, Epochs: 4})
	c.pass(2 * time.Second)
	i := train.StepInfo{Step: 11, Epoch: 3, Samples: 64, Loss: 0.5, Times: strategy.Times{Compute: 1500 * time.Millisecond, Comm: time.Second, Wait: 250 * time.Millisecond}}
	i.Books[comm.OpAllReduce] = comm.Entry{Messages: 2, Payload: 1000, Header: 64, Control: 4}
	e.Step(i)
	s := m.Status()
	loss := 0.5
	want := ops.Status{Run: "digits", State: ops.Training, Generation: 3, Rank: 1, Workers: 2, At: 2, Step: 11, Steps: 20, Epoch: 3, Loss: &loss,
		Samples: 48, Compute: 1.5, Comm: 1, Wait: 0.25, Bytes: 1068}
	if got, want := asJSON(t, s), asJSON(t, want); got != want {
		t.Errorf("%s, expected\n%s", got, want)
	}
	if n := len(asJSON(t, s)); n > 400 {
		t.Errorf("a status takes %d bytes", n)
	}
	back, err := ops.ParseStatus([]byte(asJSON(t, s)))
	if err != nil || asJSON(t, back) != asJSON(t, s) {
		t.Errorf("%v: %s came back as %s", err, asJSON(t, s), asJSON(t, back))
	}
	i.Loss = math.NaN() // which JSON cannot say
	e.Step(i)
	if s := m.Status(); s.Loss != nil || asJSON(t, s) == "" {
		t.Errorf("a loss that is no number: %v", *s.Loss)
	}
	c.pass(11 * time.Second)
	if s := m.Status(); s.State != ops.Training || !strings.Contains(s.Why, "nothing was done for 11s") {
		t.Errorf("stuck: %+v", s)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTellTellsOnceASecondAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := comm.RealClock()
		m := ops.NewMeter("r", clock, ops.Limits{})
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		e := m.Events(train.Events{})
		e.Start(train.StartInfo{})
		var at []float64
		m.Tell(ctx, clock, func(s ops.Status) { at = append(at, s.At) })
		if fmt.Sprint(at) != "[0 1 2 2.5]" {
			t.Errorf("told at %v", at)
		}
	})
}

func TestStatusThatNoWorkerSends(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":      `step 12`,
		"no state":     `{}`,
		"rank":         `{"state":"training","rank":4,"workers":4}`,
		"negative":     `{"state":"training","step":-1}`,
		"many workers": `{"state":"training","workers":1000000000}`,
		"an amount":    `{"state":"training","samples":-1}`,
		"long":         `{"state":"training","why":"` + strings.Repeat("x", 500) + `"}`,
		"a long note":  `{"state":"training","notes":[{"text":"` + strings.Repeat("x", 500) + `"}]}`,
		"many notes":   `{"state":"training","notes":[` + strings.Repeat(`{},`, 50) + `{}]}`,
		"huge":         `{"state":"training","run":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, err := ops.ParseStatus([]byte(text)); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(`{"run":"digits","state":"training","generation":3,"rank":1,"workers":2,"at_s":2,"step":11,"steps":20,"epoch":3,"loss":0.5,"samples":48,"compute_s":1.5,"comm_s":1,"wait_s":0.25,"bytes":1068}`))
	f.Add([]byte(`{"state":"over","why":"\u001b[2J","notes":[{"at_s":1e18,"text":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ops.ParseStatus(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", s, err)
		}
		if _, err := ops.ParseStatus(again); err != nil && len(again) <= len(b) {
			t.Fatalf("%s was read, %s is not: %v", b, again, err)
		}
	})
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"node-a, process 7":    "node-a, process 7",
		"\x1b[2J\x1b]0;x\a":    "?[2J?]0;x?",
		"two\nlines\tand more": "two lines and more",
		"größe 10 µs …":        "größe 10 µs …",
		"bad \xff utf-8":       "bad ? utf-8",
		"\u202egnp.exe":        "?gnp.exe",
	} {
		if got := ops.Clean(in); got != want || !utf8.ValidString(got) {
			t.Errorf("%q became %q, expected %q", in, got, want)
		}
	}
}
