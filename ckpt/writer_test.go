package ckpt

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// stored puts a file system of the test's own behind a URL.
func stored(t *testing.T, m *memfs) string {
	t.Helper()
	m.objects = true
	drivers["mem"] = func(*url.URL) (fsys, error) { return m, nil }
	where := "mem://bucket/" + "runs/a?test=" + url.QueryEscape(t.Name())
	t.Cleanup(func() {
		delete(drivers, "mem")
		opened.mu.Lock()
		defer opened.mu.Unlock()
		opened.all = nil
	})
	return where
}

// held is a Go that runs what it was given when the test says so.
type held struct{ waiting []func() }

func (h *held) Go(f func()) { h.waiting = append(h.waiting, f) }

func (h *held) run() {
	for _, f := range h.waiting {
		f()
	}
	h.waiting = nil
}

func TestWriterWritesACopy(t *testing.T) {
	for _, where := range []string{t.TempDir(), stored(t, newMemFS())} {
		var h held
		w, err := NewWriter(WriterConfig{Run: where, Keep: 2, Go: h.Go})
		if err != nil {
			t.Fatal(err)
		}
		x := []float32{1, 2, 3}
		c := sample(1, 1)
		c.Model = []Tensor{Float32s("0.bias", nil, x[:2]), Float32s("w", nil, x[2:])}
		var memory *byte
		for step := 1; step <= 4; step++ {
			c.Step = step
			x[0] = float32(step)
			if err := w.Save(context.Background(), c); err != nil {
				t.Fatal(err)
			}
			x[0] = -1 // training goes on
			if got := w.Done(); got != nil {
				t.Fatalf("before it was written: %+v", got)
			}
			if step > 1 && &w.copy[0] != memory {
				t.Error("a second copy was taken")
			}
			memory = &w.copy[0]
			h.run()
			if err := w.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			got := w.Done()
			if len(got) != 1 || got[0].Step != step || got[0].Path != StepDir(where, step) || got[0].Err != nil || got[0].Prune != nil || got[0].Sent == 0 {
				t.Fatalf("step %d: %+v", step, got)
			}
			if want := max(0, step-2); want > 0 != (len(got[0].Removed) == 1) || want > 0 && got[0].Removed[0] != StepDir(where, want) {
				t.Errorf("step %d: removed %v", step, got[0].Removed)
			}
			path, passed, err := Latest(where)
			if err != nil || len(passed) > 0 || path != StepDir(where, step) {
				t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
			}
			if back, err := Load(path); err != nil || mark(back) != float32(step) {
				t.Fatalf("step %d: loaded %v, %v", step, mark(back), err)
			}
		}
		if all, err := List(where); err != nil || len(all) != 2 || all[1].Path != StepDir(where, 4) {
			t.Errorf("left %v, %v", all, err)
		}
		if err := w.Close(context.Background()); err != nil || w.copy != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// TestWriterWaits: one checkpoint is under way at most, and who will not wait is told so.
func TestWriterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemFS()
		gate := make(chan struct{})
		w, err := NewWriter(WriterConfig{Run: stored(t, m), Go: func(f func()) { go func() { <-gate; f() }() }})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Save(context.Background(), sample(1, 1)); err != nil {
			t.Fatal(err)
		}
		why := errors.New("the run is over")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		if err := w.Save(ctx, sample(2, 2)); !errors.Is(err, why) || !strings.Contains(err.Error(), "step-2") {
			t.Errorf("a Save that may not wait: %v", err)
		}
		if err := w.Close(ctx); !errors.Is(err, why) || w.copy == nil {
			t.Errorf("a Close that may not wait: %v, and must leave the copy alone", err)
		}
		second := make(chan error)
		go func() { second <- w.Save(context.Background(), sample(2, 2)) }()
		synctest.Wait()
		select {
		case err := <-second:
			t.Fatalf("the second Save did not wait: %v", err)
		default:
		}
		gate <- struct{}{}
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		gate <- struct{}{}
		if err := w.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		got := w.Done()
		if len(got) != 2 || got[0].Step != 1 || got[1].Step != 2 || w.Done() != nil {
			t.Errorf("done: %+v", got)
		}
	})
}

func TestWriterFails(t *testing.T) {
	m := newMemFS()
	where := stored(t, m)
	w, err := NewWriter(WriterConfig{Run: where, Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := w.Save(ctx, sample(1, 1)); err != nil {
		t.Fatal(err)
	}
	m.failAt, m.dead, m.ops = 3, true, 0
	if err := w.Save(ctx, sample(2, 2)); err != nil {
		t.Fatal(err)
	}
	m.heal()
	got := w.Done()
	if len(got) != 2 || got[0].Err != nil || got[1].Step != 2 || !errors.Is(got[1].Err, errFault) ||
		!strings.Contains(got[1].Err.Error(), "step-2") || !strings.Contains(got[1].Err.Error(), "mem://bucket") {
		t.Fatalf("done: %+v", got)
	}
	if err := w.Flush(ctx); !errors.Is(err, errFault) {
		t.Errorf("Flush: %v", err)
	}
	if path, passed, err := Latest(where); err != nil || len(passed) != 0 || path != StepDir(where, 1) {
		t.Errorf("Latest gave %s, %v, %v", path, passed, err)
	}
	if err := w.Save(ctx, sample(3, 3)); err != nil {
		t.Fatal(err)
	}
	if got := w.Done(); len(got) != 1 || got[0].Err != nil || !slices.Equal(got[0].Removed, []string{StepDir(where, 1)}) {
		t.Errorf("done: %+v", got)
	}
	if err := w.Flush(ctx); err != nil {
		t.Errorf("Flush after a good one: %v", err)
	}
	if err := w.Save(ctx, sample(-4, 1)); err == nil || !strings.Contains(err.Error(), "step is -4") {
		t.Errorf("a checkpoint that is none: %v", err)
	}
	if _, err := NewWriter(WriterConfig{Run: where, Keep: -1}); err == nil {
		t.Error("keep -1 was taken")
	}
}

func TestPlaces(t *testing.T) {
	stored(t, newMemFS())
	for _, c := range []struct{ where, want string }{
		{"s4://bucket/a", "s3"},
		{"mem:///a", "no bucket"},
		{"mem://me:secret@bucket/a", "credentials"},
		{"mem://bucket/a#b", "#b"},
		{"mem://bucket:x/a", "invalid port"},
	} {
		err := CheckPlace(c.where)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want an error with %q", c.where, err, c.want)
		}
	}
	for _, where := range []string{"runs/a", `C:\runs`, "mem://bucket", "mem://bucket/a/b?x=1", "./x://y"} {
		if err := CheckPlace(where); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	if got, want := StepDir("mem://bucket/a%20b/?x=1", 7), "mem://bucket/a%20b/checkpoints/step-7?x=1"; got != want {
		t.Errorf("a step's folder is %s, want %s", got, want)
	}
}

// Who is fenced off changes nothing, whatever it was about to do: neither a checkpoint that it had begun, nor one of the same step that
// another process is writing, nor old ones that it would have removed.
func TestWriterFence(t *testing.T) {
	closed := errors.New("somebody else writes here")
	for name, where := range map[string]string{"disk": t.TempDir(), "objects": stored(t, newMemFS())} {
		for after := 0; ; after++ { // looks at the fence that go well
			run := within(where, strconv.Itoa(after))
			looks := 0
			w, err := NewWriter(WriterConfig{Run: run, Keep: 1, Fence: func() error {
				if looks++; looks > after {
					return closed
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := Save(StepDir(run, 1), sample(1, 1)); err != nil {
				t.Fatal(err)
			}
			if err := w.Save(context.Background(), sample(1, 2)); err != nil {
				t.Fatal(err)
			}
			got := w.Done()[0]
			path, passed, err := Latest(run)
			if err != nil || len(passed) > 0 {
				t.Fatalf("%s, %d looks: %v, %v", name, after, passed, err)
			}
			back, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.Err == nil {
				if mark(back) != 2 || after < 5 {
					t.Errorf("%s, %d looks: saved, and the checkpoint has the mark %v", name, after, mark(back))
				}
				if got.Prune == nil {
					break
				}
				continue
			}
			if !errors.Is(got.Err, closed) || strings.Count(got.Err.Error(), closed.Error()) != 1 || !strings.Contains(got.Err.Error(), "step-1") || mark(back) != 1 {
				t.Errorf("%s, %d looks: %v; the checkpoint has the mark %v", name, after, got.Err, mark(back))
			}
		}
	}
}

// So it is among workers that write together: who began a draft and was overtaken neither commits nor abandons what took its place, and
// another worker's part of it does not go in there.
func TestWriterFenceTogether(t *testing.T) {
	ctx := context.Background()
	run := t.TempDir()
	closed := errors.New("somebody else writes here")
	var taken error
	old, err := NewWriter(WriterConfig{Run: run, Keep: 1, Fence: func() error { return taken }})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewWriter(WriterConfig{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	late, err := old.Begin(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	taken = closed
	now, err := Begin(StepDir(run, 1))
	if err != nil {
		t.Fatal(err)
	}
	c := sample(1, 1)
	var all []Written
	for i := range 2 {
		w, err := now.Write(Divide(c.Model, c.State, i, 2))
		if err != nil {
			t.Fatal(err)
		}
		w.Index = i
		all = append(all, w)
	}
	stale := sample(1, 2)
	if err := other.SavePart(ctx, late, Divide(stale.Model, stale.State, 1, 2), nil); err != nil {
		t.Fatal(err)
	}
	if got := other.Done()[0]; got.Err == nil || !strings.Contains(got.Err.Error(), "another worker's") {
		t.Errorf("a part of a draft that is gone: %v", got.Err)
	}
	if err := old.SavePart(ctx, late, Divide(stale.Model, stale.State, 0, 2), &stale.Manifest); err != nil {
		t.Fatal(err)
	}
	if got := old.Done()[0]; !errors.Is(got.Err, closed) || got.Removed != nil {
		t.Errorf("who was overtaken: %+v", got)
	}
	if _, err := old.Begin(ctx, 2); !errors.Is(err, closed) {
		t.Errorf("who was overtaken begins another: %v", err)
	}
	if err := now.Commit(c.Manifest, all...); err != nil {
		t.Fatal(err)
	}
	if back, err := Load(now.Dir); err != nil || mark(back) != 1 {
		t.Errorf("loaded %v, %v", mark(back), err)
	}
}
