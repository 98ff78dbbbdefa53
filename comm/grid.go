package comm

import "github.com/covey-ml/covey/vec"

// grid is how Torus and Hierarchical lay a tree's ranks out. The words: a row is a run of neighbouring ranks; the ranks
// of one number in their rows make a column, and there are as many columns as the shortest row has ranks. The vector is
// cut into a chunk for each column, owned in each row by the row's rank of that number; a chunk is cut into a piece
// for each row, owned by the column's rank in that row. A row's tops are the fewest nodes that make up its leaves.
//
//	round 1  a rank sends each owner in its row that chunk of its parts; the owner adds them up into the row's tops
//	round 2  an owner sends each of its column that piece of its tops; the piece's owner adds all rows' tops
//	round 3  it sends the sum of the piece back along the column
//	round 4  an owner sends the sum of its chunk along its row
//
// Every addition is one of the tree's, so the bits are the tree's whatever the rows. When there are two rows of one top
// each, round 2 sends the whole chunk, both owners add, and round 3 falls away: the same bytes, a round less.
type grid struct {
	first  []int // by row, and one more: its first rank
	row    []int // by rank
	cols   int
	rows   []rowPlan
	column Tree // its ranks are the rows
	whole  bool // round 2 sends whole chunks
}

// rowPlan is how the parts of a row's ranks become its tops. Parts are numbered from 0 within the row.
type rowPlan struct {
	parts int
	adds  []Add
	tops  []int // the parts that hold the tops after the additions
}

// grid returns the layout that a, Torus or Hierarchical, gives the ranks. It is made once.
func (t Tree) grid(a Algorithm) *grid {
	p := t.p
	p.mu.RLock()
	gr := p.grids[a]
	p.mu.RUnlock()
	if gr != nil {
		return gr
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grids == nil {
		p.grids = map[Algorithm]*grid{}
	}
	if gr = p.grids[a]; gr == nil {
		gr = t.layOut(a)
		p.grids[a] = gr
	}
	return gr
}

func (t Tree) layOut(a Algorithm) *grid {
	ranks, hosts := t.Ranks(), t.p.hosts
	switch {
	case a.kind() == Torus:
		hosts = EvenHosts(a.rows(ranks), ranks)
	case a.number() != 0:
		hosts = EvenHosts(a.number(), ranks)
	case hosts == nil:
		hosts = Hosts{0}
	}
	gr := &grid{cols: ranks, row: make([]int, ranks), rows: make([]rowPlan, len(hosts))}
	runs := make([]int, len(hosts)+1)
	for h := range hosts {
		lo, hi := hosts.span(h, ranks)
		gr.first, gr.cols = append(gr.first, lo), min(gr.cols, hi-lo)
		for r := lo; r < hi; r++ {
			gr.row[r] = h
		}
		parts := t.p.parts[t.p.first[lo]:t.p.first[hi]]
		from, _ := t.Run(Rank(lo))
		_, to := t.Run(Rank(hi - 1))
		w := rowPlan{parts: len(parts)}
		w.adds, w.tops = t.merger(parts, nil, from, to)
		gr.rows[h], runs[h], runs[h+1] = w, from, to
	}
	gr.first = append(gr.first, ranks)
	gr.column = newTree(t.Leaves(), runs, nil)
	gr.whole = len(hosts) == 2 && len(gr.rows[0].tops) == 1 && len(gr.rows[1].tops) == 1
	return gr
}

// piece returns the elements of a chunk of m that row h's owner adds in round 2.
func (gr *grid) piece(m, h int) (lo, hi int) {
	if gr.whole {
		return 0, m
	}
	return Chunk(m, len(gr.rows), Rank(h))
}

// Numbers of messages: the round, and which part or top.
const (
	round1 uint32 = iota << 16
	round2
	round3
	round4
)

// pass is one rank's way through a grid. Along the row and across the rows are the same call within one group, and two
// when each direction has a group of its own.
type pass struct {
	along, across *call
	split         bool // two groups: ranks of along are numbers in the row, ranks of across are rows
	gr            *grid
	t             Tree
	parts         [][]float32
	x             []float32
	rank          Rank // in t
	h, me         int  // this rank's row, and number in it
	first         int  // the row's first rank
	size          int  // ranks of the row
	lo, hi        int  // the chunk that this rank owns: elements of x
	from, to      int  // the piece that it owns: elements of the chunk
	rowRoom       []float32
	colRoom       []float32
	round1        int // numbers of the first receives of each round
	round2        int
	round3        int
	round4        int
}

// grid implements Torus and Hierarchical.
func (c *call) grid(gr *grid, t Tree, parts [][]float32) error {
	p := pass{along: c, across: c, gr: gr, t: t, parts: parts, rank: c.rank}
	return p.run()
}

// run is the whole of it.
func (p *pass) run() error {
	p.x, p.h = p.parts[0], p.gr.row[p.rank]
	p.first = p.gr.first[p.h]
	p.me, p.size = int(p.rank)-p.first, p.gr.first[p.h+1]-p.first
	if p.me < p.gr.cols {
		p.lo, p.hi = Chunk(len(p.x), p.gr.cols, Rank(p.me))
		p.from, p.to = p.gr.piece(p.hi-p.lo, p.h)
	}
	p.ask()
	if err := p.rowScatter(); err != nil {
		return err
	}
	if p.hi > p.lo {
		if err := p.columnSum(); err != nil {
			return err
		}
		if err := p.rowGather(); err != nil {
			return err
		}
	}
	return p.along.all(p.round4)
}

// row is the number in along's group of the rank that has number i in this rank's row.
func (p *pass) row(i int) Rank {
	if p.split {
		return Rank(i)
	}
	return Rank(p.first + i)
}

// column is the number in across's group of the rank that has this rank's number in row h.
func (p *pass) column(h int) Rank {
	if p.split {
		return Rank(h)
	}
	return Rank(p.gr.first[h] + p.me)
}

// ask asks for everything that will come. Results may be asked for before this rank has sent what lies in their place:
// whoever sends them has had that first.
func (p *pass) ask() {
	m, s := p.hi-p.lo, p.to-p.from
	plan := p.gr.rows[p.h]
	own := len(p.t.Parts(p.rank))
	n, tops := 0, 0
	if m > 0 {
		n, tops = m*(plan.parts-own), s*(len(p.gr.column.AllParts())-len(plan.tops))
	}
	if !p.split {
		room := p.along.scratch(n + tops)
		p.rowRoom, p.colRoom = room[:n], room[n:]
	} else {
		p.rowRoom = p.along.scratch(n)
		if m > 0 {
			p.colRoom = p.across.scratch(tops)
		}
	}
	p.round1 = len(p.along.waits)
	if room := p.rowRoom; m > 0 {
		for i := range p.size {
			if i == p.me {
				continue
			}
			for j := range p.t.Parts(Rank(p.first + i)) {
				p.along.post(p.row(i), round1|uint32(j), vec.Bytes(room[:m]))
				room = room[m:]
			}
		}
	}
	p.round4 = len(p.along.waits)
	for i := range p.gr.cols {
		if lo, hi := Chunk(len(p.x), p.gr.cols, Rank(i)); i != p.me && lo < hi {
			p.along.post(p.row(i), round4, vec.Bytes(p.x[lo:hi]))
		}
	}
	if m == 0 {
		return
	}
	p.round2 = len(p.across.waits)
	if room := p.colRoom; s > 0 {
		for h, plan := range p.gr.rows {
			if h == p.h {
				continue
			}
			for j := range plan.tops {
				p.across.post(p.column(h), round2|uint32(j), vec.Bytes(room[:s]))
				room = room[s:]
			}
		}
	}
	p.round3 = len(p.across.waits)
	if !p.gr.whole {
		for h := range p.gr.rows {
			if from, to := p.gr.piece(m, h); h != p.h && from < to {
				p.across.post(p.column(h), round3, vec.Bytes(p.x[p.lo+from:p.lo+to]))
			}
		}
	}
}

// rowScatter is the sending of round 1, beginning with the next rank.
func (p *pass) rowScatter() error {
	k := len(p.t.Parts(p.rank))
	for i := 1; i < p.size; i++ {
		to := (p.me + i) % p.size
		if to >= p.gr.cols {
			continue
		}
		lo, hi := Chunk(len(p.x), p.gr.cols, Rank(to))
		for j := 0; j < k && lo < hi; j++ {
			if err := p.along.send(p.row(to), round1|uint32(j), vec.Bytes(p.parts[j][lo:hi])); err != nil {
				return err
			}
		}
	}
	return nil
}

// part is where this rank has the row's part i of its chunk, and the number of the receive that brings it, or -1.
func (p *pass) part(i int) ([]float32, int) {
	m := p.hi - p.lo
	own := p.t.FirstPart(p.rank) - p.t.FirstPart(Rank(p.first))
	k := len(p.t.Parts(p.rank))
	if i >= own+k {
		i -= k
	} else if i >= own {
		return p.parts[i-own][p.lo:p.hi], -1
	}
	return p.rowRoom[i*m : (i+1)*m], p.round1 + i
}

// top is the same for the column's top i of this rank's piece, for which those of its own row are summed.
func (p *pass) top(i int) ([]float32, int) {
	s := p.to - p.from
	own := p.gr.column.FirstPart(Rank(p.h))
	tops := p.gr.rows[p.h].tops
	if i >= own+len(tops) {
		i -= len(tops)
	} else if i >= own {
		v, _ := p.part(tops[i-own])
		return v[p.from:p.to], -1
	}
	return p.colRoom[i*s : (i+1)*s], p.round2 + i
}

// merge runs additions over the vectors that at finds, each as soon as both are there.
func merge(c *call, adds []Add, at func(i int) ([]float32, int)) error {
	for _, a := range adds {
		dst, d := at(a.Dst)
		src, s := at(a.Src)
		if err := c.came(d); err != nil {
			return err
		}
		if err := c.came(s); err != nil {
			return err
		}
		c.add(dst, src)
	}
	return nil
}

// came waits for receive i, if it is one.
func (c *call) came(i int) error {
	if i < 0 {
		return nil
	}
	return c.wait(i)
}

// columnSum adds the row's parts of this rank's chunk into its tops and exchanges them, rounds 2 and 3: the chunk's sum
// is then in x.
func (p *pass) columnSum() error {
	plan, rows := p.gr.rows[p.h], len(p.gr.rows)
	if err := merge(p.along, plan.adds, p.part); err != nil {
		return err
	}
	for _, i := range plan.tops { // one that is a part as it came was in no addition
		if _, w := p.part(i); w >= 0 {
			if err := p.along.wait(w); err != nil {
				return err
			}
		}
	}
	m := p.hi - p.lo
	for i := 1; i < rows; i++ {
		to := (p.h + i) % rows
		from, end := p.gr.piece(m, to)
		for j := 0; j < len(plan.tops) && from < end; j++ {
			v, _ := p.part(plan.tops[j])
			if err := p.across.send(p.column(to), round2|uint32(j), vec.Bytes(v[from:end])); err != nil {
				return err
			}
		}
	}
	if p.to > p.from {
		if err := merge(p.across, p.gr.column.Merge(), p.top); err != nil {
			return err
		}
		sum, w := p.top(0)
		if err := p.across.came(w); err != nil {
			return err
		}
		mine := p.x[p.lo+p.from : p.lo+p.to]
		p.across.copy(mine, sum)
		for i := 1; i < rows && !p.gr.whole; i++ {
			if err := p.across.send(p.column((p.h+i)%rows), round3, vec.Bytes(mine)); err != nil {
				return err
			}
		}
	}
	return p.across.all(p.round2)
}

// rowGather is the sending of round 4.
func (p *pass) rowGather() error {
	for i := 1; i < p.size; i++ {
		if err := p.along.send(p.row((p.me+i)%p.size), round4, vec.Bytes(p.x[p.lo:p.hi])); err != nil {
			return err
		}
	}
	return nil
}

// bill is what a rank sends in an all-reduce of n elements over the grid.
func (gr *grid) bill(t Tree, r Rank, n int) Bill {
	h := gr.row[r]
	me, size, k := int(r)-gr.first[h], gr.first[h+1]-gr.first[h], len(t.Parts(r))
	var b Bill
	if me >= gr.cols {
		b[0], b[1] = chunkBill(n, gr.cols, k, 0)
		return b
	}
	b[0], b[1] = chunkBill(n, gr.cols, k, k, Rank(me))
	lo, hi := Chunk(n, gr.cols, Rank(me))
	m, rows, tops := hi-lo, len(gr.rows), len(gr.rows[h].tops)
	if m == 0 {
		return b
	}
	if gr.whole {
		b[2] = Lot{1, word * m}
	} else {
		b[2], b[3] = chunkBill(m, rows, tops, tops, Rank(h))
		b[4] = AllGatherBill(rows, Rank(h), m)[0]
	}
	b[5] = Lot{size - 1, word * m}
	return b
}
