package plan

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/train"
)

// Run calls f on each rank of a group of n and returns when all have ended, with the error that says most.
type Run func(ctx context.Context, n int, f func(ctx context.Context, g comm.Group) error) error

// Check is what some steps of a run really sent, beside what the formulas say of them.
type Check struct {
	Over   string `json:"over"` // what carried the messages
	Steps  int    `json:"steps"`
	Rows   []Row  `json:"rows"`
	Agrees bool   `json:"agrees"` // each exact row does, for each worker
	Words  string `json:"words"`
}

// Row is one operation of one phase, over all workers.
type Row struct {
	Phase   Phase  `json:"phase"`
	Op      string `json:"op"`
	Formula Sent   `json:"formula"`
	Ledger  Sent   `json:"ledger"`
	Exact   bool   `json:"exact"`
	Counted bool   `json:"counted"` // the number of messages is exact, if not the bytes
	Agrees  bool   `json:"agrees"`  // to the message and the byte, for each worker
	Words   string `json:"words"`
}

// CheckSteps is how many steps are run when nobody says: enough for two rounds of most methods, within an epoch.
const CheckSteps = 32

// Verify trains so many steps of c, or fewer if an epoch has fewer, on a group of n workers, and compares what each worker sends with Of.
// Nothing is tested or written to disk. The check's cost is that of these steps, whose Scene the group itself gives, placed on hosts.
func Verify(ctx context.Context, c train.Config, n int, hosts comm.Hosts, steps int, run Run) (*Check, error) {
	c.Dir, c.Resume, c.SaveEvery, c.Test, c.Hosts = "", "", 0, nil, hosts
	o, err := c.Outline(n, comm.Costs{})
	if err != nil {
		return nil, err
	}
	c.Steps = max(1, min(steps, o.Steps, o.StepsPerEpoch)) // so that an epoch ends once, with the run
	var scene Scene
	seen := make([]counted, n)
	err = run(ctx, n, func(ctx context.Context, g comm.Group) error {
		if g.Rank() == 0 {
			scene = SceneOn(g)
		}
		return seen[g.Rank()].train(ctx, g, c)
	})
	if err != nil {
		return nil, err
	}
	scene.Hosts = hosts
	k, err := Of(c, scene)
	if err != nil {
		return nil, err
	}
	return k.compare(seen), nil
}

// counted is what one worker sent, by phase.
type counted map[Phase]*comm.Books

func (s *counted) train(ctx context.Context, g comm.Group, c train.Config) error {
	start, steps, all := comm.Books{}, comm.Books{}, comm.Books{}
	ledger := comm.NewLedger() // for the report, which comes after the last event
	c.Events = train.Events{
		Start: func(i train.StartInfo) { start = i.Books },
		Step:  func(i train.StepInfo) { steps.Add(&i.Books) },
		Epoch: func(i train.EpochInfo) {
			all = i.Books
			ledger.Take()
		},
	}
	_, err := train.Run(ctx, comm.Count(g, ledger), c)
	_, end := ledger.Take()
	for _, op := range []comm.Op{comm.OpPush, comm.OpPull} { // those of a meeting are a part of training, and a server may book them with the last step
		steps[op] = all[op]
	}
	// The first step's books hold what came before.
	*s = counted{Start: &start, Exchanges: less(steps, start), EpochEnds: less(all, steps), End: &end}
	return err
}

// less is what a has beyond b.
func less(a, b comm.Books) *comm.Books {
	for op := range a {
		a[op].Messages -= b[op].Messages
		a[op].Payload -= b[op].Payload
		a[op].Header -= b[op].Header
	}
	return &a
}

// of is what a worker sent for an operation in a phase.
func (s counted) of(p Phase, op comm.Op) Sent {
	if b := s[p]; b != nil {
		return Sent{b[op].Messages, b[op].Payload, b[op].Header}
	}
	return Sent{}
}

// compare holds the ledgers against the lines.
func (k *Cost) compare(seen []counted) *Check {
	c := &Check{Over: k.Scene, Steps: k.Steps, Agrees: true}
	exact := 0
	for _, p := range []Phase{Start, Exchanges, EpochEnds, End} {
		for op := comm.OpSend; op < comm.OpControl; op++ {
			if p == End && op == comm.OpBroadcast && k.scene.Costs.Board.Meeting > 0 {
				continue // in shared memory, which only the run's own books know, and they are closed
			}
			row := Row{Phase: p, Op: op.String(), Exact: true, Agrees: true}
			why, messages := "", true
			lines := slices.DeleteFunc(slices.Clone(k.Lines), func(l Line) bool { return l.Phase != p || l.op != op })
			for _, l := range lines {
				if !l.Exact {
					row.Exact, why = false, l.Why
				}
				messages = messages && l.Counted
			}
			worker := -1
			for r := range seen {
				var want Sent
				for _, l := range lines {
					want.add(l.sent[r], l.Times)
				}
				got := seen[r].of(p, op)
				row.Formula.add(want, 1)
				row.Ledger.add(got, 1)
				if got != want && worker < 0 {
					worker, row.Agrees = r, false
				}
			}
			if row.Formula == (Sent{}) && row.Ledger == (Sent{}) {
				continue
			}
			row.Counted = row.Exact || messages
			row.Words = row.say(worker, why)
			c.Agrees = c.Agrees && (row.Agrees || !row.Exact && (!row.Counted || row.Formula.Messages == row.Ledger.Messages))
			if row.Exact {
				exact++
			}
			c.Rows = append(c.Rows, row)
		}
	}
	switch {
	case !c.Agrees:
		c.Words = "the ledger does NOT agree with the formulas"
	case exact == len(c.Rows):
		c.Words = "agrees exactly"
	default:
		c.Words = "agrees exactly where the formula is exact"
	}
	return c
}

// say is how a row agrees, and if it does not by how much and why.
func (r *Row) say(worker int, why string) string {
	if r.Agrees {
		return "agrees exactly"
	}
	by := func(got, want int64, what string) string {
		if got == want {
			return ""
		}
		return fmt.Sprintf("%+.2g %% %s", 100*(float64(got)/float64(max(1, want))-1), what)
	}
	text := by(r.Ledger.Bytes(), r.Formula.Bytes(), "bytes")
	if m := by(r.Ledger.Messages, r.Formula.Messages, "messages"); m != "" {
		text += ", " + m
	}
	switch {
	case !r.Exact && r.Counted && r.Formula.Messages != r.Ledger.Messages:
		return "DIFFERS: " + text
	case !r.Exact && text == "":
		return "agrees in all, and not for each: " + why
	case !r.Exact:
		return fmt.Sprintf("%s: %s", text, why)
	case text == "":
		return fmt.Sprintf("DIFFERS at worker %d, though not in the sum", worker)
	}
	return fmt.Sprintf("DIFFERS, first at worker %d: %s", worker, text)
}

// Goroutines runs on goroutines of this process that share memory.
func Goroutines(timeout time.Duration) Run {
	return func(ctx context.Context, n int, f func(context.Context, comm.Group) error) error {
		return together(ctx, inproc.New(n, timeout), f)
	}
}

// Loopback runs on goroutines of this process that talk over TCP on this host.
func Loopback(timeout time.Duration) Run {
	return func(ctx context.Context, n int, f func(context.Context, comm.Group) error) error {
		listeners, addrs := make([]*tcp.Listener, n), make([]string, n)
		for i := range listeners {
			l, err := tcp.Listen(ctx, "127.0.0.1:0", nil)
			if err != nil {
				return err
			}
			defer l.Close()
			listeners[i], addrs[i] = l, l.Addr()
		}
		groups, errs := make([]comm.Group, n), make([]error, n)
		secret := make([]byte, 32)
		rand.Read(secret)
		each(n, func(i int) {
			groups[i], errs[i] = listeners[i].Connect(ctx, comm.Rank(i), addrs, tcp.Config{Generation: 1, Secret: secret, Timeout: timeout, Setup: timeout})
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		return together(ctx, groups, f)
	}
}

// together runs f on each of the groups and closes them.
func together(ctx context.Context, groups []comm.Group, f func(context.Context, comm.Group) error) error {
	errs := make([]error, len(groups))
	each(len(groups), func(i int) {
		errs[i] = f(ctx, groups[i])
		groups[i].Close()
	})
	for _, err := range errs {
		var peer *comm.PeerError
		if err != nil && !errors.As(err, &peer) {
			return err
		}
	}
	return errors.Join(errs...)
}

// each runs f for 0 to n-1 at once.
func each(n int, f func(i int)) {
	clock := comm.RealClock()
	ended := make(chan struct{})
	for i := range n {
		clock.Go(func() {
			f(i)
			ended <- struct{}{}
		})
	}
	for range n {
		<-ended
	}
}
