package vec

import (
	"fmt"
	"sync"
)

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
	tileM = 6
	tileN = 16
	// A panel of b in a block is BlockK*tileN*4 = 16 KiB and stays in the first cache; a block of a is 192 KiB
	// and stays in the second.
	blockM = 32 * tileM
	blockN = 64 * tileN
	// Packing pays when a panel is read often: a's by at least directN columns of c, b's by directM rows.
	directN = 256
	directM = 4 * tileM
)

// gemm is one product: c, m by n with rows ldc apart, and the element strides of a's (i,p) and b's (p,j).
type gemm struct {
	c, a, b  []float32
	m, n, k  int
	ldc      int
	ai, ap   int
	bp, bj   int
	acc      bool
	rlo, rhi int // the part of c that a task computes
	clo, chi int
	group    *sync.WaitGroup // told when a part handed to another thread is done
}

// MatMul is c = a b, or c += a b with acc, for c [m,n], a [m,k] and b [k,n]. c overlaps neither a nor b.
func MatMul(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMul", c, a, b, m, n, k)
	product(c, a, b, m, n, k, k, 1, n, 1, acc)
}

// MatMulNT is c = a b', or c += a b' with acc, for c [m,n], a [m,k] and b [n,k]. c overlaps neither a nor b.
func MatMulNT(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMulNT", c, a, b, m, n, k)
	product(c, a, b, m, n, k, k, 1, 1, k, acc)
}

// MatMulTN is c = a' b, or c += a' b with acc, for c [m,n], a [k,m] and b [k,n]. c overlaps neither a nor b.
func MatMulTN(c, a, b []float32, m, n, k int, acc bool) {
	checkMat("MatMulTN", c, a, b, m, n, k)
	product(c, a, b, m, n, k, 1, m, n, 1, acc)
}

func checkMat(op string, c, a, b []float32, m, n, k int) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("vec.%s: sizes m=%d n=%d k=%d, want none negative", op, m, n, k))
	}
	sized(op, "c", len(c), m*n)
	sized(op, "a", len(a), m*k)
	sized(op, "b", len(b), k*n)
}

func product(c, a, b []float32, m, n, k, ai, ap, bp, bj int, acc bool) {
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		if !acc {
			clear(c)
		}
		return
	}
	g := gemm{c: c, a: a, b: b, m: m, n: n, k: k, ldc: n, ai: ai, ap: ap, bp: bp, bj: bj, acc: acc, rhi: m, chi: n}
	if t := Threads(); t > 1 && m*n*k >= parallelMin {
		g.split(t)
		return
	}
	w := takeScratch()
	g.run(w)
	putScratch(w)
}

// scratch is the memory that one thread packs into.
type scratch struct {
	b    [BlockK * blockN]float32
	a    [blockM * BlockK]float32
	tile [tileM * tileN]float32
	next *scratch
}

// panels says where a block's panels are: panel r of width w at x[r*step:], vector i element p of it at i*si+p*sp
// from there. The last panel, if it is not whole, is at edge, packed over zeros.
type panels struct {
	x, edge []float32
	step    int
	si, sp  int
}

// packed copies a block of n vectors of kc elements, vector i element p at src[i*si+p*sp].
func packed(dst, src []float32, n, kc, si, sp, width int) panels {
	packPanels(dst, src, n, kc, si, sp, width)
	return panels{x: dst, edge: dst[n/width*width*kc:], step: width * kc, si: 1, sp: width}
}

// direct reads the same block where it is; only an edge is packed.
func direct(dst, src []float32, n, kc, si, sp, width int) panels {
	if rest := n % width; rest > 0 {
		packPanels(dst, src[(n-rest)*si:], rest, kc, si, sp, width)
	}
	return panels{x: src, edge: dst, step: width * si, si: si, sp: sp}
}

// run computes rows rlo to rhi and columns clo to chi. What it packs and what it reads in place changes no result.
func (g *gemm) run(w *scratch) {
	packA, packB := packed, packed
	if n := g.chi - g.clo; n <= tileN || n <= directN && g.ap == 1 {
		packA = direct
	}
	if g.bj == 1 && g.rhi-g.rlo <= directM {
		packB = direct
	}
	for jc := g.clo; jc < g.chi; jc += blockN {
		nc := min(blockN, g.chi-jc)
		for pc := 0; pc < g.k; pc += BlockK {
			kc := min(BlockK, g.k-pc)
			b := packB(w.b[:], g.b[pc*g.bp+jc*g.bj:], nc, kc, g.bj, g.bp, tileN)
			add := g.acc || pc > 0
			for ic := g.rlo; ic < g.rhi; ic += blockM {
				mc := min(blockM, g.rhi-ic)
				a := packA(w.a[:], g.a[ic*g.ai+pc*g.ap:], mc, kc, g.ai, g.ap, tileM)
				g.block(w, &a, &b, ic, mc, jc, nc, kc, add)
			}
		}
	}
}

// block multiplies two blocks, tile by tile.
func (g *gemm) block(w *scratch, pa, pb *panels, ic, mc, jc, nc, kc int, add bool) {
	for jr := 0; jr < nc; jr += tileN {
		cols := min(tileN, nc-jr)
		b, bp := pb.edge, tileN
		if cols == tileN {
			b, bp = pb.x[jr/tileN*pb.step:], pb.sp
		}
		for ir := 0; ir < mc; ir += tileM {
			rows := min(tileM, mc-ir)
			a, ai, ap := pa.edge, 1, tileM
			if rows == tileM {
				a, ai, ap = pa.x[ir/tileM*pa.step:], pa.si, pa.sp
			}
			c := g.c[(ic+ir)*g.ldc+jc+jr:]
			if rows == tileM && cols == tileN {
				tile(c, g.ldc, a, ai, ap, b, bp, kc, add)
				continue
			}
			// An edge: the whole tile aside, over packed zeros, and of it what exists.
			tile(w.tile[:], tileN, a, ai, ap, b, bp, kc, false)
			for i := 0; i < rows; i++ {
				ci, ti := c[i*g.ldc:i*g.ldc+cols], w.tile[i*tileN:i*tileN+cols]
				if add {
					for j, v := range ti {
						ci[j] += v
					}
				} else {
					copy(ci, ti)
				}
			}
		}
	}
}

// packPanels copies n vectors of kc elements, vector i element p at src[i*si+p*sp], into panels of width wide:
// element p of a panel's vectors side by side, and zeros where the last panel has no vector.
func packPanels(dst, src []float32, n, kc, si, sp, width int) {
	for i := 0; i < n; i += width {
		w := min(width, n-i)
		d := dst[i*kc : (i+width)*kc]
		s := src[i*si:]
		if w < width {
			clear(d)
		}
		if si == 1 {
			packSide(d, s, w, kc, sp, width)
			continue
		}
		for v := 0; v < w; {
			rows, done := 1, 0
			if sp == 1 {
				rows, done = transpose(d[v:], width, s[v*si:], w-v, si, kc)
			}
			for r := range rows {
				sv, dv := s[(v+r)*si:], d[v+r:]
				for p := done; p < kc; p++ {
					dv[p*width] = sv[p*sp]
				}
			}
			v += rows
		}
	}
}

// packSide copies vectors that lie side by side.
func packSide(d, s []float32, w, kc, sp, width int) {
	switch w {
	case tileM:
		for p := 0; p < kc; p++ {
			*(*[tileM]float32)(d[p*width:]) = *(*[tileM]float32)(s[p*sp:])
		}
	case tileN:
		for p := 0; p < kc; p++ {
			*(*[tileN]float32)(d[p*width:]) = *(*[tileN]float32)(s[p*sp:])
		}
	default:
		for p := 0; p < kc; p++ {
			copy(d[p*width:p*width+w], s[p*sp:])
		}
	}
}
