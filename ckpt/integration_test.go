//go:build integration

package ckpt

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/covey-ml/covey/internal/python"
)

// TestPythonReadsAndWrites hands a file to the reference implementation and takes one from it.
func TestPythonReadsAndWrites(t *testing.T) {
	py := python.With(t, "safetensors.numpy, numpy")
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours.safetensors"), filepath.Join(dir, "theirs.safetensors")
	f, err := os.Create(ours)
	if err != nil {
		t.Fatal(err)
	}
	err = Write(f, []Tensor{
		Bytes("bytes", nil, []byte{1, 2, 255}),
		Float32s("0.weight", []int{2, 3}, []float32{1, -2, 3.5, 1e-38, 1e38, 0}).With(Summed),
		Int64s("step", []int{}, []int64{-7}),
		Uint64s("seed", nil, []uint64{1<<64 - 1}),
		Float64s("empty", []int{0, 2}, nil),
	}, map[string]string{"format": "covey", "ü": "\"quoted\" <&>"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	const script = `
import sys, numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
ours, theirs = sys.argv[1:]
with safe_open(ours, framework="np") as f:
    meta = f.metadata()
    assert meta["format"] == "covey" and meta["ü"] == "\"quoted\" <&>" and meta["covey.shard.0.weight"] == "summed", meta
    t = {k: f.get_tensor(k) for k in f.keys()}
assert sorted(t) == ["0.weight", "bytes", "empty", "seed", "step"], sorted(t)
def same(a, b): assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), (a, b)
same(t["0.weight"], np.array([[1, -2, 3.5], [1e-38, 1e38, 0]], np.float32))
same(t["bytes"], np.array([1, 2, 255], np.uint8))
same(t["step"], np.array(-7, np.int64))
same(t["seed"], np.array([2**64 - 1], np.uint64))
same(t["empty"], np.zeros((0, 2), np.float64))
save_file({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.array([0.5, -1], np.float16),
    "flag": np.array([True, False]), "i": np.array([-3], np.int32), "n": np.array(9, np.int64)}, theirs, metadata={"by": "python"})
`
	if out, err := exec.Command(py, "-c", script, ours, theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	ts, meta, err := readBack(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(ts) != 5 || meta["by"] != "python" {
		t.Fatalf("read %s, metadata %v", names(ts), meta)
	}
	want := map[string]Tensor{
		"w":    Float32s("w", []int{2, 3}, []float32{0, 1, 2, 3, 4, 5}),
		"half": {Type: "F16", Shape: []int{2}, Data: []byte{0, 0x38, 0, 0xbc}},
		"flag": {Type: "BOOL", Shape: []int{2}, Data: []byte{1, 0}},
		"i":    {Type: "I32", Shape: []int{1}, Data: []byte{0xfd, 0xff, 0xff, 0xff}},
		"n":    Int64s("n", []int{}, []int64{9}),
	}
	for _, got := range ts {
		w := want[got.Name]
		if got.Type != w.Type || !slices.Equal(got.Shape, w.Shape) || !slices.Equal(got.Data, w.Data) {
			t.Errorf("%s: got %s %v %x, want %s %v %x", got.Name, got.Type, got.Shape, got.Data, w.Type, w.Shape, w.Data)
		}
	}
}
