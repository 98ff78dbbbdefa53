package ckpt

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestTensorAliasesAndCopies(t *testing.T) {
	x := []float32{1, -2, float32(math.Inf(1))}
	a := Float32s("x", nil, x)
	if a.Type != F32 || !slices.Equal(a.Shape, []int{3}) || a.Len() != 3 {
		t.Fatalf("got %s %v", a.Type, a.Shape)
	}
	if want := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0x80, 0x7f}; !slices.Equal(a.Data, want) {
		t.Fatalf("bytes are %x, want little-endian %x", a.Data, want)
	}
	x[0] = 9
	got := make([]float32, 3)
	if err := a.CopyTo(got); err != nil || got[0] != 9 {
		t.Fatalf("CopyTo gave %v, %v: Data does not alias", got, err)
	}

	for _, c := range []struct {
		t         Tensor
		dst, want any
	}{
		{Float64s("a", nil, []float64{1.5, -2}), make([]float64, 2), []float64{1.5, -2}},
		{Int64s("b", []int{2, 1}, []int64{-1, 7}), make([]int64, 2), []int64{-1, 7}},
		{Uint64s("c", []int{}, []uint64{1 << 63}), make([]uint64, 1), []uint64{1 << 63}},
		{Bytes("d", nil, []byte("hey")), make([]byte, 3), []byte("hey")},
		{Float32s("e", []int{0, 3}, nil), []float32{}, []float32{}},
	} {
		if err := c.t.CopyTo(c.dst); err != nil {
			t.Errorf("%s: %v", c.t.Name, err)
		}
		equal := false
		switch d := c.dst.(type) {
		case []float32:
			equal = slices.Equal(d, c.want.([]float32))
		case []float64:
			equal = slices.Equal(d, c.want.([]float64))
		case []int64:
			equal = slices.Equal(d, c.want.([]int64))
		case []uint64:
			equal = slices.Equal(d, c.want.([]uint64))
		case []byte:
			equal = slices.Equal(d, c.want.([]byte))
		}
		if !equal {
			t.Errorf("%s: got %v, want %v", c.t.Name, c.dst, c.want)
		}
	}
}

func TestCopyToRefuses(t *testing.T) {
	a := Float32s("w", []int{2, 2}, make([]float32, 4))
	for _, c := range []struct {
		dst  any
		want string
	}{
		{make([]float32, 3), `tensor "w" is F32 [2 2], expected 3 elements of F32`},
		{make([]float64, 4), `tensor "w" is F32 [2 2], expected 4 elements of F64`},
	} {
		if err := a.CopyTo(c.dst); err == nil || err.Error() != c.want {
			t.Errorf("%T: got %v, want %s", c.dst, err, c.want)
		}
	}
	short := a
	short.Data = a.Data[:8]
	if err := short.CopyTo(make([]float32, 4)); err == nil {
		t.Error("a tensor whose data is shorter than its shape was copied")
	}
	for name, f := range map[string]func(){
		"wrong shape":    func() { Float32s("w", []int{2, 2}, make([]float32, 3)) },
		"negative shape": func() { Float32s("w", []int{-1, -3}, make([]float32, 3)) },
		"huge shape":     func() { Float32s("w", []int{1 << 32, 1 << 32}, nil) },
		"foreign slice":  func() { _ = a.CopyTo([]int32{1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestMatchNamesTheFirstDifference(t *testing.T) {
	f := func(name string, shape ...int) Tensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return Float32s(name, shape, make([]float32, n))
	}
	want := []Tensor{f("0.weight", 4, 3), f("0.bias", 4), f("1.weight", 2, 4)}
	cut := f("0.bias", 4)
	cut.Data = cut.Data[:12]
	for _, c := range []struct {
		name string
		have []Tensor
		err  string // "" for none
	}{
		{"same", want, ""},
		{"other order", []Tensor{want[2], want[0], want[1]}, ""},
		{"shape", []Tensor{f("0.weight", 5, 3), f("0.bias", 5), want[2]}, `tensor "0.weight" is F32 [5 3] where F32 [4 3] is expected`},
		{"type", []Tensor{want[0], Float64s("0.bias", nil, make([]float64, 4)), want[2]}, `tensor "0.bias" is F64 [4] where F32 [4] is expected`},
		{"missing", want[:2], `tensor "1.weight" (F32 [2 4]) is expected and not among the saved ones (0.weight, 0.bias)`},
		{"unknown", append(slices.Clone(want), f("2.weight", 1)), `saved tensor "2.weight" (F32 [1]) is unknown here (0.weight, 0.bias, 1.weight)`},
		{"twice", append(slices.Clone(want), want[0]), `tensor "0.weight" is saved twice`},
		{"none", nil, `tensor "0.weight" (F32 [4 3]) is expected and not among the saved ones (there are none)`},
		{"data", []Tensor{want[0], cut, want[2]}, `tensor "0.bias" has 12 bytes where 16 are expected`},
	} {
		err := Match(c.have, want)
		if got := errText(err); got != c.err {
			t.Errorf("%s: got %q, want %q", c.name, got, c.err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRestoreIsAllOrNothing(t *testing.T) {
	a, b := []float32{1, 2}, []uint64{3}
	live := []Tensor{Float32s("a", nil, a), Uint64s("b", nil, b)}
	bad := []Tensor{Float32s("a", nil, []float32{8, 9}), Int64s("b", nil, []int64{7})}
	if err := Restore(bad, live); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("error is %v, want one that names b", err)
	}
	if a[0] != 1 || a[1] != 2 || b[0] != 3 {
		t.Errorf("a refused Restore changed memory: %v %v", a, b)
	}
	good := []Tensor{Uint64s("b", nil, []uint64{7}), Float32s("a", nil, []float32{8, 9})}
	if err := Restore(good, live); err != nil || a[0] != 8 || a[1] != 9 || b[0] != 7 {
		t.Errorf("restored %v %v, %v", a, b, err)
	}
}

func TestPrefixes(t *testing.T) {
	ts := []Tensor{Bytes("m", nil, nil), Bytes("v", nil, nil)}
	all := append(Prefixed("optim.", ts), Prefixed("strategy.", ts[:1])...)
	if got := names(all); got != "optim.m, optim.v, strategy.m" {
		t.Errorf("Prefixed gave %s", got)
	}
	if got := names(Under("optim.", all)); got != "m, v" {
		t.Errorf("Under gave %s", got)
	}
	if ts[0].Name != "m" || all[0].Name != "optim.m" {
		t.Error("a name was changed in place")
	}
}
