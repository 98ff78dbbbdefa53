package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// matrices writes the micro-kernel: 6 rows by 16 columns of c in twelve accumulators, and by strides, so that it
// reads packed panels and, where that is as good, the matrices themselves.
func matrices() {
	text("tile", "func(c *float32, ldc int, a *float32, ai, ap int, b *float32, bp, kc int, add bool)",
		"is c = or += the chains of a tile of 6 by 16.")
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	a, ai, ap := Load(Param("a"), GP64()), Load(Param("ai"), GP64()), Load(Param("ap"), GP64())
	b, bp := Load(Param("b"), GP64()), Load(Param("bp"), GP64())
	kc := Load(Param("kc"), GP64())
	for _, s := range []Register{ldc, ai, ap, bp} {
		SHLQ(Imm(2), s)
	}
	// Rows 0 to 2 hang on a, rows 3 to 5 on a3; likewise c and c3.
	a3, c3 := GP64(), GP64()
	LEAQ(Mem{Base: ai, Index: ai, Scale: 2}, a3)
	ADDQ(a, a3)
	LEAQ(Mem{Base: ldc, Index: ldc, Scale: 2}, c3)
	ADDQ(c, c3)
	row := func(i int, p, p3, stride Register) Mem {
		m := Mem{Base: p}
		if i >= 3 {
			m.Base = p3
		}
		switch i % 3 {
		case 1:
			m.Index, m.Scale = stride, 1
		case 2:
			m.Index, m.Scale = stride, 2
		}
		return m
	}
	for i := range 6 {
		PREFETCHT0(row(i, c, c3, ldc))
	}
	acc := zeros(12)
	step := func() {
		b0, b1 := YMM(), YMM()
		VMOVUPS(Mem{Base: b}, b0)
		VMOVUPS(Mem{Base: b, Disp: 32}, b1)
		for i := range 6 {
			x := YMM()
			VBROADCASTSS(row(i, a, a3, ai), x)
			VFMADD231PS(b0, x, acc[2*i])
			VFMADD231PS(b1, x, acc[2*i+1])
		}
		ADDQ(ap, a)
		ADDQ(ap, a3)
		ADDQ(bp, b)
	}
	Label("four")
	CMPQ(kc, Imm(4))
	JLT(LabelRef("one"))
	for range 4 {
		step()
	}
	SUBQ(Imm(4), kc)
	JMP(LabelRef("four"))
	Label("one")
	TESTQ(kc, kc)
	JE(LabelRef("store"))
	step()
	DECQ(kc)
	JMP(LabelRef("one"))

	Label("store")
	add := Load(Param("add"), GP8())
	TESTB(add, add)
	JE(LabelRef("set"))
	for i := range 6 {
		m := row(i, c, c3, ldc)
		VADDPS(m, acc[2*i], acc[2*i])
		VADDPS(m.Offset(32), acc[2*i+1], acc[2*i+1])
	}
	Label("set")
	for i := range 6 {
		m := row(i, c, c3, ldc)
		VMOVUPS(acc[2*i], m)
		VMOVUPS(acc[2*i+1], m.Offset(32))
	}
	VZEROUPPER()
	RET()
}

// transposes writes the kernels that pack rows into panels: eight columns of so many rows are read at a time and
// written as eight rows of so many numbers, which lie dp apart.
func transposes() {
	for _, rows := range []int{6, 8} {
		name := map[int]string{6: "transpose6", 8: "transpose8"}[rows]
		TEXT(name+"AVX2", NOSPLIT, "func(dst *float32, dp int, src *float32, si, kc int)")
		Pragma("noescape")
		Doc(name + "AVX2 is dst[p*dp+i] = src[i*si+p] for as many i as its name says and p below kc, a multiple of 8.")
		dst, dp := Load(Param("dst"), GP64()), Load(Param("dp"), GP64())
		src, si := Load(Param("src"), GP64()), Load(Param("si"), GP64())
		kc := Load(Param("kc"), GP64())
		SHLQ(Imm(2), dp)
		SHLQ(Imm(2), si)
		far := GP64() // row 4
		LEAQ(Mem{Base: src, Index: si, Scale: 4}, far)
		si3 := GP64()
		LEAQ(Mem{Base: si, Index: si, Scale: 2}, si3)
		at := func(i int) Mem {
			m := Mem{Base: src}
			if i >= 4 {
				m.Base = far
			}
			switch i % 4 {
			case 1:
				m.Index, m.Scale = si, 1
			case 2:
				m.Index, m.Scale = si, 2
			case 3:
				m.Index, m.Scale = si3, 1
			}
			return m
		}
		Label("loop")
		TESTQ(kc, kc)
		JE(LabelRef("done"))
		r := make([]VecVirtual, 8)
		for i := range r {
			r[i] = YMM()
			if i < rows {
				VMOVUPS(at(i), r[i])
			} else {
				VXORPS(r[i], r[i], r[i])
			}
		}
		// Pairs of rows, then fours within each half, then the halves.
		pairs := make([]VecVirtual, 8)
		for i := 0; i < 8; i += 2 {
			pairs[i], pairs[i+1] = YMM(), YMM()
			VUNPCKLPS(r[i+1], r[i], pairs[i])
			VUNPCKHPS(r[i+1], r[i], pairs[i+1])
		}
		fours := make([]VecVirtual, 8)
		for h := 0; h < 8; h += 4 {
			for i := range 2 {
				lo, hi := pairs[h+i], pairs[h+i+2]
				fours[h+2*i], fours[h+2*i+1] = YMM(), YMM()
				VSHUFPS(Imm(0x44), hi, lo, fours[h+2*i])
				VSHUFPS(Imm(0xee), hi, lo, fours[h+2*i+1])
			}
		}
		for _, sel := range []uint64{0x20, 0x31} {
			for i := range 4 {
				v := YMM()
				VPERM2F128(Imm(sel), fours[4+i], fours[i], v)
				if rows == 8 {
					VMOVUPS(v, Mem{Base: dst})
				} else {
					VMOVUPS(v.AsX(), Mem{Base: dst})
					VEXTRACTF128(Imm(1), v, v.AsX())
					VMOVLPS(v.AsX(), Mem{Base: dst, Disp: 16})
				}
				ADDQ(dp, dst)
			}
		}
		ADDQ(Imm(32), src)
		ADDQ(Imm(32), far)
		SUBQ(Imm(8), kc)
		JMP(LabelRef("loop"))
		Label("done")
		VZEROUPPER()
		RET()
	}
}
