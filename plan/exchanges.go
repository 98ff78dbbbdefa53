package plan

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/strategy/direct"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
)

// exchanges writes the lines of steps and rounds.
func (b *builder) exchanges() error {
	c := b.o.Config
	if c.Adapt != "" {
		return &train.ConfigError{Key: "adapt", Err: errors.New("what is chosen while training depends on measured times: cost each arm by itself, with compress in its place")}
	}
	if c.Compress != "" {
		var err error
		if b.rules, err = reduce.ParseRules(c.Compress); err != nil {
			return &train.ConfigError{Key: "compress", Err: err}
		}
	}
	switch s := b.o.Strategy.(type) {
	case *allreduce.Strategy:
		return b.allReduce()
	case *local.Strategy:
		parsed, err := spec.Parse(s.String())
		if err != nil {
			return err
		}
		conf, err := local.Parse(parsed)
		if err != nil {
			return err
		}
		return b.local(conf)
	case *ps.Strategy:
		return b.served(s.Config())
	case *direct.Strategy:
		if m, ok := c.Model.(model.Direct); ok {
			b.direct(m.StatLen())
			return nil
		}
	}
	return &train.ConfigError{Key: "strategy", Err: fmt.Errorf("how often %v talks depends on the data: covey train prints what it sent; allreduce, ps, direct and the local methods have a closed form", b.o.Strategy)}
}

// vector is what a strategy sums: n elements, of which the first head come before element off of the parameters.
func (b *builder) vector(off, head, n int) ([]Line, error) {
	if !b.rules.Lossy() {
		return []Line{b.exact("", b.o.Tree, nil, b.scene.Costs, b.o.Config.Algorithm, n)}, nil
	}
	if b.rules.Hosts {
		return b.between(off, head, n)
	}
	ranks := b.scene.Workers
	active := min(ranks, b.o.Tree.Leaves())
	one := b.o.Tree
	if len(one.AllParts()) != active {
		one = comm.NewTree(active, ranks)
	}
	return b.coded(one, nil, b.scene.Costs, b.o.Tree, b.o.Config.Algorithm, off, head, n)
}

// coded is a compressed sum over ranks that are members: one is the tree of one vector a rank, and whole that of an exact sum by an
// algorithm, where nothing is compressed.
func (b *builder) coded(one comm.Tree, m members, costs comm.Costs, whole comm.Tree, a comm.Algorithm, off, head, n int) ([]Line, error) {
	ranks := one.Ranks()
	active := len(one.AllParts())
	s, err := b.rules.Sizes(b.o.Config.Model.Layout(), off, head, n, active)
	if err != nil || ranks == 1 {
		return nil, err
	}
	if s.Exactly {
		return []Line{b.exact("", whole, m, costs, a, n)}, nil
	}
	var lines []Line
	if s.Flat > 0 {
		what := "what stays exact"
		if s.Factors > 0 {
			what = "first factors"
		}
		lines = append(lines, b.exact(what, one, m, costs, comm.Auto, s.Flat))
	}
	if s.Factors > 0 {
		lines = append(lines, b.exact("second factors", one, m, costs, comm.Auto, s.Factors))
	}
	if !s.Codes {
		return lines, nil
	}
	why := ""
	if !s.Fixed {
		why = "codes are as long as those of normally distributed numbers"
	}
	to, all := make([]int, active), make([]int, active)
	for r := range all {
		all[r] = s.All + reduce.Ending
		if s.Chunk != nil {
			to[r] = s.Chunk[r] + reduce.Ending
			all[r] += s.Chunk[r]
		}
	}
	what, how, formula := "codes", "to all", "1 round, P-1 messages, (P-1) c S bytes a worker"
	if s.Chunk != nil {
		lines = append(lines, b.spread(spread{what: "codes of chunks", how: "to their owners", formula: "1 round, P-1 messages, (P-1)/P c S bytes a worker",
			op: comm.OpAllToAll, members: m, ranks: ranks, bytes: to, toOwner: true, exact: s.Fixed, why: why}))
		what, formula = "codes of sums", "1 round, P-1 messages, (P-1)/P c S bytes a worker"
	}
	return append(lines, b.spread(spread{what: what, how: how, formula: formula, op: comm.OpAllGather, members: m, ranks: ranks, bytes: all, exact: s.Fixed, why: why})), nil
}

// between is a sum that is exact inside hosts and compressed between them.
func (b *builder) between(off, head, n int) ([]Line, error) {
	active := min(b.scene.Workers, b.o.Tree.Leaves())
	hosts := b.scene.Hosts
	if len(hosts) < 2 {
		return nil, &train.ConfigError{Key: "compress", Err: errors.New("+hosts compresses what crosses between hosts, and all workers are on one: leave it out, or give a network of several")}
	}
	var near, said, back []Line
	var heads members
	for i, first := range hosts {
		end := comm.Rank(b.scene.Workers)
		if i+1 < len(hosts) {
			end = hosts[i+1]
		}
		if int(first) >= active {
			return nil, &train.ConfigError{Key: "microshards", Err: fmt.Errorf("host %d of %d has no worker with a microshard: give more microshards or fewer workers", i, len(hosts))}
		}
		heads = append(heads, first)
		var m members
		for r := first; r < end; r++ {
			m = append(m, r)
		}
		t := comm.NewTree(min(len(m), active-int(first)), len(m))
		near = append(near, b.exact("inside hosts", t, m, b.messages(), comm.Auto, n))
		said = append(said, b.broadcast("inside hosts: whether there were codes", m, 1))
		back = append(back, b.broadcast("inside hosts: the sum", m, 4*n))
	}
	t := comm.NewTree(len(heads), len(heads))
	far, err := b.coded(t, heads, b.messages(), t, comm.Auto, off, head, n)
	if err != nil {
		return nil, err
	}
	lines := append([]Line{b.beside(near)}, far...)
	return append(lines, b.beside(said), b.beside(back)), nil
}

// broadcast sends n bytes from the first of some workers to the others.
func (b *builder) broadcast(what string, m members, n int) Line {
	return b.broadcastFrom(0, what, m, n)
}

// broadcastFrom sends n bytes from a rank of some workers to the others.
func (b *builder) broadcastFrom(root comm.Rank, what string, m members, n int) Line {
	l := Line{What: what, op: comm.OpBroadcast, How: "binomial tree", Formula: "ceil(log2 P) rounds, P-1 messages, (P-1) S bytes in all", Exact: true, sent: make([]Sent, b.scene.Workers)}
	ranks := len(m)
	if m == nil {
		ranks = b.scene.Workers
	}
	for r := range ranks {
		s := b.sentOf(comm.BroadcastBill(ranks, root, comm.Rank(r), n), false)
		if m == nil && b.scene.Costs.Board.Meeting > 0 { // read in place
			if s = (Sent{1, int64(n), 0}); r == int(root) {
				s = Sent{}
			}
		}
		l.sent[m.of(r)] = s
		l.Busiest = max(l.Busiest, s.Payload)
	}
	l.Rounds = bits.Len(uint(ranks - 1))
	if m == nil {
		l.Latency, l.Bandwidth = b.along(l.Rounds, l.Busiest)
	} else { // of one host
		l.Latency, l.Bandwidth = float64(l.Rounds)*b.scene.Costs.Alpha, b.scene.Costs.Beta*float64(l.Busiest)
	}
	return l
}

// allReduce writes the lines of synchronous SGD: a sum for each bucket in each step.
func (b *builder) allReduce() error {
	c, t := b.o.Config, b.o.Tree
	spans := allreduce.Buckets(c.Model.Layout(), b.o.Bucket)
	parts := 0 // numbers of the optimizer's state a parameter, which only the owner of a part has
	for _, s := range b.o.Optimizer.State() {
		if s.Type == ckpt.F32 && s.Len() == c.Model.Layout().Len() {
			parts++
		}
	}
	for i, s := range spans {
		what := "gradient"
		if len(spans) > 1 {
			what = fmt.Sprintf("gradient, bucket %d of %d", i+1, len(spans))
		}
		n := s.Hi - s.Lo
		if !c.Replicate && b.o.Optimizer.Local() && !b.rules.Lossy() && b.scatters(n) {
			b.put(Exchanges, what, "each step", b.o.Steps, b.update("", t, n))
			l := b.chunks("", n)
			for range parts {
				b.put(Saves, "optimizer's state", "each checkpoint", b.o.Saves, l)
			}
			continue
		}
		lines, err := b.vector(max(0, s.Lo-strategy.Head), max(0, strategy.Head-s.Lo), n)
		if err != nil {
			return err
		}
		b.put(Exchanges, what, "each step", b.o.Steps, lines...)
	}
	return nil
}

// scatters tells whether a bucket of n elements is updated in parts.
func (b *builder) scatters(n int) bool {
	return reduce.Scatters(b.o.Config.Algorithm, b.scene.Workers, n, func() comm.Algorithm { return comm.Choose(b.scene.Costs, b.o.Tree, 4*n) })
}

// chunks is an all-gather of n elements, of which each worker has its chunk.
func (b *builder) chunks(what string, n int) Line {
	ranks := b.scene.Workers
	bytes := make([]int, ranks)
	for r := range bytes {
		lo, hi := comm.Chunk(n, ranks, comm.Rank(r))
		if bytes[r] = 4 * (hi - lo); lo == hi {
			bytes[r] = -1
		}
	}
	l := b.spread(spread{what: what, how: "to all", formula: "1 round, P-1 messages, (P-1)/P S bytes a worker", op: comm.OpAllGather, ranks: ranks, bytes: bytes, exact: true})
	if b.scene.Costs.Board.Meeting > 0 { // written in place
		for r := range l.sent {
			l.sent[r].Header = 0
		}
	}
	return l
}

// local writes the lines of replicas that train by themselves.
func (b *builder) local(c local.Config) error {
	layout := b.o.Config.Model.Layout()
	spans := local.Spans(layout, c.Fragments)
	first := len(b.lines)
	for i, s := range spans {
		what := "replicas' moves"
		if len(spans) > 1 {
			what = fmt.Sprintf("replicas' moves, fragment %d of %d", i+1, len(spans))
		}
		times := rounds(c, b.o.Steps, i, len(spans))
		if c.Method == local.Scaffold {
			lines, err := b.vector(0, 0, layout.Len())
			if err != nil {
				return err
			}
			b.put(Exchanges, "control variates", period(c), times, lines...)
		}
		lines, err := b.vector(s.Lo, strategy.Head, strategy.Head+s.Hi-s.Lo)
		if err != nil {
			return err
		}
		b.put(Exchanges, what, period(c), times, lines...)
	}
	if c.Method == local.Hierarchical {
		b.groups(c, layout.Len())
	}
	if c.Period != "" {
		for i := range b.lines[first:] {
			l := &b.lines[first+i]
			l.Exact, l.Counted, l.Why = false, false, "the period changes with the loss: as often as if it stayed"
			if c.Period == local.ByDivergence {
				l.Why = "the period changes with how far replicas are apart: as often as if it stayed"
			}
		}
	}
	return nil
}

// direct writes the lines of a closed form: the statistics' exponents, so that all use one grid, the statistics, and the loss.
func (b *builder) direct(n int) {
	if b.scene.Workers == 1 {
		return
	}
	exponents := make([]int, b.scene.Workers)
	for r := range exponents {
		exponents[r] = 2 * n
	}
	b.put(Exchanges, "exponents", "once", b.o.Steps, b.gathered(exponents, true), b.broadcast("down", nil, 2*n))
	b.put(Exchanges, "statistics", "once", b.o.Steps, b.exact("", b.o.Tree, nil, b.scene.Costs, b.o.Config.Algorithm, direct.Limbs*n))
	b.results(Exchanges, "loss", "once", b.o.Steps, b.o.TrainBlocks)
}

// groups writes the lines of the exchanges inside groups of neighbouring replicas.
func (b *builder) groups(c local.Config, n int) {
	var lines []Line
	leaves := b.o.Tree.Leaves()
	for g := range c.Groups {
		lo, hi := g*leaves/c.Groups, (g+1)*leaves/c.Groups
		t, ranks := b.o.Tree.Within(lo, hi)
		lines = append(lines, b.exact("", t, ranks, b.messages(), comm.Auto, n))
	}
	steps := b.o.Steps - 1 // the last one is everybody's
	b.put(Exchanges, "replicas' moves inside groups", fmt.Sprintf("every %d steps, but when all talk", c.K), steps/c.K-steps/(c.K*c.Outer), b.beside(lines))
}

// rounds is how often fragment i of n is exchanged in so many steps. Of t steps, a fragment is exchanged in step t0 and every
// K after it, t0 being (i+1)K/n, and all are in the last one.
func rounds(c local.Config, steps, i, n int) int {
	k, t0 := c.K, (i+1)*c.K/n
	switch c.Method {
	case local.PostLocal: // in each of the first Start steps, and then every K
		each := min(steps-1, c.Start)
		return each + (steps-1-each)/k + 1
	case local.Hierarchical:
		k *= c.Outer
		t0 = k
	}
	if steps-1 < t0 {
		return 1
	}
	return (steps-1-t0)/k + 2
}

// period says how often.
func period(c local.Config) string {
	switch {
	case c.Method == local.PostLocal:
		return fmt.Sprintf("each of the first %d steps, then every %d", c.Start, c.K)
	case c.Method == local.Hierarchical:
		return fmt.Sprintf("every %d steps", c.K*c.Outer)
	case c.K == 1:
		return "each step"
	}
	return fmt.Sprintf("every %d steps", c.K)
}
