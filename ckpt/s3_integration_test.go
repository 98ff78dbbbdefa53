//go:build integration && s3

package ckpt

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/storetest"
)

func TestS3(t *testing.T)          { examStore(t, storetest.S3(t)) }
func TestS3Large(t *testing.T)     { examLarge(t, storetest.S3(t), true, true) }
func TestS3Together(t *testing.T)  { examTogether(t, storetest.S3(t)) }
func TestS3Abandoned(t *testing.T) { examAbandoned(t, storetest.S3(t)) }

// TestS3BrokenOff: an upload that never ended is in no list, and goes with the next save.
func TestS3BrokenOff(t *testing.T) {
	run := storetest.S3(t)
	f0, name := storeAt(t, StepDir(run, 1))
	b := f0.(*bucket)
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

// TestS3Refuses: what cannot work says what would.
func TestS3Refuses(t *testing.T) {
	run := storetest.S3(t)
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
