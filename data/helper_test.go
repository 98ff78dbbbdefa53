package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var ctx = context.Background()

// put writes files, name and content in turn, into a fresh folder.
func put(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func pack(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(s))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read reads text as one data set.
func read(t testing.TB, text string, o Options) (Dataset, error) {
	t.Helper()
	return Read(ctx, strings.NewReader(text), "input", o)
}

func mustRead(t testing.TB, text string, o Options) Dataset {
	t.Helper()
	ds, err := read(t, text, o)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// gather returns all samples of ds.
func gather(ds Dataset) *Batch {
	b := &Batch{}
	ds.Gather(b, all(ds.Len()))
	return b
}

func asError(err error, e **Error) bool { return errors.As(err, e) }

// says checks that err is an *Error and holds all words.
func says(t testing.TB, err error, words ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("got %v (%T), expected an *Error", err, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
