package data

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A view shows what Gather copies, with and without labels, of data that lies as a batch has it and of other data.
func TestView(t *testing.T) {
	text := "+1 1:0.5 3:2\n-1 2:1\n+1\n-1 1:0 5:7\n-1 4:1\n"
	class := mustRead(t, text, Options{})
	number := mustRead(t, strings.ReplaceAll(text, "+1 ", "1.25 "), Options{Task: Regression})
	bare := mustRead(t, "1:3\n2:1 5:1\n3:1\n1:1\n2:2\n", Options{Format: "libsvm", Like: SchemaOf(class)})
	for name, ds := range map[string]Dataset{"classes": class, "numbers": number, "no labels": bare,
		"subset": Subset(class, []int{4, 0, 3, 2, 1}), "dense": Dense("d", 2, make([]float32, 10), make([]int32, 5), 1)} {
		var v, g Batch
		View(ds, &v, 1, 4)
		ds.Gather(&g, []int{1, 2, 3})
		if v.N != g.N || v.Dim != g.Dim || !slices.Equal(v.Class, g.Class) || !slices.EqualFunc(v.Y, g.Y, same32) || !slices.Equal(v.X, g.X) {
			t.Fatalf("%s: a view of %+v, gathered %+v", name, v, g)
		}
		for i := 0; i < v.N && len(g.Row) > 0; i++ {
			if !slices.Equal(v.Col[v.Row[i]:v.Row[i+1]], g.Col[g.Row[i]:g.Row[i+1]]) || !slices.Equal(v.Val[v.Row[i]:v.Row[i+1]], g.Val[g.Row[i]:g.Row[i+1]]) {
				t.Fatalf("%s: sample %d differs", name, i)
			}
		}
	}
}

func same32(a, b float32) bool { return a == b || a != a && b != b }

// The hash is that of the samples as batches have them, however it is come by.
func TestSparseHash(t *testing.T) {
	ds := mustRead(t, strings.Repeat("+1 1:0.5 3:2\n-1 2:1\n", 300), Options{}).(*sparse)
	h := sha256.New()
	hashBatches(h, ds)
	own := sha256.New()
	ds.hash256(own)
	if got, want := hex.EncodeToString(own.Sum(nil)), hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("hash %s, of batches %s", got, want)
	}
}

// The short way through a number reads it as strconv does, or not at all.
func TestDecimal(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	took := 0
	for range 200000 {
		var s string
		switch r.IntN(3) {
		case 0:
			s = strconv.FormatFloat(r.NormFloat64(), 'f', r.IntN(18), 64)
		case 1:
			s = strconv.FormatFloat(r.NormFloat64()*1e6, 'g', -1, 32)
		default:
			s = strconv.Itoa(int(r.Uint64() >> r.IntN(64)))
		}
		want, err := strconv.ParseFloat(s, 64)
		got, n := decimal([]byte(s + " "))
		if n == 0 {
			continue
		}
		took++
		if err != nil || n != len(s) || got != want {
			t.Fatalf("seed %d: %s is read as %v in %d bytes, want %v", seed, s, got, n, want)
		}
	}
	if took < 100000 {
		t.Errorf("seed %d: only %d of 200000 took the short way", seed, took)
	}
	for _, s := range []string{"", " ", "-", ".", "1e5 ", "1x ", "1", "nan ", "--1 ", "1.2.3 ", "1234567890123456 "} {
		if v, n := decimal([]byte(s)); n != 0 {
			t.Errorf("%q is read as %v", s, v)
		}
	}
}

// A text reads the same whatever pieces it comes in, short lines or long.
func TestChunks(t *testing.T) {
	var b strings.Builder
	for i := range 300 {
		b.WriteString("1")
		for j := range 1 + i%40 {
			b.WriteString(" " + strconv.Itoa(j+1) + ":" + strconv.Itoa(i))
		}
		b.WriteString("\n")
	}
	text := strings.TrimSuffix(b.String(), "\n")
	for _, size := range []int{1, 7, 64, 1000, 1 << 20} {
		in, err := bytesSource("text", []byte(text)).read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := chunks{in: in.Reader, size: size}
		var got strings.Builder
		for {
			p, err := c.next()
			if err != nil {
				break
			}
			if got.Write(p); got.Len() < len(text) && p[len(p)-1] != '\n' {
				t.Fatalf("size %d: a piece ends within a line", size)
			}
		}
		if got.String() != text {
			t.Fatalf("size %d: %d bytes, want %d", size, got.Len(), len(text))
		}
	}
}
