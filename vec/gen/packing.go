package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// transposes writes the kernel that packs rows into panels: eight columns of eight rows are read at a time and
// written as eight rows of eight numbers, which lie dp apart.
func transposes() {
	TEXT("transpose8AVX2", NOSPLIT, "func(dst *float32, dp int, src *float32, si, kc int)")
	Pragma("noescape")
	Doc("transpose8AVX2 is dst[p*dp+i] = src[i*si+p] for i below 8 and p below kc, a multiple of 8.")
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
	// Rows 0 to 3 in the low halves and 4 to 7 in the high ones, of four columns at a time; then pairs of rows, then
	// fours.
	for half := range 2 {
		r := make([]VecVirtual, 4)
		for i := range r {
			r[i] = YMM()
			VMOVUPS(at(i).Offset(16*half), r[i].AsX())
			VINSERTF128(Imm(1), at(i+4).Offset(16*half), r[i], r[i])
		}
		pairs := make([]VecVirtual, 4)
		for i := 0; i < 4; i += 2 {
			pairs[i], pairs[i+1] = YMM(), YMM()
			VUNPCKLPS(r[i+1], r[i], pairs[i])
			VUNPCKHPS(r[i+1], r[i], pairs[i+1])
		}
		for i := range 2 {
			for _, sel := range []uint64{0x44, 0xee} {
				v := YMM()
				VSHUFPS(Imm(sel), pairs[i+2], pairs[i], v)
				VMOVUPS(v, Mem{Base: dst})
				ADDQ(dp, dst)
			}
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

// sides writes the kernels that pack numbers that lie side by side: for AVX-512 up to two vectors of them, for AVX2
// the heights and widths of its tiles.
func sides() {
	for _, name := range []string{"AVX512", "AVX2"} {
		TEXT("sides"+name, NOSPLIT, "func(dst *float32, dp int, src *float32, sp, w, kc int)")
		Pragma("noescape")
		some := map[string]string{"AVX512": "at most 32", "AVX2": "which is 6, 8 or 16"}[name]
		Doc("sides" + name + " is dst[p*dp+i] = src[p*sp+i] for i below w, " + some + ", and p below kc, at least 1.")
		dst, dp := Load(Param("dst"), GP64()), Load(Param("dp"), GP64())
		src, sp := Load(Param("src"), GP64()), Load(Param("sp"), GP64())
		w, kc := Load(Param("w"), GP64()), Load(Param("kc"), GP64())
		SHLQ(Imm(2), dp)
		SHLQ(Imm(2), sp)
		loop := func(label string, body func()) {
			Label(label)
			body()
			PREFETCHT0(Mem{Base: src, Index: sp, Scale: 8})
			ADDQ(sp, src)
			ADDQ(dp, dst)
			DECQ(kc)
			JNE(LabelRef(label))
			VZEROUPPER()
			RET()
		}
		from, to := Mem{Base: src}, Mem{Base: dst}
		if name == "AVX2" {
			CMPQ(w, Imm(8))
			JE(LabelRef("eight"))
			JG(LabelRef("sixteen"))
			loop("six", func() {
				VMOVUPS(from, X0)
				VMOVSD(from.Offset(16), X1)
				VMOVUPS(X0, to)
				VMOVSD(X1, to.Offset(16))
			})
			loop("eight", func() {
				VMOVUPS(from, Y0)
				VMOVUPS(Y0, to)
			})
			loop("sixteen", func() {
				VMOVUPS(from, Y0)
				VMOVUPS(from.Offset(32), Y1)
				VMOVUPS(Y0, to)
				VMOVUPS(Y1, to.Offset(32))
			})
			continue
		}
		CMPQ(w, Imm(16))
		JG(LabelRef("two"))
		avx512.mask(w, 1)
		loop("one", func() {
			VMOVUPS_Z(from, K1, Z0)
			VMOVUPS(Z0, K1, to)
		})
		Label("two")
		avx512.mask(w, 2)
		loop("both", func() {
			VMOVUPS(from, Z0)
			VMOVUPS_Z(from.Offset(64), K1, Z1)
			VMOVUPS(Z0, to)
			VMOVUPS(Z1, K1, to.Offset(64))
		})
	}
}
