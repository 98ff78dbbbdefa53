package train_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/train"
)

// The metrics of a run that was stopped and resumed hold each step once, in order, as StepLine and EpochLine read them.
func TestMetricsOfAResumedRun(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir = t.TempDir()
	c.Resume = stoppedAt(t, c, 2, 7)
	path := filepath.Join(c.Dir, train.MetricsFile)
	// The process died later, in the middle of a line.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"step":8,"epoch":2,"loss":1}` + "\n" + `{"step":9,"ep`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := train.Local(t.Context(), 3, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	if f, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	steps, epochs := 0, 0
	for in := bufio.NewScanner(f); in.Scan(); {
		var e train.EpochLine
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, in.Text())
		}
		if e.Epoch > 0 {
			if epochs++; e.Epoch != epochs || e.Step != 5*epochs || e.Accuracy == nil || e.Samples == "" {
				t.Errorf("epoch line %s", in.Text())
			}
			continue
		}
		var s train.StepLine
		if err := json.Unmarshal(in.Bytes(), &s); err != nil {
			t.Fatalf("%v in %s", err, in.Text())
		}
		if steps++; s.Step != steps || s.Epoch != (s.Step+4)/5 || s.Loss <= 0 || s.Rate != 0.001 || s.Compute <= 0 || s.Sent != s.Expected || s.Sent == 0 {
			t.Errorf("step line %s", in.Text())
		}
	}
	if steps != r.Steps || epochs != 2 {
		t.Errorf("%d step lines and %d epoch lines of %d steps", steps, epochs, r.Steps)
	}
}

// A checkpoint that cannot be written, or that all cannot begin to write, is told, the run goes on, and the report has the reason.
func TestSaveFailureDoesNotEndTheRun(t *testing.T) {
	for _, together := range []int{0, 1} {
		c := config(t, "mlp:16")
		c.Dir, c.SaveTogether = t.TempDir(), together
		if err := os.WriteFile(filepath.Join(c.Dir, "checkpoints"), []byte("in the way"), 0o666); err != nil {
			t.Fatal(err)
		}
		told := 0
		c.Events.Checkpoint = func(i train.CheckpointInfo) {
			if i.Err != nil {
				told++
			}
		}
		r, err := train.Local(t.Context(), 2, timeout, c)
		if err != nil || told != 2 || r.SaveError == "" || r.Steps != 10 {
			t.Errorf("together from %d bytes on: told %d times; %+v, %v", together, told, r, err)
		}
	}
}

// Checkpoints come when they are due, and only as many as asked for are kept.
func TestCheckpointsKept(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir, c.SaveEvery, c.Keep = t.TempDir(), 3, 2
	if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
		t.Fatal(err)
	}
	all, err := ckpt.List(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var steps []int
	for _, e := range all {
		steps = append(steps, e.Step)
	}
	if len(steps) != 2 || steps[0] != 9 || steps[1] != 10 {
		t.Errorf("checkpoints of steps %v, expected 9 and the last, 10", steps)
	}
}

// Checkpoints may go to another place than the rest of the run's folder, from where the run goes on.
func TestCheckpointsElsewhere(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir, c.Checkpoints, c.SaveEvery = t.TempDir(), t.TempDir(), 4
	var told []int
	c.Events.Checkpoint = func(i train.CheckpointInfo) {
		if i.Err != nil || i.Path != ckpt.StepDir(c.Checkpoints, i.Step) {
			t.Errorf("told %+v", i)
		}
		told = append(told, i.Step)
	}
	calm, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []int{4, 8, 10}) {
		t.Errorf("told of the checkpoints of steps %v", told)
	}
	if all, err := ckpt.List(c.Dir); err != nil || len(all) != 0 {
		t.Errorf("in the run folder are %v, %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, train.MetricsFile)); err != nil {
		t.Error(err)
	}
	told = nil
	c.Resume = ckpt.StepDir(c.Checkpoints, 8)
	r, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil || r.Weights != calm.Weights || r.First != 8 {
		t.Errorf("resumed: %+v, %v", r, err)
	}

	c.Checkpoints = "s4://bucket/run"
	var bad *train.ConfigError
	if _, err := train.Local(t.Context(), 2, timeout, c); !errors.As(err, &bad) || bad.Key != "checkpoints" || !strings.Contains(err.Error(), "s3") {
		t.Errorf("a store that there is not: %v", err)
	}
}

// folderOf is what the files of a run folder hold, by name.
func folderOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A run that stood still while another took over its folder writes nothing there any more, says so, and ends.
func TestOvertakenRun(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir, c.SaveEvery = t.TempDir(), 2
	late := c
	var told []error
	late.Events.Checkpoint = func(i train.CheckpointInfo) {
		if i.Err != nil { // of step 2, if that was not done in time, or of step 4
			told = append(told, i.Err)
		}
	}
	var left map[string]string
	late.Events.Step = func(i train.StepInfo) {
		if i.Step != 3 {
			return
		}
		if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
			t.Error(err)
		}
		left = folderOf(t, c.Dir)
	}
	_, err := train.Local(t.Context(), 2, timeout, late)
	if !errors.Is(err, train.ErrOvertaken) || !strings.Contains(err.Error(), c.Dir) {
		t.Errorf("it ended with %v", err)
	}
	if len(told) == 0 || slices.ContainsFunc(told, func(err error) bool { return !errors.Is(err, train.ErrOvertaken) }) {
		t.Errorf("told of its checkpoints: %v", told)
	}
	if now := folderOf(t, c.Dir); !maps.Equal(now, left) {
		t.Errorf("the folder had %v, and has %v", slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(now)))
	}
	if n := strings.Count(left[filepath.Join(c.Dir, train.MetricsFile)], "\n"); n != 12 {
		t.Errorf("%d lines of metrics, of 10 steps and 2 epochs", n)
	}
}
