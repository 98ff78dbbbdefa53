package vec

import (
	"math"
	"testing"
	"unsafe"
)

// levels is room for n levels of 16 bits between canaries.
func (s *source) levels(n int) []int16 {
	return unsafe.Slice((*int16)(unsafe.Pointer(unsafe.SliceData(s.words(n)))), n)
}

// fractions are draws in [0, 1), some of them 0.
func (s *source) fractions(n int) []float32 {
	u := s.raw(n)
	for i := range u {
		u[i] = s.r.Float32() * float32(s.r.IntN(5)) / 4
		u[i] = float32(math.Floor(float64(min(u[i], 0.99)*(1<<24)))) / (1 << 24)
	}
	return u
}

func init() {
	kernelCases = append(kernelCases, []kernelCase{
		{"Uniform", func(s *source, n int) []float32 {
			u, v := s.raw(n), s.raw(n)
			Uniform(u, s.r.Uint64(), s.r.Uint64())
			Uniform(v, 7, 1<<40-uint64(n/2)) // the counter's upper half changes on the way
			return append(append([]float32{}, u...), v...)
		}},
		{"Quantize16", func(s *source, n int) []float32 {
			x, u, y := s.numbers(n), s.fractions(n), s.raw(n)
			var out []float32
			for _, step := range []float32{1e-4, 0.25, 2e-38} {
				l := s.levels(n)
				Quantize16(l, x, u, step, 32767)
				Dequantize16(y, l, step)
				out = append(out, y...)
				Quantize16(l, x, nil, step, 1000)
				Dequantize16(y, l, step)
				out = append(out, y...)
			}
			return out
		}},
		{"FloorSteps", func(s *source, n int) []float32 {
			x, l, y := s.numbers(n), s.levels(n), s.raw(n)
			var out []float32
			for _, step := range []float32{0.1, 0.0003, 1e-30, 0.3} {
				for i := range x {
					if i%3 == 0 { // a multiple, rounded
						x[i] = float32(s.r.IntN(70000)-35000) * step
					}
				}
				FloorSteps(l, x, step)
				Dequantize16(y, l, step)
				out = append(out, y...)
			}
			return out
		}},
		{"Shifts", func(s *source, n int) []float32 {
			c, d, e := s.codes(n), s.bytes(n), s.codes(n)
			by := s.r.IntN(8)
			ShiftDown(d, c, by)
			MixUp(c, e, by)
			return append(numbers(c), numbers(d)...)
		}},
		{"RoundPowers", func(s *source, n int) []float32 {
			x, c, y := s.numbers(n), s.bytes(n), s.raw(n)
			RoundPowers(c, x, s.fractions(n))
			FromPowers(y, c, s.codes(PackedLen(n, 1)))
			return append(numbers(c), y...)
		}},
		{"SplitSums", func(s *source, n int) []float32 {
			a, b := SplitSums(s.numbers(n))
			c, d := SplitSums(s.numbers(n + 9000))
			return bits64(a, b, c, d)
		}},
		{"UnpackPair", func(s *source, n int) []float32 {
			y := s.raw(n)
			UnpackPair(y, s.codes(PackedLen(n, 1)), s.draw(), s.draw())
			return y
		}},
		{"MaxCode", func(s *source, n int) []float32 {
			c := s.codes(n)
			for i := range c {
				c[i] &= uint8(s.r.Uint32())
			}
			return []float32{float32(MaxCode(c))}
		}},
		{"ToMini", func(s *source, n int) []float32 {
			x, c, y := s.numbers(n), s.bytes(n), s.raw(n)
			var table [256]float32
			var out []float32
			for _, f := range minis {
				for _, u := range [][]float32{nil, s.fractions(n)} {
					ToMini(c, x, u, []float32{1, 0x1p3, 0x1p-40}[s.r.IntN(3)], f)
					f.Table(&table, 0x1p-3)
					Lookup(y, c, &table)
					out = append(append(out, numbers(c)...), y...)
				}
			}
			return out
		}},
	}...)
}

var minis = []Mini{{4, 3}, {5, 2}, {3, 2}, {2, 3}, {2, 1}, {3, 0}, {1, 0}, {1, 6}, {6, 1}, {6, 0}}

// TestUniform looks at draws for what a good hash does not have: numbers outside of [0, 1), uneven frequencies, of numbers
// and of pairs of neighbours in one stream or in those of neighbouring keys, and bits that follow their predecessors. Each
// chi-square has 255 or 4095 degrees of freedom and may lie 5 standard deviations off, once in 3 million.
func TestUniform(t *testing.T) {
	const n = 1 << 18
	var same [24][24]int
	u, v := make([]float32, n), make([]float32, n)
	square := func(what string, cells int, cell func(i int) int) {
		t.Helper()
		count := make([]int, cells)
		for i := range n {
			count[cell(i)]++
		}
		chi, want := 0.0, n/float64(cells)
		for _, c := range count {
			chi += (float64(c) - want) * (float64(c) - want) / want
		}
		if z := (chi - float64(cells-1)) / math.Sqrt(2*float64(cells-1)); math.Abs(z) > 5 {
			t.Errorf("%s: chi-square is %.0f over %d cells, %.1f standard deviations off", what, chi, cells, z)
		}
	}
	for _, key := range []uint64{0, 1, 2, 1 << 32, 0xdeadbeef} {
		for _, at := range []uint64{0, 1<<32 - n/2, 1 << 50} {
			Uniform(u, key, at)
			Uniform(v, key+1, at)
			for i, x := range u {
				if !(x >= 0 && x < 1) || x*0x1p24 != float32(int(x*0x1p24)) {
					t.Fatalf("key %d, draw %d: %g", key, at+uint64(i), x)
				}
			}
			square("numbers", 256, func(i int) int { return int(u[i] * 256) })
			square("their lower bits", 256, func(i int) int { return int(u[i]*0x1p24) & 255 })
			square("neighbours", 4096, func(i int) int { return int(u[i]*64)<<6 | int(u[(i+1)%n]*64) })
			square("eighth neighbours", 4096, func(i int) int { return int(u[i]*64)<<6 | int(u[(i+8)%n]*64) })
			square("neighbouring keys", 4096, func(i int) int { return int(u[i]*64)<<6 | int(v[i]*64) })
			square("far ones", 4096, func(i int) int { return int(u[i]*64)<<6 | int(u[i^1<<16]*64) })
			for i := 1; i < n; i++ {
				a, b := uint32(u[i]*0x1p24), uint32(u[i-1]*0x1p24)
				for j := range same {
					if i&7 == j&7 { // an eighth of the pairs each
						for k := range same[j] {
							same[j][k] += int(a >> j & 1 & (b >> k))
						}
					}
				}
			}
		}
	}
	for j := range same {
		for k, c := range same[j] {
			m := 15 * n / 8.0
			if z := (float64(c) - m/4) / math.Sqrt(m*3/16); math.Abs(z) > 5 {
				t.Errorf("bit %d and bit %d of the draw before are set together in %d of %.0f, %.1f standard deviations off", j, k, c, m, z)
			}
		}
	}
	w := make([]float32, 100)
	Uniform(w[:37], 5, 1<<32-50)
	Uniform(w[37:], 5, 1<<32-13)
	if Uniform(u[:100], 5, 1<<32-50); sameBits(u[:100], w) != nil {
		t.Error("a vector drawn in pieces is another one")
	}
}

// TestRoundPowers: over u, powers of two are x on average, and next to it.
func TestRoundPowers(t *testing.T) {
	const rounds = 1 << 10
	x := []float32{1, 1.5, 0.001, 3.25, 0x1p-126, 0x1.8p-127, 0x1.4p126, 0, 1.0078125, 5, 6, 7, 0x1p127, 0x1p-120, 9, 100}
	x = append(x, x...)
	x = append(x, x[1:5]...)
	n := len(x)
	u, c, y, sum := make([]float32, n), make([]uint8, n), make([]float32, n), make([]float64, n)
	signs := make([]byte, PackedLen(n, 1))
	for i := range x {
		if i%3 == 0 {
			x[i] = -x[i]
		}
	}
	PackSigns(signs, x)
	for r := range rounds {
		for i := range u {
			u[i] = (float32(r) + 0.5) / rounds
		}
		RoundPowers(c, x, u)
		FromPowers(y, c, signs)
		for i, v := range y {
			if q := v / x[i]; x[i] != 0 && math.Abs(float64(x[i])) >= 0x1p-126 && !(q > 0.5 && q <= 2) {
				t.Fatalf("%g becomes %g", x[i], v)
			}
			sum[i] += float64(v)
		}
	}
	for i, s := range sum {
		if d := s/rounds - float64(x[i]); math.Abs(d) > max(math.Abs(float64(x[i])), 0x1p-126)/rounds {
			t.Errorf("%g is %g on average", x[i], s/rounds)
		}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	RoundPowers(c[:4], []float32{nan, inf, math.MaxFloat32, -inf}, u[:4])
	for i, c := range c[:4] {
		if c != 254 {
			t.Errorf("number %d gets the exponent %d", i, c)
		}
	}
}

// TestMini goes through all codes of several formats: their numbers are as the format's definition says, they come back,
// what lies between goes to the nearer and from the middle to the even one, and over u it is itself on average.
func TestMini(t *testing.T) {
	for _, f := range minis {
		bits := f.Exponent + f.Mantissa
		var table [256]float32
		f.Table(&table, 1)
		top := 1<<bits - 1
		one := func(x float32, u []float32) uint8 {
			var in [33]float32
			var code [33]uint8
			for i := range in {
				in[i] = x
			}
			ToMini(code[:], in[:], u, 1, f)
			if code[0] != code[32] { // the kernel's and the twin's
				t.Fatalf("%v of %g is %#x and %#x", f, x, code[0], code[32])
			}
			return code[0]
		}
		if table[top] != f.Max() || f.Max() < 16 || f.Max() >= 32 || table[1] != f.Step() && f.Mantissa > 0 {
			t.Fatalf("%v: from %g, %g, to %g, %g", f, table[1], f.Step(), table[top], f.Max())
		}
		for c := range top + 1 {
			e, m := c>>f.Mantissa, float64(c&(1<<f.Mantissa-1))/float64(int(1)<<f.Mantissa)
			want := math.Ldexp(m, 6-1<<f.Exponent)
			if e > 0 {
				want = math.Ldexp(1+m, e+5-1<<f.Exponent)
			}
			if v := table[c]; float64(v) != want || table[c|1<<bits] != -v || one(v, nil) != uint8(c) || c > 0 && one(-v, nil) != uint8(c|1<<bits) {
				t.Fatalf("%v: code %#x is %g, want %g, and comes back as %#x", f, c, v, want, one(v, nil))
			}
			if c == top {
				continue
			}
			mid := (table[c] + table[c+1]) / 2
			up, down := math.Nextafter32(mid, 99), math.Nextafter32(mid, 0)
			if a, b, m := one(down, nil), one(up, nil), one(mid, nil); int(a) != c || int(b) != c+1 || int(m) != c+c&1 {
				t.Fatalf("%v: below, above and at the middle after %#x: %#x, %#x and %#x", f, c, a, b, m)
			}
			const rounds = 64
			x := table[c] + (table[c+1]-table[c])*0.375
			mean := 0.0
			for r := range rounds {
				u := make([]float32, 33)
				for i := range u {
					u[i] = (float32(r) + 0.5) / rounds
				}
				k := one(-x, u)
				if k &^= 1 << bits; int(k) != c && int(k) != c+1 {
					t.Fatalf("%v: %g becomes %g", f, x, table[k])
				}
				mean += float64(table[k]) / rounds
			}
			if math.Abs(mean-float64(x)) > 1e-6*float64(x) {
				t.Fatalf("%v: %g becomes %g on average", f, x, mean)
			}
		}
		if one(99, nil) != uint8(top) || one(float32(math.Inf(-1)), nil) != uint8(top|1<<bits) {
			t.Errorf("%v does not hold what lies beyond", f)
		}
	}
}

func TestSplitSums(t *testing.T) {
	for n := range 100 {
		x := newSource(44, wide, uint64(n)).numbers(n)
		var above, below float64
		for _, v := range x {
			above += max(float64(v), 0)
			below += min(float64(v), 0)
		}
		a, b := SplitSums(x)
		if math.Abs(a-above) > 1e-14*above || math.Abs(b-below) > -1e-14*below {
			t.Fatalf("n %d: %g and %g, want %g and %g", n, a, b, above, below)
		}
	}
}

func TestQuantize16(t *testing.T) {
	x, l := []float32{0, 1, -1, 2.5, 3.5, -2.5, 1e9, -1e9, float32(math.NaN()), 0.5, 32766.6}, make([]int16, 11)
	for i, want := range []int16{0, 1, -1, 2, 4, -2, 32767, -32767, -32767, 0, 32767} {
		if Quantize16(l, x, nil, 1, 32767); l[i] != want {
			t.Errorf("the level nearest to %g is %d, want %d", x[i], l[i], want)
		}
	}
	u := make([]float32, 11)
	for i := range u {
		u[i] = 0.25
	}
	for i, want := range []int16{0, 1, -1, 3, 4, -2, 32767, -32767, -32767, 1, 32767} {
		if Quantize16(l, x, u, 1, 32767); l[i] != want {
			t.Errorf("%g goes to level %d, want %d", x[i], l[i], want)
		}
	}
}

// TestFloorSteps: the most steps, rounded, that are at most |x|, for multiples of steps and their neighbours, too.
func TestFloorSteps(t *testing.T) {
	x, l := make([]float32, 66), make([]int16, 66)
	for _, step := range []float32{1, 0.3, 0.1, 1e-20, 7} {
		for k := range int32(32767) {
			at := float32(k) * step
			for i := range x {
				x[i] = []float32{at, math.Nextafter32(at, math.MaxFloat32), math.Nextafter32(at, 0)}[i%3]
				if i%2 == 1 {
					x[i] = -x[i]
				}
			}
			FloorSteps(l, x, step)
			for _, i := range []int{0, 1, 2, 3, 4, 5, 64, 65} {
				n, a := int32(max(l[i], -l[i])), float32(math.Abs(float64(x[i])))
				if float32(n)*step > a || n < 32767 && float32(n+1)*step <= a || l[i] != 0 && (l[i] < 0) != (x[i] < 0) {
					t.Fatalf("%v gets %d steps of %v", x[i], l[i], step)
				}
			}
		}
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for i, want := range []int16{32767, -32767, 32767, -32767} {
		if FloorSteps(l[:4], []float32{inf, -inf, nan, -1e9}, 1); l[i] != want {
			t.Errorf("number %d gets %d steps", i, l[i])
		}
	}
}
