//go:build s3 || gs || azblob

package ckpt

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// storeAt is the store behind a URL.
func storeAt(t *testing.T, where string) (fsys, string) {
	t.Helper()
	p, err := locate(where)
	if err != nil {
		t.Fatal(err)
	}
	return p.fs, p.name
}

// examStore is what every object store sits, empty: what it holds is what it was given.
func examStore(t *testing.T, run string) {
	if all, err := List(run); err != nil || len(all) != 0 {
		t.Fatalf("an empty bucket: %v, %v", all, err)
	}
	if _, _, err := Latest(run); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty bucket: %v", err)
	}
	if _, err := Load(StepDir(run, 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no checkpoint: %v", err)
	}

	// Behind training's back, three of which two stay.
	ctx := context.Background()
	w, err := NewWriter(WriterConfig{Run: run, Keep: 2, Go: func(f func()) { go f() }})
	if err != nil {
		t.Fatal(err)
	}
	for step := 8; step <= 10; step++ {
		if err := w.Save(ctx, sample(step, float32(step))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.Done() {
		if s.Err != nil || s.Prune != nil {
			t.Fatalf("%+v", s)
		}
	}
	all, err := List(run)
	if err != nil || len(all) != 2 || all[0].Step != 9 || all[1] != (Entry{StepDir(run, 10), 10}) {
		t.Fatalf("List gave %v, %v", all, err)
	}

	// The same step again, which never takes the older one away before the newer is whole.
	if err := Save(StepDir(run, 10), sample(10, 42)); err != nil {
		t.Fatal(err)
	}
	path, passed, err := Latest(run)
	if err != nil || len(passed) > 0 || !strings.Contains(path, "/step-10.2") {
		t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
	}
	for _, dir := range []string{path, StepDir(run, 10)} {
		if c, err := Load(dir); err != nil || mark(c) != 42 {
			t.Fatalf("%s: %v, %v", dir, mark(c), err)
		}
	}

	// Damage is named, and the one before is taken.
	b, name := storeAt(t, path)
	if err := b.RemoveAll(name + "/" + StateFile); err != nil {
		t.Fatal(err)
	}
	put(t, b, name+"/"+StateFile, []byte("not what was saved"))
	forgetStores() // as another process
	back, passed, err := Latest(run)
	if err != nil || back != StepDir(run, 9) || len(passed) != 1 || !strings.Contains(passed[0].Error(), StateFile) {
		t.Fatalf("Latest gave %s, %v, %v", back, passed, err)
	}
}

func put(t *testing.T, b fsys, name string, content []byte) {
	t.Helper()
	f, err := b.Create(name, FileInfo{Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// examLarge goes in parts, out in ranges, and from one checkpoint to the next: inside the store, where that copies, and by the
// store's own word, where it has one.
func examLarge(t *testing.T, run string, copies, vouches bool) {
	x := make([]float32, 10<<20) // two parts and a half
	for i := range x {
		x[i] = float32(i)
	}
	c := sample(1, 1)
	c.State = append(c.State, Float32s("table", nil, x))
	var kept []int64
	for step := 1; step <= 2; step++ {
		c.Step = step
		c.Model = sample(step, float32(step)).Model
		w, err := saveAt(StepDir(run, step), c)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, w.Kept)
	}
	if kept[0] != 0 || kept[1] >= int64(len(x)*4) != copies {
		t.Errorf("of the second checkpoint the store had %v bytes already", kept)
	}
	b, name := storeAt(t, StepDir(run, 2))
	m, err := Verify(StepDir(run, 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"step-1", "step-2"} {
		// What was sent in parts, and what was copied.
		err := b.(checker).Check(filepath.Join(filepath.Dir(name), step, "state.001.safetensors"), m.Files["state.001.safetensors"])
		if (err == nil) != vouches || err != nil && !errors.Is(err, errCannotCheck) {
			t.Errorf("%s: %v", step, err)
		}
	}
	if _, err := Prune(run, 1); err != nil {
		t.Fatal(err)
	}
	got, err := Load(StepDir(run, 2))
	if err != nil || mark(got) != 2 {
		t.Fatal(err)
	}
	if table := Under("table", got.State)[0]; !bytes.Equal(table.Data, raw(x)) {
		t.Error("the table is another one")
	}
}

func saveAt(dir string, c Checkpoint) (w Written, err error) {
	err = on(dir, func(p place) (err error) { w, err = saveCounted(p.fs, p.name, c); return err })
	return w, err
}

// examTogether has three workers write at the same time, while they train.
func examTogether(t *testing.T, run string) {
	small(t)
	ctx := context.Background()
	var all []*Writer
	for range 3 {
		w, err := NewWriter(WriterConfig{Run: run, Keep: 1, Go: func(f func()) { go f() }, Sleep: func(_ context.Context, d time.Duration) error {
			time.Sleep(d)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	want := large()
	for step := 1; step <= 2; step++ {
		want.Step = step
		d, err := all[0].Begin(ctx, step)
		for i, w := range all {
			var m *Manifest
			if i == 0 {
				m = &want.Manifest
			}
			if err == nil {
				err = errors.Join(d.Reach(i), w.SavePart(ctx, d, Divide(want.Model, want.State, i, len(all)), m))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range all {
		if err := w.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	path, passed, err := Latest(run)
	if err != nil || len(passed) > 0 || path != StepDir(run, 2) {
		t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
	}
	got, err := Load(path)
	if err != nil || !reflect.DeepEqual(got.Model, want.Model) || !reflect.DeepEqual(byName(got.State), byName(want.State)) {
		t.Errorf("loaded %v, %v", got, err)
	}
	b, name := storeAt(t, path)
	names, err := b.List(filepath.Dir(name))
	if err != nil || len(names) != 1 {
		t.Errorf("left %v, %v", names, err)
	}
}

// examAbandoned: what is given up before it is synced never appears, and what is to go goes, there or not.
func examAbandoned(t *testing.T, run string) {
	b, name := storeAt(t, run)
	f, err := b.Create(name+"/x", FileInfo{Size: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if there, err := b.Exists(name + "/x"); there || err != nil {
		t.Errorf("what was given up is there: %v, %v", there, err)
	}
	put(t, b, name+"/y.z", []byte("y"))
	for _, c := range []struct {
		name string
		want bool
	}{{"/y.z", true}, {"/y", false}, {"", true}, {"/y.z/a", false}} {
		if there, err := b.Exists(name + c.name); there != c.want || err != nil {
			t.Errorf("%q is there: %v, %v", c.name, there, err)
		}
	}
	for range 2 {
		if err := b.RemoveAll(name); err != nil {
			t.Error(err)
		}
	}
	if names, err := b.List(name); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
}
