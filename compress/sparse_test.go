package compress

import (
	"bytes"
	"crypto/sha256"
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

// sparsifier makes one from a choice.
func sparsifier(t testing.TB, text string) Compressor {
	t.Helper()
	s, err := spec.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sparseChoices has each sparsifier in its forms, as String writes them.
var sparseChoices = []string{
	"topk:0.01", "topk:0.3", "topk:k=7", "topk:1", "topk:0.05,values=fp16", "topk:0.05,values=bf16",
	"randomk:0.01", "randomk:0.6", "randomk:k=7", "randomk:0.1,rescale=true", "randomk:k=3,rescale=true",
	"bernoulli:0.01", "bernoulli:0.5", "bernoulli:1",
	"threshold:0.001", "threshold:2", "threshold:0.5,values=fp16", "threshold:0.5,values=bf16",
	"adaptive:energy=0.9", "adaptive:energy=0.5,values=fp16", "adaptive:bytes=16", "adaptive:bytes=1KiB", "adaptive:bytes=500,values=bf16",
	"adaptive:energy=0.99,bytes=200",
}

// heavy is a vector of heavy-tailed numbers around 1: most of what it has is in few elements.
func heavy(seed uint64, n int) []float32 {
	r := rng.New(seed, "heavy")
	x := make([]float32, n)
	for i := range x {
		u, v := 2*r.Float64()-1, r.Float64()
		x[i] = float32(u / (0.02 + float64(v*v)))
	}
	return x
}

// vectors are what a compressor may meet.
func vectors(n int) map[string][]float32 {
	rising, flat, spike, few, tiny, huge := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range n {
		rising[i] = float32(i) - float32(n)/3
		flat[i] = -1.5
		few[i] = float32(i*i%3) - 1
		tiny[i] = math.Float32frombits(uint32(i%5000 + 1)) // below 2^-126
		huge[i] = math.MaxFloat32
	}
	if n > 0 {
		spike[n/2] = 3
	}
	return map[string][]float32{"heavy": heavy(1, n), "rising": rising, "flat": flat, "spike": spike, "few values": few,
		"tiny": tiny, "huge": huge, "zero": make([]float32, n)}
}

var sparseLengths = []int{0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 100, 1000, 4097, 20011}

// TestSparse holds all of the contract that does not depend on what is kept.
func TestSparse(t *testing.T) {
	for _, choice := range sparseChoices {
		c := sparsifier(t, choice)
		if c.String() != choice {
			t.Errorf("%s prints as %s", choice, c)
		}
		lister := c.(Lister)
		for _, n := range sparseLengths {
			for name, x := range vectors(n) {
				what := fmt.Sprintf("%s of %s, %d elements", choice, name, n)
				before := slices.Clone(x)
				code, err := c.Encode([]byte("head"), x, 9)
				if name == "huge" && n > 0 && errors.Is(err, ErrNotFinite) && strings.Contains(choice, "rescale") {
					continue // times n/k it is infinite
				}
				if name == "huge" && errors.Is(err, ErrNotFinite) && strings.Contains(choice, "bernoulli") {
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if !bytes.Equal(vec.Bytes(before), vec.Bytes(x)) {
					t.Fatalf("%s: Encode wrote to the vector", what)
				}
				if !bytes.HasPrefix(code, []byte("head")) {
					t.Fatalf("%s: Encode does not append", what)
				}
				code = code[4:]
				if _, fixed := c.(Fixed); len(code) > c.MaxLen(n) || fixed && len(code) != c.MaxLen(n) {
					t.Fatalf("%s: %d bytes, at most %d", what, len(code), c.MaxLen(n))
				}
				idx, val, err := lister.Entries([]int32{-1}, []float32{-1}, code, n)
				if err != nil || idx[0] != -1 || val[0] != -1 {
					t.Fatalf("%s: Entries gives %v, %v, %v", what, idx, val, err)
				}
				idx, val = idx[1:], val[1:]
				if k, err := lister.Kept([]int32{-1}, code, n); err != nil || !slices.Equal(k[1:], idx) || k[0] != -1 || len(idx) > lister.Most(n) {
					t.Fatalf("%s: Kept gives %v, %v; the entries are at %v, at most %d", what, k, err, idx, lister.Most(n))
				}
				got, want := fill(n, 7), make([]float32, n)
				for i, j := range idx {
					want[j] = val[i]
				}
				if err := c.Decode(got, code); err != nil || !bytes.Equal(vec.Bytes(got), vec.Bytes(want)) {
					t.Fatalf("%s: decodes to %v, %v; want %v", what, got, err, want)
				}
				for _, scale := range []float32{1, -1, 0.3, 0} {
					got, want := fill(n, 1.1), fill(n, 1.1)
					for i, j := range idx {
						want[j] = vec.FMA(scale, val[i], want[j])
					}
					if err := lister.Add(got, code, scale); err != nil || !bytes.Equal(vec.Bytes(got), vec.Bytes(want)) {
						t.Fatalf("%s, added %g times: %v, %v; want %v", what, scale, got, err, want)
					}
				}
			}
		}
	}
}

// TestSparseGolden holds all codes to what they were: they are the same on all processors, and in all versions that talk to
// each other.
func TestSparseGolden(t *testing.T) {
	h := sha256.New()
	for _, choice := range sparseChoices {
		for _, n := range sparseLengths {
			code, err := sparsifier(t, choice).Encode(nil, heavy(uint64(n), n), 7)
			if err != nil {
				t.Fatal(err)
			}
			h.Write(code)
		}
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)[:8]); got != "bcc976951cb3b204" {
		t.Errorf("the codes' hash is %s", got)
	}
}

func fill(n int, v float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = v
	}
	return x
}
