package ckpt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample is a checkpoint whose every number tells which one it is.
func sample(step int, mark float32) Checkpoint {
	c := Checkpoint{
		Manifest: Manifest{Step: step, Epoch: 2, Seed: 1<<63 + 5, World: 3, Microshards: 12},
		Model:    []Tensor{Float32s("0.weight", []int{2, 2}, []float32{mark, 2, 3, 4}), Float32s("0.bias", nil, []float32{mark, 6})},
		State:    []Tensor{Uint64s("at", nil, []uint64{uint64(mark)}), Float32s("adam.m", nil, []float32{mark}).With(Summed)},
	}
	if err := c.Set("sampler", map[string]any{"position": 1280, "note": "<a & b>"}); err != nil {
		panic(err)
	}
	return c
}

func mark(c Checkpoint) float32 {
	x := make([]float32, 2)
	if err := Under("0.bias", c.Model)[0].CopyTo(x); err != nil {
		panic(err)
	}
	return x[0]
}

func TestFolderRoundTrip(t *testing.T) {
	run := t.TempDir()
	dir := StepDir(run, 40)
	c := sample(40, 1)
	if err := Save(dir, c); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := c
	want.Format, want.Version = Format, Version
	want.WeightsSHA256 = WeightsHash([]Tensor{Float32s("", nil, []float32{1, 2, 3, 4, 1, 6})}) // the flat vector's
	want.Files = got.Files
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	var s struct {
		Position int
		Note     string
	}
	if err := got.Get("sampler", &s); err != nil || s.Position != 1280 || s.Note != "<a & b>" {
		t.Errorf("extra is %+v, %v", s, err)
	}
	if err := got.Get("sampler", &struct{ Position int }{}); err == nil || !strings.Contains(err.Error(), "sampler") {
		t.Errorf("an extra with an unknown field: %v", err)
	}
	if err := got.Get("nothing", &s); err == nil {
		t.Error("an extra that is not there was read")
	}

	// Saved again, elsewhere and from what was loaded: the same files.
	other := StepDir(t.TempDir(), 40)
	if err := Save(other, got); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 3 {
		t.Fatalf("the folder holds %v, %v", names, err)
	}
	for _, n := range names {
		a, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(other, n.Name()))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs between two saves of one state (%v)", n.Name(), err)
		}
	}
	if m, err := Verify(dir); err != nil || !reflect.DeepEqual(m, got.Manifest) {
		t.Errorf("Verify gave %+v, %v", m, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("beside the checkpoint lie %v", left)
	}
}

func TestSaveReplaces(t *testing.T) {
	dir := StepDir(t.TempDir(), 1)
	for _, m := range []float32{1, 2, 3} {
		if err := Save(dir, sample(1, m)); err != nil {
			t.Fatal(err)
		}
		if c, err := Load(dir); err != nil || mark(c) != m {
			t.Fatalf("loaded %v, %v, want %v", mark(c), err, m)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
		t.Errorf("beside the checkpoint lie %v", left)
	}
}

func TestSaveRefuses(t *testing.T) {
	bad := sample(1, 1)
	bad.Model[1] = Float64s("0.bias", nil, []float64{1})
	neg := sample(-1, 1)
	twice := sample(1, 1)
	twice.State = append(twice.State, twice.State[0])
	for _, c := range []struct {
		c    Checkpoint
		want string
	}{
		{bad, `model tensor "0.bias" is F64`},
		{neg, "step is -1"},
		{twice, `state.safetensors: tensor "at" is given twice`},
	} {
		run := t.TempDir()
		if err := Save(StepDir(run, 1), c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, want one with %q", err, c.want)
		}
		if left, _ := os.ReadDir(filepath.Join(run, "checkpoints")); len(left) != 0 {
			t.Errorf("a refused Save left %v", left)
		}
	}
}

func TestEveryFlippedByteIsNamed(t *testing.T) {
	m := newMemFS()
	if err := save(m, "c", sample(3, 1)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ModelFile, StateFile, ManifestFile} {
		_, _, n := m.find("c/" + name)
		for i := range n.data {
			n.data[i] ^= 0x10
			_, err := load(m, "c")
			_, err2 := verify(m, "c")
			n.data[i] ^= 0x10
			if err == nil || err2 == nil {
				t.Fatalf("%s: byte %d flipped: Load says %v, Verify %v", name, i, err, err2)
			}
			if !strings.Contains(err.Error(), name) || err.Error() != err2.Error() {
				t.Fatalf("%s: byte %d flipped: Load says %v, Verify %v: want both to name the file", name, i, err, err2)
			}
			if name != ManifestFile && !(strings.Contains(err.Error(), "SHA-256 is ") && strings.Contains(err.Error(), ", expected ")) {
				t.Fatalf("%s: byte %d flipped: %v: want both hashes", name, i, err)
			}
		}
		whole := n.data
		for _, cut := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
			n.data = whole[:cut]
			if _, err := load(m, "c"); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s cut to %d bytes: %v", name, cut, err)
			}
		}
		n.data = append(slices.Clone(whole), 0)
		if _, err := load(m, "c"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
		n.data = whole
	}
	if _, err := load(m, "c"); err != nil {
		t.Fatal(err)
	}
}

// tampered manifests have the right hash of themselves and the wrong content.
func TestTamperedManifestIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Manifest)
		want string
	}{
		{"format", func(m *Manifest) { m.Format = "other" }, `format is "other"`},
		{"version", func(m *Manifest) { m.Version = 4 }, "version is 4, this program reads 1 to 3"},
		{"step", func(m *Manifest) { m.Step = -1 }, "step is -1"},
		{"weights", func(m *Manifest) { m.WeightsSHA256 = "00" }, "parameters' SHA-256"},
		{"missing file", func(m *Manifest) { delete(m.Files, StateFile) }, "files must be"},
		{"other file", func(m *Manifest) { m.Files["../../etc/passwd"] = FileInfo{} }, "files must be"},
		{"size", func(m *Manifest) { m.Files[ModelFile] = FileInfo{Size: -1} }, "files must be"},
	} {
		m := newMemFS()
		if err := save(m, "c", sample(3, 1)); err != nil {
			t.Fatal(err)
		}
		_, _, n := m.find("c/" + ManifestFile)
		man, err := decodeManifest(n.data)
		if err != nil {
			t.Fatal(err)
		}
		c.edit(&man)
		if n.data, err = man.encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := load(m, "c"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// TestKillAtEveryOperation saves a second checkpoint over a first and over none, and kills the process, cuts the power or
// fails one operation at every point. Whatever is there afterwards is whole, the old or the new, and the next Save
// works and tidies up.
func TestKillAtEveryOperation(t *testing.T) {
	for _, over := range []bool{true, false} {
		for _, how := range []string{"kill", "power", "error"} {
			for k := 1; ; k++ {
				m := newMemFS()
				before := "run/checkpoints/step-1"
				after := "run/checkpoints/step-2"
				if over {
					after = before
				}
				if err := m.MkdirAll("run"); err != nil {
					t.Fatal(err)
				}
				if err := m.SyncDir("."); err != nil {
					t.Fatal(err)
				}
				if err := save(m, before, sample(1, 1)); err != nil {
					t.Fatal(err)
				}
				m.heal()
				m.failAt, m.dead = k, how != "error"
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
				where := fmt.Sprintf("over %v, %s, %v", over, how, m)
				if there, _ := m.Exists(before); how == "error" && !there {
					t.Fatalf("%s: Save went on living and left the old checkpoint aside", where)
				}
				if how == "power" {
					m.powerOff()
				}
				m.heal()

				path, passed, err := latest(m, "run")
				if err != nil || len(passed) > 0 {
					t.Fatalf("%s: Latest says %v, passed over %v", where, err, passed)
				}
				c, err := load(m, path)
				if err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				// Whoever was told that Save succeeded must find what was saved.
				if saveErr == nil && mark(c) != 2 {
					t.Fatalf("%s: Save succeeded and the old checkpoint is there", where)
				}
				if !over {
					if c, err := load(m, before); err != nil || mark(c) != 1 {
						t.Fatalf("%s: the checkpoint of another step: %v", where, err)
					}
				}
				if err := save(m, after, sample(1, 3)); err != nil {
					t.Fatalf("%s: the next Save: %v", where, err)
				}
				if c, err := load(m, after); err != nil || mark(c) != 3 {
					t.Fatalf("%s: after the next Save: %v", where, err)
				}
				left, err := m.List("run/checkpoints")
				if want := map[bool]int{true: 1, false: 2}[over]; err != nil || len(left) != want {
					t.Fatalf("%s: the next Save left %v", where, left)
				}
			}
		}
	}
}

func TestFullDisk(t *testing.T) {
	for room := 0; ; room++ {
		m := newMemFS()
		if err := save(m, "r/checkpoints/step-1", sample(1, 1)); err != nil {
			t.Fatal(err)
		}
		m.room = room
		err := save(m, "r/checkpoints/step-1", sample(1, 2))
		if !m.fired {
			if err != nil {
				t.Fatal(err)
			}
			if room < 500 {
				t.Fatalf("all fitted in %d bytes: the test sees too little", room)
			}
			return
		}
		if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "step-1") || !strings.Contains(err.Error(), ".json") && !strings.Contains(err.Error(), ".safetensors") {
			t.Fatalf("room for %d bytes: %v: want the cause, the folder and the file", room, err)
		}
		if c, err := load(m, "r/checkpoints/step-1"); err != nil || mark(c) != 1 {
			t.Fatalf("room for %d bytes: the previous checkpoint: %v", room, err)
		}
		if left, _ := m.List("r/checkpoints"); len(left) != 1 {
			t.Fatalf("room for %d bytes: left over: %v", room, left)
		}
	}
}

func TestLatestFallsBack(t *testing.T) {
	run := t.TempDir()
	if _, _, err := Latest(run); !errors.Is(err, ErrNone) {
		t.Errorf("an empty run folder: %v", err)
	}
	for _, step := range []int{9, 10, 100} {
		if err := Save(StepDir(run, step), sample(step, float32(step))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"step-7.covey-tmp", "step-", "step-x", "step-011", "step--3", "other"} {
		if err := os.MkdirAll(filepath.Join(run, "checkpoints", name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	all, err := List(run)
	if err != nil || len(all) != 3 || all[0].Step != 9 || all[1].Step != 10 || all[2] != (Entry{StepDir(run, 100), 100}) {
		t.Fatalf("List gave %v, %v", all, err)
	}
	if path, passed, err := Latest(run); err != nil || len(passed) != 0 || path != StepDir(run, 100) {
		t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
	}
	flip(t, filepath.Join(StepDir(run, 100), StateFile))
	path, passed, err := Latest(run)
	if err != nil || path != StepDir(run, 10) || len(passed) != 1 {
		t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
	}
	for _, want := range []string{"step-100", StateFile, "SHA-256 is ", "expected "} {
		if !strings.Contains(passed[0].Error(), want) {
			t.Errorf("the reason is %v, want one with %q", passed[0], want)
		}
	}
	if err := os.Remove(filepath.Join(StepDir(run, 10), ManifestFile)); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(StepDir(run, 9), ModelFile))
	_, _, err = Latest(run)
	if !errors.Is(err, ErrNone) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "step-9") {
		t.Errorf("with all damaged: %v", err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestPrune(t *testing.T) {
	run := t.TempDir()
	if removed, err := Prune(run, 2); err != nil || removed != nil {
		t.Errorf("an empty run folder: %v, %v", removed, err)
	}
	for step := 1; step <= 5; step++ {
		if err := Save(StepDir(run, step), sample(step, 1)); err != nil {
			t.Fatal(err)
		}
	}
	// Step 5 is cut off and does not count.
	if err := os.Truncate(filepath.Join(StepDir(run, 5), ModelFile), 10); err != nil {
		t.Fatal(err)
	}
	removed, err := Prune(run, 2)
	if err != nil || !slices.Equal(removed, []string{StepDir(run, 2), StepDir(run, 1)}) {
		t.Fatalf("removed %v, %v", removed, err)
	}
	left, err := os.ReadDir(filepath.Join(run, "checkpoints"))
	if err != nil || len(left) != 3 {
		t.Errorf("left %v, %v", left, err)
	}
	if removed, err := Prune(run, 2); err != nil || removed != nil {
		t.Errorf("a second time: %v, %v", removed, err)
	}
	if _, err := Prune(run, 0); err == nil {
		t.Error("keep 0 was taken")
	}
}

// TestPruneKilled: a removal cut short leaves nothing that looks like a checkpoint and is none.
func TestPruneKilled(t *testing.T) {
	for k := 1; ; k++ {
		m := newMemFS()
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
	}
}

// TestSteppedAside: the one moment when a checkpoint has no name of its own, on a real disk.
func TestSteppedAside(t *testing.T) {
	run := t.TempDir()
	dir := StepDir(run, 4)
	if err := Save(dir, sample(4, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+oldSuffix); err != nil {
		t.Fatal(err)
	}
	if path, _, err := Latest(run); err != nil || path != dir {
		t.Fatalf("Latest gave %s, %v", path, err)
	}
	if c, err := Load(dir); err != nil || mark(c) != 1 {
		t.Fatal(err)
	}
	if err := Save(StepDir(run, 5), sample(5, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the next Save did not give it its name back: %v", err)
	}
}

func TestLoadMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "step-1")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if err := Save(dir, sample(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, StateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), StateFile) {
		t.Errorf("got %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, StateFile), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a folder was read as a file")
	}
}
