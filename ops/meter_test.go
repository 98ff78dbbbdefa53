package ops_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	names "github.com/prometheus/common/model"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

// hand is a clock whose time is set by hand.
type hand struct {
	comm.Clock
	mu  sync.Mutex
	now time.Duration
}

func newHand() *hand { return &hand{Clock: comm.RealClock()} }

func (h *hand) Now() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) pass(d time.Duration) {
	h.mu.Lock()
	h.now += d
	h.mu.Unlock()
}

// page is what a meter shows, read by the parser of Prometheus itself, which checks names, types and labels.
func page(t *testing.T, m *ops.Meter) map[string]*dto.MetricFamily {
	t.Helper()
	var b bytes.Buffer
	if err := m.WriteMetrics(&b); err != nil {
		t.Fatal(err)
	}
	return parse(t, b.String())
}

func parse(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(names.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return all
}

// value is that of the only line of a family with these labels, given as key, value, key, value.
func value(t *testing.T, all map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	f := all[name]
	if f == nil {
		t.Fatalf("there is no %s", name)
	}
	found, v := 0, 0.0
	for _, m := range f.Metric {
		has := map[string]string{}
		for _, l := range m.Label {
			has[l.GetName()] = l.GetValue()
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && has[labels[i]] == labels[i+1]
		}
		if !fits {
			continue
		}
		found++
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			v = m.Counter.GetValue()
		case dto.MetricType_GAUGE:
			v = m.Gauge.GetValue()
		default:
			t.Fatalf("%s is a %v", name, f.GetType())
		}
	}
	if found != 1 {
		t.Fatalf("%s has %d lines with the labels %v, expected one", name, found, labels)
	}
	return v
}

// Each worker of a run has its meter; together they say what the report says.
func TestMetricsAreTheReports(t *testing.T) {
	tr, test, err := data.Open(t.Context(), "digits:train=300,test=100", data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.Parse("mlp:24")
	if err != nil {
		t.Fatal(err)
	}
	net, err := zoo.New(s, tr.Info(), tr.Len(), tr)
	if err != nil {
		t.Fatal(err)
	}
	const workers = 3
	meters, reports, last := make([]*ops.Meter, workers), make([]*train.Report, workers), make([]train.StepInfo, workers)
	errs := make([]error, workers)
	var all sync.WaitGroup
	for r, g := range inproc.New(workers, 30*time.Second) {
		meters[r] = ops.NewMeter("digits", g.Clock(), ops.Limits{})
		meters[r].Sit(ops.Seat{Generation: 1, Rank: r, Workers: workers, Own: 4, Of: 12})
		c := train.Config{Model: net, Train: tr, Test: test, Batch: 64, Microshards: 12, Epochs: 2, Seed: 3, Compress: "topk:0.1+ef"}
		c.Events = meters[r].Events(train.Events{Step: func(i train.StepInfo) { last[r] = i }})
		all.Go(func() {
			reports[r], errs[r] = train.Run(t.Context(), g, c)
			g.Close()
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	p := reports[0]
	sums := map[string]float64{}
	for r, m := range meters {
		now := page(t, m)
		want := map[string]float64{
			"covey_step": float64(p.Steps), "covey_steps": float64(p.Steps), "covey_steps_total": float64(p.Steps),
			"covey_samples_total": float64(p.Samples), "covey_own_samples_total": float64(p.Samples) / workers, "covey_epoch": p.Epochs,
			"covey_generation": 1, "covey_workers": workers, "covey_regroups_total": 0, "covey_loss": last[r].Loss,
			"covey_learning_rate": last[r].Rate, "covey_ready": 1, "covey_checkpoint_failures_total": 0,
		}
		for name, v := range want {
			if got := value(t, now, name, "run", "digits", "rank", fmt.Sprint(r)); math.Abs(got-v) > 1e-9*math.Abs(v) {
				t.Errorf("rank %d: %s is %v, the report says %v", r, name, got, v)
			}
		}
		times := map[string]float64{"compute": p.Ranks[r].Compute, "comm": p.Ranks[r].Comm, "wait": p.Ranks[r].Wait}
		for what, v := range times {
			if got := value(t, now, "covey_seconds_total", "what", what); got != v {
				t.Errorf("rank %d: %v s of %s, the report says %v", r, got, what, v)
			}
		}
		sums["codec"] += value(t, now, "covey_seconds_total", "what", "codec") / workers
		for _, line := range now["covey_bytes_total"].Metric {
			op, kind := "", ""
			for _, l := range line.Label {
				switch l.GetName() {
				case "op":
					op = l.GetValue()
				case "kind":
					kind = l.GetValue()
				}
			}
			sums[op+" "+kind] += line.Counter.GetValue()
		}
		for _, line := range now["covey_messages_total"].Metric {
			for _, l := range line.Label {
				if l.GetName() == "op" {
					sums[l.GetValue()+" messages"] += line.Counter.GetValue()
				}
			}
		}
		h := now["covey_step_seconds"].Metric[0].Histogram
		if h.GetSampleCount() != uint64(p.Steps) || h.GetSampleSum() <= 0 || h.GetSampleSum() > p.Wall*1.5+1 {
			t.Errorf("rank %d: %d steps of %v s in all; the report has %d in %v s", r, h.GetSampleCount(), h.GetSampleSum(), p.Steps, p.Wall)
		}
	}
	if got := sums["codec"]; math.Abs(got-p.Codec) > 1e-9 || p.Codec == 0 {
		t.Errorf("%v s of codec, the report says %v", got, p.Codec)
	}
	for _, o := range p.Ops {
		for what, v := range map[string]int64{"payload": o.Payload, "header": o.Header, "control": o.Control, "messages": o.Messages} {
			if got := sums[o.Op+" "+what]; got != float64(v) {
				t.Errorf("%v %s of %s, the report says %d", got, what, o.Op, v)
			}
		}
	}
	if len(p.Ops) == 0 || p.BytesSent == 0 {
		t.Fatal("nothing was sent")
	}
}

func TestEveryMetricIsExplained(t *testing.T) {
	c := newHand()
	m := ops.NewMeter("a \"quoted\"\\ name\nin two lines \xff", c, ops.Limits{})
	e := m.Events(train.Events{})
	m.Sit(ops.Seat{Generation: 2, Rank: 1, Workers: 4})
	e.Start(train.StartInfo{Step: 10, Steps: 100, Epochs: 5})
	c.pass(30 * time.Millisecond)
	e.Step(train.StepInfo{Step: 11, Epoch: 1, Samples: 64, Loss: 1.5, Rate: 0.1})
	e.Checkpoint(train.CheckpointInfo{Step: 11})
	c.pass(70 * time.Second)
	e.Step(train.StepInfo{Step: 12, Epoch: 1, Samples: 64, Loss: 1.25, Rate: 0.1})
	e.Checkpoint(train.CheckpointInfo{Step: 12, Err: errors.New("no space left on device")})
	all := page(t, m)
	ours := 0
	for name, f := range all {
		if !strings.HasPrefix(name, "covey_") {
			continue
		}
		ours++
		if help := f.GetHelp(); len(help) < 20 || !strings.HasSuffix(help, ".") {
			t.Errorf("%s has the help %q", name, help)
		}
		if counter := f.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %v", name, f.GetType())
		}
		for _, line := range f.Metric {
			has := map[string]string{}
			for _, l := range line.Label {
				has[l.GetName()] = l.GetValue()
			}
			if has["rank"] != "1" || has["run"] != "a \"quoted\"\\ name\nin two lines ?" {
				t.Errorf("%s has the labels %q", name, has)
			}
		}
	}
	if ours != 16 { // all but those of bytes and messages: nothing was sent
		t.Errorf("%d metrics of ours", ours)
	}
	if all["go_goroutines"] == nil {
		t.Error("nothing of the runtime")
	}
	if v := value(t, all, "covey_checkpoint_step"); v != 11 {
		t.Errorf("the last checkpoint is that of step %v", v)
	}
	if v := value(t, all, "covey_checkpoint_failures_total"); v != 1 {
		t.Errorf("%v checkpoints failed", v)
	}
	if v := value(t, all, "covey_own_samples_total"); v != 32 {
		t.Errorf("%v samples of its own", v)
	}
	h := all["covey_step_seconds"].Metric[0].Histogram
	for _, b := range h.Bucket {
		want := uint64(0)
		if b.GetUpperBound() >= 0.05 {
			want = 1
		}
		if math.IsInf(b.GetUpperBound(), 1) {
			want = 2
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("%d steps within %v s, expected %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
		}
	}
	if h.GetSampleCount() != 2 || h.GetSampleSum() != 70.03 {
		t.Errorf("%d steps, %v s", h.GetSampleCount(), h.GetSampleSum())
	}
}

func TestReady(t *testing.T) {
	c := newHand()
	m := ops.NewMeter("r", c, ops.Limits{Step: 30 * time.Second})
	e := m.Events(train.Events{})
	check := func(ok bool, says string) {
		t.Helper()
		is, why := m.Ready()
		if is != ok || !strings.Contains(why, says) {
			t.Errorf("ready: %v, %q; expected %v, %q", is, why, ok, says)
		}
	}
	check(false, "first generation")
	m.Sit(ops.Seat{Generation: 1, Rank: 2, Workers: 3})
	check(false, "generation 1 are meeting")
	e.Start(train.StartInfo{Step: 5, Steps: 100})
	check(true, "rank 2, step 5")
	c.pass(30 * time.Second)
	check(true, "step 5")
	c.pass(time.Nanosecond)
	check(false, "nothing was done for 30s since step 5; the deadline is 30s")
	e.Step(train.StepInfo{Step: 6})
	check(true, "step 6")
	c.pass(20 * time.Second)
	e.Epoch(train.EpochInfo{}) // a test goes on, too
	c.pass(20 * time.Second)
	e.Checkpoint(train.CheckpointInfo{Step: 6})
	c.pass(20 * time.Second)
	check(true, "step 6")
	m.Stand("rank 0 is gone: killed")
	check(false, "rank 0 is gone")
	m.Sit(ops.Seat{Generation: 2, Rank: 0, Workers: 2})
	e.Generation(train.GenerationInfo{StartInfo: train.StartInfo{Step: 6, Steps: 100}, Number: 2, Workers: 2, Why: "rank 0 was lost", Gone: []string{"a, process 7: killed"}})
	check(true, "generation 2, rank 0, step 6")
	if v := value(t, page(t, m), "covey_regroups_total", "rank", "0"); v != 1 {
		t.Errorf("%v regroups", v)
	}
	m.End("the run is over")
	check(false, "the run is over")

	late := ops.NewMeter("r", c, ops.Limits{}) // of a worker that comes when others train already
	late.Sit(ops.Seat{Generation: 2, Rank: 1, Workers: 2})
	late.Events(train.Events{}).Generation(train.GenerationInfo{StartInfo: train.StartInfo{Step: 6, Steps: 100}, Number: 2, Workers: 2})
	if ok, why := late.Ready(); !ok {
		t.Errorf("a worker that came later is not ready: %s", why)
	}
	if all := page(t, late); value(t, all, "covey_regroups_total") != 0 || value(t, all, "covey_step") != 6 {
		t.Errorf("%v", all)
	}
}

// What was sent before the first step, and after the last, is in the books that other events bring. None of it is counted
// twice, and the counters never go back.
func TestBooksOfEventsMeet(t *testing.T) {
	m := ops.NewMeter("r", newHand(), ops.Limits{})
	e := m.Events(train.Events{})
	books := func(n int64) (b comm.Books) {
		b[comm.OpAllReduce].Payload, b[comm.OpAllReduce].Messages = n, 1
		return b
	}
	check := func(want float64) {
		t.Helper()
		if v := value(t, page(t, m), "covey_bytes_total", "op", "all-reduce", "kind", "payload"); v != want {
			t.Errorf("%v bytes, expected %v", v, want)
		}
	}
	e.Start(train.StartInfo{Books: books(10)}) // 10 before the first step,
	check(10)
	e.Step(train.StepInfo{Step: 1, Books: books(110)}) // which the first step's books have, too
	check(110)
	e.Epoch(train.EpochInfo{Books: books(115)})
	check(115)
	e.Step(train.StepInfo{Step: 2, Books: books(105)})
	check(215)
}

// A meter is on the path of every step, for every worker, whether or not anybody looks.
func TestStepAllocatesNothing(t *testing.T) {
	m := ops.NewMeter("r", comm.RealClock(), ops.Limits{})
	where := &ops.Where{}
	m.Follow(where)
	heard := 0
	e := m.Events(train.Events{Step: func(train.StepInfo) { heard++ }})
	m.Sit(ops.Seat{Generation: 1, Workers: 2})
	e.Start(train.StartInfo{Steps: 1000})
	i := train.StepInfo{Samples: 32, Loss: 0.5, Times: strategy.Times{Compute: time.Millisecond}}
	if n := testing.AllocsPerRun(1000, func() {
		i.Step++
		e.Step(i)
	}); n != 0 {
		t.Errorf("%v objects a step", n)
	}
	if heard != 1001 {
		t.Errorf("%d of 1001 steps were passed on", heard)
	}
}
