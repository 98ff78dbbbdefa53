package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func zeros(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = YMM()
		VXORPS(v[i], v[i], v[i])
	}
	return v
}

func sums() {
	text("dot", "func(x, y []float32) float32", "is the sum of x[i]*y[i].")
	acc := zeros(4)
	n, x, y := length("x"), base("x"), base("y")
	lanes32(n, []GPVirtual{x, y}, func(i int, v []VecVirtual) { VFMADD231PS(v[0], v[1], acc[i]) })
	foldReturn(acc)

	doubles("squares", "is the sum of x[i]^2.", func(v, acc VecVirtual) { VFMADD231PD(v, v, acc) })
	doubles("magnitudes", "is the sum of |x[i]|.", func(v, acc VecVirtual) {
		VANDPD(quad(signBit-1), v, v)
		VADDPD(v, acc, acc)
	})
	sumRows()
}

// doubles is the kernel of a sum in float64 over 16 lanes; term adds four elements to an accumulator.
func doubles(name, doc string, term func(v, acc VecVirtual)) {
	text(name, "func(x []float32) float64", doc)
	acc := zeros(4)
	lanes16(func(i int, v VecVirtual) {
		lo, hi := widened(v)
		term(lo, acc[2*i])
		term(hi, acc[2*i+1])
	})
	fold64(acc)
	VZEROUPPER()
	Store(acc[0].AsX(), ReturnIndex(0))
	RET()
}

// lanes16 feeds 16 elements of x a turn, eight at a time, the last ones followed by zeros.
func lanes16(eight func(i int, v VecVirtual)) {
	n, x := length("x"), base("x")
	Label("loop")
	CMPQ(n, Imm(16))
	JLT(LabelRef("tail"))
	for i := range 2 {
		v := YMM()
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, v)
		eight(i, v)
	}
	ADDQ(Imm(64), x)
	SUBQ(Imm(16), n)
	JMP(LabelRef("loop"))
	Label("tail")
	TESTQ(n, n)
	JE(LabelRef("fold"))
	for i := range 2 {
		v := YMM()
		VMASKMOVPS(Mem{Base: x, Disp: 32 * i}, tailMask(n, 8*i), v)
		eight(i, v)
	}
	Label("fold")
}

// widened is eight elements as two times four in float64.
func widened(v VecVirtual) (lo, hi VecVirtual) {
	lo, hi = YMM(), YMM()
	VCVTPS2PD(v.AsX(), lo)
	VEXTRACTF128(Imm(1), v, hi.AsX())
	VCVTPS2PD(hi.AsX(), hi)
	return lo, hi
}

// fold64 adds 16 lanes in halves, into the first.
func fold64(acc []VecVirtual) {
	VADDPD(acc[2], acc[0], acc[0])
	VADDPD(acc[3], acc[1], acc[1])
	VADDPD(acc[1], acc[0], acc[0])
	h := YMM()
	VEXTRACTF128(Imm(1), acc[0], h.AsX())
	VADDPD(h.AsX(), acc[0].AsX(), acc[0].AsX())
	VPERMILPD(Imm(1), acc[0].AsX(), h.AsX())
	VADDSD(h.AsX(), acc[0].AsX(), acc[0].AsX())
}

// lanes32 feeds 32 elements a turn to four accumulators, the last ones followed by zeros.
func lanes32(n GPVirtual, ptr []GPVirtual, body func(i int, v []VecVirtual)) {
	Label("loop")
	CMPQ(n, Imm(32))
	JLT(LabelRef("tail"))
	for i := range 4 {
		v := make([]VecVirtual, len(ptr))
		for j, p := range ptr {
			v[j] = YMM()
			VMOVUPS(Mem{Base: p, Disp: 32 * i}, v[j])
		}
		body(i, v)
	}
	for _, p := range ptr {
		ADDQ(Imm(128), p)
	}
	SUBQ(Imm(32), n)
	JMP(LabelRef("loop"))
	Label("tail")
	TESTQ(n, n)
	JE(LabelRef("fold"))
	for i := range 4 {
		mask := tailMask(n, 8*i)
		v := make([]VecVirtual, len(ptr))
		for j, p := range ptr {
			v[j] = YMM()
			VMASKMOVPS(Mem{Base: p, Disp: 32 * i}, mask, v[j])
		}
		body(i, v)
	}
	Label("fold")
}

// foldReturn adds 32 lanes in halves and returns the sum.
func foldReturn(acc []VecVirtual) {
	VADDPS(acc[2], acc[0], acc[0])
	VADDPS(acc[3], acc[1], acc[1])
	VADDPS(acc[1], acc[0], acc[0])
	x, h := acc[0].AsX(), YMM()
	VEXTRACTF128(Imm(1), acc[0], h.AsX())
	VADDPS(h.AsX(), x, x)
	VPERMILPS(Imm(0xee), x, h.AsX())
	VADDPS(h.AsX(), x, x)
	VPERMILPS(Imm(0x55), x, h.AsX())
	VADDSS(h.AsX(), x, x)
	VZEROUPPER()
	Store(x, ReturnIndex(0))
	RET()
}

// sumRows goes down strips of 96, 32, 8 and then the remaining columns.
func sumRows() {
	text("sumRows", "func(db, dy []float32, rows int, acc bool)", "is db = or += the sum of dy's rows.")
	db, n := base("db"), length("db")
	dy := base("dy")
	rows := Load(Param("rows"), GP64())
	acc := Load(Param("acc"), GP8())
	stride := GP64()
	MOVQ(n, stride)
	SHLQ(Imm(2), stride)
	strip := func(name string, width int, mask *VecVirtual) {
		s := zeros(width)
		p, r := GP64(), GP64()
		MOVQ(dy, p)
		MOVQ(rows, r)
		Label(name + "_row")
		TESTQ(r, r)
		JLE(LabelRef(name + "_end"))
		for i := range s {
			if mask != nil {
				v := YMM()
				VMASKMOVPS(Mem{Base: p}, *mask, v)
				VADDPS(v, s[i], s[i])
			} else {
				VADDPS(Mem{Base: p, Disp: 32 * i}, s[i], s[i])
			}
		}
		ADDQ(stride, p)
		DECQ(r)
		JMP(LabelRef(name + "_row"))
		Label(name + "_end")
		TESTB(acc, acc)
		JE(LabelRef(name + "_store"))
		for i := range s {
			v := YMM()
			if mask != nil {
				VMASKMOVPS(Mem{Base: db}, *mask, v)
			} else {
				VMOVUPS(Mem{Base: db, Disp: 32 * i}, v)
			}
			VADDPS(s[i], v, s[i])
		}
		Label(name + "_store")
		for i := range s {
			if mask != nil {
				VMASKMOVPS(s[i], *mask, Mem{Base: db})
			} else {
				VMOVUPS(s[i], Mem{Base: db, Disp: 32 * i})
			}
		}
	}
	loop := func(name string, width int) {
		Label(name)
		CMPQ(n, Imm(uint64(8*width)))
		JLT(LabelRef(name + "_none"))
		strip(name, width, nil)
		ADDQ(U32(32*width), db)
		ADDQ(U32(32*width), dy)
		SUBQ(Imm(uint64(8*width)), n)
		JMP(LabelRef(name))
		Label(name + "_none")
	}
	loop("widest", 12)
	loop("wide", 4)
	loop("narrow", 1)
	TESTQ(n, n)
	JE(LabelRef("done"))
	mask := tailMask(n, 0)
	strip("rest", 1, &mask)
	Label("done")
	VZEROUPPER()
	RET()
}
