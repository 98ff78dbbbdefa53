package vec

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"unsafe"
)

// bytes is room for n bytes between canaries.
func (s *source) bytes(n int) []byte { return Bytes(s.raw((n + 3) / 4))[:n:n] }

// words is room for n 16-bit words between canaries.
func (s *source) words(n int) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(s.raw((n+1)/2)))), n)
}

// codes are random bytes.
func (s *source) codes(n int) []uint8 {
	c := s.bytes(n)
	for i := range c {
		c[i] = uint8(s.r.Uint32())
	}
	return c
}

func numbers[T uint8 | uint16 | int32](x []T) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// conversion runs both ways, on numbers and on any bits.
func conversion(to func([]uint16, []float32), from func([]float32, []uint16)) func(s *source, n int) []float32 {
	return func(s *source, n int) []float32 {
		x, h := s.numbers(n), s.words(n)
		for i := range x {
			if s.r.IntN(3) == 0 {
				x[i] *= float32(math.Ldexp(1, s.r.IntN(60)-30))
			}
		}
		to(h, x)
		out := numbers(h)
		for i := range h {
			h[i] = uint16(s.r.Uint32())
		}
		from(x, h)
		for _, v := range x { // a NaN's bits are a part of what is promised here
			out = append(out, float32(bits32(v)>>16), float32(bits32(v)&0xffff))
		}
		return out
	}
}

func init() {
	kernelCases = append(kernelCases, []kernelCase{
		{"Half", conversion(ToHalf, FromHalf)},
		{"Bfloat", conversion(ToBfloat, FromBfloat)},
		{"Pack", func(s *source, n int) []float32 {
			var out []float32
			for _, bits := range []int{1, 2, 4, 8} {
				p, c := s.bytes(PackedLen(n, bits)), s.bytes(n)
				Pack(p, s.codes(n), bits)
				Unpack(c, s.codes(len(p)), bits)
				out = append(append(out, numbers(p)...), numbers(c)...)
			}
			return out
		}},
		{"PackSigns", func(s *source, n int) []float32 {
			p, y := s.bytes(PackedLen(n, 1)), s.raw(n)
			x := s.numbers(n)
			for i := range x {
				if x[i] != x[i] {
					x[i] = float32(math.NaN())
				}
			}
			PackSigns(p, x)
			UnpackSigns(y, s.codes(len(p)), 0.3)
			return append(numbers(p), y...)
		}},
		{"Quantize", func(s *source, n int) []float32 {
			x, u := s.numbers(n), s.numbers(n)
			for i := range u {
				u[i] = s.r.Float32()
			}
			var out []float32
			for _, g := range []Grid{{0, 0.01, 127, 254}, {-2, 4.0 / 15, 0, 15}, {0, 2, 1, 2}, {1, 0, 0, 3}, {-1e-3, 1e-5, 0, 255}} {
				c, y := s.bytes(n), s.raw(n)
				Quantize(c, x, u, g)
				out = append(out, numbers(c)...)
				Quantize(c, x, nil, g)
				out = append(out, numbers(c)...)
				Dequantize(y, s.codes(n), g)
				out = append(out, y...)
			}
			return out
		}},
		{"Lookup", func(s *source, n int) []float32 {
			y := s.raw(n)
			Lookup(y, s.codes(n), (*[256]float32)(s.numbers(256)))
			return y
		}},
		{"GatherImages", func(s *source, n int) []float32 {
			dim := n + 1
			pix, ids := s.codes(5*dim), []int{4, 0, 2, 2, 1, 3}
			x, y := s.raw(len(ids)*dim), s.raw(len(ids)*dim)
			GatherImages(x, pix, dim, ids, s.draw(), s.draw())
			GatherImages(y, pix, dim, ids, 0, 0)
			return append(append([]float32{}, x...), y...)
		}},
		{"Extremes", func(s *source, n int) []float32 {
			x := s.numbers(n)
			lo, hi := MinMax(x)
			return append(bits64(SumAbs(x), SumAbs(s.numbers(n+9000))), lo, hi, MaxAbs(x))
		}},
	}...)
}

// TestHalfIsNearest goes through all codes of both formats: each comes back from its value, and what lies between two
// goes to the nearer, from the middle to the even one.
func TestHalfIsNearest(t *testing.T) {
	for _, f := range []struct {
		name  string
		to    func([]uint16, []float32)
		from  func([]float32, []uint16)
		inf   uint16
		value func(h uint16) float64
	}{
		{"half", ToHalf, FromHalf, 0x7c00, func(h uint16) float64 {
			e, m := int(h>>10), float64(h&0x3ff)
			if e == 0 {
				return math.Ldexp(m, -24)
			}
			return math.Ldexp(1024+m, e-25)
		}},
		{"bfloat", ToBfloat, FromBfloat, 0x7f80, func(h uint16) float64 {
			e, m := int(h>>7), float64(h&0x7f)
			if e == 0 {
				return math.Ldexp(m, -133)
			}
			return math.Ldexp(128+m, e-134)
		}},
	} {
		one := func(x float32) uint16 {
			h := make([]uint16, 33)
			f.to(h, slices.Repeat([]float32{x}, 33))
			if h[0] != h[32] { // the kernel's and the twin's
				t.Fatalf("%s of %g is %#x and %#x", f.name, x, h[0], h[32])
			}
			return h[0]
		}
		x := make([]float32, 1<<16)
		h := make([]uint16, 1<<16)
		for i := range h {
			h[i] = uint16(i)
		}
		f.from(x, h)
		for c := range f.inf {
			v := float64(x[c])
			if want := f.value(c); v != want || float64(x[c|0x8000]) != -want || !math.Signbit(float64(x[c|0x8000])) {
				t.Fatalf("%s %#x is %g and %g, want %g and its negative", f.name, c, x[c], x[c|0x8000], want)
			}
			// The next code stands for next; after the last comes what would be the next power of two.
			next := 2*v - f.value(max(c, 1)-1)
			if c+1 < f.inf {
				next = f.value(c + 1)
			}
			mid := (v + next) / 2
			even := c + c&1
			up, down := float32(math.Nextafter32(float32(mid), float32(math.Inf(1)))), math.Nextafter32(float32(mid), 0)
			for _, sign := range []uint16{0, 0x8000} {
				s := float32(1)
				if sign != 0 {
					s = -1
				}
				if got := one(s * x[c]); got != c|sign && c != 0 {
					t.Fatalf("%s %#x comes back as %#x", f.name, c|sign, got)
				}
				if float64(float32(mid)) != mid {
					continue // between subnormal bfloat16 float32 has the middle, too, so that this is none
				}
				if a, b, m := one(s*down), one(s*up), one(s*float32(mid)); a != c|sign || b != (c+1)|sign || m != even|sign {
					t.Fatalf("%s: below, above and at the middle after %#x: %#x, %#x and %#x", f.name, c|sign, a, b, m)
				}
			}
		}
		if one(float32(math.Inf(1))) != f.inf || one(float32(math.Inf(-1))) != f.inf|0x8000 || !math.IsInf(float64(x[f.inf]), 1) {
			t.Errorf("%s: infinity does not stay", f.name)
		}
		for _, b := range []uint32{0x7f800001, 0xff800001, 0x7fffffff, 0xffc00000} {
			if got := one(math.Float32frombits(b)); got&0x7fff <= f.inf || got>>15 != uint16(b>>31) {
				t.Errorf("%s: the NaN %#x becomes %#x", f.name, b, got)
			}
		}
		for c := int(f.inf) + 1; c < 0x8000; c++ {
			if x[c] == x[c] {
				t.Fatalf("%s: the NaN %#x becomes %g", f.name, c, x[c])
			}
		}
	}
}

// TestPack compares with the definition: code i has the bits from i*bits on.
func TestPack(t *testing.T) {
	const seed = 41
	for n := range 140 {
		for _, bits := range []int{1, 2, 4, 8} {
			s := newSource(seed, plain, uint64(n), uint64(bits))
			code, back := s.codes(n), make([]uint8, n)
			p := make([]byte, PackedLen(n, bits))
			Pack(p, code, bits)
			want := make([]byte, (n*bits+7)/8)
			for i := range code {
				for b := range bits {
					want[(i*bits+b)/8] |= code[i] >> b & 1 << ((i*bits + b) % 8)
				}
				code[i] &= byte(1)<<bits - 1
			}
			if !bytes.Equal(p, want) {
				t.Fatalf("seed %d: %d codes of %d bits: %x, want %x", seed, n, bits, p, want)
			}
			if Unpack(back, p, bits); !bytes.Equal(back, code) {
				t.Fatalf("seed %d: %d codes of %d bits come back as %x, want %x", seed, n, bits, back, code)
			}
		}
		s := newSource(seed, special, uint64(n))
		x, y, p := s.numbers(n), make([]float32, n), make([]byte, PackedLen(n, 1))
		PackSigns(p, x)
		UnpackSigns(y, p, 0.5)
		for i := range x {
			if want := float32(math.Copysign(0.5, float64(x[i]))); y[i] != want {
				t.Fatalf("seed %d: the sign of %g (%d of %d) is that of %g", seed, x[i], i, n, y[i])
			}
		}
	}
}

// TestQuantizeIsUnbiased: over u, what codes stand for is x on average, exactly x on a level, and within a step always.
func TestQuantizeIsUnbiased(t *testing.T) {
	const n, rounds = 64, 1024
	s := newSource(42, plain)
	g := Grid{Step: 0.25, Zero: 8, Top: 16}
	x, u, code, y := s.numbers(n), make([]float32, n), make([]uint8, n), make([]float32, n)
	x[0], x[1], x[2], x[40] = 0, 0.75, -2, 5
	mean := make([]float64, n)
	for k := range rounds {
		for i := range u {
			u[i] = (float32(k) + 0.5) / rounds
		}
		Quantize(code, x, u, g)
		Dequantize(y, code, g)
		for i, v := range y {
			mean[i] += float64(v) / rounds
			if i < 3 && v != x[i] || i == 40 && v != 2 || i != 40 && math.Abs(float64(v-x[i])) >= 0.25 {
				t.Fatalf("%g becomes %g", x[i], v)
			}
		}
	}
	for i, m := range mean {
		if i != 40 && math.Abs(m-float64(x[i])) > 0.25/rounds {
			t.Errorf("%g becomes %g on average", x[i], m)
		}
	}
	Quantize(code, x, nil, g)
	Dequantize(y, code, g)
	for i, v := range y {
		if i != 40 && math.Abs(float64(v-x[i])) > 0.125 {
			t.Errorf("the level nearest to %g is %g", x[i], v)
		}
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, u := range [][]float32{nil, {0.5, 0.5, 0.5, 0.5}} {
		if Quantize(code[:4], []float32{nan, inf, -inf, 0.1}, u, g); !bytes.Equal(code[:4], []byte{0, 16, 0, 8}) {
			t.Errorf("codes of NaN, Inf, -Inf and 0.1: %v", code[:4])
		}
		Quantize(code[:4], []float32{3, 3, 3, 3}, u, Grid{Lo: 3, Top: 15})
		if Dequantize(y[:4], code[:4], Grid{Lo: 3, Top: 15}); y[0] != 3 || y[3] != 3 {
			t.Errorf("a constant becomes %v", y[:4])
		}
	}
}

func TestExtremes(t *testing.T) {
	const seed = 43
	negZero := float32(math.Copysign(0, -1))
	for n := 1; n < 100; n++ {
		s := newSource(seed, wide, uint64(n))
		x := s.numbers(n)
		var sum, top float64
		for _, v := range x {
			sum += math.Abs(float64(v))
			top = max(top, math.Abs(float64(v)))
		}
		lo, hi := MinMax(x)
		if lo != slices.Min(x) || hi != slices.Max(x) || float64(MaxAbs(x)) != top || math.Abs(SumAbs(x)/sum-1) > 1e-14 {
			t.Fatalf("seed %d, n %d: %g to %g, at most %g, sum %g", seed, n, lo, hi, MaxAbs(x), SumAbs(x))
		}
		for i := range x {
			x[i] = 0
		}
		x[s.r.IntN(n)] = negZero
		if lo, hi = MinMax(x); !math.Signbit(float64(lo)) || n > 1 && math.Signbit(float64(hi)) {
			t.Fatalf("zeros of both signs: %g to %g", lo, hi)
		}
		for _, nan := range []float32{float32(math.NaN()), math.Float32frombits(0xffc00000)} {
			x[s.r.IntN(n)] = nan
			if lo, hi = MinMax(x); lo == lo || hi == hi || MaxAbs(x) == MaxAbs(x) || SumAbs(x) == SumAbs(x) {
				t.Fatalf("a NaN hides: %g to %g", lo, hi)
			}
		}
	}
	inf := float32(math.Inf(1))
	if lo, hi := MinMax([]float32{inf, -inf}); lo != -inf || hi != inf || MaxAbs([]float32{-inf}) != inf || MaxAbs(nil) != 0 || SumAbs(nil) != 0 {
		t.Errorf("infinities: %g to %g", lo, hi)
	}
}

// TestImages: each of 256 bytes, divided.
func TestImages(t *testing.T) {
	pix := make([]uint8, 256)
	for i := range pix {
		pix[i] = uint8(i)
	}
	x, y := make([]float32, 256), make([]float32, 256)
	GatherImages(x, pix, 256, []int{0}, 0, 0)
	GatherImages(y, pix, 128, []int{1, 0}, 0.1307, 0.3081)
	for i := range pix {
		v := float32(i) / 255
		if w := (v - 0.1307) / 0.3081; x[i] != v || y[(i+128)%256] != w {
			t.Errorf("byte %d becomes %g and %g, want %g and %g", i, x[i], y[(i+128)%256], v, w)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("row 2 of 2 is taken")
		}
	}()
	GatherImages(x, pix, 128, []int{0, 2}, 0, 0)
}

func TestPackPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"3 bits":     func() { Pack(make([]byte, 1), make([]byte, 2), 3) },
		"short":      func() { Pack(make([]byte, 1), make([]byte, 3), 4) },
		"long":       func() { Unpack(make([]byte, 8), make([]byte, 3), 2) },
		"signs":      func() { PackSigns(make([]byte, 1), make([]float32, 9)) },
		"short u":    func() { Quantize(make([]byte, 2), make([]float32, 2), make([]float32, 1), Grid{}) },
		"short half": func() { ToHalf(make([]uint16, 2), make([]float32, 3)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// BenchmarkCodes encodes and decodes: bytes are those of the float32.
func BenchmarkCodes(b *testing.B) {
	const n = 1 << 16 // 256 KiB: in the second cache
	x, y, u := benchNumbers(n), make([]float32, n), make([]float32, n)
	for i := range u {
		u[i] = (1 + x[n-1-i]) / 2
	}
	h, code, packed := make([]uint16, n), make([]uint8, n), make([]byte, n)
	quantizer := func(bits int) func() {
		top := uint8(1<<bits - 2)
		p := packed[:PackedLen(n, bits)]
		return func() {
			const block = 4096 // codes stay in the first cache
			g := Grid{Step: 2 * MaxAbs(x) / float32(top), Zero: top / 2, Top: top}
			for lo := 0; lo < n; lo += block {
				c, p := code[:block], p[lo*bits/8:][:block*bits/8]
				Quantize(c, x[lo:lo+block], u[lo:lo+block], g)
				Pack(p, c, bits)
			}
			for lo := 0; lo < n; lo += block {
				c, p := code[:block], p[lo*bits/8:][:block*bits/8]
				Unpack(c, p, bits)
				Dequantize(y[lo:lo+block], c, g)
			}
		}
	}
	for _, k := range []struct {
		name  string
		f     func()
		error float32
	}{
		{"half", func() { ToHalf(h, x); FromHalf(y, h) }, 0x1p-12},
		{"bfloat", func() { ToBfloat(h, x); FromBfloat(y, h) }, 0x1p-9},
		{"8bits", quantizer(8), 2.0 / 254},
		{"4bits", quantizer(4), 2.0 / 14},
		{"2bits", quantizer(2), 1},
		{"sign", func() {
			PackSigns(packed[:n/8], x)
			UnpackSigns(y, packed[:n/8], float32(SumAbs(x)/n))
		}, 1},
	} {
		b.Run(k.name, func(b *testing.B) {
			k.f()
			for i, v := range x {
				if d := v - y[i]; d > k.error || d < -k.error {
					b.Fatalf("%g comes back as %g", v, y[i])
				}
			}
			b.SetBytes(4 * n)
			for b.Loop() {
				k.f()
			}
		})
	}
	for _, bits := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("pack%d", bits), func(b *testing.B) {
			back := make([]uint8, n)
			for i := range code {
				code[i] = uint8(i*i>>3) & (1<<bits - 1)
			}
			p := packed[:PackedLen(n, bits)]
			f := func() { Pack(p, code, bits); Unpack(back, p, bits) }
			if f(); !bytes.Equal(back, code) {
				b.Fatal("codes do not come back")
			}
			b.SetBytes(n)
			for b.Loop() {
				f()
			}
		})
	}
	b.Run("lookup", func(b *testing.B) {
		table := (*[256]float32)(benchNumbers(256))
		Lookup(y, code, table)
		for i, c := range code {
			if y[i] != table[c] {
				b.Fatalf("code %d is %g", c, y[i])
			}
		}
		b.SetBytes(4 * n)
		for b.Loop() {
			Lookup(y, code, table)
		}
	})
}

// unsafeInts is x's memory as integers.
func unsafeInts(x []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(x))), len(x))
}
