package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func elementwise() {
	text("add", "func(dst, x []float32)", "is dst += x.")
	walk(4, []stream{inout("dst"), in("x")}, func(v []VecVirtual) { VADDPS(v[1], v[0], v[0]) })

	text("addTo", "func(dst, a, b []float32)", "is dst = a + b.")
	walk(4, []stream{out("dst"), in("a"), in("b")}, func(v []VecVirtual) {
		v[0] = YMM()
		VADDPS(v[2], v[1], v[0])
	})

	text("addBoth", "func(dst, also, a, b []float32)", "is dst = also = a + b.")
	walk(4, []stream{out("dst"), out("also"), in("a"), in("b")}, func(v []VecVirtual) {
		v[0] = YMM()
		VADDPS(v[3], v[2], v[0])
		v[1] = v[0]
	})

	text("addFour", "func(a, b, c, d []float32)", "makes all four (a + b) + (c + d).")
	walk(2, []stream{inout("a"), inout("b"), inout("c"), inout("d")}, func(v []VecVirtual) {
		s := YMM()
		VADDPS(v[1], v[0], s)
		VADDPS(v[3], v[2], v[2])
		VADDPS(v[2], s, s)
		v[0], v[1], v[2], v[3] = s, s, s, s
	})

	text("scale", "func(a float32, x []float32)", "is x *= a.")
	a := broadcast("a")
	walk(4, []stream{inout("x")}, func(v []VecVirtual) { VMULPS(a, v[0], v[0]) })

	text("axpy", "func(a float32, x, y []float32)", "is y = fma(a, x, y).")
	a = broadcast("a")
	walk(4, []stream{in("x"), inout("y")}, func(v []VecVirtual) { VFMADD231PS(v[0], a, v[1]) })

	text("relu", "func(y, x []float32)", "is y = x, or 0 where x < 0.")
	zero := YMM()
	VXORPS(zero, zero, zero)
	walk(4, []stream{out("y"), in("x")}, func(v []VecVirtual) {
		v[0] = YMM()
		VMAXPS(v[1], zero, v[0]) // 0 > x ? 0 : x
	})

	text("reluGrad", "func(dx, dy, y []float32)", "is dx = dy, or 0 where y <= 0.")
	zero = YMM()
	VXORPS(zero, zero, zero)
	walk(4, []stream{out("dx"), in("dy"), in("y")}, func(v []VecVirtual) {
		v[0] = YMM()
		VCMPPS(Imm(2), zero, v[2], v[2]) // LE, false for NaN
		VANDNPS(v[1], v[2], v[0])
	})

	text("finite", "func(x []float32) bool", "reports whether no exponent is all ones.")
	bad, abs, top := YMM(), YMM(), YMM()
	VPXOR(bad, bad, bad)
	VMOVDQU(long(0x7fffffff), abs)
	VMOVDQU(long(0x7f7fffff), top)
	x, n := base("x"), length("x")
	check := func(v VecVirtual) {
		VPAND(abs, v, v)
		VPCMPGTD(top, v, v)
		VPOR(v, bad, bad)
	}
	Label("loop")
	CMPQ(n, Imm(8))
	JLT(LabelRef("tail"))
	v := YMM()
	VMOVDQU(Mem{Base: x}, v)
	check(v)
	ADDQ(Imm(32), x)
	SUBQ(Imm(8), n)
	JMP(LabelRef("loop"))
	Label("tail")
	TESTQ(n, n)
	JE(LabelRef("done"))
	mask := tailMask(n, 0)
	v = YMM()
	VMASKMOVPS(Mem{Base: x}, mask, v)
	check(v)
	Label("done")
	r := GP8()
	VPTEST(bad, bad)
	SETEQ(r)
	VZEROUPPER()
	Store(r, ReturnIndex(0))
	RET()
}
