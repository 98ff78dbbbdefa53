package ckpt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestDivide: the parts are all there is, the model's tensors whole, and no part is larger than the mean but for what it has of the
// model.
func TestDivide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := func(kind string) (ts []Tensor) {
			for i, n := range rapid.SliceOfN(rapid.IntRange(0, 200), 0, 8).Draw(t, kind) {
				x := make([]float32, n)
				for j := range x {
					x[j] = float32(1000*i + j)
				}
				ts = append(ts, Float32s(fmt.Sprint(kind, i), nil, x))
			}
			return ts
		}
		model, state := tensors("model"), tensors("state")
		k := rapid.IntRange(1, 9).Draw(t, "parts")
		mean := (size(model) + size(state) + k - 1) / k
		var gotModel, gotState []Tensor
		for i := range k {
			p := Divide(model, state, i, k)
			if p.Index != i || p.Of != k {
				t.Fatalf("part %d of %d, want %d of %d", p.Index, p.Of, i, k)
			}
			if m, s := size(p.Model), size(p.State); m+s > max(m, mean)+8 { // of elements that are not cut
				t.Errorf("part %d of %d has %d and %d bytes, the mean is %d", i, k, m, s, mean)
			}
			gotModel = append(gotModel, p.Model...)
			gotState = append(gotState, p.State...)
		}
		joined, err := Join(gotState)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ got, want []Tensor }{{gotModel, model}, {joined, state}} {
			if !slices.EqualFunc(c.got, c.want, func(a, b Tensor) bool {
				return a.Name == b.Name && slices.Equal(a.Shape, b.Shape) && slices.Equal(a.Data, b.Data) && a.Piece == nil
			}) {
				t.Fatalf("got %v, want %v", c.got, c.want)
			}
		}
	})
}

// partsOf writes c by so many Writers, the first last, unless some are left out or bring something else.
func partsOf(run string, c Checkpoint, of int, edit func(i int, p *Part) (skip bool)) (Saved, error) {
	ctx := context.Background()
	var first *Writer
	var d Draft
	for i := range of {
		w, err := NewWriter(WriterConfig{Run: run, Keep: 2})
		if err != nil {
			return Saved{}, err
		}
		if i == 0 {
			if d, err = w.Begin(ctx, c.Step); err != nil {
				return Saved{}, err
			}
			first = w
			continue
		}
		told, err := json.Marshal(d)
		if err != nil {
			return Saved{}, err
		}
		var heard Draft
		if err := json.Unmarshal(told, &heard); err != nil {
			return Saved{}, err
		}
		p := Divide(c.Model, c.State, i, of)
		if edit != nil && edit(i, &p) {
			continue
		}
		if err := errors.Join(heard.Reach(i), w.SavePart(ctx, heard, p, nil)); err != nil {
			return Saved{}, err
		}
	}
	m := c.Manifest
	if err := first.SavePart(ctx, d, Divide(c.Model, c.State, 0, of), &m); err != nil {
		return Saved{}, err
	}
	return first.Done()[0], nil
}

// TestWritersTogether: what several Writers saved is one checkpoint, which says what other tools want to know; older ones make
// room.
func TestWritersTogether(t *testing.T) {
	small(t)
	for _, run := range []string{t.TempDir(), stored(t, newMemFS())} {
		want := large()
		for n, of := range []int{2, 3, 8} {
			want.Step = n
			s, err := partsOf(run, want, of, nil)
			if err != nil || s.Err != nil || s.Prune != nil || s.Step != n || s.Path != StepDir(run, n) {
				t.Fatalf("%d: %+v, %v", of, s, err)
			}
			got, err := Load(s.Path)
			if err != nil || !reflect.DeepEqual(got.Model, want.Model) || !reflect.DeepEqual(byName(got.State), byName(want.State)) {
				t.Errorf("%d: %v, loaded %v", of, err, got)
			}
			if got.WeightsSHA256 != WeightsHash(want.Model) || got.Files[IndexFile].Size == 0 || len(got.Files) < 2*of+1 {
				t.Errorf("%d: weights %s, files %v", of, got.WeightsSHA256, got.Files)
			}
		}
		all, err := List(run)
		if err != nil || len(all) != 2 || all[0].Step != 1 {
			t.Errorf("left %v, %v", all, err)
		}
		err = on(run, func(p place) error {
			names, err := p.fs.List(filepath.Join(p.name, folderName, "step-2"))
			for _, name := range names {
				if _, ok := parseFile(name); !ok && name != ManifestFile && name != IndexFile {
					t.Errorf("%s was left", name)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestPartThatFails: a checkpoint that lacks a part is none, and says whose is missing and why.
func TestPartThatFails(t *testing.T) {
	for _, run := range []string{t.TempDir(), stored(t, newMemFS())} {
		c := large()
		c.Step = 1
		if s, err := partsOf(run, c, 3, nil); err != nil || s.Err != nil {
			t.Fatal(s, err)
		}
		for name, x := range map[string]struct {
			edit func(i int, p *Part) bool
			want string
		}{
			"gone":     {func(i int, p *Part) bool { return i == 1 }, "no news of the part of worker 1"},
			"failed":   {func(i int, p *Part) bool { p.State = append(p.State, c.State[0], c.State[0]); return false }, "worker 1: saving checkpoint"},
			"of other": {func(i int, p *Part) bool { p.Of = 3 + i; return false }, "is not one of"},
		} {
			c.Step = 2
			s, err := partsOf(run, c, 3, x.edit)
			if err != nil || s.Err == nil || !strings.Contains(s.Err.Error(), x.want) || s.Step != 2 {
				t.Errorf("%s: %v, %v: want an error with %q", name, s.Err, err, x.want)
			}
			if path, passed, err := Latest(run); err != nil || len(passed) > 0 || path != StepDir(run, 1) {
				t.Errorf("%s: Latest gave %s, %v, %v", name, path, passed, err)
			}
		}
		if s, err := partsOf(run, c, 3, nil); err != nil || s.Err != nil {
			t.Errorf("after those that failed: %v, %v", s.Err, err)
		}
	}
}

// TestKillAmongParts is TestKillAtEveryObject, and the same on a disk, for a checkpoint of two writers.
func TestKillAmongParts(t *testing.T) {
	for _, objects := range []bool{true, false} {
		for k := 1; ; k++ {
			m := newMemFS()
			run := stored(t, m)
			m.objects = objects
			if !objects {
				run = "mem://bucket/runs/a?test=disk" // a file system of folders behind a URL does as well
				err := m.MkdirAll("runs/a/checkpoints")
				for _, dir := range []string{"runs/a", "runs", "."} {
					err = errors.Join(err, m.SyncDir(dir))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			forgetStores()
			c := large()
			c.Step = 1
			if s, err := partsOf(run, c, 2, nil); err != nil || s.Err != nil {
				t.Fatal(s.Err, err)
			}
			m.heal()
			m.failAt, m.dead = k, true
			c.Step = 2
			s, err := partsOf(run, c, 2, nil)
			if !m.fired {
				if err != nil || s.Err != nil || k < 20 {
					t.Fatalf("after %d operations: %v, %v", k, s.Err, err)
				}
				break
			}
			where := fmt.Sprintf("objects %v, %v", objects, m)
			m.powerOff()
			m.heal()
			path, passed, bad := Latest(run)
			if bad != nil || len(passed) > 0 {
				t.Fatalf("%s: Latest says %v, passed over %v", where, bad, passed)
			}
			if got, bad := Load(path); bad != nil || err == nil && s.Err == nil && got.Step != 2 {
				t.Fatalf("%s: saved: %v, %v; loaded step %d, %v", where, s.Err, err, got.Step, bad)
			}
			if s, err := partsOf(run, c, 2, nil); err != nil || s.Err != nil {
				t.Fatalf("%s: the next: %v, %v", where, s.Err, err)
			}
		}
	}
}

// forgetStores makes this process as one that has opened no store.
func forgetStores() {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	opened.all = nil
}

// TestWaitsForOthers: who began waits, and no longer than others may still come.
func TestWaitsForOthers(t *testing.T) {
	for _, ending := range []string{"comes", "alone", "never"} {
		synctest.Test(t, func(t *testing.T) {
			run := t.TempDir()
			ctx := context.Background()
			sleep := func(ctx context.Context, d time.Duration) error {
				select {
				case <-time.After(d):
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			w, err := NewWriter(WriterConfig{Run: run, Go: func(f func()) { go f() }, Sleep: sleep})
			if err != nil {
				t.Fatal(err)
			}
			c := sample(1, 1)
			begun := time.Now()
			d, err := w.Begin(ctx, 1)
			if err == nil {
				err = w.SavePart(ctx, d, Divide(c.Model, c.State, 0, 2), &c.Manifest)
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := w.Done(); got != nil {
				t.Fatalf("%s: it did not wait: %+v", ending, got)
			}
			switch ending {
			case "comes":
				other, err := NewWriter(WriterConfig{})
				if err == nil {
					err = other.SavePart(ctx, d, Divide(c.Model, c.State, 1, 2), nil)
				}
				if err != nil {
					t.Fatal(err)
				}
			case "alone":
				w.Alone()
			}
			err = w.Close(ctx)
			took := time.Since(begun)
			if (err == nil) != (ending == "comes") || err != nil && !strings.Contains(err.Error(), "no news of the part of worker 1") {
				t.Errorf("%s: %v", ending, err)
			}
			if limit := map[string]time.Duration{"comes": time.Minute + time.Second, "alone": time.Minute, "never": othersGrace + 2*time.Second}[ending]; took > limit {
				t.Errorf("%s: it took %v", ending, took)
			}
			if _, err := os.Stat(filepath.Join(StepDir(run, 1), ManifestFile)); (err == nil) != (ending == "comes") {
				t.Errorf("%s: the manifest: %v", ending, err)
			}
		})
	}
}

// TestReach: a folder of the same name that is another one is not taken for it.
func TestReach(t *testing.T) {
	run := t.TempDir()
	d, err := Begin(StepDir(run, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reach(1); err != nil {
		t.Error(err)
	}
	other := d
	other.ID = "another"
	if err := other.Reach(1); err == nil || !strings.Contains(err.Error(), "another worker's") {
		t.Errorf("another draft: %v", err)
	}
	if err := d.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := d.Reach(1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no draft: %v", err)
	}
}

// FuzzNote: a note is read back as it was left, or refused.
func FuzzNote(f *testing.F) {
	f.Add([]byte(`{"index":1,"files":{"model-00002-of-00002.safetensors":{"size":3,"sha256":"00"}},"model":["w"],"sent":3,"kept":0}`))
	f.Add([]byte(`{"index":1,"files":null,"sent":0,"kept":0,"error":"disk full"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNote(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeNote(again); err != nil || !reflect.DeepEqual(back, n) && len(n.Files)+len(n.Model) > 0 {
			t.Errorf("%+v was read as %+v, %v", n, back, err)
		}
	})
}
