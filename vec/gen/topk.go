package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// above compacts eight lanes at a time with a permutation that a table has for each mask, and skips 32 elements at once
// where there is nothing: the usual case.
func above() {
	TEXT("aboveBlocksAVX2", NOSPLIT, "func(idx []int32, val, x []float32, below int32) (found, read int)")
	Pragma("noescape")
	Doc("aboveBlocksAVX2 is above for blocks of 32 elements, as long as there is room for 32.")
	order := table("compact", 256, func(m int) {
		var lanes uint64
		n := 0
		for i := range 8 {
			if m>>i&1 == 1 {
				lanes |= uint64(i) << (8 * n)
				n++
			}
		}
		DATA(8*m, U64(lanes))
	})
	idx, room, val, x, n := base("idx"), length("idx"), base("val"), base("x"), length("x")
	below, abs := broadcast("below"), YMM()
	VMOVDQU(long(0x7fffffff), abs)
	at, eight := YMM(), YMM()
	VMOVDQU(table("lanes", 8, func(i int) { DATA(4*i, U32(i)) }), at)
	VMOVDQU(long(8), eight)
	compact := GP64()
	LEAQ(order, compact)
	found, read := GP64(), GP64()
	XORQ(found, found)
	XORQ(read, read)

	Label("loop")
	end := GP64()
	LEAQ(Mem{Base: read, Disp: 32}, end)
	CMPQ(end, n)
	JG(LabelRef("done"))
	LEAQ(Mem{Base: found, Disp: 32}, end)
	CMPQ(end, room)
	JG(LabelRef("done"))
	v, m := make([]VecVirtual, 4), make([]VecVirtual, 4)
	for i := range v {
		v[i], m[i] = YMM(), YMM()
		VMOVDQU(Mem{Base: x, Index: read, Scale: 4, Disp: 32 * i}, v[i])
		VPAND(abs, v[i], m[i])
		VPCMPGTD(below, m[i], m[i])
	}
	any1, any2 := YMM(), YMM()
	VPOR(m[0], m[1], any1)
	VPOR(m[2], m[3], any2)
	VPOR(any1, any2, any1)
	VPTEST(any1, any1)
	JE(LabelRef("none"))
	for i := range v {
		mask, count, p := GP32(), GP32(), YMM()
		VMOVMSKPS(m[i], mask)
		VPMOVZXBD(Mem{Base: compact, Index: mask.As64(), Scale: 8}, p)
		VPERMD(v[i], p, v[i])
		VMOVDQU(v[i], Mem{Base: val, Index: found, Scale: 4})
		VPERMD(at, p, p)
		VMOVDQU(p, Mem{Base: idx, Index: found, Scale: 4})
		POPCNTL(mask, count)
		ADDQ(count.As64(), found)
		VPADDD(eight, at, at)
	}
	ADDQ(Imm(32), read)
	JMP(LabelRef("loop"))
	Label("none")
	VPADDD(long(32), at, at)
	ADDQ(Imm(32), read)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	Store(found, ReturnIndex(0))
	Store(read, ReturnIndex(1))
	RET()
}
