package ckpt

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKillAtEveryObject is TestKillAtEveryOperation in an object store, where nothing is renamed.
func TestKillAtEveryObject(t *testing.T) {
	for _, over := range []bool{true, false} {
		for _, dead := range []bool{true, false} {
			for k := 1; ; k++ {
				m := newMemFS()
				m.objects = true
				before := "run/checkpoints/step-1"
				after := "run/checkpoints/step-2"
				if over {
					after = before
				}
				if err := save(m, before, sample(1, 1)); err != nil {
					t.Fatal(err)
				}
				m.heal()
				m.failAt, m.dead = k, dead
				saveErr := save(m, after, sample(1, 2))
				if !m.fired {
					if saveErr != nil {
						t.Fatalf("no fault struck and Save says %v", saveErr)
					}
					if k < 15 {
						t.Fatalf("only %d operations: the test sees too little", k)
					}
					break
				}
				where := fmt.Sprintf("over %v, %v", over, m)
				m.powerOff() // what an object store has, it keeps
				m.heal()
				path, passed, err := latest(m, "run")
				if err != nil || len(passed) > 0 {
					t.Fatalf("%s: Latest says %v, passed over %v", where, err, passed)
				}
				c, err := load(m, path)
				if err != nil || saveErr == nil && mark(c) != 2 {
					t.Fatalf("%s: Save said %v, Load gives %v, %v", where, saveErr, mark(c), err)
				}
				if c, err := load(m, before); err != nil || !over && mark(c) != 1 {
					t.Fatalf("%s: the checkpoint before: %v", where, err)
				}
				if err := save(m, after, sample(1, 3)); err != nil {
					t.Fatalf("%s: the next Save: %v", where, err)
				}
				if c, err := load(m, after); err != nil || mark(c) != 3 {
					t.Fatalf("%s: after the next Save: %v", where, err)
				}
				left, err := list(m, "run/checkpoints")
				if want := map[bool]int{true: 1, false: 2}[over]; err != nil || len(left) != want {
					t.Fatalf("%s: the next Save left %v", where, left)
				}
			}
		}
	}
}

func TestPruneKilledAmongObjects(t *testing.T) {
	for k := 1; ; k++ {
		m := newMemFS()
		m.objects = true
		for step := 1; step <= 3; step++ {
			if err := save(m, StepDir("run", step), sample(step, float32(step))); err != nil {
				t.Fatal(err)
			}
		}
		m.heal()
		m.failAt, m.dead = k, true
		_, err := prune(m, "run", 1)
		if !m.fired {
			if err != nil || k < 8 {
				t.Fatalf("after %d operations: %v", k, err)
			}
			return
		}
		if err == nil {
			t.Fatalf("%v: no error", m)
		}
		m.heal()
		all, err := list(m, "run/checkpoints")
		if err != nil || len(all) == 0 || all[len(all)-1].Step != 3 {
			t.Fatalf("killed at %d: left %v, %v", k, all, err)
		}
		for _, e := range all {
			if c, err := load(m, e.Path); err != nil || mark(c) != float32(e.Step) {
				t.Fatalf("killed at %d: %v", k, err)
			}
		}
		if _, err := prune(m, "run", 1); err != nil {
			t.Fatal(err)
		}
		if left, err := m.List("run/checkpoints"); err != nil || !slices.Equal(left, []string{"step-3"}) {
			t.Fatalf("killed at %d: the next Prune left %v, %v", k, left, err)
		}
	}
}

// TestWhatIsStoredIsReadBack: a store that takes a file and keeps another one is found out before the checkpoint counts.
func TestWhatIsStoredIsReadBack(t *testing.T) {
	for _, objects := range []bool{false, true} {
		for lie := 1; ; lie++ {
			m := newMemFS()
			m.objects = objects
			if err := save(m, "run/checkpoints/step-1", sample(1, 1)); err != nil {
				t.Fatal(err)
			}
			m.lieAt = lie
			err := save(m, "run/checkpoints/step-2", sample(2, 2))
			if !m.fired {
				if err != nil || lie != 4 {
					t.Fatalf("%d files were stored, expected 3; %v", lie-1, err)
				}
				break
			}
			if err == nil || !strings.Contains(err.Error(), "read back after writing") || !strings.Contains(err.Error(), "SHA-256 is ") {
				t.Errorf("objects %v, file %d: %v", objects, lie, err)
			}
			// A manifest that is not what was written is not there for anyone.
			if path, passed, err := latest(m, "run"); err != nil || len(passed) > 0 || path != "run/checkpoints/step-1" {
				t.Errorf("objects %v, file %d: Latest gave %s, %v, %v", objects, lie, path, passed, err)
			}
		}
	}
}

// small makes files worth taking over that are small.
func small(t *testing.T) {
	was := ownFile
	ownFile = 16
	t.Cleanup(func() { ownFile = was })
}

func TestUnchangedFilesAreTakenOver(t *testing.T) {
	small(t)
	table := Float32s("table", nil, []float32{1, 2, 3, 4, 5, 6, 7, 8})
	for _, mode := range []string{"disk", "no links", "objects", "damaged"} {
		m := newMemFS()
		m.objects, m.noLinks = mode == "objects", mode == "no links"
		at := func(step int) Checkpoint {
			c := sample(step, float32(step)) // of another model and position
			c.State = append(c.State, table)
			return c
		}
		one, two, three := "run/checkpoints/step-1", "run/checkpoints/step-2", "run/checkpoints/step-3"
		first, err := saveCounted(m, one, at(1))
		if err != nil || first.Kept != 0 || m.links != 0 {
			t.Fatalf("%s: the first: %+v, %v", mode, first, err)
		}
		if mode == "damaged" {
			_, _, n := m.find(one + "/state.001.safetensors")
			n.data[len(n.data)-1] ^= 1
		}
		second, err := saveCounted(m, two, at(2))
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		own := second.Files["state.001.safetensors"].Size
		if taken := mode == "disk" || mode == "objects"; own < 32 || (second.Kept == own) != taken || second.Sent+second.Kept != first.Sent {
			t.Errorf("%s: of %d bytes %d were sent and %d taken over, the table has %d", mode, first.Sent, second.Sent, second.Kept, own)
		}
		// Each stands by itself.
		if _, err := prune(m, "run", 1); err != nil {
			t.Fatal(err)
		}
		c, err := load(m, two)
		if err != nil || mark(c) != 2 || c.Version != VersionParts {
			t.Fatalf("%s: %v", mode, err)
		}
		if err := Match(c.State, at(2).State); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		if got := Under("table", c.State)[0]; !slices.Equal(got.Data, table.Data) {
			t.Errorf("%s: the table is %v", mode, got)
		}
		// Saved from what was loaded: the same files.
		third, err := saveCounted(m, three, c)
		if err != nil || fmt.Sprint(third.Files) != fmt.Sprint(second.Files) {
			t.Errorf("%s: saved again: %v, %v, want %v", mode, third.Files, err, second.Files)
		}
	}
}

// TestWritingOverALink: a file that two checkpoints share is never written through.
func TestWritingOverALink(t *testing.T) {
	small(t)
	run := t.TempDir()
	c := sample(1, 1)
	c.State = []Tensor{Float32s("table", nil, []float32{1, 2, 3, 4, 5, 6, 7, 8})}
	for step := 1; step <= 2; step++ {
		if err := Save(StepDir(run, step), c); err != nil {
			t.Fatal(err)
		}
	}
	// A folder left by a process that died holds a link, and the file of that name is to be another one now.
	left := StepDir(run, 3) + tmpSuffix
	d, err := Begin(StepDir(run, 3))
	if err != nil || d.Work != left {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := (disk{}).Link(filepath.Join(StepDir(run, 2), ModelFile), filepath.Join(left, ModelFile)); err != nil {
		t.Fatal(err)
	}
	other := sample(3, 3)
	w, err := d.Write(Part{Model: other.Model, State: other.State})
	if err != nil {
		t.Fatal(err)
	}
	m := other.Manifest
	m.WeightsSHA256 = WeightsHash(other.Model)
	if err := d.Commit(m, w); err != nil {
		t.Fatal(err)
	}
	for step, want := range map[int]float32{1: 1, 2: 1, 3: 3} {
		if c, err := Load(StepDir(run, step)); err != nil || mark(c) != want {
			t.Errorf("step %d: %v, %v", step, mark(c), err)
		}
	}
}
