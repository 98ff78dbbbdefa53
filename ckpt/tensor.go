package ckpt

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Float32s makes a tensor whose Data aliases x. A nil shape means [len(x)]. It panics when shape does not hold
// len(x) elements, as the other constructors do.
func Float32s(name string, shape []int, x []float32) Tensor { return alias(name, F32, shape, x) }

// Float64s is Float32s for float64.
func Float64s(name string, shape []int, x []float64) Tensor { return alias(name, F64, shape, x) }

// Int64s is Float32s for int64.
func Int64s(name string, shape []int, x []int64) Tensor { return alias(name, I64, shape, x) }

// Uint64s is Float32s for uint64.
func Uint64s(name string, shape []int, x []uint64) Tensor { return alias(name, U64, shape, x) }

// Bytes is Float32s for bytes.
func Bytes(name string, shape []int, x []byte) Tensor { return alias(name, U8, shape, x) }

// With returns t with another way to re-shard.
func (t Tensor) With(s Shard) Tensor {
	t.Shard = s
	return t
}

// Size is the number of bytes of an element, 0 for a type that Covey does not write.
func (d DType) Size() int {
	switch d {
	case F32:
		return 4
	case F64, I64, U64:
		return 8
	case U8:
		return 1
	}
	return 0
}

// Len is the number of elements that the shape says, -1 when it says none that memory could hold.
func (t Tensor) Len() int {
	n, ok := product(t.Shape)
	if !ok {
		return -1
	}
	return int(n)
}

// CopyTo copies the elements to dst: a []float32, []float64, []int64, []uint64 or []byte, whose type and length must
// be t's. It panics on any other type of dst.
func (t Tensor) CopyTo(dst any) error {
	switch d := dst.(type) {
	case []float32:
		return t.copyTo(F32, len(d), raw(d))
	case []float64:
		return t.copyTo(F64, len(d), raw(d))
	case []int64:
		return t.copyTo(I64, len(d), raw(d))
	case []uint64:
		return t.copyTo(U64, len(d), raw(d))
	case []byte:
		return t.copyTo(U8, len(d), d)
	}
	panic(fmt.Sprintf("ckpt: Tensor.CopyTo(%T)", dst))
}

func (t Tensor) copyTo(want DType, n int, dst []byte) error {
	if t.Type != want || t.Len() != n || len(t.Data) != len(dst) {
		return fmt.Errorf("tensor %q is %s %v, expected %d elements of %s", t.Name, t.Type, t.Shape, n, want)
	}
	copy(dst, t.Data)
	return nil
}

// Match returns nil when have holds a tensor of the same type and shape for each one of want, and no other; order does
// not matter. Otherwise the error names the first of want that is missing or differs, saying what both are, or else
// the first of have that is unknown.
func Match(have, want []Tensor) error {
	byName := make(map[string]Tensor, len(have))
	for _, h := range have {
		if _, twice := byName[h.Name]; twice {
			return fmt.Errorf("tensor %q is saved twice", h.Name)
		}
		byName[h.Name] = h
	}
	known := make(map[string]bool, len(want))
	for _, w := range want {
		known[w.Name] = true
		h, ok := byName[w.Name]
		switch {
		case !ok:
			return fmt.Errorf("tensor %q (%s %v) is expected and not among the saved ones (%s)", w.Name, w.Type, w.Shape, names(have))
		case h.Type != w.Type || !slices.Equal(h.Shape, w.Shape):
			return fmt.Errorf("tensor %q is %s %v where %s %v is expected", w.Name, h.Type, h.Shape, w.Type, w.Shape)
		case len(h.Data) != len(w.Data):
			return fmt.Errorf("tensor %q has %d bytes where %d are expected", w.Name, len(h.Data), len(w.Data))
		}
	}
	for _, h := range have {
		if !known[h.Name] {
			return fmt.Errorf("saved tensor %q (%s %v) is unknown here (%s)", h.Name, h.Type, h.Shape, names(want))
		}
	}
	return nil
}

// Restore copies each saved tensor into the one of live with its name, whose Data aliases the memory to fill (as
// State's does). When the two do not Match it changes nothing and returns Match's error. It is all that most Load
// methods need: return ckpt.Restore(saved, o.State()).
func Restore(saved, live []Tensor) error {
	if err := Match(saved, live); err != nil {
		return err
	}
	to := make(map[string][]byte, len(live))
	for _, l := range live {
		to[l.Name] = l.Data
	}
	for _, s := range saved {
		copy(to[s.Name], s.Data)
	}
	return nil
}

// Prefixed returns the tensors with prefix put before their names, so that the states of several parts fit in one file.
func Prefixed(prefix string, ts []Tensor) []Tensor {
	out := slices.Clone(ts)
	for i := range out {
		out[i].Name = prefix + out[i].Name
	}
	return out
}

// Under returns the tensors whose names begin with prefix, without it: what Prefixed was given.
func Under(prefix string, ts []Tensor) []Tensor {
	var out []Tensor
	for _, t := range ts {
		if rest, ok := strings.CutPrefix(t.Name, prefix); ok {
			t.Name = rest
			out = append(out, t)
		}
	}
	return out
}

// names lists some of the tensors for an error.
func names(ts []Tensor) string {
	if len(ts) == 0 {
		return "there are none"
	}
	const most = 8
	var b strings.Builder
	for i, t := range ts[:min(len(ts), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(t.Name)
	}
	if len(ts) > most {
		fmt.Fprintf(&b, " and %d more", len(ts)-most)
	}
	return b.String()
}

type element interface {
	float32 | float64 | int64 | uint64 | byte
}

func alias[T element](name string, d DType, shape []int, x []T) Tensor {
	if shape == nil {
		shape = []int{len(x)}
	}
	if n, ok := product(shape); !ok || n != int64(len(x)) {
		panic(fmt.Sprintf("ckpt: tensor %q of shape %v does not hold %d elements", name, shape, len(x)))
	}
	return Tensor{Name: name, Type: d, Shape: slices.Clone(shape), Data: raw(x)}
}

// raw is x's memory, which is the stored form because every machine that Covey builds for is little-endian.
func raw[T element](x []T) []byte {
	if !littleEndian {
		panic("ckpt: this machine is big-endian, which Covey does not build for")
	}
	if len(x) == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), len(x)*int(unsafe.Sizeof(x[0])))
}

var littleEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 1
}()

// maxElements bounds every product of dimensions, so that byte counts cannot overflow.
const maxElements = 1 << 48

// product multiplies the dimensions; ok is false when one is negative or the product too large.
func product(shape []int) (n int64, ok bool) {
	n = 1
	zero := false
	for _, d := range shape {
		switch {
		case d < 0 || int64(d) > maxElements:
			return 0, false
		case d == 0:
			zero = true
		case n > maxElements/int64(d):
			return 0, false
		default:
			n *= int64(d)
		}
	}
	if zero {
		return 0, true
	}
	return n, true
}
