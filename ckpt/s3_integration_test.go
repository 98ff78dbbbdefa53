//go:build integration && s3

package ckpt

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/s3server"
)

// server starts an S3 server and returns a run's URL there.
func server(t *testing.T) string { return s3server.Start(t) + "&region=us-east-1" }

// at is the bucket behind a URL.
func at(t *testing.T, where string) (*bucket, string) {
	t.Helper()
	p, err := locate(where)
	if err != nil {
		t.Fatal(err)
	}
	return p.fs.(*bucket), p.name
}

func TestS3(t *testing.T) {
	run := server(t)
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
	if err != nil || len(passed) > 0 || !strings.Contains(path, "/step-10.2?") {
		t.Fatalf("Latest gave %s, %v, %v", path, passed, err)
	}
	for _, dir := range []string{path, StepDir(run, 10)} {
		if c, err := Load(dir); err != nil || mark(c) != 42 {
			t.Fatalf("%s: %v, %v", dir, mark(c), err)
		}
	}

	// Damage is named, and the one before is taken.
	b, name := at(t, path)
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

func put(t *testing.T, b *bucket, name string, content []byte) {
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

// TestS3Large goes in parts, out in ranges, and from one checkpoint to the next inside the store.
func TestS3Large(t *testing.T) {
	run := server(t)
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
	if kept[0] != 0 || kept[1] < int64(len(x)*4) {
		t.Errorf("of the second checkpoint the store had %v bytes already", kept)
	}
	// What was sent in parts, and what was copied, the store's own tag vouches for.
	b, name := at(t, StepDir(run, 2))
	m, err := Verify(StepDir(run, 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"step-1", "step-2"} {
		if err := b.Check(filepath.Join(filepath.Dir(name), step, "state.001.safetensors"), m.Files["state.001.safetensors"]); err != nil {
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

// TestS3BrokenOff: an upload that never ended is in no list, and goes with the next save.
func TestS3BrokenOff(t *testing.T) {
	run := server(t)
	b, name := at(t, StepDir(run, 1))
	uploads := func() int {
		r, err := b.core.ListMultipartUploads(context.Background(), b.name, "", "", "", "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Uploads)
	}
	f, err := b.Create(name+"/"+StateFile, FileInfo{Size: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	put(t, b, name+"/"+ModelFile, []byte("half a checkpoint"))
	if n := uploads(); n != 1 {
		t.Fatalf("%d uploads are under way, expected 1", n)
	}
	if all, err := List(run); err != nil || len(all) != 0 {
		t.Fatalf("half a checkpoint is listed: %v, %v", all, err)
	}
	if err := Save(StepDir(run, 2), sample(2, 2)); err != nil {
		t.Fatal(err)
	}
	left, err := b.List("digits/a/checkpoints")
	if err != nil || uploads() != 0 || !slices.Equal(left, []string{"step-2"}) {
		t.Errorf("left %v, %d uploads, %v", left, uploads(), err)
	}
	// One that is given up in time goes at once.
	g, err := b.Create("x", FileInfo{Size: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Write(make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil || uploads() != 0 {
		t.Errorf("given up: %v, %d uploads", err, uploads())
	}
}

func TestS3ManyWriteManyRead(t *testing.T) {
	small(t)
	run := server(t)
	want := large()
	for _, n := range []int{3, 1} {
		dir := StepDir(run, n)
		if err := together(dir, want, n); err != nil {
			t.Fatal(err)
		}
		got, err := Load(dir)
		if err != nil || !reflect.DeepEqual(got.Model, want.Model) || !reflect.DeepEqual(byName(got.State), byName(want.State)) {
			t.Errorf("%d writers: %v", n, err)
		}
	}
}

// TestS3Refuses: what cannot work says what would.
func TestS3Refuses(t *testing.T) {
	run := server(t)
	for _, c := range []struct{ where, want string }{
		{"s3://runs/a?regoin=x", "region"},
		{"s3://runs/a?region=a&region=b", "2 times"},
		{"s3://runs/a?endpoint=http://example.org", "https"},
		{"s3://runs/a?endpoint=example.org:9000", "expected https://HOST"},
		{"s3:///a", "no bucket"},
	} {
		if err := CheckPlace(c.where); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want an error with %q", c.where, err, c.want)
		}
	}
	if err := Save(strings.Replace(StepDir(run, 1), "//runs", "//nowhere", 1), sample(1, 1)); err == nil || !strings.Contains(err.Error(), "there is no bucket nowhere") {
		t.Errorf("no such bucket: %v", err)
	}
	forgetStores()
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	if err := Save(StepDir(run, 1), sample(1, 1)); err == nil || !strings.Contains(err.Error(), "step-1") || !strings.Contains(err.Error(), "signature") {
		t.Errorf("a wrong secret: %v", err)
	}
	forgetStores()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	if _, _, err := Latest(run); err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") {
		t.Errorf("no credentials: %v", err)
	}
}

// forgetStores makes this process as one that has opened no store.
func forgetStores() {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	opened.all = nil
}
