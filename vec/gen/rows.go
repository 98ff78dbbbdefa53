package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// scattered copies some rows of a matrix, few instructions each, so that the processor has many of them under way that are in no
// cache.
func scattered() {
	moveRows("gatherRows", "writes the rows to y, one after the other.", func(y, row Mem, by VecVirtual, mask *VecVirtual) {
		move(row, y, by, mask)
	})
	moveRows("scatterRows", "writes the rows from y, one after the other.", move)
}

func move(from, to Mem, by VecVirtual, mask *VecVirtual) {
	if mask != nil {
		VMASKMOVPS(from, *mask, by)
		VMASKMOVPS(by, *mask, to)
		return
	}
	VMOVUPS(from, by)
	VMOVUPS(by, to)
}

// moveRows makes a kernel that calls f with eight elements in y, and where they are in their row.
func moveRows(name, doc string, f func(y, row Mem, by VecVirtual, mask *VecVirtual)) {
	text(name, "func(y, x []float32, rows []uint64, stride, n int)", doc)
	y, x, next, left := base("y"), base("x"), base("rows"), length("rows")
	stride := Load(Param("stride"), GP64()).(GPVirtual)
	n := Load(Param("n"), GP64()).(GPVirtual)
	SHLQ(Imm(2), stride)
	tail := GP64()
	MOVQ(n, tail)
	ANDQ(Imm(7), tail)
	mask := tailMask(tail, 0)
	row, k := GP64(), GP64()
	by := YMM()

	Label("row")
	TESTQ(left, left)
	JE(LabelRef("done"))
	MOVQ(Mem{Base: next}, row)
	IMULQ(stride, row)
	ADDQ(x, row)
	MOVQ(n, k)
	Label("eight")
	CMPQ(k, Imm(8))
	JLT(LabelRef("tail"))
	f(Mem{Base: y}, Mem{Base: row}, by, nil)
	ADDQ(Imm(32), y)
	ADDQ(Imm(32), row)
	SUBQ(Imm(8), k)
	JMP(LabelRef("eight"))
	Label("tail")
	TESTQ(k, k)
	JE(LabelRef("next"))
	f(Mem{Base: y}, Mem{Base: row}, by, &mask)
	LEAQ(Mem{Base: y, Index: k, Scale: 4}, y)
	Label("next")
	ADDQ(Imm(8), next)
	DECQ(left)
	JMP(LabelRef("row"))
	Label("done")
	VZEROUPPER()
	RET()
}
