package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// TestEntriesLen holds the formula against a count of bits of another make, and the bounds.
func TestEntriesLen(t *testing.T) {
	r := rng.New(81, "entries")
	for range 3000 {
		n := 1 + r.IntN(1<<r.IntN(14))
		p := r.Float64() * r.Float64()
		var idx []int32
		for i := range n {
			if r.Float64() < p {
				idx = append(idx, int32(i))
			}
		}
		k := len(idx)
		best := math.MaxInt
		for b := range 31 {
			sum, last := k*(1+b), -1
			for _, j := range idx {
				sum += (int(j) - last - 1) / (1 << b)
				last = int(j)
			}
			best = min(best, sum)
		}
		for _, v := range []Values{F32, FP16, BF16} {
			want := len(binary.AppendUvarint(nil, uint64(k)))
			if k > 0 {
				want += 1 + (best+7)/8 + []int{4 * k, 1 + 2*k, 2 * k}[v]
			}
			code, err := AppendEntries(nil, n, idx, make([]float32, k), v)
			if err != nil || len(code) != want || EntriesLen(idx, n, v) != want || want > MaxEntriesLen(n, k, v) {
				t.Fatalf("%d of %d, %v: %d bytes, EntriesLen %d, formula %d, at most %d, %v", k, n, v, len(code), EntriesLen(idx, n, v), want, MaxEntriesLen(n, k, v), err)
			}
		}
	}
	for n := range 300 {
		for k := range n {
			if MaxEntriesLen(n, k, F32) > MaxEntriesLen(n, k+1, F32) {
				t.Fatalf("%d of %d entries may take more than %d", k, n, k+1)
			}
		}
	}
}

// TestEntriesFar: gaps as long as they can be, with the parameter that suits the other ones least.
func TestEntriesFar(t *testing.T) {
	const n = math.MaxInt32
	for _, idx := range [][]int32{{n - 1}, {0, n - 1}, {0}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, n - 1}, {n - 2, n - 1}} {
		for range 2 {
			code, err := AppendEntries(nil, n, idx, make([]float32, len(idx)), F32)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := ReadEntries(nil, nil, code, n, F32)
			if err != nil || !slices.Equal(got, idx) {
				t.Fatalf("%v comes back as %v, %v", idx, got, err)
			}
			for i := range 200 { // many small gaps before a long one
				if idx = append(idx, 0); i == 199 {
					for j := range idx {
						idx[j] = int32(j)
					}
					idx[len(idx)-1] = 300000
				}
			}
		}
	}
}

// TestValues rounds numbers of all sizes, and comes back as near as Values says.
func TestValues(t *testing.T) {
	for e := -149; e <= 127; e++ {
		x := []float32{float32(math.Ldexp(1, e)), float32(-math.Ldexp(1.7357, e)), float32(math.Ldexp(1.99999988, e)), 0, float32(math.Ldexp(1.3, e-12)), float32(math.Ldexp(-1.1, e-60))}
		largest := float64(vec.MaxAbs(x))
		idx := []int32{0, 1, 2, 3, 4, 5}
		for _, v := range []Values{F32, FP16, BF16} {
			code, err := AppendEntries(nil, 6, idx, x, v)
			if err != nil {
				t.Fatal(err)
			}
			_, y, err := ReadEntries(nil, nil, code, 6, v)
			if err != nil {
				t.Fatalf("2^%d, %v: %v", e, v, err)
			}
			for i := range x {
				a := math.Abs(float64(x[i]))
				bound := []float64{0, max(0x1p-11*a, 0x1p-39*largest), 0x1p-8 * a}[v]
				if v == BF16 && a < 0x1p-126 {
					bound = a
				}
				if math.Abs(float64(x[i])-float64(y[i])) > bound {
					t.Fatalf("2^%d, %v: %v becomes %v", e, v, x[i], y[i])
				}
			}
			if again, err := AppendEntries(nil, 6, idx, y, v); err != nil || !bytes.Equal(again, code) {
				t.Fatalf("2^%d, %v: %v is written as %x, then as %x, %v", e, v, x, code, again, err)
			}
		}
	}
}

func TestEntriesPanics(t *testing.T) {
	for what, idx := range map[string][]int32{"too large": {1, 5}, "twice": {1, 1}, "falls": {2, 1}, "negative": {-1, 3}, "too few numbers": {1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			AppendEntries(nil, 5, idx, []float32{1, 2}, F32)
		}()
	}
}

// TestSparseNotFinite: a NaN or an infinity has no code, kept or not.
func TestSparseNotFinite(t *testing.T) {
	for _, choice := range sparseChoices {
		c := sparsifier(t, choice)
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for _, at := range []int{0, 17, 999} {
				x := heavy(2, 1000)
				x[at] = bad
				if p, err := c.Encode([]byte("head"), x, 1); !errors.Is(err, ErrNotFinite) || string(p) != "head" {
					t.Errorf("%s, %v at %d: %d bytes, %v", choice, bad, at, len(p), err)
				}
			}
		}
	}
}

// TestSparseRefuses: what no Encode writes is a CorruptError that names the compressor, and says what is wrong.
func TestSparseRefuses(t *testing.T) {
	value := func(v ...float32) string { return string(vec.Bytes(v)) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	const n = 10
	for _, c := range []struct{ choice, code, what string }{
		{"topk:k=1", "", "cannot be read"},
		{"topk:k=1", "\x81\x00", "cannot be read"},
		{"topk:k=1", "\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02", "cannot be read"},
		{"topk:k=1", "\x00", "0 elements kept, want 1"},
		{"topk:k=1", "\x0b", "11 entries in 1 bytes"},
		{"topk:k=1", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "18446744073709551615 entries in 10 bytes"},
		{"topk:k=1", "\x01\x02" + value(1), "an index is too large"},
		{"topk:k=1", "\x01\x20\x05" + value(1), "a Rice parameter of 32"},
		{"topk:k=1", "\x01\x01\x0c" + value(1) + "x", "5 bytes for 1 numbers"},
		{"topk:k=1", "\x01\x02\x00" + value(1), "an index is too large"},
		{"topk:k=1", "\x01\x03\xf1" + value(1), "not zero"},
		{"topk:k=1", "\x01\x03\x05" + value(1), "a shorter form"},
		{"topk:k=3", "\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07", "an index is too large"},
		{"topk:k=3", "\x03\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "an index is too large"},
		{"topk:k=3", "\x03\x00\x07" + value(1, 2, 3) + "x", "13 bytes for 3 numbers"},
		{"topk:k=1", "\x01\x01\x0c" + value(nan), "not finite"},
		{"topk:k=1", "\x01\x01\x0c" + value(-inf), "not finite"},
		{"topk:k=1,values=bf16", "\x01\x01\x0c\x80\x7f", "not finite"},
		{"topk:k=1,values=fp16", "\x01\x01\x0c\x10\x00\x7c", "the largest number"},
		{"topk:k=1,values=fp16", "\x01\x01\x0c\x10\x00\x10", "the largest number"},
		{"topk:k=1,values=fp16", "\x01\x01\x0c\xef\x00\x74", "the largest number"},
		{"randomk:k=1", "1234567", "7 bytes, want 12"},
		{"randomk:k=1", "12345678" + value(1, 2), "16 bytes, want 12"},
		{"randomk:k=1", "12345678" + value(nan), "not finite"},
		{"bernoulli:1", "12345678" + value(1), "12 bytes, want 48"},
		{"bernoulli:1", "1234567", "7 bytes, want 8 to 48"},
		{"bernoulli:0.5", "12345678" + strings.Repeat("\x00", 41), "49 bytes, want 8 to 48"},
		{"bernoulli:1", "12345678" + value(1, 2, 3, 4, 5, 6, 7, 8, 9, inf), "not finite"},
		{"threshold:2", "\x01\x01\x0c" + value(1.5), "below the threshold"},
		{"threshold:2", "\x00\x00", "2 bytes for 0 entries"},
		{"adaptive:bytes=16", strings.Repeat("\x03", 17), "17 bytes, want at most 16"},
	} {
		codec := sparsifier(t, c.choice)
		x := make([]float32, n)
		errs := map[string]error{"Decode": codec.Decode(x, []byte(c.code)), "Add": codec.(Adder).Add(x, []byte(c.code), 1)}
		_, errs["Kept"] = codec.(Sparse).Kept(nil, []byte(c.code), n)
		_, _, errs["Entries"] = codec.(Lister).Entries(nil, nil, []byte(c.code), n)
		for f, err := range errs {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Codec != c.choice || corrupt.N != n {
				t.Errorf("%s of %s and %q: %v", f, c.choice, c.code, err)
				continue
			}
			said := false
			for what := range strings.SplitSeq(c.what, "|") {
				said = said || strings.Contains(corrupt.What, what)
			}
			if !said {
				t.Errorf("%s of %s and %q: %q, want %q", f, c.choice, c.code, corrupt.What, c.what)
			}
		}
	}
}

// TestSparseTruncated: no beginning of a code is a code, nor is one with a byte more.
func TestSparseTruncated(t *testing.T) {
	for _, choice := range sparseChoices {
		c := sparsifier(t, choice)
		for _, n := range []int{1, 100, 700} {
			x := heavy(3, n)
			code, err := c.Encode(nil, x, 5)
			if err != nil {
				t.Fatal(err)
			}
			for i := range code {
				if c.Decode(x, code[:i]) == nil {
					t.Fatalf("%s, %d elements: the first %d bytes of %d are taken", choice, n, i, len(code))
				}
			}
			if c.Decode(x, append(code, 0)) == nil {
				t.Errorf("%s, %d elements: a byte more is taken", choice, n)
			}
		}
	}
}

// TestSparseChoices: what is out of range is refused with what is valid.
func TestSparseChoices(t *testing.T) {
	for text, want := range map[string]string{
		"topk:0":                  "topk: the ratio is 0, expected above 0 and at most 1",
		"topk:1.5":                "expected above 0 and at most 1, such as 0.01 for 1 %",
		"topk:k=0":                "topk: k is 0, expected 1 to 2147483647",
		"topk:0.1,k=5":            "topk: one of ratio and k, not both",
		"topk:kk=5":               `unknown parameter "kk": did you mean "k"?`,
		"topk:0.1,values=fp32":    `did you mean "f32"?`,
		"randomk:-1":              "randomk: the ratio is -1",
		"randomk:0.1,rescale=yes": `rescale is "yes", expected true or false`,
		"bernoulli:0":             "bernoulli: p is 0, expected above 2^-32 and at most 1",
		"threshold":               "threshold: give the least magnitude to keep, as in threshold:0.001",
		"threshold:-1":            "threshold: t is -1, expected a float32 above 0",
		"threshold:1e99":          "expected a float32 above 0",
		"adaptive":                "adaptive: give energy=0.9",
		"adaptive:energy=1":       "adaptive: energy is 1, expected above 0 and below 1",
		"adaptive:bytes=8":        "adaptive: bytes is 8, expected 16 to",
		"adaptive:bytes=64KB":     `bytes is "64KB", expected bytes such as 65536 or 64KiB`,
	} {
		s, err := spec.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{"topk": "topk:0.01", "randomk": "randomk:0.01", "bernoulli": "bernoulli:0.01", "adaptive:0.5": "adaptive:energy=0.5",
		"topk:0.1,fp16": "topk:0.1,values=fp16", "adaptive:bytes=65536": "adaptive:bytes=64KiB", "randomk:rescale=true": "randomk:0.01,rescale=true"} {
		if c := sparsifier(t, text); c.String() != want {
			t.Errorf("%s is %s, want %s", text, c, want)
		}
	}
}

// TestSparseAllocates nothing once it has what it works with.
func TestSparseAllocates(t *testing.T) {
	for _, choice := range sparseChoices {
		c := sparsifier(t, choice)
		x, y, idx := heavy(4, 5000), make([]float32, 5000), make([]int32, 0, 5000)
		code := make([]byte, 0, c.MaxLen(len(x)))
		if n := testing.AllocsPerRun(10, func() {
			var err error
			if code, err = c.Encode(code[:0], x, 1); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.Decode(y, code), c.(Adder).Add(y, code, 2)); err != nil {
				t.Fatal(err)
			}
			if idx, err = c.(Sparse).Kept(idx[:0], code, len(x)); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v objects", choice, n)
		}
	}
}

// FuzzSparse: whatever is taken for a code is the code, the only one, of what it is decoded to.
func FuzzSparse(f *testing.F) {
	for i, choice := range sparseChoices {
		for _, n := range []int{0, 1, 40, 900} {
			code, err := sparsifier(f, choice).Encode(nil, heavy(uint64(i), n), 3)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint16(n), code)
		}
	}
	f.Fuzz(func(t *testing.T, choice uint8, n uint16, code []byte) {
		c := sparsifier(t, sparseChoices[int(choice)%len(sparseChoices)]).(Lister)
		idx, val, err := c.Entries(nil, nil, code, int(n))
		if err != nil {
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(code) > c.(Compressor).MaxLen(int(n)) || len(idx) > c.Most(int(n)) || !vec.Finite(val) {
			t.Fatalf("%s takes %d bytes with %d of %d elements", c, len(code), len(idx), n)
		}
		for i, j := range idx {
			if int(j) >= int(n) || i > 0 && j <= idx[i-1] || j < 0 {
				t.Fatalf("%s: index %d is %d of %d", c, i, j, n)
			}
		}
		w, ok := c.(interface{ rounds() Values })
		if !ok {
			return
		}
		again, err := AppendEntries(nil, int(n), idx, val, w.rounds())
		if err != nil || !bytes.Equal(again, code) {
			t.Fatalf("%s takes %x, which is %v at %v, whose code is %x, %v", c, code, val, idx, again, err)
		}
	})
}

func ExampleAppendEntries() {
	code, err := AppendEntries(nil, 1000, []int32{3, 500, 501}, []float32{1, -2, 3}, F32)
	fmt.Println(len(code), err)
	idx, val, err := ReadEntries(nil, nil, code, 1000, F32)
	fmt.Println(idx, val, err)
	// Output:
	// 18 <nil>
	// [3 500 501] [1 -2 3] <nil>
}
