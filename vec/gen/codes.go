package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// side is a slice of which a kernel takes size bytes a block.
type side struct {
	name string
	size int
}

// blocks goes through slices in blocks of 32 elements, as many as there are whole ones in the slice named.
func blocks(counted string, sides []side, body func(p []GPVirtual)) {
	n := length(counted)
	p := make([]GPVirtual, len(sides))
	for i, s := range sides {
		p[i] = base(s.name)
	}
	Label("loop")
	CMPQ(n, Imm(32))
	JLT(LabelRef("done"))
	body(p)
	for i, s := range sides {
		ADDQ(Imm(uint64(s.size)), p[i])
	}
	SUBQ(Imm(32), n)
	JMP(LabelRef("loop"))
	Label("done")
}

func finish() {
	VZEROUPPER()
	RET()
}

// octet is a vector of 32 bytes in read-only memory.
func octets(name string, f func(i int) uint8) Mem {
	return table(name, 32, func(i int) { DATA(i, U8(f(i))) })
}

func codes() {
	halves()
	packs()
	quantizers()
	extremes()
	above()
	images()
	narrow()
}

func halves() {
	wide, narrow := 128, 64
	text("toHalf", "func(h []uint16, x []float32)", "is h = x in binary16.")
	blocks("x", []side{{"h", narrow}, {"x", wide}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VMOVUPS(Mem{Base: p[1], Disp: 32 * i}, v)
			VCVTPS2PH(Imm(0), v, Mem{Base: p[0], Disp: 16 * i})
		}
	})
	finish()

	text("fromHalf", "func(x []float32, h []uint16)", "is x = h in binary16.")
	blocks("x", []side{{"x", wide}, {"h", narrow}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VCVTPH2PS(Mem{Base: p[1], Disp: 16 * i}, v)
			VMOVUPS(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()

	text("toBfloat", "func(h []uint16, x []float32)", "is h = x in bfloat16.")
	blocks("x", []side{{"h", narrow}, {"x", wide}}, func(p []GPVirtual) {
		for i := range 2 {
			var half [2]VecVirtual
			for j := range half {
				v, t, nan := YMM(), YMM(), YMM()
				VMOVDQU(Mem{Base: p[1], Disp: 64*i + 32*j}, v)
				VPSRLD(Imm(16), v, t)
				VPAND(long(1), t, t)
				VPADDD(long(0x7fff), t, t)
				VPADDD(v, t, t)
				VPSRLD(Imm(16), t, t)
				VCMPPS(Imm(3), v, v, nan) // unordered with itself
				VPSRLD(Imm(16), v, v)
				VPOR(long(0x40), v, v)
				VPBLENDVB(nan, v, t, t)
				half[j] = t
			}
			VPACKUSDW(half[1], half[0], half[0])
			VPERMQ(Imm(0xd8), half[0], half[0])
			VMOVDQU(half[0], Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()

	text("fromBfloat", "func(x []float32, h []uint16)", "is x = h in bfloat16.")
	blocks("x", []side{{"x", wide}, {"h", narrow}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VPMOVZXWD(Mem{Base: p[1], Disp: 16 * i}, v)
			VPSLLD(Imm(16), v, v)
			VMOVDQU(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

// bit is byte i's bit of the eight that a byte has.
func bit(i int) uint8 { return 1 << (i % 8) }

func packs() {
	name := func(name, signature, doc, twin string) {
		TEXT(name+"AVX2", NOSPLIT, signature)
		Pragma("noescape")
		Doc(name+"AVX2 "+doc, "See "+twin+" for the contract.")
	}
	pack, unpack := "func(dst []byte, code []uint8)", "func(code []uint8, src []byte)"

	name("pack1", pack, "packs codes of 1 bit.", "packTwin")
	blocks("code", []side{{"dst", 4}, {"code", 32}}, func(p []GPVirtual) {
		v, m := YMM(), GP32()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPSLLW(Imm(7), v, v)
		VPMOVMSKB(v, m)
		MOVL(m, Mem{Base: p[0]})
	})
	finish()

	// Weights that make one number of two neighbours.
	low := octets("weights2", func(i int) uint8 { return 1 << (2 * (i % 2)) })
	name("pack2", pack, "packs codes of 2 bits.", "packTwin")
	blocks("code", []side{{"dst", 8}, {"code", 32}}, func(p []GPVirtual) {
		v, h := YMM(), YMM()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPAND(octets("three", func(int) uint8 { return 3 }), v, v)
		VPMADDUBSW(low, v, v)
		VPMADDWD(long(16<<16|1), v, v)
		VEXTRACTI128(Imm(1), v, h.AsX())
		VPACKUSDW(h.AsX(), v.AsX(), v.AsX())
		VPACKUSWB(v.AsX(), v.AsX(), v.AsX())
		VMOVQ(v.AsX(), Mem{Base: p[0]})
	})
	finish()

	nibble := octets("nibble", func(int) uint8 { return 15 })
	name("pack4", pack, "packs codes of 4 bits.", "packTwin")
	blocks("code", []side{{"dst", 16}, {"code", 32}}, func(p []GPVirtual) {
		v, h := YMM(), YMM()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPAND(nibble, v, v)
		VPMADDUBSW(octets("weights4", func(i int) uint8 { return 1 << (4 * (i % 2)) }), v, v)
		VEXTRACTI128(Imm(1), v, h.AsX())
		VPACKUSWB(h.AsX(), v.AsX(), v.AsX())
		VMOVDQU(v.AsX(), Mem{Base: p[0]})
	})
	finish()

	bits := octets("bits", bit)
	name("unpack1", unpack, "unpacks codes of 1 bit.", "unpackTwin")
	blocks("code", []side{{"code", 32}, {"src", 4}}, func(p []GPVirtual) {
		v := YMM()
		VPBROADCASTD(Mem{Base: p[1]}, v)
		VPSHUFB(octets("eightfold", func(i int) uint8 { return uint8(i / 8) }), v, v)
		VPAND(bits, v, v)
		VPCMPEQB(bits, v, v)
		VPAND(octets("one", func(int) uint8 { return 1 }), v, v)
		VMOVDQU(v, Mem{Base: p[0]})
	})
	finish()

	name("unpack2", unpack, "unpacks codes of 2 bits.", "unpackTwin")
	blocks("code", []side{{"code", 32}, {"src", 8}}, func(p []GPVirtual) {
		v, w, t := YMM(), YMM(), YMM()
		VPMOVZXBD(Mem{Base: p[1]}, v)
		// The byte's four codes, moved to where bytes of 32 bits begin.
		VPSLLD(Imm(6), v, t)
		VPOR(t, v, w)
		VPSLLD(Imm(12), v, t)
		VPOR(t, w, w)
		VPSLLD(Imm(18), v, t)
		VPOR(t, w, w)
		VPAND(octets("three", nil), w, w)
		VMOVDQU(w, Mem{Base: p[0]})
	})
	finish()

	name("unpack4", unpack, "unpacks codes of 4 bits.", "unpackTwin")
	blocks("code", []side{{"code", 32}, {"src", 16}}, func(p []GPVirtual) {
		v, h, t := XMM(), XMM(), XMM()
		VMOVDQU(Mem{Base: p[1]}, v)
		VPSRLW(Imm(4), v, h)
		VPAND(nibble, v, v)
		VPAND(nibble, h, h)
		VPUNPCKLBW(h, v, t)
		VMOVDQU(t, Mem{Base: p[0]})
		VPUNPCKHBW(h, v, t)
		VMOVDQU(t, Mem{Base: p[0], Disp: 16})
	})
	finish()

	text("packSigns", "func(dst []byte, x []float32)", "packs sign bits.")
	blocks("x", []side{{"dst", 4}, {"x", 128}}, func(p []GPVirtual) {
		for i := range 4 {
			v, m := YMM(), GP32()
			VMOVUPS(Mem{Base: p[1], Disp: 32 * i}, v)
			VMOVMSKPS(v, m)
			MOVB(m.As8(), Mem{Base: p[0], Disp: i})
		}
	})
	finish()

	text("unpackSigns", "func(x []float32, src []byte, scale float32)", "is x = scale or -scale.")
	scale, eight, sign := broadcast("scale"), YMM(), YMM()
	VMOVDQU(table("bits32", 8, func(i int) { DATA(4*i, U32(1<<i)) }), eight)
	VMOVDQU(long(1<<31), sign)
	blocks("x", []side{{"x", 128}, {"src", 4}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VPBROADCASTB(Mem{Base: p[1], Disp: i}, v)
			VPAND(eight, v, v)
			VPCMPEQD(eight, v, v)
			VPAND(sign, v, v)
			VXORPS(scale, v, v)
			VMOVUPS(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

func quantizers() {
	integer := func(name string) VecVirtual {
		x, v := Load(Param(name), GP64()), YMM()
		VMOVD(x.(GPVirtual).As32(), v.AsX())
		VPBROADCASTD(v.AsX(), v)
		return v
	}
	for _, near := range []bool{false, true} {
		name, u, doc := "quantize", "x, u []float32, ", "is the code of the level below or above."
		if near {
			name, u, doc = "quantizeNear", "x []float32, ", "is the code of the nearest level."
		}
		text(name, "func(code []uint8, "+u+"lo, inv, first, last float32, zero int)", doc)
		lo, inv, first, last, zero := broadcast("lo"), broadcast("inv"), broadcast("first"), broadcast("last"), integer("zero")
		sides := []side{{"code", 32}, {"x", 128}, {"u", 128}}
		if near {
			sides = sides[:2]
		}
		blocks("x", sides, func(p []GPVirtual) {
			var q [4]VecVirtual
			for i := range q {
				r, f := YMM(), YMM()
				VMOVUPS(Mem{Base: p[1], Disp: 32 * i}, r)
				VSUBPS(lo, r, r)
				VMULPS(inv, r, r)
				VMAXPS(first, r, r) // first when r is NaN
				VMINPS(last, r, r)
				if near {
					VCVTPS2DQ(r, r)
					VPADDD(zero, r, r)
					q[i] = r
					continue
				}
				randomly(r, f, Mem{Base: p[2], Disp: 32 * i})
				VPADDD(zero, f, f)
				q[i] = f
			}
			bytes32(q, Mem{Base: p[0]})
		})
		finish()
	}

	text("dequantize", "func(x []float32, code []uint8, lo, step float32, zero int)", "is x = fma(code-zero, step, lo).")
	lo, step, zero := broadcast("lo"), broadcast("step"), integer("zero")
	blocks("x", []side{{"x", 128}, {"code", 32}}, func(p []GPVirtual) {
		for i := range 4 {
			v := YMM()
			VPMOVZXBD(Mem{Base: p[1], Disp: 8 * i}, v)
			VPSUBD(zero, v, v)
			VCVTDQ2PS(v, v)
			VFMADD213PS(lo, step, v)
			VMOVUPS(v, Mem{Base: p[0], Disp: 32 * i})
		}
	})
	finish()
}

// fold takes eight 32-bit lanes together.
func fold(op func(ops ...Op), v VecVirtual) GPVirtual {
	x, h := v.AsX(), YMM()
	VEXTRACTI128(Imm(1), v, h.AsX())
	op(h.AsX(), x, x)
	VPSHUFD(Imm(0xee), x, h.AsX())
	op(h.AsX(), x, x)
	VPSHUFD(Imm(0x55), x, h.AsX())
	op(h.AsX(), x, x)
	r := GP32()
	VMOVD(x, r)
	return r
}

func extremes() {
	text("maxAbs", "func(x []float32) uint32", "is the largest |x|, as bits.")
	m, abs := zeros(4), YMM()
	VMOVDQU(long(0x7fffffff), abs)
	blocks("x", []side{{"x", 128}}, func(p []GPVirtual) {
		for i := range m {
			v := YMM()
			VPAND(Mem{Base: p[0], Disp: 32 * i}, abs, v)
			VPMAXUD(v, m[i], m[i])
		}
	})
	VPMAXUD(m[1], m[0], m[0])
	VPMAXUD(m[3], m[2], m[2])
	VPMAXUD(m[2], m[0], m[0])
	r := fold(VPMAXUD, m[0])
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()

	text("minMax", "func(x []float32) (lo, hi int32)", "is the smallest and the largest x, as ordered integers.")
	hi := zeros(2)
	lo := zeros(2)
	for i := range 2 {
		VMOVDQU(long(0x80000000), hi[i])
		VMOVDQU(long(0x7fffffff), lo[i])
	}
	blocks("x", []side{{"x", 128}}, func(p []GPVirtual) {
		for i := range 4 {
			v, t := YMM(), YMM()
			VMOVDQU(Mem{Base: p[0], Disp: 32 * i}, v)
			VPSRAD(Imm(31), v, t)
			VPSRLD(Imm(1), t, t)
			VPXOR(t, v, v)
			VPMAXSD(v, hi[i%2], hi[i%2])
			VPMINSD(v, lo[i%2], lo[i%2])
		}
	})
	VPMAXSD(hi[1], hi[0], hi[0])
	VPMINSD(lo[1], lo[0], lo[0])
	l, h := fold(VPMINSD, lo[0]), fold(VPMAXSD, hi[0])
	VZEROUPPER()
	Store(l, ReturnIndex(0))
	Store(h, ReturnIndex(1))
	RET()
}
