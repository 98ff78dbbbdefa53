package ckpt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lines are streams that write so many numbers, each a line.
func lines(sizes ...int) (all []Stream) {
	for i, n := range sizes {
		all = append(all, func(w io.Writer) error {
			for k := range n {
				if _, err := fmt.Fprintf(w, "%d %d\n", i, k); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all
}

// What parts have streamed comes back part after part, read to the end or not, beside the tensors, on a disk and in an object store.
func TestStreams(t *testing.T) {
	store := newMemFS()
	store.objects = true
	for _, fs := range []fsys{disk{}, newMemFS(), store} {
		dir := "c"
		if _, ok := fs.(disk); ok {
			dir = filepath.Join(t.TempDir(), "c")
		}
		c := large()
		if err := streamed(fs, dir, c, lines(3, 0, 200_000), nil, lines(1)); err != nil {
			t.Fatal(err)
		}
		got, err := load(fs, dir)
		if err != nil || got.Version != VersionStreams || len(got.Model) != len(c.Model) {
			t.Fatalf("version %d, %d tensors: %v", got.Version, len(got.Model), err)
		}
		if _, err := verify(fs, dir); err != nil {
			t.Fatal(err)
		}
		var read []string
		err = readStreams(fs, dir, func(i int, r io.Reader) error {
			var want bytes.Buffer
			if err := slices.Concat(lines(3, 0, 200_000), lines(1))[len(read)](&want); err != nil {
				return err
			}
			read = append(read, fmt.Sprint(i))
			if len(read) == 4 {
				return nil // it is verified all the same
			}
			b, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(b, want.Bytes()) {
				err = fmt.Errorf("%d bytes that differ from %d", len(b), want.Len())
			}
			return err
		})
		if err != nil || strings.Join(read, " ") != "0 1 2 0" {
			t.Errorf("%v: %v", read, err)
		}
		wrong := errors.New("wrong")
		if err := readStreams(fs, dir, func(int, io.Reader) error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("a reader's error is %v", err)
		}
	}
}

func streamed(fs fsys, dir string, c Checkpoint, parts ...[]Stream) error {
	d, err := begin(fs, dir)
	if err != nil {
		return err
	}
	var all []Written
	for i, streams := range parts {
		w, err := d.write(fs, Part{Index: i, Of: len(parts), Model: Cut(c.Model, i, len(parts)), State: Cut(c.State, i, len(parts)), Streams: streams})
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	return d.commit(fs, c.Manifest, all...)
}

// A stream that has been changed, cut, or writes other bytes the second time, is refused by name.
func TestDamagedStreams(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	if err := streamed(disk{}, dir, large(), lines(5)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "stream.001.bin")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"cut": whole[:7], "longer": append(slices.Clone(whole), 1), "changed": append([]byte{'9'}, whole[1:]...)} {
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := ReadStreams(dir, func(int, io.Reader) error { return nil }); err == nil || !strings.Contains(err.Error(), "stream.001.bin") {
			t.Errorf("%s: %v", what, err)
		}
	}
	n := 0
	other := func(w io.Writer) error {
		n++
		_, err := fmt.Fprint(w, n)
		return err
	}
	if err := streamed(disk{}, dir, large(), []Stream{other}); err == nil || !strings.Contains(err.Error(), "read back after writing") {
		t.Errorf("a stream that differs: %v", err)
	}
	wrong := errors.New("wrong")
	if err := streamed(disk{}, dir, large(), []Stream{func(io.Writer) error { return wrong }}); !errors.Is(err, wrong) {
		t.Errorf("a stream's error is %v", err)
	}
}
