package data

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// wellFormed checks that each row of b increases below its width and holds finite numbers that are not 0.
func wellFormed(t testing.TB, b *Batch) {
	t.Helper()
	for i := range b.N {
		for k := b.Row[i]; k < b.Row[i+1]; k++ {
			v := float64(b.Val[k])
			if b.Col[k] < 0 || int(b.Col[k]) >= b.Dim || k > b.Row[i] && b.Col[k] <= b.Col[k-1] || v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("sample %d has column %d, value %v", i, b.Col[k], v)
			}
		}
	}
}

// Each column has features of its own, equal texts are one feature wherever they stand, and a number is told from another by
// its half octave.
func TestHashCSV(t *testing.T) {
	ds := mustRead(t, "site,ad,hour,click\na,a,4,0\nb,a,5,1\na,c,3,1\nb,a,-4,0\nb,a,0,0\nb,a,-0,0\n", Options{Hash: 12})
	in := ds.Info()
	if part := 4096 / 3; !in.Sparse || in.Dim != 3*part || !slices.Equal(in.Fields, []int{0, part, 2 * part}) || in.Columns != nil || in.Classes != 2 {
		t.Fatalf("%+v", in)
	}
	b := gather(ds)
	wellFormed(t, b)
	col := make([][]int32, b.N)
	for i := range col {
		col[i] = b.Col[b.Row[i]:b.Row[i+1]]
		if len(col[i]) != 3 {
			t.Fatalf("sample %d has features %v", i, col[i])
		}
		for f, c := range col[i] {
			if int(c) < in.Fields[f] || f < 2 && int(c) >= in.Fields[f+1] {
				t.Errorf("sample %d: feature %d is not of column %d", i, c, f)
			}
		}
	}
	for _, c := range []struct {
		i, j, field int
		same        bool
	}{
		{0, 2, 0, true}, {0, 1, 0, false}, {0, 1, 1, true}, {0, 2, 1, false}, // a a, a b; a a, a c
		{0, 1, 2, true}, {0, 2, 2, false}, {0, 3, 2, false}, {4, 5, 2, true}, // 4 5, 4 3, 4 -4, 0 -0
	} {
		if same := col[c.i][c.field] == col[c.j][c.field]; same != c.same {
			t.Errorf("samples %d and %d, column %d: features %d and %d", c.i, c.j, c.field, col[c.i][c.field], col[c.j][c.field])
		}
	}
	if other := gather(mustRead(t, "site,ad,hour,click\na,a,4,0\nb,a,5,1\n", Options{Hash: 12, Seed: 9})); slices.Equal(other.Col, b.Col[:6]) {
		t.Error("another seed has the same hashes")
	}
}

// Numbers as values are one feature each, which 0 leaves out.
func TestHashKeepsValues(t *testing.T) {
	ds := mustRead(t, "a,b,y\n1.5,x,0\n0,y,1\n,x,1\n", Options{Hash: 6, Numbers: "value", Missing: "keep"})
	b := gather(ds)
	wellFormed(t, b)
	if !slices.Equal(b.Row, []int{0, 2, 3, 4}) || b.Col[0] != 0 || b.Val[0] != 1.5 || b.Col[1] < 32 || b.Col[1] != b.Col[3] {
		t.Errorf("%+v", b)
	}
}

// Missing is a text of its own when it is kept, also where all else is numbers.
func TestHashMissing(t *testing.T) {
	b := gather(mustRead(t, "a,b,y\n1,x,0\n,x,1\nNA,,1\n2,x,0\n", Options{Hash: 16, Missing: "keep"}))
	wellFormed(t, b)
	if len(b.Col) != 8 || b.Col[2] != b.Col[4] || b.Col[0] == b.Col[2] || b.Col[6] == b.Col[2] || b.Col[1] != b.Col[3] || b.Col[1] == b.Col[5] {
		t.Errorf("%+v", b)
	}
	_, err := read(t, "a,b,y\n1,x,0\n,x,1\n", Options{Hash: 16})
	says(t, err, "line 3", `column "a"`, "keep", "drop")
}

// What is read later is hashed as the training data was, whatever the options say, with texts and numbers never seen.
func TestHashLike(t *testing.T) {
	for _, text := range []string{"n,s,y\n7,u,0\n8,v,1\n9,u,1\n", "-1 12345678901:1\n+1 7:2\n-1 7:1\n"} {
		train := mustRead(t, text, Options{Hash: 14, Seed: 5})
		raw, err := json.Marshal(SchemaOf(train))
		if err != nil {
			t.Fatal(err)
		}
		var like Schema
		if err := json.Unmarshal(raw, &like); err != nil {
			t.Fatal(err)
		}
		again := mustRead(t, text, Options{Like: &like})
		if a, b := gather(train), gather(again); !slices.Equal(a.Col, b.Col) || !slices.Equal(a.Class, b.Class) || !slices.Equal(a.Row, b.Row) {
			t.Errorf("%q\nread first: %+v\nread again: %+v", text, a, b)
		}
	}
	like := schemaOf(t, "n,s,y\n7,u,0\n8,v,1\n", Options{Hash: 14})
	b := gather(mustRead(t, "n,s\n-1e30,never seen\n", Options{Like: like}))
	if wellFormed(t, b); len(b.Col) != 2 {
		t.Errorf("%+v", b)
	}
	_, err := read(t, "n,s\nmany,u\n", Options{Like: like})
	says(t, err, "line 2", `column "n"`, `"many"`)
}

// Indices of any size are brought down, by pieces on all cores as in one, and what meets is added up.
func TestHashLIBSVM(t *testing.T) {
	const seed, bits, samples = 3, 6, 4000
	r := rng.New(seed, "test")
	h := (&Hashing{Bits: bits, Seed: seed}).column("", 1<<bits)
	var text strings.Builder
	want := make([][1 << bits]float32, samples)
	for i := range samples {
		fmt.Fprintf(&text, "%d", i%2)
		at := 0
		for range r.IntN(20) {
			at += 1 + r.IntN(1<<(1+r.IntN(40)))
			v := float32(1 + r.IntN(3))
			fmt.Fprintf(&text, " %d:%v", at, v)
			want[i][h.number(uint64(at-1))] += v // whole numbers: in any order
		}
		text.WriteByte('\n')
	}
	if text.Len() < libsvmChunk {
		t.Fatalf("%d bytes are too few for several pieces", text.Len())
	}
	ds := mustRead(t, text.String(), Options{Hash: bits, Seed: seed})
	b := gather(ds)
	wellFormed(t, b)
	if b.Dim != 1<<bits {
		t.Errorf("%d features", b.Dim)
	}
	for i := range want {
		var got [1 << bits]float32
		for k := b.Row[i]; k < b.Row[i+1]; k++ {
			got[b.Col[k]] = b.Val[k]
		}
		if got != want[i] {
			t.Fatalf("seed %d: sample %d is %v, want %v", seed, i, got, want[i])
		}
	}
}

// Hashes are part of every model that was trained on them: they must never change.
func TestHashIsForever(t *testing.T) {
	h := (&Hashing{Bits: 20, Seed: 1}).column("city", 1<<20)
	got := []int{h.text(""), h.text("Rome"), h.text("Oslo"), h.number(halfOctave(1)), h.number(halfOctave(-3)), h.number(0)}
	if want := []int{405057, 187983, 412539, 766423, 108241, 297271}; !slices.Equal(got, want) {
		t.Errorf("hashes are %v, want %v", got, want)
	}
}

// Of n texts in m features about n - m(1 - exp(-n/m)) are not alone, as of balls in boxes.
func TestHashSpreads(t *testing.T) {
	const n = 1 << 14
	for _, name := range []string{"texts", "numbers"} {
		h := (&Hashing{Bits: 14, Seed: 2}).column(name, n)
		seen := map[int]bool{}
		for i := range n {
			if name == "texts" {
				seen[h.text(strconv.Itoa(i))] = true
			} else {
				seen[h.number(uint64(i))] = true
			}
		}
		if want := n * (1 - math.Exp(-1)); math.Abs(float64(len(seen))-want) > 5*math.Sqrt(n*0.1) {
			t.Errorf("%d %s have %d different hashes of %d, want about %.0f", n, name, len(seen), n, want)
		}
	}
}

func TestHashErrors(t *testing.T) {
	table := "a,b,c,y\n1,2,3,0\n1,2,3,1\n"
	for _, c := range []struct {
		text string
		o    Options
		want string
	}{
		{table, Options{Hash: 2}, "3 columns are too many for 2^2 hashed features: set hash to at least 3"},
		{table, Options{Hash: 29}, "hash is 29: expected 1 to 28"},
		{table, Options{Hash: 10, Features: 3}, "leave features out"},
		{table, Options{Hash: 10, Missing: "mean"}, "keep, drop or error"},
		{table, Options{Missing: "keep"}, "needs hash"},
		{table, Options{Numbers: "value"}, "needs hash"},
		{table, Options{Hash: 10, Numbers: "root"}, "log"},
		{table, Options{Hash: 10, Standardize: true}, "cannot be standardized"},
		{"a,y\n1,0\nx,1\n", Options{Hash: 10}, `line 3, column "a": "x" is not a number`},
		{"1 123456789012:1\n", Options{}, "set hash to bring larger ones down"},
		{"1 1234567890123456789:1\n", Options{Hash: 10}, "index is not a whole number"},
		{"1 9:1 9:1\n", Options{Hash: 10}, "given twice"},
	} {
		if _, err := read(t, c.text, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with %+v: error is %v, want one with %q", c.text, c.o, err, c.want)
		}
	}
	for _, path := range []string{"digits", "synthetic:100"} {
		if _, _, err := Open(ctx, path, Options{Hash: 10}); err == nil || !strings.Contains(err.Error(), "no features to hash") {
			t.Errorf("%s: error is %v", path, err)
		}
	}
}

// Memory does not grow with the texts of a file: four bytes a field, and what a line takes.
func TestHashKeepsNoTexts(t *testing.T) {
	var text strings.Builder
	const n = 20000
	for i := range n {
		fmt.Fprintf(&text, "user %d with a long name,ad %d,%d\n", i, i%7, i%2)
	}
	ds := mustRead(t, text.String(), Options{Hash: 20})
	if raw, err := json.Marshal(SchemaOf(ds)); err != nil || len(raw) > 1000 {
		t.Errorf("the schema takes %d bytes (%v)", len(raw), err)
	}
	if d, ok := ds.(*table); !ok || len(d.x) != 2*n {
		t.Errorf("%T", ds)
	}
}

func FuzzHash(f *testing.F) {
	f.Add([]byte("age,city,buys\n30,Rome,yes\n41,Oslo,no\n"), uint8(8), true)
	f.Add([]byte("1 2147483648:1 123456789012345678:-1\n0 0:0"), uint8(1), false)
	f.Add([]byte("a,b,c\n,x,1\n1e30,NA,0\n"), uint8(28), true)
	f.Fuzz(func(t *testing.T, p []byte, bits uint8, keep bool) {
		o := Options{Hash: int(bits), Test: "none"}
		if keep {
			o.Missing = "keep"
		}
		if o.Hash == 0 || o.validate() != nil {
			return
		}
		if d, err := readCSV(ctx, "input", bytesSource("input", p), nil, o); err == nil {
			if d, _, err := finish(d, nil, o); err == nil {
				wellFormed(t, gather(d))
			}
		}
		if d, err := readLIBSVM(ctx, "input", bytesSource("input", p), o); err == nil {
			wellFormed(t, gather(d))
		}
	})
}
