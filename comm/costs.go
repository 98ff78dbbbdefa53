package comm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Costs are what messages and additions cost on a transport, all in seconds: the alpha-beta model (Hockney, The
// communication challenge for MPP, 1994) with a price for each message (the overhead of Culler et al., LogP, 1993) and
// one for each addition. An all-reduce of S bytes takes
//
//	Alpha rounds + Message (messages - 2 rounds) + (Beta bytes + Gamma added) S
//
// where Work counts rounds, messages, bytes and additions of the busiest rank: Alpha has a message each way in it. With
// several hosts, a round between them costs Far.Alpha in place of Alpha, and a byte there Far.Beta more.
//
// Every rank of a group must choose by the same Costs, so what a transport gives is compiled in, and does not depend on
// what a process can see of its machine.
type Costs struct {
	Name    string  // whose they are: a transport's, or measured
	Alpha   float64 // a round: two ranks exchange an almost empty message
	Message float64 // each message more, at each of its ends
	Beta    float64 // a byte that the busiest rank sends or receives
	Gamma   float64 // a byte of a vector to which another is added

	// Vectors of more than Cache bytes do not stay in the last cache: they cost BetaBeyond and GammaBeyond in place of
	// Beta and Gamma. 0 is no such bound.
	Cache                   int
	BetaBeyond, GammaBeyond float64

	// Board is what Shared costs; with a Meeting of 0 the ranks share no memory.
	Board BoardCosts

	// Busy says that moving bytes is the processors' own work, which takes their time from computing.
	Busy bool

	Far Wires // between hosts
}

// BoardCosts are what a sum in shared memory costs. Gamma is in Beta: a byte is added as it is read.
type BoardCosts struct {
	Meeting    float64 // seconds until all ranks know that all have come
	Beta       float64 // seconds of a byte that a rank reads from others or writes to them
	Cache      int     // vectors of more bytes do not stay in the last cache
	BetaBeyond float64 // Beta of those
}

// Wires are what a network costs.
type Wires struct {
	Alpha float64 // seconds of a round
	Beta  float64 // seconds of a byte that a host sends or receives, all its ranks together
}

// Costed is asked for at run time: a Group that knows what its messages cost, the same on every rank.
type Costed interface {
	Costs() Costs
}

// CostsOf returns g's costs, or those of TCP when it does not tell.
func CostsOf(g Group) Costs {
	if c, ok := g.(Costed); ok {
		return c.Costs()
	}
	return TCPCosts
}

// Time is how long an all-reduce over t is expected to take by an algorithm that fits.
func (c Costs) Time(a Algorithm, t Tree, bytes int) time.Duration {
	return time.Duration(1e9 * c.terms(a, t, bytes).sum())
}

func (c Costs) terms(a Algorithm, t Tree, bytes int) (s terms) {
	if a != Shared {
		return c.of(a.Work(t), bytes)
	}
	w, beta := sharedWork(t, bytes), c.Board.Beta
	if c.Board.Cache > 0 && bytes > c.Board.Cache {
		beta = c.Board.BetaBeyond
	}
	s[termRounds] = float64(w.Rounds) * c.Board.Meeting
	s[termBytes] = w.Bytes * beta * float64(bytes)
	return s
}

// sharedWork is Shared's Work, which depends on the size: small vectors meet once, and everybody adds all.
func sharedWork(t Tree, bytes int) Work {
	w := Shared.Work(t)
	if all := len(t.AllParts()); t.Ranks() > 1 && staged(t, bytes/word) {
		w.Rounds, w.Bytes, w.Added = 1, float64(all), float64(all-1)
	}
	return w
}

// terms are the summands of a time, in seconds.
type terms [5]float64

const (
	termRounds = iota
	termMessages
	termBytes
	termAdded
	termFar
)

func (c Costs) of(w Work, bytes int) (s terms) {
	beta, gamma, size := c.Beta, c.Gamma, float64(bytes)
	if c.Cache > 0 && bytes > c.Cache {
		beta, gamma = c.BetaBeyond, c.GammaBeyond
	}
	s[termRounds] = float64(w.Rounds-w.FarRounds)*c.Alpha + float64(w.FarRounds)*c.Far.Alpha
	s[termMessages] = float64(max(0, w.Messages-2*w.Rounds)) * c.Message
	s[termBytes] = w.Bytes * beta * size
	s[termAdded] = w.Added * gamma * size
	s[termFar] = w.FarBytes * c.Far.Beta * size
	return s
}

func (s terms) sum() (sum float64) {
	for _, x := range s {
		sum += x
	}
	return sum
}

// Choose returns the algorithm that costs least for a vector of so many bytes, by the model of Costs: of those that give
// the bits of the canonical order, fit t and need no parameter. It never chooses Ring or Native, and Shared, which no message beats,
// wherever ranks share memory (Costs.Board). The result of the sum has the same bits whatever it chooses. Where another than Direct would win by less than a fiftieth, it is Direct, whose segments
// overlap rounds and additions, which the model does not count. Explain shows why.
func Choose(c Costs, t Tree, bytes int) Algorithm {
	if c.Board.Meeting > 0 && Shared.Fits(t) && t.Ranks() > 1 {
		return Shared
	}
	works := t.works()
	best, direct := Direct, c.of(works[Direct], bytes).sum()
	least := direct
	for a := Direct + 1; a < Shared; a++ {
		if !a.Canonical() || !a.Fits(t) {
			continue
		}
		if s := c.of(works[a], bytes).sum(); s < least {
			best, least = a, s
		}
	}
	if direct-least < direct/50 {
		return Direct
	}
	return best
}

// ChooseOn returns the algorithm that AllReduce takes on g for a vector of so many bytes: Shared where g's ranks share
// memory, which no message beats, and else Choose's by g's costs.
func ChooseOn(g Group, t Tree, bytes int) Algorithm {
	if boardFor(g, t) != nil {
		return Shared
	}
	c := CostsOf(g)
	c.Board = BoardCosts{}
	return Choose(c, t, bytes)
}

// boardFor returns the board on which g sums over t, or nil.
func boardFor(g Group, t Tree) *Board {
	if !Shared.Fits(t) {
		return nil
	}
	return boardOf(g)
}

// Estimate is what the model says of one algorithm.
type Estimate struct {
	Algorithm Algorithm     `json:"-"`
	Name      string        `json:"algorithm"`
	Time      time.Duration `json:"ns"`
	Work      Work          `json:"work"`
	Note      string        `json:"note,omitempty"` // why it is not to be chosen; then Time and Work may be 0
}

// Explanation is a choice and its reason.
type Explanation struct {
	Costs     Costs      `json:"costs"`
	Ranks     int        `json:"ranks"`
	Leaves    int        `json:"leaves"`
	Hosts     int        `json:"hosts"`
	Bytes     int        `json:"bytes"`
	Estimates []Estimate `json:"estimates"` // the choice, then what else may be chosen by time, then what may not
	Choice    Algorithm  `json:"-"`
	Chosen    string     `json:"chosen"`
	Reason    string     `json:"reason"`
}

// Explain returns what Choose looks at and what it takes, for a vector of so many bytes.
func Explain(c Costs, t Tree, bytes int) Explanation {
	e := Explanation{Costs: c, Ranks: t.Ranks(), Leaves: t.Leaves(), Hosts: max(1, len(t.p.hosts)), Bytes: bytes, Choice: Choose(c, t, bytes)}
	e.Chosen = e.Choice.String()
	for a := Direct; a < numKinds; a++ {
		s := Estimate{Algorithm: a, Name: a.String()}
		if err := a.Check(t); err != nil {
			s.Note = "does not fit: " + err.Error()
		} else if a == Shared && c.Board.Meeting == 0 {
			s.Note = "the ranks share no memory"
		} else if a == Native {
			s.Note = "by name only: what the transport itself does, where it does"
		} else {
			s.Time, s.Work = c.Time(a, t, bytes), a.Work(t)
			switch {
			case a == Shared:
				s.Work = sharedWork(t, bytes)
			case a == Hierarchical && t.p.hosts == nil:
				s.Note = "on one host it does what direct does"
			case !a.Canonical():
				s.Note = "by name only: its bits depend on the number of workers"
			}
		}
		e.Estimates = append(e.Estimates, s)
	}
	slices.SortStableFunc(e.Estimates, func(a, b Estimate) int {
		if first := e.Choice; (a.Algorithm == first) != (b.Algorithm == first) {
			return cmp.Compare(btoi(b.Algorithm == first), btoi(a.Algorithm == first))
		}
		if (a.Note == "") != (b.Note == "") {
			return cmp.Compare(len(a.Note), len(b.Note))
		}
		return cmp.Compare(c.terms(a.Algorithm, t, bytes).sum(), c.terms(b.Algorithm, t, bytes).sum())
	})
	e.Reason = e.reason()
	return e
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reason says in what the choice beats the runner-up most.
func (e Explanation) reason() string {
	if e.Ranks == 1 {
		return "one worker has nothing to exchange"
	}
	first := e.Estimates[0]
	at := slices.IndexFunc(e.Estimates, func(s Estimate) bool { return s.Work != first.Work })
	if at < 0 || e.Estimates[at].Note != "" {
		return "nothing else fits"
	}
	second := e.Estimates[at]
	next := fmt.Sprintf("the next best is %s at %v", second.Name, second.Time)
	if e.Choice == Shared {
		return "the ranks share memory, where a sum copies nothing; " + next
	}
	a, b := e.Costs.of(first.Work, e.Bytes), e.Costs.of(second.Work, e.Bytes)
	if a.sum() >= b.sum()*49/50 && e.Choice == Direct {
		return "as fast as any, and its rounds overlap; " + next
	}
	most := 0
	for i := range a {
		if b[i]-a[i] > b[most]-a[most] {
			most = i
		}
	}
	w, v := first.Work, second.Work
	rounds := fmt.Sprintf("rounds %d, not %d", w.Rounds, v.Rounds)
	if e.Hosts > 1 {
		rounds += fmt.Sprintf(", of them between hosts %d, not %d", w.FarRounds, v.FarRounds)
	}
	return [...]string{
		rounds,
		fmt.Sprintf("messages %d, not %d", w.Messages, v.Messages),
		fmt.Sprintf("vectors sent %.3g, not %.3g", w.Bytes, v.Bytes),
		fmt.Sprintf("vectors added or copied %.3g, not %.3g", w.Added, v.Added),
		fmt.Sprintf("vectors between hosts %.3g, not %.3g", w.FarBytes, v.FarBytes),
	}[most] + "; " + next
}

// String is a table for people.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "all-reduce of %d bytes, %d ranks on %d hosts, %d leaves, %s costs: %s (%s)\n", e.Bytes, e.Ranks, e.Hosts, e.Leaves, e.Costs.Name, e.Chosen, e.Reason)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "algorithm\ttime\trounds\tmessages\tvectors sent\tadded\tbetween hosts\t\n")
	for _, s := range e.Estimates {
		if s.Time == 0 && s.Note != "" {
			fmt.Fprintf(w, "%s\t-\t\t\t\t\t\t%s\n", s.Name, s.Note)
			continue
		}
		fmt.Fprintf(w, "%s\t%v\t%d\t%d\t%.3g\t%.3g\t%.3g\t%s\n", s.Name, s.Time, s.Work.Rounds, s.Work.Messages, s.Work.Bytes, s.Work.Added, s.Work.FarBytes, s.Note)
	}
	w.Flush()
	return b.String()
}

// String is the constants in one line.
func (c Costs) String() string {
	s := fmt.Sprintf("%s: %.3g us a round, %.3g us a message, %.3g ns a KiB sent, %.3g ns a KiB added", c.Name, 1e6*c.Alpha, 1e6*c.Message, 1e9*1024*c.Beta, 1e9*1024*c.Gamma)
	if c.Cache > 0 {
		s += fmt.Sprintf("; beyond %d bytes %.3g and %.3g", c.Cache, 1e9*1024*c.BetaBeyond, 1e9*1024*c.GammaBeyond)
	}
	return s
}

// The transports' costs, as MeasureCosts finds them (covey bench allreduce --explain) between two workers (goroutines,
// processes that share memory, processes over loopback) of one machine: two cores of an AMD EPYC, 1 MiB of second cache
// each, 32 MiB of last cache shared with others. Beyond Cache, and on the board, they are fitted to all-reduces of 256 KiB,
// 4 MiB and 32 MiB by Direct and by Shared.
var (
	InprocCosts = Costs{Name: "inproc", Alpha: 0.33e-6, Message: 0.18e-6, Beta: 0.037e-9, Gamma: 0.018e-9,
		Cache: 1 << 20, BetaBeyond: 0.085e-9, GammaBeyond: 0.05e-9, Busy: true, Far: gigabit,
		Board: BoardCosts{Meeting: 0.4e-6, Beta: 0.05e-9, Cache: 1 << 20, BetaBeyond: 0.061e-9}}
	ShmCosts = Costs{Name: "shm", Alpha: 0.7e-6, Message: 0.12e-6, Beta: 0.13e-9, Gamma: 0.018e-9,
		Cache: 1 << 20, BetaBeyond: 0.3e-9, GammaBeyond: 0.05e-9, Busy: true, Far: gigabit,
		Board: BoardCosts{Meeting: 0.4e-6, Beta: 0.024e-9, Cache: 1 << 20, BetaBeyond: 0.085e-9}}
	TCPCosts = Costs{Name: "tcp", Alpha: 14e-6, Message: 4e-6, Beta: 0.41e-9, Gamma: 0.018e-9,
		Cache: 1 << 20, BetaBeyond: 0.6e-9, GammaBeyond: 0.05e-9, Far: gigabit}
)

// gigabit is a network of 1 Gbit/s behind a switch.
var gigabit = Wires{Alpha: 100e-6, Beta: 8e-9}
