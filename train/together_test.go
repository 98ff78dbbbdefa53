package train_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/train"
)

// Of every method and compressor, what all workers write together is what rank 0 alone would have written.
func TestEveryStateIsWrittenTogether(t *testing.T) {
	for _, m := range everyMethod {
		for _, n := range []int{3, mostWorkers + 1} { // the last of nine has no microshard
			name := fmt.Sprintf("%s %s %s, %d workers", m.method, m.optimizer, m.compress, n)
			c := withMethod(t, m)
			alone := stateSaved(t, n, c)
			c.SaveTogether = 1
			together := stateSaved(t, n, c)
			if len(alone.Files) != 2 || len(together.Files) != 2*n+1 || together.World != n {
				t.Errorf("%s: %d files by one and %d by all", name, len(alone.Files), len(together.Files))
			}
			if err := sameState(alone.Checkpoint, together.Checkpoint, true); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, x := range alone.State { // sameState leaves these out
				if strings.HasPrefix(x.Name, "samples/") {
					y := ckpt.Under(x.Name, together.State)
					if len(y) != 1 || string(y[0].Data) != string(x.Data) {
						t.Errorf("%s: %s differ", name, x.Name)
					}
				}
			}
			if len(together.State) != len(alone.State) || fmt.Sprint(together.Extra) != fmt.Sprint(alone.Extra) {
				t.Errorf("%s: %d tensors, want %d; extra %s, want %s", name, len(together.State), len(alone.State), together.Extra, alone.Extra)
			}
		}
	}
}

// Servers have a part of the parameters each: then rank 0 writes.
func TestServedRunIsWrittenByRank0(t *testing.T) {
	for _, mode := range []string{"bsp", "async"} {
		c := config(t, "mlp:24")
		c.Optimizer, c.Steps = "adam", 3
		c, p := served(t, c, "ps:servers=2,mode="+mode)
		alone := stateSaved(t, 1+p.Servers, c)
		c.SaveTogether = 1
		together := stateSaved(t, 1+p.Servers, c)
		if err := sameState(alone.Checkpoint, together.Checkpoint, true); err != nil || len(together.Files) != 2 {
			t.Errorf("%s: %v, %d files", mode, err, len(together.Files))
		}
	}
}

// A run whose workers save together goes on with others to the weights of one that was never stopped, while it saves after each step.
func TestSaveTogether(t *testing.T) {
	c := config(t, "mlp:16")
	calm, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir, c.SaveTogether, c.SaveEvery = t.TempDir(), 4*c.Model.Layout().Len(), 1
	saved := 0
	c.Events.Checkpoint = func(i train.CheckpointInfo) {
		if saved++; i.Err != nil || i.Step != saved || i.Path != ckpt.StepDir(c.Dir, i.Step) {
			t.Errorf("told %+v", i)
		}
	}
	c.Stop = func() bool { return saved >= 5 }
	if _, err := train.Local(t.Context(), 3, timeout, c); !errors.Is(err, train.ErrStopped) {
		t.Fatal(err)
	}
	c.Stop = nil
	all, err := ckpt.List(c.Dir)
	if err != nil || len(all) != 3 {
		t.Fatalf("left %v, %v", all, err)
	}
	for _, e := range all {
		if m, err := ckpt.Verify(e.Path); err != nil || m.World != 3 || len(m.Files) != 7 {
			t.Errorf("%s: %+v, %v", e.Path, m, err)
		}
	}
	saved = all[1].Step
	c.Resume = all[1].Path
	r, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil || r.Weights != calm.Weights || r.First != all[1].Step || r.SaveError != "" {
		t.Errorf("resumed: %+v, %v, want the weights %s", r, err, calm.Weights)
	}

	// One byte less than it takes.
	c.SaveTogether++
	c.Dir, c.Resume, saved = t.TempDir(), "", 0
	if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
		t.Fatal(err)
	}
	if m, err := ckpt.Verify(ckpt.StepDir(c.Dir, 10)); err != nil || len(m.Files) != 2 {
		t.Errorf("a small model: %v, %v", m.Files, err)
	}
}

// A place that takes longer than workers wait for each other loses none of them, and no checkpoint: whoever writes, others hear
// that it goes on.
func TestSlowPlace(t *testing.T) {
	for together := range 2 {
		c := config(t, "mlp:16")
		c.SaveEvery, c.SaveTogether = 2, together
		dir := t.TempDir()
		w := worldFor(t, "10gigabit", 3, nil)
		var told []int
		reports, errs := make([]*train.Report, 3), make([]error, 3)
		err := w.Run(t.Context(), func(g comm.Group) {
			c, rank := c, g.Rank()
			if rank == 0 {
				c.Dir = dir
				c.Events.Checkpoint = func(i train.CheckpointInfo) {
					if told = append(told, i.Step); i.Err != nil {
						t.Error(i.Err)
					}
				}
			}
			reports[rank], errs[rank] = train.Run(t.Context(), sluggish{g}, c)
			g.Close()
		})
		if err = errors.Join(err, errors.Join(errs...)); err != nil {
			t.Fatalf("together %d: %v", together, err)
		}
		if !slices.Equal(told, []int{2, 4, 6, 8, 10}) || reports[0].SaveError != "" || reports[0].Wall < 5*3*timeout.Seconds() {
			t.Errorf("together %d: told of %v; %+v", together, told, reports[0])
		}
	}
}

// sluggish is a group beside whose workers checkpoints are written slowly.
type sluggish struct{ comm.Group }

func (s sluggish) Clock() comm.Clock { return sluggishClock{s.Group.Clock()} }

type sluggishClock struct{ comm.Clock }

func (c sluggishClock) Go(f func()) {
	var callers [8]uintptr
	for frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers[:])]); ; {
		frame, more := frames.Next()
		if strings.Contains(frame.Function, "/ckpt.") {
			c.Clock.Go(func() {
				if c.Sleep(context.Background(), 3*timeout) == nil {
					f()
				}
			})
			return
		}
		if !more {
			c.Clock.Go(f)
			return
		}
	}
}
