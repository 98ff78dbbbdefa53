package ps

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// server holds a range of the parameters and their optimizer's state, and serves each worker on a goroutine of its own, from
// the first step after a meeting to the next meeting.
//
// Of the frame of parameters and the optimizer's vectors it uses its range alone: the rest is memory that no machine ever backs.
type server struct {
	cfg    Config
	pace   Config          // by which workers may go on: cfg, unless the guard tightens it
	w      strategy.Worker // its own copy: the goroutines set the rate
	clock  comm.Clock
	span             // its range of the frame
	room   []float32 // a message for who keeps a copy; nil: none is kept
	peers  []*peer   // by worker
	cancel context.CancelCauseFunc
	turn   turn // to change parameters, and to read them where they change while others read

	mu         sync.Mutex
	begun      bool // it has served, or has taken up what others did
	serving    bool // goroutines are at work
	live       int  // how many
	err        error
	held       int // pushes of the step that came, where they are held
	meeting    int // workers that wait for all to meet
	version    int // updates so far
	tally      tally
	passed     int // updates that who keeps a copy was told of
	acked      int // and that all of them have
	stopAt     int // the last step, once some worker has asked to stop; -1
	ends       int // steps after which all stop, as meeting workers say; 0: not yet
	prog       Progress
	loss       float64 // a mean over samples, of the last step or so that had some; NaN: none had yet
	over       int     // of backup: steps that are over
	asked      bool    // of backup: to stop
	guard      *guard  // on server 0, where pushes are applied one by one; else nil
	bad        string  // why the run diverges; empty: it does not
	served     strategy.Served
	busy       time.Duration // of one goroutine at a time, that sums and updates
	deal       *deal         // nil where microshards are not dealt
	shelf      *shelf        // nil where the model has no tables
	coded      *coded
	shadow     *reduce.Shadow // where pulls are by codes, the same for all workers; else nil
	out        []byte         // its last code
	merge      []comm.Add     // of all workers' parts
	below      comm.Rank      // who has a copy of this range next; nobody: none is kept
	duplicates []*duplicate   // of other servers' ranges
	first      []int          // by worker: steps that it had done when ranks were lost; nil: none were
	told       comm.Event     // of backup, on servers that do as server 0 decides; else nil
	moved      comm.Event     // for whoever waits in Step or Settle
}

// peer is what the server keeps of a worker.
type peer struct {
	rank    comm.Rank
	in      []float32   // a request
	body    []byte      // of it, what follows its header
	parts   [][]float32 // of its push, the range's elements of each, in in
	out     []float32   // where parameters change while others read: its own copy, as it got it last
	base    int         // version of that
	started int         // the newest step that it may have begun
	since   time.Duration
	at      int // the step that it has begun, as far as its messages tell
	granted comm.Event
	turned  comm.Event
	loss    float64 // sum over the samples of its newest push
	samples int     // of that
	rate    float32 // of that
	passed  int     // of v.passed, with its newest push
	step    int     // of backup: steps that it had then finished
	counted int     // of backup: and when one last had a part in a step
	rows    rowsIn
	shadow  *reduce.Shadow // where pulls are by codes of this worker's own: of out; else nil
	code    []byte         // its last code
}

func newServer(c Config, w *strategy.Worker, r span, coded *coded) *server {
	workers := w.Group.Size() - c.Servers
	v := &server{cfg: c, pace: c, w: *w, clock: w.Group.Clock(), span: r, stopAt: -1, loss: math.NaN(), coded: coded, merge: w.Tree.Merge()}
	if coded.pushes != nil { // a worker's is one
		v.merge = comm.NewTree(min(workers, w.Tree.Leaves()), workers).Merge()
	}
	v.moved = v.clock.Event()
	v.served = strategy.Served{Rank: int(w.Group.Rank()), Elements: r.hi - r.lo}
	if c.Guard != "" && c.Guard != GuardOff && r.lo == 0 && !comm.IsHollow(w.Group) {
		v.guard = newGuard(workers, patience)
		if c.Guard == GuardTighten { // which costs less when it was chance
			v.guard.patience = 1
		}
	}
	if c.Deal {
		v.deal = newDeal(w.Tree, workers)
	}
	if c.Mode == Backup && r.lo > 0 {
		v.told = v.clock.Event()
	}
	v.tally = newTally(w.Tree.Leaves())
	v.prog = Progress{Done: make([]int, workers), Took: make([]time.Duration, workers)}
	each := r.hi - r.lo
	for who := range workers {
		n := c.sums(w.Tree, comm.Rank(who))
		p := &peer{rank: comm.Rank(who), granted: v.clock.Event(), turned: v.clock.Event(), rows: rowsIn{sums: n}}
		if coded.pushes != nil {
			p.in, p.parts, n = comm.Vector(w.Group, headFloats+coded.roomFor(r)), [][]float32{comm.Vector(w.Group, each)}, 0
		} else {
			p.in = comm.Vector(w.Group, headFloats+n*each)
		}
		for i := range n {
			p.parts = append(p.parts, p.in[headFloats+i*each:headFloats+(i+1)*each])
		}
		if !c.Held() || c.Deal {
			p.out = comm.Alloc(w.Group, each)
		}
		v.peers = append(v.peers, p)
	}
	if coded.pulls != nil {
		v.shadows()
	}
	return v
}

// step serves until every worker has gone beyond a step.
func (v *server) step(ctx context.Context, w *strategy.Worker, updates int) (strategy.Report, error) {
	rep := strategy.Report{Quiet: true}
	t := v.clock.Now()
	v.begin(ctx, w.Step, updates, v.first)
	for {
		v.mu.Lock()
		err, behind := v.err, false
		for _, p := range v.peers {
			behind = behind || p.at <= w.Step
		}
		if behind && v.live == 0 && err == nil {
			err = fmt.Errorf("ps: all workers have met, and this server is at step %d", w.Step+1)
		}
		rep.Stop = v.ends == w.Step+1
		v.mu.Unlock()
		if err == nil && behind {
			err = v.moved.Wait(ctx)
		}
		if err != nil {
			v.settle(ctx)
			return rep, err
		}
		if !behind {
			break
		}
	}
	rep.Wait = v.clock.Now() - t
	return rep, nil
}

// begin starts to serve, unless it does already, from a step on, before which there were at least so many updates. first, by worker,
// is how many steps those have done that are ahead of it; nil: none is.
func (v *server) begin(ctx context.Context, step, updates int, first []int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.serving {
		return
	}
	v.begun, v.serving, v.live, v.meeting = true, true, len(v.peers), 0
	if v.deal != nil {
		v.deal.begin(step)
	}
	if v.shadow != nil && v.coded.viewed[0] == 0 {
		lo, hi := v.flat()
		copy(v.coded.view[lo:hi], v.w.X[lo:hi])
		v.coded.viewed[0] = 1
	}
	v.version, v.over = max(v.version, updates), step
	v.tally.reach(step, 0, len(v.tally.Done))
	ctx, v.cancel = context.WithCancelCause(ctx)
	for who, p := range v.peers {
		at := step
		if first != nil {
			at = max(at, first[who])
		}
		p.at, p.since, p.base, p.started, p.step = at, v.clock.Now(), v.version, at, at
		v.prog.Done[who] = at
		if p.out != nil {
			copy(p.out, v.w.Frame[v.lo:v.hi])
		}
		v.clock.Go(func() { v.end(v.serve(ctx, who)) })
	}
	if v.told != nil {
		v.live++
		v.clock.Go(func() { v.end(v.obey(ctx)) })
	}
	v.beginCopies(ctx, step)
}

// end notes that a goroutine has ended. The first that fails ends the others, here and on the other ranks.
func (v *server) end(err error) {
	v.mu.Lock()
	v.live--
	first := err != nil && v.err == nil
	if first {
		v.err = err
		v.cancel(err)
	}
	v.mu.Unlock()
	if first {
		lost(&v.w, err)
	}
	v.moved.Set()
}

// settle waits until all have met. When ctx has ended, what goes on is given up.
func (v *server) settle(ctx context.Context) error {
	for {
		v.mu.Lock()
		live, serving, err := v.live, v.serving, v.err
		if live == 0 {
			v.serving = false
		}
		v.mu.Unlock()
		switch {
		case !serving:
			return err
		case live == 0:
			v.cancel(nil)
			return err
		case err != nil:
			v.moved.Wait(context.Background())
		case v.moved.Wait(ctx) != nil:
			v.cancel(context.Cause(ctx))
			ctx = context.WithoutCancel(ctx)
		}
	}
}

// report is what the server did so far.
func (v *server) report() *strategy.Served {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.served
	s.Busy, s.Copies = v.busy.Seconds(), len(v.duplicates)
	if v.cfg.survives() {
		s.Microsteps = v.tally.Applied
	}
	if v.shelf != nil {
		v.shelf.report(&s, v.clock.Now()-v.shelf.began)
		v.shelf.takes(&s)
	}
	for _, d := range v.duplicates {
		if d.shelf != nil {
			d.shelf.takes(&s)
		}
	}
	return &s
}

// serve answers a worker until it meets the others.
func (v *server) serve(ctx context.Context, who int) error {
	p := v.peers[who]
	for {
		r, why, err := v.receive(ctx, who)
		if err != nil {
			return err
		}
		if why != "" {
			if err := v.reply(ctx, p, refusal(why, refusalBytes)); err != nil {
				return err
			}
			continue
		}
		if r.kind == read {
			if err := v.read(ctx, p, &r); err != nil {
				return err
			}
			continue
		}
		if r.kind == push && v.shelf != nil {
			if err := v.withRows(ctx, p); err != nil {
				return err
			}
		}
		if why := v.refuses(who, &r); why != "" {
			if err := v.reply(ctx, p, refusal(why, refusalBytes)); err != nil {
				return err
			}
			continue
		}
		v.began(who, &r)
		switch {
		case r.kind == meet:
			return v.meet(ctx, p)
		case v.deal != nil:
			b, err := v.dealt(ctx, who, &r)
			if err == nil && b != nil {
				err = v.reply(ctx, p, b)
			}
			if err != nil {
				return err
			}
			continue
		case r.kind == fetch:
			err = v.letGo(ctx, who)
		case v.cfg.Held():
			err = v.hold(ctx, who, &r)
		case v.cfg.Mode == Backup:
			err = v.holdSome(ctx, who, &r)
		default:
			err = v.apply(ctx, who, &r)
		}
		if err == nil && r.flags&(flagSilent|flagLeaf) != 0 {
			continue
		}
		if err == nil {
			err = v.kept(ctx, p)
		}
		if err == nil {
			err = v.reply(ctx, p, v.answer(p))
		}
		if err != nil {
			return err
		}
		v.mu.Lock()
		p.since = v.clock.Now()
		v.mu.Unlock()
	}
}

// elements is what a worker gets: the parameters, or its own copy of them.
func (v *server) elements(p *peer) []float32 {
	if p.out != nil {
		return p.out
	}
	return v.w.Frame[v.lo:v.hi]
}

// receive takes a worker's next request, of which only the header's form is known to be right, or says why it is refused.
func (v *server) receive(ctx context.Context, who int) (r request, why string, err error) {
	p := v.peers[who]
	b := vec.Bytes(p.in)
	_, n, err := v.w.Group.Recv(ctx, p.rank, tagPush, b)
	var size *comm.SizeError
	if errors.As(err, &size) && size.Need > len(b) {
		b, err = v.receiveLong(ctx, p, size.Need)
		n = len(b)
	}
	switch {
	case err != nil:
		return r, "", err
	case comm.IsHollow(v.w.Group):
		v.mu.Lock()
		defer v.mu.Unlock()
		r = request{kind: push, step: v.prog.Done[who] + 1, steps: 1, parts: len(p.parts), lo: v.lo, hi: v.hi, samples: 1, total: 1}
		if n == headBytes {
			r.kind = meet
		}
		return r, "", nil
	}
	if err := r.decode(b[:n]); err != nil {
		return r, err.Error(), nil
	}
	p.rows.ids, p.body = b[headBytes:n], b[headBytes:n]
	return r, "", nil
}

// began notes how far a worker has come, as its request tells: whether it goes on after the step that a push or a fetch ends is
// not known before its next one.
func (v *server) began(who int, r *request) {
	v.mu.Lock()
	v.peers[who].at = r.step
	if r.kind == push || r.kind == fetch {
		v.peers[who].at--
	}
	if r.flags&flagStop != 0 {
		v.ends = r.step
	}
	v.mu.Unlock()
	v.moved.Set()
}

func (v *server) reply(ctx context.Context, p *peer, b []byte) error {
	return send(ctx, v.w.Group, p.rank, tagPull, b)
}

// meet waits until all workers have come, and gives one the parameters, unless it has them.
func (v *server) meet(ctx context.Context, p *peer) error {
	v.mu.Lock()
	v.meeting++
	last := v.meeting == len(v.peers)
	v.mu.Unlock()
	v.wake(p)
	if last && v.cfg.Mode == Backup && v.lo == 0 {
		h := request{kind: meet, generation: v.w.Generation}
		b := make([]byte, headBytes)
		h.encode(b)
		if err := v.tellServers(ctx, b); err != nil {
			return err
		}
	}
	if last {
		if err := v.overBelow(ctx); err != nil {
			return err
		}
	}
	if err := v.await(ctx, p.granted, func() bool { return v.meeting == len(v.peers) }); err != nil || !v.cfg.renews() {
		return err
	}
	if err := v.kept(ctx, p); err != nil {
		return err
	}
	return v.reply(ctx, p, vec.Bytes(v.w.Frame[v.lo:v.hi])) // which nobody changes any more
}

// await waits until something holds, which is asked with v.mu locked, each time that a worker is woken.
func (v *server) await(ctx context.Context, woken comm.Event, holds func() bool) error {
	for {
		v.mu.Lock()
		ok := holds()
		v.mu.Unlock()
		if ok {
			return nil
		}
		if err := woken.Wait(ctx); err != nil {
			return err
		}
	}
}

// wake lets all workers but one look again whether they may go on.
func (v *server) wake(but *peer) {
	for _, p := range v.peers {
		if p != but {
			p.granted.Set()
		}
	}
	if v.told != nil {
		v.told.Set()
	}
}
