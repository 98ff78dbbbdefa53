package comm

// Work is what an all-reduce asks of its busiest rank, in a closed form of the tree: what Costs puts a price on.
type Work struct {
	Rounds   int     // messages that wait for each other
	Messages int     // sent and received
	Bytes    float64 // sent or received, whichever is more, in vectors
	Added    float64 // added or copied, in vectors

	// Between hosts, when the tree has several.
	FarRounds int     // of the rounds
	FarBytes  float64 // that the busiest host sends or receives, in vectors, for all its ranks share one wire
}

// Work returns what the algorithm asks for over t, which it must fit.
func (a Algorithm) Work(t Tree) Work {
	if a.number() == 0 {
		return t.works()[a.kind()]
	}
	return t.work(a)
}

// works returns the Work of every algorithm without parameters. It is made once.
func (t Tree) works() *[numKinds]Work {
	p := t.p
	p.weighed.Do(func() {
		for a := Direct; a < numKinds; a++ {
			if a.Fits(t) {
				p.works[a] = t.work(a)
			}
		}
	})
	return &p.works
}

func (t Tree) work(a Algorithm) (w Work) {
	ranks, all := t.Ranks(), len(t.AllParts())
	if ranks == 1 {
		return w
	}
	p := float64(ranks)
	share := (p - 1) / p
	most, least := 0, all // parts of a rank
	for r := range Rank(ranks) {
		most, least = max(most, len(t.Parts(r))), min(least, len(t.Parts(r)))
	}
	far := t.newFar()
	switch a.kind() {
	case Direct:
		w = Work{Rounds: 2, Bytes: max(float64(most)*share, float64(all-least)/p) + share, Added: float64(all-1) / p,
			Messages: most*(ranks-1) + all - most + 2*(ranks-1)}
		far.exchange(func(h int) (out, in float64) {
			c, k := float64(far.ranks(h)), float64(far.parts(h))
			return k * (p - c) / p, c / p * (float64(all) - k)
		})
		far.exchange(func(h int) (out, in float64) {
			c := float64(far.ranks(h))
			return c * (p - c) / p, c * (p - c) / p
		})
	case Doubling:
		rounds := log2(ranks)
		w = Work{Rounds: rounds, Messages: 2 * rounds, Bytes: float64(rounds), Added: float64(rounds)}
		for d := 1; d < ranks; d <<= 1 {
			far.begin()
			for r := range ranks {
				far.sends(r, r^d, 1)
			}
			far.end()
		}
	case Gather:
		with := min(ranks, t.Leaves()) // the ranks that have something to send
		w = Work{Rounds: 1, Messages: ranks - 1 + with - 1, Bytes: float64(max(most*(ranks-1), all-least)), Added: float64(all - 1 + most + 1)}
		far.exchange(func(h int) (out, in float64) {
			c, k := far.ranks(h), far.parts(h)
			return float64(k * (ranks - c)), float64(c * (all - k))
		})
	case Binomial: // the root is on every path
		depth := log2(ranks)
		w = Work{Rounds: 2 * depth, Messages: depth, Bytes: float64(depth)}
		for _, c := range t.reduction(0) {
			w.Messages += len(c.receives)
			w.Bytes += float64(len(c.receives))
			w.Added += float64(len(c.adds))
		}
		for d := 1; d < ranks; d <<= 1 {
			far.begin()
			for r := d; r < ranks; r += 2 * d {
				far.sends(r, r-d, float64(len(t.held(Rank(r)))))
			}
			far.end()
			far.begin()
			for r := d; r < ranks; r += 2 * d {
				far.sends(r-d, r, 1)
			}
			far.end()
		}
	case Ring:
		w = Work{Rounds: 2 * (ranks - 1), Messages: 4 * (ranks - 1), Bytes: 2 * share, Added: share + float64(max(most, 1)-1)}
		if far.hosts() > 1 {
			far.rounds, far.bytes = w.Rounds, w.Bytes // one rank of a host sends to the next host
		}
	case Torus, Hierarchical:
		w = t.grid(a).work(t, far)
	case Shared: // meetings are its rounds
		w = Work{Rounds: 2, Bytes: float64(all-least)/p + share, Added: float64(all-1) / p}
	}
	w.FarRounds, w.FarBytes = far.rounds, far.bytes
	return w
}

// work counts a grid's rounds, see grid, for the busiest of the ranks.
func (gr *grid) work(t Tree, far *far) (w Work) {
	rows, cols := len(gr.rows), float64(gr.cols)
	tops, merges := len(gr.column.AllParts()), float64(len(gr.column.Merge()))
	pieces := cols * float64(rows) // of a vector
	if gr.whole {
		pieces = cols
	}
	wide := false
	for h, plan := range gr.rows {
		size, mine := gr.first[h+1]-gr.first[h], len(plan.tops)
		wide = wide || size > 1
		for i := range size {
			k := len(t.Parts(Rank(gr.first[h] + i)))
			if i >= gr.cols { // a rank without a chunk: k parts to each owner, and the sums back
				w.Messages, w.Bytes = max(w.Messages, (k+1)*gr.cols), max(w.Bytes, float64(max(k, 1)))
				continue
			}
			messages := (k+1)*(gr.cols-1) + plan.parts - k + size - 1 + mine*(rows-1) + tops - mine
			out := float64(k)*(cols-1)/cols + float64(mine*(rows-1))/pieces + float64(size-1)/cols
			in := float64(plan.parts-k)/cols + float64(tops-mine)/pieces + (cols-1)/cols
			if !gr.whole {
				messages += 2 * (rows - 1)
				out += float64(rows-1) / pieces
				in += float64(rows-1) / pieces
			}
			w.Messages, w.Bytes = max(w.Messages, messages), max(w.Bytes, out, in)
			w.Added = max(w.Added, float64(len(plan.adds))/cols+merges/pieces)
		}
	}
	if wide {
		w.Rounds += 2
	}
	switch {
	case gr.whole:
		w.Rounds++
	case rows > 1:
		w.Rounds += 2
	}
	if far.hosts() > 1 {
		gr.far(t, far)
	}
	return w
}

// far counts what a grid sends between hosts.
func (gr *grid) far(t Tree, far *far) {
	rows, cols := len(gr.rows), float64(gr.cols)
	pieces := cols * float64(rows)
	if gr.whole {
		pieces = cols
	}
	ranks := t.Ranks()
	along := func(f func(from, to int)) {
		far.begin()
		for r := range ranks {
			first := gr.first[gr.row[r]]
			for to := first; to < first+gr.cols; to++ {
				if to != r {
					f(r, to)
				}
			}
		}
		far.end()
	}
	across := func(f func(h, from, to int)) {
		far.begin()
		for h := range rows {
			for i := range gr.cols {
				for to := range rows {
					if to != h {
						f(h, gr.first[h]+i, gr.first[to]+i)
					}
				}
			}
		}
		far.end()
	}
	along(func(from, to int) { far.sends(from, to, float64(len(t.Parts(Rank(from))))/cols) })
	across(func(h, from, to int) { far.sends(from, to, float64(len(gr.rows[h].tops))/pieces) })
	if !gr.whole {
		across(func(_, from, to int) { far.sends(from, to, 1/pieces) })
	}
	along(func(from, to int) { far.sends(to, from, 1/cols) })
}

// far adds up what goes between the hosts of a tree: in each round, what the busiest host sends or receives.
type far struct {
	t       Tree
	host    []int // by rank
	out, in []float64
	rounds  int
	bytes   float64
}

func (t Tree) newFar() *far {
	f := &far{t: t}
	hosts := t.p.hosts
	for i := range hosts {
		for lo, hi := hosts.span(i, t.Ranks()); lo < hi; lo++ {
			f.host = append(f.host, i)
		}
	}
	f.out, f.in = make([]float64, len(hosts)), make([]float64, len(hosts))
	return f
}

func (f *far) hosts() int { return len(f.out) }

// ranks and parts count those of host h.
func (f *far) ranks(h int) int {
	lo, hi := f.t.p.hosts.span(h, f.t.Ranks())
	return hi - lo
}

func (f *far) parts(h int) int {
	lo, hi := f.t.p.hosts.span(h, f.t.Ranks())
	return f.t.p.first[hi] - f.t.p.first[lo]
}

// exchange is a round in which each host sends and receives so many vectors.
func (f *far) exchange(of func(h int) (out, in float64)) {
	f.begin()
	for h := range f.out {
		f.out[h], f.in[h] = of(h)
	}
	f.end()
}

func (f *far) begin() {
	clear(f.out)
	clear(f.in)
}

// sends is a message in the round that began.
func (f *far) sends(from, to int, vectors float64) {
	if f.hosts() > 1 && f.host[from] != f.host[to] {
		f.out[f.host[from]] += vectors
		f.in[f.host[to]] += vectors
	}
}

func (f *far) end() {
	most := 0.0
	for h := range f.out {
		most = max(most, f.out[h], f.in[h])
	}
	if most > 0 {
		f.rounds++
		f.bytes += most
	}
}
