package ckpt

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// large is a checkpoint with tensors of all kinds of sizes and types, whose every element is its own.
func large() Checkpoint {
	n := float32(0)
	floats := func(name string, shape ...int) Tensor {
		x := make([]float32, Tensor{Shape: shape}.Len())
		for i := range x {
			n++
			x[i] = n
		}
		return Float32s(name, shape, x)
	}
	c := Checkpoint{
		Manifest: Manifest{Step: 8, World: 5, Microshards: 10},
		Model:    []Tensor{floats("table", 100, 7), floats("w", 3, 3), floats("scalar"), floats("none", 0, 4), floats("b", 3)},
		State: []Tensor{floats("m", 712).With(Summed), Int64s("at", []int{}, []int64{-3}), Bytes("flags", nil, []byte{1, 2, 3, 4, 5}),
			Uint64s("rows", []int{4, 2}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}).With(PerClient)},
	}
	if err := c.Set("note", "large"); err != nil {
		panic(err)
	}
	return c
}

// together saves c by n workers, which learn of the draft and tell what they wrote as JSON.
func together(dir string, c Checkpoint, n int) error {
	d, err := Begin(dir)
	if err != nil {
		return err
	}
	told, err := json.Marshal(d)
	if err != nil {
		return err
	}
	all := make([]Written, n)
	for i := range n {
		var d Draft
		if err := json.Unmarshal(told, &d); err != nil {
			return err
		}
		w, err := d.Write(Part{Index: i, Of: n, Model: Cut(c.Model, i, n), State: Cut(c.State, i, n)})
		if err != nil {
			return errors.Join(err, d.Abandon())
		}
		b, err := json.Marshal(w)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &all[i]); err != nil {
			return err
		}
	}
	m := c.Manifest
	m.WeightsSHA256 = WeightsHash(c.Model)
	return d.Commit(m, all...)
}

// byName sorts tensors, whose order in the state means nothing.
func byName(ts []Tensor) []Tensor {
	ts = slices.Clone(ts)
	slices.SortFunc(ts, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	return ts
}

// TestManyWriteManyRead: what n workers wrote together, m read: all of it, each its part.
func TestManyWriteManyRead(t *testing.T) {
	for _, own := range []int{16, 1 << 20} {
		small(t)
		ownFile = own
		for _, run := range []string{t.TempDir(), stored(t, newMemFS())} {
			want := large()
			for _, n := range []int{1, 2, 3, 8, 40} {
				dir := StepDir(run, n)
				if err := together(dir, want, n); err != nil {
					t.Fatal(err)
				}
				if _, err := Verify(dir); err != nil {
					t.Fatal(err)
				}
				got, err := Load(dir)
				if err != nil {
					t.Fatalf("%d writers: %v", n, err)
				}
				if !reflect.DeepEqual(got.Model, want.Model) {
					t.Fatalf("%d writers: the model is\n%v\nwant\n%v", n, got.Model, want.Model)
				}
				if got, want := byName(got.State), byName(want.State); !reflect.DeepEqual(got, want) {
					t.Fatalf("%d writers: the state is\n%v\nwant\n%v", n, got, want)
				}
				for _, m := range []int{1, 2, 5} {
					var model []Tensor
					for j := range m {
						model = append(model, Cut(got.Model, j, m)...)
					}
					if model, err = Join(model); err != nil || !reflect.DeepEqual(model, want.Model) {
						t.Errorf("%d writers, %d readers: %v", n, m, err)
					}
				}
			}
			if _, err := Prune(run, 1); err != nil {
				t.Fatal(err)
			}
			if all, err := List(run); err != nil || len(all) != 1 || all[0].Step != 40 {
				t.Errorf("pruned to %v, %v", all, err)
			}
		}
	}
}

// TestModelIndex: where no tensor is cut, other tools find a model in several files by the index that they know.
func TestModelIndex(t *testing.T) {
	dir := StepDir(t.TempDir(), 1)
	d, err := Begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := large()
	var all []Written
	for i, part := range [][]Tensor{c.Model[:2], c.Model[2:]} {
		w, err := d.Write(Part{Index: i, Of: 2, Model: part})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
	}
	if err := d.Commit(c.Manifest, all...); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, IndexFile))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Weights map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	first, second := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	if want := map[string]string{"table": first, "w": first, "scalar": second, "none": second, "b": second}; !reflect.DeepEqual(index.Weights, want) {
		t.Errorf("the index says %v", index.Weights)
	}
	if got, err := Load(dir); err != nil || got.WeightsSHA256 != WeightsHash(c.Model) || !reflect.DeepEqual(got.Model, c.Model) {
		t.Errorf("loaded %v, %v", got.Model, err)
	}
	flip(t, filepath.Join(dir, IndexFile))
	if _, err := Verify(dir); err == nil || !strings.Contains(err.Error(), IndexFile) {
		t.Errorf("a damaged index: %v", err)
	}
}

func TestCommitRefuses(t *testing.T) {
	c := large()
	for _, x := range []struct {
		name  string
		parts []Part
		want  string
	}{
		{"none", nil, "there are 0 of the model"},
		{"missing", []Part{{Index: 0, Of: 2, Model: c.Model}}, "there are 1 of the model, expected 2"},
		{"twice", []Part{{Index: 0, Of: 2}, {Index: 0, Of: 2}}, "written by two workers"},
		{"of others", []Part{{Index: 0, Of: 2}, {Index: 1, Of: 3}}, "is not one of"},
		{"beyond", []Part{{Index: 2, Of: 2}}, "part 2 of 2"},
		{"type", []Part{{Model: c.State[1:2]}}, `model tensor "at" is I64`},
	} {
		dir := StepDir(t.TempDir(), 1)
		d, err := Begin(dir)
		if err != nil {
			t.Fatal(err)
		}
		var all []Written
		for _, p := range x.parts {
			var w Written
			if w, err = d.Write(p); err == nil {
				all = append(all, w)
			}
		}
		if err == nil {
			err = d.Commit(c.Manifest, all...)
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v: want an error with %q", x.name, err, x.want)
		}
		if err := d.Abandon(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 0 {
			t.Errorf("%s: left %v", x.name, left)
		}
	}
	d := Draft{Dir: "a/checkpoints/step-1", Work: "mem://bucket/b"}
	stored(t, newMemFS())
	if _, err := d.Write(Part{}); err == nil || !strings.Contains(err.Error(), "not in the same store") {
		t.Errorf("a draft in two places: %v", err)
	}
}

func TestFileNames(t *testing.T) {
	for _, name := range []string{ModelFile, StateFile, "model-00001-of-00002.safetensors", "state-00010-of-10000.safetensors", "state.001.safetensors",
		"state-00002-of-00002.999.safetensors"} {
		if f, ok := parseFile(name); !ok || f.String() != name {
			t.Errorf("%s: %+v, %v", name, f, ok)
		}
	}
	for _, name := range []string{"", "model", "../model.safetensors", "model-00003-of-00002.safetensors", "model-00000-of-00002.safetensors",
		"model-00001-of-00001.safetensors", "model-00001-of-99999.safetensors", "state.000.safetensors", "state.01.safetensors", "model.safetensors\n"} {
		if f, ok := parseFile(name); ok {
			t.Errorf("%q was taken for %+v", name, f)
		}
	}
}

// TestCutAndJoin: any tensors, cut in any number of parts, whatever their sizes, are what they were.
func TestCutAndJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []Tensor
		for i, shape := range rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 5), 0, 3), 0, 6).Draw(t, "shapes") {
			name := fmt.Sprint(i)
			n := Tensor{Shape: shape}.Len()
			if rapid.Bool().Draw(t, "wide") {
				x := make([]uint64, n)
				for i := range x {
					x[i] = uint64(i) * 0x9E3779B97F4A7C15
				}
				want = append(want, Uint64s(name, shape, x))
			} else {
				want = append(want, Bytes(name, shape, []byte(strings.Repeat("abcdefg", n)[:n])))
			}
		}
		k := rapid.IntRange(1, 9).Draw(t, "parts")
		var all []Tensor
		for i := range k {
			all = append(all, Cut(want, i, k)...)
		}
		got, err := Join(all)
		if err != nil || len(got) != len(want) {
			t.Fatalf("joined %v, %v", got, err)
		}
		for i := range got {
			if got[i].Name != want[i].Name || !slices.Equal(got[i].Shape, want[i].Shape) || !slices.Equal(got[i].Data, want[i].Data) || got[i].Piece != nil {
				t.Fatalf("got %v, want %v", got[i], want[i])
			}
		}
	})
}

func TestJoinRefuses(t *testing.T) {
	x := Float32s("x", []int{2, 3}, []float32{1, 2, 3, 4, 5, 6})
	two := func() (a, b Tensor) { return Cut([]Tensor{x}, 0, 2)[0], Cut([]Tensor{x}, 1, 2)[0] }
	for _, c := range []struct {
		name string
		edit func(a, b *Tensor) []Tensor
		want string
	}{
		{"missing", func(a, b *Tensor) []Tensor { return []Tensor{*a} }, "have 12 bytes"},
		{"order", func(a, b *Tensor) []Tensor { return []Tensor{*b, *a} }, "begins at element 3"},
		{"twice", func(a, b *Tensor) []Tensor { return []Tensor{*a, *a} }, "begins at element 0"},
		{"other shape", func(a, b *Tensor) []Tensor { b.Piece.Whole = []int{3, 2}; return []Tensor{*a, *b} }, "another of F32 [3 2]"},
		{"other shard", func(a, b *Tensor) []Tensor { b.Shard = Summed; return []Tensor{*a, *b} }, "summed"},
		{"huge", func(a, b *Tensor) []Tensor { a.Piece.Whole = []int{1 << 40}; return []Tensor{*a, *b} }, "have 24 bytes"},
		{"outside", func(a, b *Tensor) []Tensor { a.Piece.From = 5; return []Tensor{*a, *b} }, "does not lie"},
		{"negative", func(a, b *Tensor) []Tensor { a.Piece.From = -1; return []Tensor{*a, *b} }, "does not lie"},
	} {
		a, b := two()
		if _, err := Join(c.edit(&a, &b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want an error with %q", c.name, err, c.want)
		}
	}
}

// FuzzReadPieces: no file makes Read or Join take more than it holds, or stop the program.
func FuzzReadPieces(f *testing.F) {
	for i := range 3 {
		var b strings.Builder
		if err := Write(&b, Cut(large().Model, i, 3), nil); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b.String()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, _, err := decode(b)
		if err != nil {
			return
		}
		all, err := Join(ts)
		if err != nil {
			return
		}
		total := 0
		for _, t := range all {
			total += len(t.Data)
		}
		if total > len(b) {
			t.Errorf("%d bytes came out of %d", total, len(b))
		}
	})
}

func FuzzManifestParts(f *testing.F) {
	m := sample(1, 1).Manifest
	m.Format, m.Version = Format, VersionStreams
	m.Files = map[string]FileInfo{}
	for _, name := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "state-00001-of-00002.safetensors",
		"state-00002-of-00002.safetensors", "state-00002-of-00002.001.safetensors", "stream-00001-of-00002.001.bin", IndexFile} {
		m.Files[name] = FileInfo{Size: 1, SHA256: "00"}
	}
	b, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := decodeManifest(b); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The manifest's own hash would stop the fuzzer at once: it is put right first.
		m, err := decodeManifest(b)
		if err != nil {
			var inner Manifest
			if json.Unmarshal(b, &inner) != nil {
				return
			}
			sealed, err := inner.encode()
			if err != nil {
				return
			}
			if m, err = decodeManifest(sealed); err != nil {
				return
			}
		}
		for name := range m.Files {
			if filepath.Base(name) != name || !strings.Contains(name, ".safetensors") && !strings.HasSuffix(name, ".bin") {
				t.Errorf("a manifest names the file %q", name)
			}
		}
	})
}
