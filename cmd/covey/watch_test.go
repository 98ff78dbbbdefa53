package main

import (
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

// TestProgressFits: what is written over and over stays on one line of the terminal, and the most telling of it is kept.
func TestProgressFits(t *testing.T) {
	step := train.StepInfo{Step: 107, Epoch: 1, Samples: 256, Loss: 0.3191, At: time.Second,
		Times: strategy.Times{Compute: 3, Wait: 1}}
	for columns, want := range map[int]string{
		120: "epoch 1  step 107/705  loss 0.3191  27,392 samples/s  5.6 s left  compute 75 %, waiting 25 %",
		80:  "epoch 1  step 107/705  loss 0.3191  27,392 samples/s  5.6 s left",
		50:  "epoch 1  step 107/705  loss 0.3191  5.6 s left",
		20:  "epoch 1  step 107/7",
		0:   "",
	} {
		var out strings.Builder
		w := &watcher{out: &out, terminal: true, columns: func() int { return columns }, steps: train.StartInfo{Steps: 705}}
		w.progress(step)
		if got := out.String(); got != "\r"+want {
			t.Errorf("%d columns: %q, want %q", columns, got, want)
		}
		w.end()
		if blank := "\r" + strings.Repeat(" ", len(want)) + "\r"; want != "" && !strings.HasSuffix(out.String(), blank) {
			t.Errorf("%d columns: %q does not clear the line", columns, out.String())
		}
	}
}

// What a resumed run did not get back as it was saved is told even to who wants it quiet.
func TestNotesAreTold(t *testing.T) {
	var out strings.Builder
	w := newWatcher(&out, true)
	w.take(event{Start: &train.StartInfo{Notes: []string{"strategy/draft: not in the checkpoint, begins anew"}}})
	if want := "strategy/draft: not in the checkpoint, begins anew\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// Speed and time left are those since the generation began, not of steps since then in the time of the whole run.
func TestSpeedAfterRegrouping(t *testing.T) {
	step := train.StepInfo{Step: 1890, Epoch: 9, Samples: 256, Loss: 0.0473, At: 52 * time.Second}
	began := train.StartInfo{Step: 1880, Steps: 2080, At: 51 * time.Second}
	for name, news := range map[string]event{
		"heard":     {Generation: &train.GenerationInfo{StartInfo: began, Number: 2}},
		"not heard": {Step: &train.StepInfo{Step: 1880}, Of: &began}, // its rank 0 is new, and that word of it was lost
	} {
		var out strings.Builder
		w := &watcher{out: &out, terminal: true, columns: func() int { return 120 }, began: true, steps: train.StartInfo{Steps: 2080}}
		w.take(news)
		w.take(event{Step: &step})
		if want := "epoch 9  step 1890/2080  loss 0.0473  2,560 samples/s  19.0 s left"; !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q, expected %q", name, out.String(), want)
		}
	}
}

// That the batch follows the workers is told when it changes, and when a run begins with another one than the job's.
func TestRescalingIsTold(t *testing.T) {
	job, more := &train.Pace{Batch: 256, Rate: 1, Workers: 4, Of: 4}, &train.Pace{Step: 1234, Batch: 384, Rate: 1.5, Workers: 6, Of: 4}
	const line = "from step 1235 on batch 384, rate x1.5: 6 workers in place of 4\n"
	for name, c := range map[string]struct {
		e    event
		want bool
	}{
		"begins":   {event{Start: &train.StartInfo{Pace: job}}, false},
		"resumed":  {event{Start: &train.StartInfo{Step: 2000, Pace: more}}, true},
		"changes":  {event{Generation: &train.GenerationInfo{StartInfo: train.StartInfo{Step: 1234, Pace: more}}}, true},
		"regroups": {event{Generation: &train.GenerationInfo{StartInfo: train.StartInfo{Step: 1234, Pace: job}}}, false},
		"no rule":  {event{Generation: &train.GenerationInfo{}}, false},
	} {
		var out strings.Builder
		newWatcher(&out, false).take(c.e)
		if got := strings.HasSuffix(out.String(), line); got != c.want || strings.Contains(out.String(), "rate x") != c.want {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}

// An epoch in which no round ended has no loss to show.
func TestEpochLine(t *testing.T) {
	for want, e := range map[string]train.EpochInfo{
		"epoch 2/3  loss 0.5000  1.0 s":    {Epoch: 2, Loss: 0.5, At: time.Second},
		"epoch 1/3  no round ended  1.0 s": {Epoch: 1, Quiet: true, At: time.Second},
	} {
		if got := epochLine(e, train.StartInfo{Epochs: 3}); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}
