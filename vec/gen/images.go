package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// images divides by 255 through its reciprocal and a correction, which gives the rounded quotient for all 256 bytes, and
// by the deviation with a division.
func images() {
	TEXT("imagesAVX2", NOSPLIT, "func(x []float32, pix, next []uint8, mean, deviation float32)")
	Pragma("noescape")
	Doc("imagesAVX2 is x = pix / 255, or (pix/255 - mean) / deviation, in blocks of 32, and fetches next.", "See imagesTwin for the contract.")
	next, left := base("next"), length("next")
	mean, deviation := broadcast("mean"), broadcast("deviation")
	whole, inverse, zero := YMM(), YMM(), YMM()
	VMOVUPS(long(0x437f0000), whole)   // 255
	VMOVUPS(long(0x3b808081), inverse) // 1/255
	VXORPS(zero, zero, zero)
	n, x, pix := length("x"), base("x"), base("pix")

	Label("fetch")
	CMPQ(left, Imm(0))
	JLE(LabelRef("fetched"))
	PREFETCHT0(Mem{Base: next})
	ADDQ(Imm(64), next)
	SUBQ(Imm(64), left)
	JMP(LabelRef("fetch"))
	Label("fetched")

	fraction := func(i int) VecVirtual {
		p, q := YMM(), YMM()
		VPMOVZXBD(Mem{Base: pix, Disp: 8 * i}, p)
		VCVTDQ2PS(p, p)
		VMULPS(inverse, p, q)
		VFNMADD231PS(whole, q, p) // what is left of p
		VFMADD231PS(inverse, p, q)
		return q
	}
	loop := func(name string, finish func(q VecVirtual)) {
		Label(name)
		CMPQ(n, Imm(32))
		JLT(LabelRef("done"))
		for i := range 4 {
			q := fraction(i)
			finish(q)
			VMOVUPS(q, Mem{Base: x, Disp: 32 * i})
		}
		ADDQ(Imm(128), x)
		ADDQ(Imm(32), pix)
		SUBQ(Imm(32), n)
		JMP(LabelRef(name))
	}
	VUCOMISS(zero.AsX(), deviation.AsX())
	JNE(LabelRef("standard"))
	JP(LabelRef("standard")) // NaN
	loop("plain", func(VecVirtual) {})
	loop("standard", func(q VecVirtual) {
		VSUBPS(mean, q, q)
		VDIVPS(deviation, q, q)
	})
	Label("done")
	VZEROUPPER()
	RET()
}
