package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// isa is what the micro-kernels of products are written for. A tile is so many rows of c by so many vectors; its sums
// stay in registers from the first element of a block's chains to the last.
type isa struct {
	name  string
	lanes int
	regs  []VecPhysical
	tiles []size // by vectors, the widest first
}

type size struct{ vectors, rows int }

var avx2 = isa{"AVX2", 8, []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15},
	[]size{{8, 1}, {4, 3}, {2, 6}, {1, 6}}}

var avx512 = isa{"AVX512", 16, []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15,
	Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31},
	[]size{{8, 1}, {4, 3}, {2, 14}, {1, 14}}}

// rows are the addresses of a tile's rows, up to 14, in two pointers and three strides.
type rows struct{ p, p7, s, s3, s5 GPVirtual }

func newRows() rows { return rows{GP64(), GP64(), GP64(), GP64(), GP64()} }

// at sets the rows to begin at a parameter and to lie a parameter apart.
func (r rows) at(p, stride string) {
	Load(Param(p), r.p)
	Load(Param(stride), r.s)
	SHLQ(Imm(2), r.s)
	LEAQ(Mem{Base: r.s, Index: r.s, Scale: 2}, r.s3)
	LEAQ(Mem{Base: r.s, Index: r.s, Scale: 4}, r.s5)
	LEAQ(Mem{Base: r.s3, Index: r.s, Scale: 4}, r.p7)
	ADDQ(r.p, r.p7)
}

func (r rows) row(i int) Mem {
	m := Mem{Base: r.p}
	if i >= 7 {
		m.Base = r.p7
		i -= 7
	}
	switch i {
	case 1, 2, 4:
		m.Index, m.Scale = r.s, uint8(i)
	case 3, 6:
		m.Index, m.Scale = r.s3, uint8(i/3)
	case 5:
		m.Index, m.Scale = r.s5, 1
	}
	return m
}

// arg is where a parameter lies.
func arg(name string) Mem {
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return a.Addr
}

// tiles writes the micro-kernel: the chains of tiles, by strides, so that it reads packed panels and, where that is
// as good, the matrices themselves. There is a loop for each number of rows and of vectors.
func (w isa) tile() {
	TEXT("tiles"+w.name, NOSPLIT, "func(c *float32, ldc int, a *float32, ai, ap int, b *float32, bp, step, count, rows, cols, kc int, add bool, bias *float32, relu bool)")
	Pragma("noescape")
	Doc("tiles"+w.name+" computes tiles of a product.", "See tilesTwin for the contract.")
	have := Load(Param("rows"), GP64())
	cols := Load(Param("cols"), GP64())
	ap, bp := Load(Param("ap"), GP64()), Load(Param("bp"), GP64())
	SHLQ(Imm(2), ap)
	SHLQ(Imm(2), bp)
	r := newRows()
	r.at("c", "ldc")
	for i, t := range w.tiles[:len(w.tiles)-1] {
		CMPQ(cols, Imm(uint64(w.tiles[i+1].vectors*w.lanes)))
		JG(LabelRef(label("vectors", t.vectors)))
	}
	for i := len(w.tiles) - 1; i >= 0; i-- {
		t := w.tiles[i]
		n := label("vectors", t.vectors)
		Label(n)
		w.mask(cols, t.vectors)
		for h := t.rows; h > 1; h-- {
			CMPQ(have, Imm(uint64(h)))
			JEQ(LabelRef(label(n+"_rows", h)))
		}
		for h := 1; h <= t.rows; h++ {
			w.loop(size{t.vectors, h}, label(n+"_rows", h), r, ap, bp)
		}
	}
}

func label(name string, n int) string {
	if n >= 10 {
		return name + string('0'+rune(n/10)) + string('0'+rune(n%10))
	}
	return name + string('0'+rune(n))
}

// mask fills K1 with the lanes of a tile's last vector. Tiles of more than two vectors are whole.
func (w isa) mask(cols Register, vectors int) {
	if w.lanes != 16 || vectors > 2 {
		return
	}
	lanes, ones := GP64(), GP64()
	MOVQ(cols, lanes)
	if vectors == 2 {
		SUBQ(Imm(16), lanes)
	}
	MOVQ(I32(-1), ones)
	SHLXQ(lanes, ones, ones)
	NOTQ(ones)
	KMOVW(ones.As32(), K1)
}

// acc is the accumulator of row i, vector v.
func (w isa) acc(t size, i, v int) VecPhysical { return w.regs[i*t.vectors+v] }

// zero clears a register.
func (w isa) zero(r VecPhysical) {
	if w.lanes == 16 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// loop computes count tiles of one size. r holds c's rows.
func (w isa) loop(t size, name string, r rows, ap, bp Register) {
	Label(name)
	for i := range t.rows {
		for v := 0; v < t.vectors*w.lanes; v += 16 {
			PREFETCHT0(r.row(i).Offset(4 * v))
		}
	}
	r.at("a", "ai")
	b := Load(Param("b"), GP64())
	w.chains(t, name, r, ap, b, bp)
	w.finish(t, name, r)

	// On to the next tile: c and bias by its width, b by step.
	wide := U32(4 * t.vectors * w.lanes)
	next := GP64()
	DECQ(arg("count"))
	JE(LabelRef(name + "_end"))
	MOVQ(arg("step"), next)
	SHLQ(Imm(2), next)
	ADDQ(next, arg("b"))
	ADDQ(wide, r.p)
	ADDQ(wide, r.p7)
	MOVQ(r.p, arg("c"))
	CMPQ(arg("bias"), Imm(0))
	JE(LabelRef(name))
	ADDQ(wide, arg("bias"))
	JMP(LabelRef(name))
	Label(name + "_end")
	VZEROUPPER()
	RET()
}

// chains runs a tile's chains over kc elements.
func (w isa) chains(t size, name string, r rows, ap, b, bp Register) {
	kc := Load(Param("kc"), GP64())
	for i := range t.rows * t.vectors {
		w.zero(w.regs[i])
	}
	free := w.regs[t.rows*t.vectors:]
	vector := func(v int) Mem { return Mem{Base: b, Disp: 4 * w.lanes * v} }
	load := func(v int, to VecPhysical) {
		if w.lanes == 16 && t.vectors <= 2 && v == t.vectors-1 {
			VMOVUPS_Z(vector(v), K1, to)
		} else {
			VMOVUPS(vector(v), to)
		}
	}
	step := func() {
		switch {
		case t.rows == 1 && t.vectors > 2: // each vector of b meets one number
			VBROADCASTSS(r.row(0), free[0])
			for v := range t.vectors {
				VFMADD231PS(vector(v), free[0], w.acc(t, 0, v))
			}
		case t.vectors > 2: // keep the numbers of a, one a row
			for i := range t.rows {
				VBROADCASTSS(r.row(i), free[i])
			}
			for v := range t.vectors {
				load(v, free[t.rows])
				for i := range t.rows {
					VFMADD231PS(free[t.rows], free[i], w.acc(t, i, v))
				}
			}
		default: // keep the vectors of b
			for v := range t.vectors {
				load(v, free[v])
			}
			for i := range t.rows {
				if w.lanes == 16 && t.vectors == 1 {
					VFMADD231PS_BCST(r.row(i), free[0], w.acc(t, i, 0))
					continue
				}
				VBROADCASTSS(r.row(i), free[t.vectors])
				for v := range t.vectors {
					VFMADD231PS(free[v], free[t.vectors], w.acc(t, i, v))
				}
			}
		}
		ADDQ(ap, r.p)
		if t.rows > 7 {
			ADDQ(ap, r.p7)
		}
		ADDQ(bp, b)
	}
	unroll := 4
	for unroll > 1 && unroll*t.rows*t.vectors > 28 {
		unroll /= 2
	}
	if unroll > 1 {
		Label(name + "_many")
		CMPQ(kc, Imm(uint64(unroll)))
		JLT(LabelRef(name + "_rest"))
		for range unroll {
			step()
		}
		SUBQ(Imm(uint64(unroll)), kc)
		JMP(LabelRef(name + "_many"))
		Label(name + "_rest")
		TESTQ(kc, kc)
		JE(LabelRef(name + "_done"))
	}
	Label(name + "_one")
	step()
	DECQ(kc)
	JNE(LabelRef(name + "_one"))
	Label(name + "_done")
}

// finish adds c, the bias and what else there is to a tile's sums, and stores them. It leaves c's rows in r.
func (w isa) finish(t size, name string, r rows) {
	last := t.vectors - 1
	whole := t.vectors > 2
	free := w.regs[t.rows*t.vectors:]
	var mask VecPhysical
	r.at("c", "ldc")
	cols := GP64()
	if !whole {
		MOVQ(arg("cols"), cols)
		if w.lanes == 8 {
			mask = free[3]
			VMOVAPS(tailMask(cols, w.lanes*last), mask)
		}
	}
	at := func(m Mem, v int) Mem { return m.Offset(4 * w.lanes * v) }
	all := func(f func(i, v int, m Mem, acc VecPhysical, masked bool)) {
		for i := range t.rows {
			for v := range t.vectors {
				f(i, v, at(r.row(i), v), w.acc(t, i, v), v == last && !whole)
			}
		}
	}

	CMPB(arg("add"), Imm(0))
	JE(LabelRef(name + "_added"))
	all(func(i, v int, m Mem, acc VecPhysical, masked bool) {
		switch {
		case !masked:
			VADDPS(m, acc, acc)
		case w.lanes == 16:
			VADDPS(m, acc, K1, acc)
		default:
			VMASKMOVPS(m, mask, free[0])
			VADDPS(free[0], acc, acc)
		}
	})
	Label(name + "_added")

	bias := Load(Param("bias"), GP64())
	TESTQ(bias, bias)
	JE(LabelRef(name + "_biased"))
	for v := range t.vectors {
		m := Mem{Base: bias, Disp: 4 * w.lanes * v}
		switch {
		case v != last || whole:
			VMOVUPS(m, free[0])
		case w.lanes == 16:
			VMOVUPS_Z(m, K1, free[0])
		default:
			VMASKMOVPS(m, mask, free[0])
		}
		for i := range t.rows {
			VADDPS(free[0], w.acc(t, i, v), w.acc(t, i, v))
		}
	}
	Label(name + "_biased")

	CMPB(arg("relu"), Imm(0))
	JE(LabelRef(name + "_store"))
	w.zero(free[0])
	for i := range t.rows * t.vectors {
		// 0 > x ? 0 : x. The second source, here the first operand, comes back for a NaN and for -0.
		VMAXPS(w.regs[i], free[0], w.regs[i])
	}

	Label(name + "_store")
	if !whole {
		CMPQ(cols, Imm(uint64(t.vectors*w.lanes)))
		JLT(LabelRef(name + "_masked"))
	}
	all(func(i, v int, m Mem, acc VecPhysical, masked bool) { VMOVUPS(acc, m) })
	if !whole {
		JMP(LabelRef(name + "_stored"))
		Label(name + "_masked")
		all(func(i, v int, m Mem, acc VecPhysical, masked bool) {
			switch {
			case !masked:
				VMOVUPS(acc, m)
			case w.lanes == 16:
				VMOVUPS(acc, K1, m)
			default:
				VMASKMOVPS(acc, mask, m)
			}
		})
		Label(name + "_stored")
	}
}
