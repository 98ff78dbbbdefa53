package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

func sparse() {
	text("csrDot", "func(col []int32, val, w []float32) float32", "is the sum of val*w[col], one chain.")
	s := XMM()
	VXORPS(s, s, s)
	n, col, val, w := length("col"), base("col"), base("val"), base("w")
	Label("loop")
	TESTQ(n, n)
	JE(LabelRef("done"))
	j, v := GP64(), XMM()
	MOVLQSX(Mem{Base: col}, j)
	VMOVSS(Mem{Base: val}, v)
	VFMADD231SS(Mem{Base: w, Index: j, Scale: 4}, v, s)
	ADDQ(Imm(4), col)
	ADDQ(Imm(4), val)
	DECQ(n)
	JMP(LabelRef("loop"))
	Label("done")
	Store(s, ReturnIndex(0))
	RET()

	text("csrScatter", "func(a float32, col []int32, val, g []float32)", "is g[col] = fma(val, a, g[col]) in order.")
	a := Load(Param("a"), XMM())
	n, col, val, g := length("col"), base("col"), base("val"), base("g")
	Label("loop")
	TESTQ(n, n)
	JE(LabelRef("done"))
	j, v = GP64(), XMM()
	MOVLQSX(Mem{Base: col}, j)
	VMOVSS(Mem{Base: g, Index: j, Scale: 4}, v)
	VFMADD231SS(Mem{Base: val}, a, v)
	VMOVSS(v, Mem{Base: g, Index: j, Scale: 4})
	ADDQ(Imm(4), col)
	ADDQ(Imm(4), val)
	DECQ(n)
	JMP(LabelRef("loop"))
	Label("done")
	RET()
}
