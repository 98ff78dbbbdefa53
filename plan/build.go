package plan

import (
	"fmt"
	"strings"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/train"
)

// builder writes the lines of a Cost.
type builder struct {
	scene Scene
	o     *train.Outline
	rules reduce.Rules
	lines []Line
}

// put adds an operation that happens so often. An operation that sends nothing is none.
func (b *builder) put(phase Phase, what, when string, times int, lines ...Line) {
	for _, l := range lines {
		for _, s := range l.sent {
			l.Sent.add(s, 1)
		}
		if l.Messages == 0 || times == 0 {
			continue
		}
		l.Phase, l.When, l.Times, l.Op, l.Counted = phase, when, times, l.op.String(), true
		if l.received != nil && !l.Exact { // by servers, as time has it
			l.Counted = false
		}
		if l.What == "" {
			l.What = what
		} else {
			l.What = what + ": " + l.What
		}
		b.lines = append(b.lines, l)
	}
}

// sentOf is what a bill comes to. Vectors that are read in place have no headers.
func (b *builder) sentOf(bill comm.Bill, inPlace bool) Sent {
	s := Sent{Messages: bill.Messages(), Payload: bill.Payload()}
	if !inPlace {
		s.Header = bill.Header(b.scene.Framer)
	}
	return s
}

func (b *builder) header(n int) int64 {
	if b.scene.Framer == nil {
		return 0
	}
	return int64(b.scene.Framer.Overhead(n))
}

// members are the workers of a smaller group, by rank in it; nil: all.
type members []comm.Rank

func (m members) of(r int) int {
	if m == nil {
		return r
	}
	return int(m[r])
}

// messages are the costs where no memory is shared: what subgroups have.
func (b *builder) messages() comm.Costs {
	c := b.scene.Costs
	c.Board = comm.BoardCosts{}
	return c
}

// formulas are those of the algorithms: k parts a worker (1 when microshards are a power of two times the workers), S
// bytes a vector.
var formulas = map[string]string{
	comm.Direct.String():       "2 rounds, (k+1)(P-1) messages, (k+1)(P-1)/P S bytes a worker",
	comm.Doubling.String():     "log2 P rounds, log2 P messages, log2 P S bytes a worker",
	comm.Gather.String():       "1 round, P-1 messages, k(P-1) S bytes a worker",
	comm.Binomial.String():     "2 ceil(log2 P) rounds, S bytes up for each node and S to each child",
	comm.Ring.String():         "2(P-1) rounds, 2(P-1) messages, 2(P-1)/P S bytes a worker",
	comm.Native.String():       "the transport's own; S bytes handed over",
	comm.Hierarchical.String(): "inside hosts, between them, and inside again: see comm.Torus",
	comm.Torus.String():        "4 rounds, (k+1)(C-1) + (q+1)(R-1) messages, (k+1)(C-1)/C + (q+1)(R-1)/P S bytes a worker",
	comm.Shared.String():       "2 meetings, (K-k+P-1)/P S bytes read and written in place a worker (1 meeting, (K-k) S for short vectors)",
}

func formula(a comm.Algorithm) string {
	name, _, _ := strings.Cut(a.String(), ":")
	return formulas[name]
}

// exact is an exact sum of n elements over t, whose ranks are members, by an algorithm; Auto is the one that costs choose.
func (b *builder) exact(what string, t comm.Tree, m members, costs comm.Costs, a comm.Algorithm, n int) Line {
	if a == comm.Auto {
		a = comm.Choose(costs, t, 4*n)
	}
	return b.sum(what, t, m, costs, a, n, func(r comm.Rank) comm.Bill { return comm.AllReduceBill(a, t, r, n) })
}

// update is a sum of which each worker uses its own part, and sends out what it makes of it.
func (b *builder) update(what string, t comm.Tree, n int) Line {
	a := comm.Direct
	if costs := b.scene.Costs; costs.Board.Meeting > 0 && comm.Shared.Fits(t) {
		a = comm.Shared
	}
	l := b.sum(what, t, nil, b.scene.Costs, a, n, func(r comm.Rank) comm.Bill { return comm.UpdateBill(a, t, r, n) })
	l.How += ", each updates its part"
	return l
}

func (b *builder) sum(what string, t comm.Tree, m members, costs comm.Costs, a comm.Algorithm, n int, bill func(comm.Rank) comm.Bill) Line {
	l := Line{What: what, op: comm.OpAllReduce, How: a.String(), Formula: formula(a), Exact: true, sent: make([]Sent, b.scene.Workers)}
	if t.Ranks() == 1 || n == 0 {
		return l
	}
	for r := range t.Ranks() {
		l.sent[m.of(r)] = b.sentOf(bill(comm.Rank(r)), a == comm.Shared)
	}
	w := a.WorkOn(t, 4*n)
	l.Rounds, l.Busiest = w.Rounds, int64(w.Bytes*float64(4*n)+0.5)
	l.Latency, l.Bandwidth, l.Adding = costs.Price(a, t, 4*n)
	return l
}

// spread is an operation in which each of some ranks sends one message to others, of a length that hangs on the sender or on
// the receiver alone.
type spread struct {
	what, how, formula string
	op                 comm.Op
	members            members
	ranks              int
	bytes              []int // of the first len(bytes) ranks, that a message from or to it has; -1: it sends none
	toOwner            bool  // only these take part, and the length is the receiver's; else they send to all ranks, the length the sender's
	exact              bool
	why                string
}

func (b *builder) spread(s spread) Line {
	l := Line{What: s.what, op: s.op, How: s.how, Formula: s.formula, Exact: s.exact, Why: s.why, Rounds: 1, sent: make([]Sent, b.scene.Workers)}
	var all Sent // one message of each
	speak := 0
	one := make([]Sent, len(s.bytes))
	for r, n := range s.bytes {
		if n < 0 {
			continue
		}
		one[r] = Sent{1, int64(n), b.header(n)}
		all.add(one[r], 1)
		speak++
	}
	if s.ranks == 1 || speak == 0 {
		return l
	}
	costs, hosts := b.scene.Costs, b.scene.Hosts
	beta := costs.Beta
	most := 0
	for r := range s.ranks {
		var out Sent
		in, messages := int64(0), 0
		switch {
		case s.toOwner && r < len(s.bytes):
			out = all
			out.add(one[r], -1)
			in, messages = int64(speak-1)*one[r].Payload, 2*(speak-1)
		case !s.toOwner:
			if r < len(s.bytes) {
				out.add(one[r], s.ranks-1)
				in = all.Payload - one[r].Payload
			} else {
				in = all.Payload
			}
			messages = s.ranks - 1 + speak
		}
		l.sent[s.members.of(r)] = out
		l.Busiest = max(l.Busiest, out.Payload, in)
		most = max(most, messages)
	}
	if costs.Cache > 0 && l.Busiest > int64(costs.Cache) {
		beta = costs.BetaBeyond
	}
	alpha, far := costs.Alpha, 0.0
	if len(hosts) > 1 {
		alpha, far = costs.Far.Alpha, b.far(s, one, all, speak)
	}
	l.Latency = float64(l.Rounds)*alpha + float64(max(0, most-2*l.Rounds))*costs.Message
	l.Bandwidth = beta*float64(l.Busiest) + costs.Far.Beta*far
	return l
}

// far is the bytes that the busiest host sends or receives.
func (b *builder) far(s spread, one []Sent, all Sent, speak int) float64 {
	most := int64(0)
	host := 0
	var own int64       // payload of this host's ranks, one message of each
	var ranks, mine int // of this host, and of them those that speak
	close := func() {
		out, in := own*int64(s.ranks-ranks), (all.Payload-own)*int64(ranks)
		if s.toOwner {
			out, in = int64(mine)*(all.Payload-own), int64(speak-mine)*own
		}
		most = max(most, out, in)
		own, ranks, mine = 0, 0, 0
	}
	for r := range s.ranks {
		for host+1 < len(b.scene.Hosts) && s.members.of(r) >= int(b.scene.Hosts[host+1]) {
			close()
			host++
		}
		ranks++
		if r < len(one) && one[r].Messages > 0 {
			own += one[r].Payload
			mine++
		}
	}
	close()
	return float64(most)
}

// beside is operations of separate groups at the same time, as one.
func (b *builder) beside(lines []Line) Line {
	all := lines[0]
	all.sent = make([]Sent, b.scene.Workers)
	latency, bandwidth, adding, rounds := make([]float64, b.scene.Workers), make([]float64, b.scene.Workers), make([]float64, b.scene.Workers), make([]int, b.scene.Workers)
	for _, l := range lines {
		all.Busiest, all.Exact = max(all.Busiest, l.Busiest), all.Exact && l.Exact
		for r, s := range l.sent {
			if s.Messages == 0 {
				continue
			}
			all.sent[r].add(s, 1)
			latency[r] += l.Latency // a worker in several groups is in one after the other
			bandwidth[r] += l.Bandwidth
			adding[r] += l.Adding
			rounds[r] += l.Rounds
		}
	}
	for r := range rounds {
		if latency[r]+bandwidth[r]+adding[r] > all.Time() {
			all.Latency, all.Bandwidth, all.Adding = latency[r], bandwidth[r], adding[r]
		}
		all.Rounds = max(all.Rounds, rounds[r])
	}
	if n := len(lines); n > 1 {
		all.How = fmt.Sprintf("%s, in %d groups", all.How, n)
	}
	return all
}
