package vec

import "fmt"

// The matrix products share one loop nest over packed blocks (Goto and van de Geijn, ACM TOMS 34, 2008; the five
// loops as Van Zee and van de Geijn name them, ACM TOMS 41, 2015, figure 1) and one micro-kernel that computes a
// tile of 6 rows by 16 columns. They differ only in the strides by which they read a and b.
//
// The contract, for all three: the k products of an element are cut into blocks of BlockK, the last one possibly
// shorter. Each block is one chain of FMA from 0, in ascending k. The first block's sum is stored, or with acc
// added to c; each later block's sum is then added to c. Nothing else enters: an element has the same bits
// whatever m, n, the number of threads and its place in a tile are. In particular the rows of a product may be
// computed in several calls.

// BlockK is the length of the chains of FMA in a matrix product. Results depend on it.
const BlockK = 256

const (
	// blockN is how many columns of b are packed at a time, BlockK*blockN*4 = 512 KiB, half of a second cache.
	blockN = 512
	// groupA is how many panels of a are packed at a time where the numbers of a column lie side by side, so that whole
	// lines of the cache are read.
	groupA  = 8
	maxRows = 14
	// rowA is how far apart the rows of a panel of a are: not a power of two, which would put them all in the same few
	// places of the first cache.
	rowA = BlockK + 16
	// turnN is how many columns of a transposed product are computed at a time: see turned.
	turnN = 256
)

// tileShape is what the micro-kernel can do: a tile has at most so many rows and columns. Where it is narrow, panels
// may be half as wide. Where it is wide, a tile of one row may also have exactly four times as many columns, and one of
// up to three rows exactly twice as many. Where it is padded, it reads whole vectors of b even where columns end.
type tileShape struct {
	rows, cols           int
	narrow, wide, padded bool
}

// gemm is one product: c, m by n with rows ldc apart, and the element strides of a's (i,p) and b's (p,j).
type gemm struct {
	c, a, b  []float32
	m, n, k  int
	ldc      int
	ai, ap   int
	bp, bj   int
	acc      bool
	bias     []float32 // added at the end, unless nil
	relu     bool      // and then what is below 0 becomes 0
	rlo, rhi int       // the part of c that a task computes
	clo, chi int
	of       *split // what this is a part of
}

// MatMul is c = a b, or c += a b with acc, for c [m,n], a [m,k] and b [k,n]. c overlaps neither a nor b.
func MatMul(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMul", c, a, b, m, n, k)
	g := gemm{c: c, a: a, b: b, m: m, n: n, k: k, ai: k, ap: 1, bp: n, bj: 1, acc: acc}
	g.product()
}

// MatMulNT is c = a b', or c += a b' with acc, for c [m,n], a [m,k] and b [n,k]. c overlaps neither a nor b.
func MatMulNT(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMulNT", c, a, b, m, n, k)
	g := gemm{c: c, a: a, b: b, m: m, n: n, k: k, ai: k, ap: 1, bp: 1, bj: k, acc: acc}
	g.product()
}

// MatMulTN is c = a' b, or c += a' b with acc, for c [m,n], a [k,m] and b [k,n]. c overlaps neither a nor b.
func MatMulTN(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMulTN", c, a, b, m, n, k)
	g := gemm{c: c, a: a, b: b, m: m, n: n, k: k, ai: 1, ap: m, bp: n, bj: 1, acc: acc}
	g.product()
}

// Dense is c = a b' + bias, for c [m,n], a [m,k], b [n,k] and a bias of n that is added to each row, or nil. With relu,
// what is below 0 then becomes 0. The bits are those of MatMulNT, AddBias and ReLU one after the other. c overlaps
// nothing else.
func Dense(c, a, b, bias []float32, m, n, k int, relu bool) {
	checkMat("Dense", c, a, b, m, n, k)
	if bias != nil {
		sized("Dense", "bias", len(bias), n)
	}
	g := gemm{c: c, a: a, b: b, m: m, n: n, k: k, ai: k, ap: 1, bp: 1, bj: k, bias: bias, relu: relu}
	g.product()
}

func checkMat(op string, c, a, b []float32, m, n, k int) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("vec.%s: sizes m=%d n=%d k=%d, want none negative", op, m, n, k))
	}
	sized(op, "c", len(c), m*n)
	sized(op, "a", len(a), m*k)
	sized(op, "b", len(b), k*n)
}

func (g *gemm) product() {
	if g.m == 0 || g.n == 0 {
		return
	}
	if g.k == 0 {
		g.nothing()
		return
	}
	if g.n == 1 && g.bias == nil {
		// One column is one row of the transposed product, and is then computed many elements at a time.
		g.a, g.b = g.b, g.a
		g.m, g.n = 1, g.m
		g.ai, g.ap, g.bp, g.bj = g.bj, g.bp, g.ap, g.ai
	}
	g.ldc, g.rhi, g.chi = g.n, g.m, g.n
	if t := Threads(); t > 1 && g.m*g.n*g.k >= parallelMin {
		g.split(t)
		return
	}
	w := scratches.Take()
	g.run(w)
	scratches.Put(w)
}

// nothing is a product over no element.
func (g *gemm) nothing() {
	if !g.acc {
		clear(g.c)
	}
	if g.bias != nil {
		AddBias(g.c, g.bias, g.m)
	}
	if g.relu {
		ReLU(g.c, g.c)
	}
}

// scratch is the memory that one thread packs into.
type scratch struct {
	b    [BlockK * blockN]float32
	a    [groupA * maxRows * BlockK]float32
	rows [8 * rowA]float32
	turn [maxRows * turnN]float32
	// aside is a product within a product, here because it would go to the heap.
	aside gemm
}

// run computes rows rlo to rhi and columns clo to chi. What it packs and what it reads in place changes no result.
func (g *gemm) run(w *scratch) {
	if g.turned() {
		g.turn(w)
		return
	}
	s := shape()
	rows, cols := g.rhi-g.rlo, g.chi-g.clo
	// Tiles of equal height; panels as wide as a tile.
	height := parts(rows, s.rows, 1)
	width := s.cols
	switch {
	case s.narrow && cols <= s.cols/2:
		width = s.cols / 2
	case s.wide && rows == 1:
		width = 4 * s.cols
	case s.wide && rows <= 3:
		width = 2 * s.cols
	}
	nc := parts(cols, blockN, width)
	for jc := g.clo; jc < g.chi; jc += nc {
		for pc := 0; pc < g.k; pc += BlockK {
			t := block{gemm: g, tileShape: s, w: w, jc: jc, pc: pc, height: height, width: width,
				nc: min(nc, g.chi-jc), kc: min(BlockK, g.k-pc)}
			t.add = g.acc || pc > 0
			t.last = pc+BlockK >= g.k
			t.run()
		}
	}
}

// turned tells whether g is better computed as its transposition: c has few columns, which would leave most of a tile's
// width empty, and a's columns lie side by side. What is added to c cannot come in several blocks then.
func (g *gemm) turned() bool {
	return transposes() && g.n <= shape().rows && g.n%shape().cols != 0 && g.m >= 2*shape().cols && g.ai == 1 && g.bias == nil && !(g.acc && g.k > BlockK)
}

// turn computes rows rlo to rhi of c as columns of c', aside, and turns them round.
func (g *gemm) turn(w *scratch) {
	for lo := g.rlo; lo < g.rhi; lo += turnN {
		cols := min(turnN, g.rhi-lo)
		w.aside = gemm{c: w.turn[:], a: g.b, b: g.a[lo:], m: g.n, n: cols, k: g.k, ldc: cols,
			ai: g.bj, ap: g.bp, bp: g.ap, bj: 1, rhi: g.n, chi: cols}
		w.aside.run(w)
		c := g.c[lo*g.ldc:]
		done := 0
		if !g.acc {
			for ; done+8 <= g.n; done += 8 {
				transpose8(c[done:], g.ldc, w.turn[done*cols:], cols, cols&^7)
			}
		}
		for i := range g.n {
			from := 0
			if i < done {
				from = cols &^ 7
			}
			for j, v := range w.turn[i*cols+from : (i+1)*cols] {
				if g.acc {
					v += c[(from+j)*g.ldc+i]
				}
				c[(from+j)*g.ldc+i] = v
			}
		}
	}
	w.aside = gemm{} // keep no matrix alive
}

// parts cuts n into as few parts of at most most as there can be and gives their size, a multiple of unit, which
// divides most.
func parts(n, most, unit int) int {
	count := (n + most - 1) / most
	return (n + count*unit - 1) / (count * unit) * unit
}

// block is the product of rows rlo to rhi of a, elements pc to pc+kc, with the same elements of columns jc to jc+nc
// of b.
type block struct {
	*gemm
	tileShape
	w              *scratch
	jc, nc, pc, kc int
	height, width  int  // of a tile
	add            bool // to what c holds
	last           bool // of the blocks along k
}

// run goes through the panels of a, each of which stays in the first cache while all panels of b pass from the
// second. Those are packed as the first panel of a meets them.
func (t *block) run() {
	rows := t.rhi - t.rlo
	// b is read where it lies when few tiles meet each panel, or when a panel is a few lines of the first cache anyway.
	direct := t.bj == 1 && (rows <= 2*t.height || t.kc <= 16 && t.bp%1024 != 0)
	whole := t.nc
	if t.padded {
		whole = t.nc / t.width * t.width
	}
	// A panel of a is read again and again: it pays to bring it close together, unless it is small anyway.
	packA := t.nc > 2*t.width && (t.ap != 1 || t.kc >= 64 && (t.nc > 4*t.width || t.ai%1024 == 0))
	group := 1
	if t.ai == 1 {
		group = groupA
	}
	for ir := 0; ir < rows; ir += t.height {
		p := panel{i: t.rlo + ir, rows: min(t.height, rows-ir)}
		p.a, p.ai, p.ap = t.a[p.i*t.ai+t.pc*t.ap:], t.ai, t.ap
		if packA {
			p.a, p.ai, p.ap = t.packA(ir, rows, p.rows, group)
		}
		if direct {
			t.tiles(&p, 0, whole, t.b[t.pc*t.bp+t.jc:], t.bp, t.width)
			if whole < t.nc {
				t.tiles(&p, whole, t.nc-whole, t.packB(whole, 0), t.width, 0)
			}
			continue
		}
		if ir == 0 {
			for jr := 0; jr < t.nc; jr += t.width {
				at := jr
				if rows <= t.height {
					at = 0 // nobody will ask for it again
				}
				t.tiles(&p, jr, min(t.width, t.nc-jr), t.packB(jr, at), t.width, 0)
			}
			continue
		}
		t.tiles(&p, 0, t.nc, t.w.b[:], t.width, t.width*t.kc)
	}
}

// panel is rows of a, from row i of c on.
type panel struct {
	a       []float32
	ai, ap  int
	i, rows int
}

// tiles multiplies a panel of a with columns j to j+cols, whose panels lie step apart in b.
func (t *block) tiles(p *panel, j, cols int, b []float32, bp, step int) {
	for cols > 0 {
		// As many whole tiles as there are; of the rest, the widest that fits.
		width := t.width
		for width > t.tileShape.cols && width > cols {
			width /= 2
		}
		width = min(width, cols)
		count := 1
		if width == t.width {
			count = cols / width
		}
		var bias []float32
		if t.last && t.bias != nil {
			bias = t.bias[t.jc+j:]
		}
		tiles(t.c[p.i*t.ldc+t.jc+j:], t.ldc, p.a, p.ai, p.ap, b, bp, step, count, p.rows, width, t.kc, t.add, bias, t.relu && t.last)
		j, cols = j+count*width, cols-count*width
		if width == t.width && cols > 0 {
			b = b[count*step:]
		} else {
			b = b[width:]
		}
	}
}

// packB packs the panel of b at column jr to column at of the scratch.
func (t *block) packB(jr, at int) []float32 {
	b := t.w.b[at*t.kc : (at+t.width)*t.kc]
	t.w.pack(b, t.b[t.pc*t.bp+(t.jc+jr)*t.bj:], min(t.width, t.nc-jr), t.kc, t.bj, t.bp, t.width)
	return b
}

// packA packs the panel of a at row ir, or, where its columns are contiguous, every group of panels as the first is
// asked for.
func (t *block) packA(ir, rows, mc, group int) (a []float32, ai, ap int) {
	if t.ap == 1 {
		for i := range mc {
			copy(t.w.a[i*rowA:i*rowA+t.kc], t.a[(t.rlo+ir+i)*t.ai+t.pc:])
		}
		return t.w.a[:], rowA, 1
	}
	n := ir / t.height % group
	if n == 0 {
		for r := ir; r < min(rows, ir+group*t.height); r += t.height {
			sides(t.w.a[(r-ir)*t.kc:], t.height, t.a[(t.rlo+r)*t.ai+t.pc*t.ap:], t.ap, min(t.height, rows-r), t.kc)
		}
	}
	return t.w.a[n*t.height*t.kc:], 1, t.height
}

// pack copies n vectors of kc elements, vector i element p at src[i*si+p*sp], side by side: element p of vector i to
// dst[p*width+i], and zeros beside them up to width.
func (w *scratch) pack(dst, src []float32, n, kc, si, sp, width int) {
	if n < width {
		clear(dst)
	}
	if si == 1 {
		sides(dst, width, src, sp, n, kc)
		return
	}
	for v := 0; v < n; {
		rows, done := 1, 0
		if sp == 1 {
			rows, done = w.transpose(dst[v:], width, src[v*si:], n-v, si, kc)
		}
		for r := range rows {
			sv, dv := src[(v+r)*si:], dst[v+r:]
			for p := done; p < kc; p++ {
				dv[p*width] = sv[p*sp]
			}
		}
		v += rows
	}
}

// transpose writes dst[p*dp+i] = src[i*si+p] for some of the n rows and of the kc elements, and says for how many
// rows (at least one) and for how many elements of each. Rows that fall on each other's places in the first cache are
// copied to better ones first.
func (w *scratch) transpose(dst []float32, dp int, src []float32, n, si, kc int) (rows, elements int) {
	elements = kc &^ 7
	if !transposes() || elements == 0 || n < 8 {
		return 1, 0
	}
	if si%1024 == 0 {
		for i := range 8 {
			copy(w.rows[i*rowA:i*rowA+elements], src[i*si:])
		}
		src, si = w.rows[:], rowA
	}
	transpose8(dst, dp, src, si, elements)
	return 8, elements
}
