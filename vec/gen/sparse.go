package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// csr is the registers of a kernel that walks the rows of a sparse matrix.
type csr struct {
	row, n   GPVirtual // the next row pointer, and how many rows are left
	col, val GPVirtual // all entries
	p, end   GPVirtual // the entries of this row that are left
	ones     bool      // val is not there: its values are ones
	zero     VecVirtual
}

func (k *csr) entry(i int) Mem { return Mem{Base: k.val, Index: k.p, Scale: 4, Disp: 4 * i} }

// at is the element of v, whose elements have size bytes, in the column of entry p+i.
func (k *csr) at(v GPVirtual, i, size int) Mem {
	j := GP64()
	MOVLQSX(Mem{Base: k.col, Index: k.p, Scale: 4, Disp: 4 * i}, j)
	return Mem{Base: v, Index: j, Scale: uint8(size)}
}

// rows loads what all kernels have and goes through the rows.
func (k *csr) rows(body func()) {
	k.row, k.n = base("row"), length("row")
	DECQ(k.n)
	k.col = base("col")
	k.p, k.end = GP64(), GP64()
	if !k.ones {
		k.val = base("val")
		k.zero = XMM()
		VXORPD(k.zero, k.zero, k.zero)
	}
	Label("row")
	TESTQ(k.n, k.n)
	JE(LabelRef("done"))
	MOVQ(Mem{Base: k.row}, k.p)
	MOVQ(Mem{Base: k.row, Disp: 8}, k.end)
	ADDQ(Imm(8), k.row)
	body()
	DECQ(k.n)
	JMP(LabelRef("row"))
	Label("done")
	VZEROUPPER()
	RET()
}

// each emits body for the entries of the row, four a turn.
func (k *csr) each(name string, body func(i int)) {
	loop := func(label string, turn int) {
		Label(label)
		next := GP64()
		LEAQ(Mem{Base: k.p, Disp: turn}, next)
		CMPQ(next, k.end)
		JG(LabelRef(label + "_end"))
		for i := range turn {
			body(i)
		}
		MOVQ(next, k.p)
		JMP(LabelRef(label))
		Label(label + "_end")
	}
	loop(name+"_four", 4)
	loop(name+"_one", 1)
}

// dot64 is the sum over the row of val*w[col] in float64, lane by lane: see csrDot64.
func (k *csr) dot64(w GPVirtual) VecVirtual {
	pair := func(i int) VecVirtual {
		x := XMM()
		VMOVSD(k.at(w, i, 8), x)
		VMOVHPD(k.at(w, i+1, 8), x, x)
		return x
	}
	acc, h := YMM(), YMM()
	VXORPD(acc, acc, acc)
	Label("dot")
	next := GP64()
	LEAQ(Mem{Base: k.p, Disp: 4}, next)
	CMPQ(next, k.end)
	JG(LabelRef("dot_rest"))
	a, b := pair(0), pair(2)
	VINSERTF128(Imm(1), b, a.AsY(), a.AsY())
	if !k.ones {
		v := YMM()
		VCVTPS2PD(k.entry(0), v)
		VMULPD(v, a.AsY(), a.AsY())
	}
	VADDPD(a.AsY(), acc, acc)
	MOVQ(next, k.p)
	JMP(LabelRef("dot"))
	Label("dot_rest")
	lo, hi := acc.AsX(), h.AsX()
	VEXTRACTF128(Imm(1), acc, hi)
	LEAQ(Mem{Base: k.p, Disp: 2}, next)
	CMPQ(next, k.end)
	JG(LabelRef("dot_last"))
	a = pair(0)
	if !k.ones {
		v := XMM()
		VCVTPS2PD(k.entry(0), v)
		VMULPD(v, a, a)
	}
	VADDPD(a, lo, lo)
	MOVQ(next, k.p)
	one := func(sum Register) {
		x := XMM()
		VMOVSD(k.at(w, 0, 8), x)
		if !k.ones {
			v := XMM()
			VCVTSS2SD(k.entry(0), k.zero, v)
			VMULSD(v, x, x)
		}
		VADDSD(x, sum, sum)
		INCQ(k.p)
	}
	CMPQ(k.p, k.end)
	JE(LabelRef("dot_fold"))
	one(hi) // the third of a rest of three
	JMP(LabelRef("dot_fold"))
	Label("dot_last")
	CMPQ(k.p, k.end)
	JE(LabelRef("dot_fold"))
	one(lo) // the only one
	Label("dot_fold")
	VADDPD(hi, lo, lo)
	VPERMILPD(Imm(1), lo, hi)
	VADDSD(hi, lo, lo)
	return acc
}

// scatter64 adds val*r to g[col] over the row, in order.
func (k *csr) scatter64(g GPVirtual, r Register) {
	k.each("scatter", func(i int) {
		m := k.at(g, i, 8)
		x := XMM()
		if k.ones {
			VADDSD(m, r, x)
		} else {
			VCVTSS2SD(k.entry(i), k.zero, x)
			VMULSD(r, x, x)
			VADDSD(m, x, x)
		}
		VMOVSD(x, m)
	})
}

func sparse() {
	const matrix = "row []int, col []int32, "
	for _, ones := range []bool{false, true} {
		suffix, val, doc := "", "val []float32, ", ""
		if ones {
			suffix, val, doc = "Ones", "", ", every val being 1"
		}
		start := func(name, first, last, what string) *csr {
			TEXT(name+suffix+"AVX2", NOSPLIT, "func("+first+matrix+val+last+")")
			Pragma("noescape")
			Doc(name+suffix+"AVX2 "+what+doc+".", "See "+name+"Twin for the contract.")
			return &csr{ones: ones}
		}
		k := start("csrMargins", "z []float64, ", "w []float64", "is z = X w")
		z, w := base("z"), base("w")
		k.rows(func() {
			VMOVSD(k.dot64(w).AsX(), Mem{Base: z})
			ADDQ(Imm(8), z)
		})

		k = start("csrAddGrad", "g []float64, ", "r []float64", "is g += X' r")
		g, r := base("g"), base("r")
		k.rows(func() {
			x := XMM()
			VMOVSD(Mem{Base: r}, x)
			ADDQ(Imm(8), r)
			k.scatter64(g, x)
		})

		k = start("csrAddHess", "g []float64, ", "d, v []float64", "is g += X' D X v")
		g = base("g")
		d, v := base("d"), base("v")
		k.rows(func() {
			first := GP64()
			MOVQ(k.p, first)
			x := k.dot64(v).AsX()
			VMULSD(Mem{Base: d}, x, x)
			ADDQ(Imm(8), d)
			MOVQ(first, k.p)
			k.scatter64(g, x)
		})

		k = start("csrAddGram", "a []float64, ", "d []float64", "is a += the lower triangle of X' D X")
		a := base("a")
		d = base("d")
		k.rows(func() {
			x := XMM()
			VMOVSD(Mem{Base: d}, x)
			ADDQ(Imm(8), d)
			first, last := GP64(), GP64()
			MOVQ(k.p, first)
			MOVQ(k.end, last)
			MOVQ(k.p, k.end)
			Label("line") // the entries up to and with k.end against that one
			CMPQ(k.end, last)
			JGE(LabelRef("line_none"))
			MOVQ(k.end, k.p)
			w := x
			if !k.ones {
				w = XMM()
				VCVTSS2SD(k.entry(0), k.zero, w)
				VMULSD(x, w, w)
			}
			r, line := GP64(), GP64()
			MOVLQSX(Mem{Base: k.col, Index: k.p, Scale: 4}, r)
			LEAQ(Mem{Base: r, Disp: 1}, line)
			IMULQ(r, line)
			LEAQ(Mem{Base: a, Index: line, Scale: 4}, line) // r(r+1)/2 numbers of eight bytes
			INCQ(k.end)
			MOVQ(first, k.p)
			k.scatter64(line, w)
			JMP(LabelRef("line"))
			Label("line_none")
		})
	}

	text("csrMatVec", "func(y []float32, row []int, col []int32, val, w []float32)", "is y = the sums of val*w[col], each one chain.")
	k := &csr{}
	y, w := base("y"), base("w")
	k.rows(func() {
		s := XMM()
		VXORPS(s, s, s)
		k.each("dot", func(i int) {
			v := XMM()
			VMOVSS(k.entry(i), v)
			VFMADD231SS(k.at(w, i, 4), v, s)
		})
		VMOVSS(s, Mem{Base: y})
		ADDQ(Imm(4), y)
	})

	text("csrTMatVec", "func(g []float32, row []int, col []int32, val, a []float32)", "is g[col] = fma(val, a, g[col]) in order.")
	k = &csr{}
	g, a := base("g"), base("a")
	k.rows(func() {
		x := XMM()
		VMOVSS(Mem{Base: a}, x)
		ADDQ(Imm(4), a)
		k.each("scatter", func(i int) {
			m := k.at(g, i, 4)
			v := XMM()
			VMOVSS(m, v)
			VFMADD231SS(k.entry(i), x, v)
			VMOVSS(v, m)
		})
	})

	text("maxColumn", "func(col []int32) uint32", "is the largest of col, taken as unsigned, or 0.")
	m := YMM()
	VPXOR(m, m, m)
	col, n := base("col"), length("col")
	Label("loop")
	CMPQ(n, Imm(8))
	JLT(LabelRef("rest"))
	VPMAXUD(Mem{Base: col}, m, m)
	ADDQ(Imm(32), col)
	SUBQ(Imm(8), n)
	JMP(LabelRef("loop"))
	Label("rest")
	last := YMM()
	VPMASKMOVD(Mem{Base: col}, tailMask(n, 0), last)
	VPMAXUD(last, m, m)
	out := fold(VPMAXUD, m)
	VZEROUPPER()
	Store(out, ReturnIndex(0))
	RET()

	sparseRows()
}

// strip is a way to hold some neighbouring columns in registers. None is under a mask: what a masked store wrote cannot
// be forwarded to the next entry's load.
type strip struct {
	name    string
	columns int
	load    func(m Mem) VecVirtual
	store   func(v VecVirtual, m Mem)
}

var strips = []strip{
	{"32", 32, nil, nil},
	{"8", 8, func(m Mem) VecVirtual { v := YMM(); VMOVUPS(m, v); return v }, func(v VecVirtual, m Mem) { VMOVUPS(v, m) }},
	{"4", 4, func(m Mem) VecVirtual { v := XMM(); VMOVUPS(m, v); return v }, func(v VecVirtual, m Mem) { VMOVUPS(v, m) }},
	{"2", 2, func(m Mem) VecVirtual { v := XMM(); VMOVSD(m, v); return v }, func(v VecVirtual, m Mem) { VMOVSD(v, m) }},
	{"1", 1, func(m Mem) VecVirtual { v := XMM(); VMOVSS(m, v); return v }, func(v VecVirtual, m Mem) { VMOVSS(v, m) }},
}

// sparseRows are the kernels for one row against a matrix of several columns. They go down strips of columns, and
// through the row's entries in each.
func sparseRows() {
	// down cuts n columns into strips and moves the pointers along.
	down := func(n GPVirtual, body func(s strip, copies int), ptr ...GPVirtual) {
		for _, s := range strips {
			copies := 1
			name := "strip" + s.name
			if s.load == nil {
				s.load, s.store, copies = strips[1].load, strips[1].store, 4
			}
			Label(name)
			CMPQ(n, Imm(uint64(s.columns)))
			JLT(LabelRef(name + "_none"))
			body(s, copies)
			for _, p := range ptr {
				ADDQ(Imm(uint64(4*s.columns)), p)
			}
			SUBQ(Imm(uint64(s.columns)), n)
			JMP(LabelRef(name))
			Label(name + "_none")
		}
		VZEROUPPER()
		RET()
	}
	// entries walks a row's entries: far is the row of table in an entry's column, v its value in every lane.
	entries := func(name string, col, val, count, table, stride GPVirtual, body func(far GPVirtual, v VecVirtual)) {
		p := GP64()
		XORQ(p, p)
		Label("entry" + name)
		CMPQ(p, count)
		JGE(LabelRef("end" + name))
		far := GP64()
		MOVLQSX(Mem{Base: col, Index: p, Scale: 4}, far)
		IMULQ(stride, far)
		ADDQ(table, far)
		v := YMM()
		VBROADCASTSS(Mem{Base: val, Index: p, Scale: 4}, v)
		body(far, v)
		INCQ(p)
		JMP(LabelRef("entry" + name))
		Label("end" + name)
	}
	like := func(v, w VecVirtual) VecVirtual { // v as wide as w
		if w.Size() == 16 {
			return v.AsX().(VecVirtual)
		}
		return v
	}
	bytes := func(n GPVirtual) GPVirtual {
		s := GP64()
		MOVQ(n, s)
		SHLQ(Imm(2), s)
		return s
	}

	text("csrRowMul", "func(c []float32, col []int32, val, b []float32)", "is c = the sum of val*b[col,:].")
	c, n := base("c"), length("c")
	col, count, val, b := base("col"), length("col"), base("val"), base("b")
	stride := bytes(n)
	down(n, func(s strip, copies int) {
		acc := zeros(copies)
		entries(s.name, col, val, count, b, stride, func(far GPVirtual, v VecVirtual) {
			for i := range acc {
				x := s.load(Mem{Base: far, Disp: 32 * i})
				VFMADD231PS(x, like(v, x), like(acc[i], x))
			}
		})
		for i := range acc {
			m := Mem{Base: c, Disp: 32 * i}
			if s.columns < 8 {
				s.store(acc[i].AsX().(VecVirtual), m)
			} else {
				s.store(acc[i], m)
			}
		}
	}, c, b)

	text("csrRowAdd", "func(g []float32, col []int32, val, a []float32)", "is g[col,:] = fma(val, a, g[col,:]) in order.")
	g, a := base("g"), base("a")
	n = length("a")
	col, count, val = base("col"), length("col"), base("val")
	stride = bytes(n)
	down(n, func(s strip, copies int) {
		x := make([]VecVirtual, copies)
		for i := range x {
			x[i] = s.load(Mem{Base: a, Disp: 32 * i})
		}
		entries(s.name, col, val, count, g, stride, func(far GPVirtual, v VecVirtual) {
			for i := range x {
				m := Mem{Base: far, Disp: 32 * i}
				t := s.load(m)
				VFMADD231PS(x[i], like(v, t), t)
				s.store(t, m)
			}
		})
	}, a, g)
}
