package linear

import "math"

// cholesky is P A P' = L L' of a symmetric positive semi-definite A of unit diagonal, stopped at its numerical rank:
// Higham, Analysis of the Cholesky decomposition of a semi-definite matrix (1990), section 1. Its products are not
// fused, so that its bits are the same on every processor.
type cholesky struct {
	n, rank int
	perm    []int     // row i of L is row perm[i] of A
	l       []float64 // n x n; the lower triangle of the first rank columns is L
	null    []float64 // n-rank orthonormal rows: the directions that A does not see, in raw units
}

// factor overwrites a, n x n, and keeps it. A pivot, which is the part of a column's variance that the columns before
// it leave unexplained, counts as zero up to tol.
func factor(a []float64, n int, tol float64) *cholesky {
	f := &cholesky{n: n, l: a, perm: make([]int, n)}
	for i := range f.perm {
		f.perm[i] = i
	}
	for k := range n {
		best := k
		for i := k + 1; i < n; i++ {
			if a[i*n+i] > a[best*n+best] {
				best = i
			}
		}
		if a[best*n+best] <= tol {
			break
		}
		f.swap(k, best)
		root := math.Sqrt(a[k*n+k])
		a[k*n+k] = root
		for i := k + 1; i < n; i++ {
			a[i*n+k] /= root
		}
		for i := k + 1; i < n; i++ {
			v, row := a[i*n+k], a[i*n:(i+1)*n]
			for j := k + 1; j < n; j++ {
				row[j] -= float64(v * a[j*n+k])
			}
		}
		f.rank++
	}
	return f
}

// swap exchanges rows and columns i and j. Above the diagonal of finished rows nothing is read again.
func (f *cholesky) swap(i, j int) {
	if i == j {
		return
	}
	n := f.n
	f.perm[i], f.perm[j] = f.perm[j], f.perm[i]
	for c := range n {
		f.l[i*n+c], f.l[j*n+c] = f.l[j*n+c], f.l[i*n+c]
	}
	for r := range n {
		f.l[r*n+i], f.l[r*n+j] = f.l[r*n+j], f.l[r*n+i]
	}
}

// solve overwrites b by raw*v for a v with A v = b: of all, the one whose raw*v (element by element) is shortest.
func (f *cholesky) solve(b, raw []float64) {
	n, r := f.n, f.rank
	v := make([]float64, n)
	for i := range r {
		s := b[f.perm[i]]
		for j := range i {
			s -= float64(f.l[i*n+j] * v[j])
		}
		v[i] = s / f.l[i*n+i]
	}
	f.back(v)
	for i, p := range f.perm {
		b[p] = v[i] * raw[p]
	}
	if r == n {
		return
	}
	if f.null == nil {
		f.span(raw)
	}
	for k := range n - r {
		remove(b, f.null[k*n:(k+1)*n])
	}
}

// back overwrites the first rank elements of v by the solution of L' u = v, L the leading rank rows.
func (f *cholesky) back(v []float64) {
	n, r := f.n, f.rank
	for i := r - 1; i >= 0; i-- {
		s := v[i]
		for j := i + 1; j < r; j++ {
			s -= float64(f.l[j*n+i] * v[j])
		}
		v[i] = s / f.l[i*n+i]
	}
}

// span finds the null space: with L = [L1; L2], the columns of [-inverse(L1') L2'; I], in raw units, made orthonormal by
// Gram-Schmidt done twice.
func (f *cholesky) span(raw []float64) {
	n, r := f.n, f.rank
	f.null = make([]float64, (n-r)*n)
	v := make([]float64, n)
	for k := range n - r {
		clear(v)
		for j := range r {
			v[j] = -f.l[(r+k)*n+j]
		}
		f.back(v)
		v[r+k] = 1
		q := f.null[k*n : (k+1)*n]
		for i, p := range f.perm {
			q[p] = v[i] * raw[p]
		}
		normalise(q)
		for range 2 {
			for j := range k {
				remove(q, f.null[j*n:(j+1)*n])
			}
			normalise(q)
		}
	}
}

// remove takes from v its part along the unit vector q.
func remove(v, q []float64) {
	var dot float64
	for i := range v {
		dot += float64(v[i] * q[i])
	}
	for i := range v {
		v[i] -= float64(dot * q[i])
	}
}

func normalise(v []float64) {
	var top, sum float64
	for _, u := range v {
		top = max(top, math.Abs(u))
	}
	if top == 0 {
		return
	}
	for _, u := range v {
		u /= top
		sum += float64(u * u)
	}
	norm := top * math.Sqrt(sum)
	for i := range v {
		v[i] /= norm
	}
}
