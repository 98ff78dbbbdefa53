package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// narrow are the kernels of lossy codes beyond those of a grid of 256 levels.
func narrow() {
	draws()
	levels16()
	powers()
	minis()
	pairs()
	maxCode()
	shifts()
}

// draws hashes counters: see hash32.
func draws() {
	text("uniform", "func(u []float32, k0, k1, c uint32)", "hashes the counters from c on.")
	k0, k1, c := broadcast("k0"), broadcast("k1"), broadcast("c")
	VPADDD(table("lanes", 8, func(i int) { DATA(4*i, U32(i)) }), c, c)
	m0, m1, eight, unit := YMM(), YMM(), YMM(), YMM()
	VMOVDQU(long(0x21f0aaad), m0)
	VMOVDQU(long(0xd35a2d97), m1)
	VMOVDQU(long(8), eight)
	VMOVDQU(long(0x33800000), unit) // 2^-24
	blocks("u", []side{{"u", 128}}, func(p []GPVirtual) {
		for i := range 4 {
			x, t := YMM(), YMM()
			fold := func(by uint64) {
				VPSRLD(Imm(by), x, t)
				VPXOR(t, x, x)
			}
			VPXOR(k0, c, x)
			fold(16)
			VPMULLD(m0, x, x)
			fold(15)
			VPADDD(k1, x, x)
			VPMULLD(m1, x, x)
			fold(15)
			VPSRLD(Imm(8), x, x)
			VCVTDQ2PS(x, x)
			VMULPS(unit, x, x)
			VMOVUPS(x, Mem{Base: p[0], Disp: 32 * i})
			VPADDD(eight, c, c)
		}
	})
	finish()
}

// whole24 is the whole number that a draw is 2^-24 times.
func whole24(u Mem) VecVirtual {
	v := YMM()
	VMOVUPS(u, v)
	VMULPS(long(0x4b800000), v, v)
	VCVTTPS2DQ(v, v)
	return v
}

// randomly makes f the whole number below r, or above it where u says so. It changes r.
func randomly(r, f VecVirtual, u Mem) {
	VROUNDPS(Imm(1), r, f)
	VSUBPS(f, r, r)
	up := YMM()
	VMOVUPS(u, up)
	VCMPPS(Imm(1), r, up, up) // u < r-f
	VCVTPS2DQ(f, f)
	VPSUBD(up, f, f)
}

// bytes32 stores four vectors of 32-bit numbers, none above 255, as bytes.
func bytes32(q [4]VecVirtual, to Mem) {
	VPACKUSDW(q[1], q[0], q[0])
	VPACKUSDW(q[3], q[2], q[2])
	VPACKUSWB(q[2], q[0], q[0])
	order := YMM()
	VMOVDQU(table("fours", 8, func(i int) { DATA(4*i, U32(i/2+i%2*4)) }), order)
	VPERMD(q[0], order, q[0])
	VMOVDQU(q[0], to)
}

// words32 stores four vectors of 32-bit numbers, none beyond 16 bits, as words of 16.
func words32(q [4]VecVirtual, to Mem) {
	for i := 0; i < 4; i += 2 {
		VPACKSSDW(q[i+1], q[i], q[i])
		VPERMQ(Imm(0xd8), q[i], q[i])
		VMOVDQU(q[i], to.Offset(16*i))
	}
}

func levels16() {
	for _, near := range []bool{false, true} {
		name, u, doc := "quantize16", "x, u []float32, ", "is the level below or above."
		if near {
			name, u, doc = "quantize16Near", "x []float32, ", "is the nearest level."
		}
		text(name, "func(level []int16, "+u+"inv, top float32)", doc)
		inv, top, bottom := broadcast("inv"), broadcast("top"), YMM()
		VXORPS(long(1<<31), top, bottom)
		sides := []side{{"level", 64}, {"x", 128}, {"u", 128}}
		if near {
			sides = sides[:2]
		}
		blocks("x", sides, func(p []GPVirtual) {
			var q [4]VecVirtual
			for i := range q {
				r, f := YMM(), YMM()
				VMULPS(Mem{Base: p[1], Disp: 32 * i}, inv, r)
				VMAXPS(bottom, r, r) // bottom when r is NaN
				VMINPS(top, r, r)
				if near {
					VCVTPS2DQ(r, r)
					q[i] = r
					continue
				}
				randomly(r, f, Mem{Base: p[2], Disp: 32 * i})
				q[i] = f
			}
			words32(q, Mem{Base: p[0]})
		})
		finish()
	}

	text("floorSteps", "func(level []int16, x []float32, step float32)", "is how many steps fit into x.")
	whole, one, most := broadcast("step"), YMM(), YMM()
	VMOVUPS(long(0x3f800000), one)
	VMOVUPS(long(0x46fffe00), most) // 32767
	blocks("x", []side{{"level", 64}, {"x", 128}}, func(p []GPVirtual) {
		var q [4]VecVirtual
		for i := range q {
			from, a, l, t := Mem{Base: p[1], Disp: 32 * i}, YMM(), YMM(), YMM()
			VMOVUPS(from, a)
			VPAND(long(0x7fffffff), a, a)
			VDIVPS(whole, a, l)
			VMINPS(most, l, l) // most when l is NaN
			VROUNDPS(Imm(3), l, l)
			over, up := YMM(), YMM()
			VMULPS(whole, l, over)
			VCMPPS(Imm(0x1e), a, over, over) // over > a
			VADDPS(one, l, t)
			VMULPS(whole, t, up)
			VCMPPS(Imm(2), a, up, up)  // up <= a
			VCMPPS(Imm(2), most, t, t) // t <= most
			VANDPS(t, up, up)
			VCVTPS2DQ(l, l)
			VPADDD(over, l, l) // one less
			VPSUBD(up, l, l)   // one more
			VMOVUPS(from, t)
			VPSRAD(Imm(31), t, t)
			VPXOR(t, l, l)
			VPSUBD(t, l, l)
			q[i] = l
		}
		words32(q, Mem{Base: p[0]})
	})
	finish()

	text("dequantize16", "func(x []float32, level []int16, step float32)", "is x = level * step.")
	step := broadcast("step")
	blocks("x", []side{{"x", 128}, {"level", 64}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VPMOVSXWD(Mem{Base: p[1], Disp: 16 * i}, v)
			VCVTDQ2PS(v, v)
			VMULPS(step, v, v)
			VMOVUPS(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

func powers() {
	text("roundPowers", "func(code []uint8, x, u []float32)", "is the exponent of a power of two next to x.")
	blocks("x", []side{{"code", 32}, {"x", 128}, {"u", 128}}, func(p []GPVirtual) {
		var q [4]VecVirtual
		for i := range q {
			v, r := YMM(), whole24(Mem{Base: p[2], Disp: 32 * i})
			VPSRLD(Imm(1), r, r)
			VMOVUPS(Mem{Base: p[1], Disp: 32 * i}, v)
			VPAND(long(0x7fffffff), v, v)
			VPADDD(r, v, v)
			VPSRLD(Imm(23), v, v)
			VPMINSD(long(254), v, v)
			q[i] = v
		}
		bytes32(q, Mem{Base: p[0]})
	})
	finish()

	text("fromPowers", "func(x []float32, code []uint8, signs []byte)", "is x = a power of two with a sign.")
	eight, sign := YMM(), YMM()
	VMOVDQU(table("bits32", 8, nil), eight)
	VMOVDQU(long(1<<31), sign)
	blocks("x", []side{{"x", 128}, {"code", 32}, {"signs", 4}}, func(p []GPVirtual) {
		for i := range 4 {
			v, s := YMM(), YMM()
			VPBROADCASTB(Mem{Base: p[2], Disp: i}, s)
			VPAND(eight, s, s)
			VPCMPEQD(eight, s, s)
			VPAND(sign, s, s)
			VPMOVZXBD(Mem{Base: p[1], Disp: 8 * i}, v)
			VPSLLD(Imm(23), v, v)
			VPOR(s, v, v)
			VMOVDQU(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

// count is a parameter by which vectors are shifted.
func count(name string) Register {
	v := XMM()
	VMOVD(Load(Param(name), GP32()), v)
	return v
}

func shifts() {
	text("shiftDown", "func(dst, code []uint8, by, mask uint32)", "is dst = code >> by; mask is the bits that stay, in each byte.")
	by, mask := count("by"), broadcast("mask")
	blocks("code", []side{{"dst", 32}, {"code", 32}}, func(p []GPVirtual) {
		v := YMM()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPSRLD(by, v, v)
		VPAND(mask, v, v)
		VMOVDQU(v, Mem{Base: p[0]})
	})
	finish()

	text("mixUp", "func(code, part []uint8, by, mask uint32)", "is code |= part << by; mask is the bits that are new, in each byte.")
	by, mask = count("by"), broadcast("mask")
	blocks("code", []side{{"code", 32}, {"part", 32}}, func(p []GPVirtual) {
		v := YMM()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPSLLD(by, v, v)
		VPAND(mask, v, v)
		VPOR(Mem{Base: p[0]}, v, v)
		VMOVDQU(v, Mem{Base: p[0]})
	})
	finish()
}

func minis() {
	for _, near := range []bool{false, true} {
		name, u, doc := "toMini", "x, u []float32, ", "is the code of the number below or above."
		if near {
			name, u, doc = "toMiniNear", "x []float32, ", "is the code of the nearest number."
		}
		text(name, "func(code []uint8, "+u+"inv, top, small, units, magic float32, half, bias, shift, rest, sign uint32)", doc)
		inv, top, small, bias := broadcast("inv"), broadcast("top"), broadcast("small"), broadcast("bias")
		shift, sign := count("shift"), count("sign")
		var units, magic, half VecVirtual
		var rest Register
		sides := []side{{"code", 32}, {"x", 128}, {"u", 128}}
		if near {
			magic, half = broadcast("magic"), broadcast("half")
			sides = sides[:2]
		} else {
			units, rest = broadcast("units"), count("rest")
		}
		blocks("x", sides, func(p []GPVirtual) {
			var q [4]VecVirtual
			for i := range q {
				from, y, s, t := Mem{Base: p[1], Disp: 32 * i}, YMM(), YMM(), YMM()
				VMOVUPS(from, y)
				VPAND(long(0x7fffffff), y, y)
				VMULPS(inv, y, y)
				VMINPS(top, y, y) // top when y is NaN
				// The code when y is below small.
				if near {
					VADDPS(magic, y, s)
					VPSUBD(magic, s, s)
					VPSRLD(shift, y, t)
					VPAND(long(1), t, t)
					VPADDD(half, t, t)
				} else {
					u := Mem{Base: p[2], Disp: 32 * i}
					VMULPS(units, y, t)
					VROUNDPS(Imm(1), t, s)
					VSUBPS(s, t, t)
					VCMPPS(Imm(0x1e), u, t, t) // t > u
					VCVTPS2DQ(s, s)
					VPSUBD(t, s, s)
					t = whole24(u)
					VPSRLD(rest, t, t)
				}
				// And when it is not.
				VPADDD(y, t, t)
				VPSRLD(shift, t, t)
				VPSUBD(bias, t, t)
				VCMPPS(Imm(1), small, y, y) // y < small
				VPBLENDVB(y, s, t, t)
				VMOVUPS(from, s)
				VPSRLD(Imm(31), s, s)
				VPSLLD(sign, s, s)
				VPOR(s, t, t)
				q[i] = t
			}
			bytes32(q, Mem{Base: p[0]})
		})
		finish()
	}
}

func pairs() {
	text("signSums", "func(x []float32) (above, below float64)", "sums what has no sign bit, and what has one.")
	above, below := zeros(4), zeros(4)
	add := func(v VecVirtual, acc []VecVirtual) {
		lo, hi := widened(v)
		VADDPD(lo, acc[0], acc[0])
		VADDPD(hi, acc[1], acc[1])
	}
	lanes16(func(i int, v VecVirtual) {
		m := YMM()
		VPSRAD(Imm(31), v, m)
		t := YMM()
		VPAND(v, m, t)
		add(t, below[2*i:])
		VPANDN(v, m, t)
		add(t, above[2*i:])
	})
	for _, acc := range [][]VecVirtual{above, below} {
		fold64(acc)
	}
	VZEROUPPER()
	Store(above[0].AsX(), ReturnIndex(0))
	Store(below[0].AsX(), ReturnIndex(1))
	RET()

	text("unpackPair", "func(x []float32, src []byte, off, on float32)", "is x = off or on.")
	off, on, bit := broadcast("off"), broadcast("on"), YMM()
	VMOVDQU(table("bits32", 8, nil), bit)
	blocks("x", []side{{"x", 128}, {"src", 4}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VPBROADCASTB(Mem{Base: p[1], Disp: i}, v)
			VPAND(bit, v, v)
			VPCMPEQD(bit, v, v)
			VBLENDVPS(v, on, off, v)
			VMOVUPS(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

func maxCode() {
	text("maxCode", "func(code []uint8) uint32", "is the largest code of whole blocks.")
	m := zeros(1)[0]
	blocks("code", []side{{"code", 32}}, func(p []GPVirtual) { VPMAXUB(Mem{Base: p[0]}, m, m) })
	// Bytes against their neighbours, four, two and one apart within 32 bits, after the lanes have met.
	t, x := YMM(), m.AsX()
	VEXTRACTI128(Imm(1), m, t.AsX())
	VPMAXUB(t.AsX(), x, x)
	for _, by := range []uint64{8, 4, 2, 1} {
		VPSRLDQ(Imm(by), x, t.AsX())
		VPMAXUB(t.AsX(), x, x)
	}
	r := GP32()
	VMOVD(x, r)
	ANDL(Imm(255), r)
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()
}
