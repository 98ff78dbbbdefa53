package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/faulty"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
)

// The faults of a real run. Each worker makes its own come true (comm/faulty) and tells the launcher before it does, which
// keeps the books and lets those go on that stand still.

// standing is what a worker tells of itself when it is about to stand still.
type standing struct {
	For time.Duration // 0: for good
}

// lastStep is what a worker tells at the end of a run with faults.
type lastStep struct {
	Step int           // the last that it did
	At   time.Duration // since it began to train
}

func loadFaults(path string) (fault.Script, error) {
	if path == "" {
		return nil, nil
	}
	s, err := fault.Load(path)
	if err != nil {
		return nil, &usageError{err}
	}
	return s, nil
}

// maxFaults is how many bytes of faults go to the workers with the job.
const maxFaults = 256 << 10

// checkFaults reads the faults and refuses what cannot be made to happen in this run. from is the checkpoint to go on from.
func (o *trainOptions) checkFaults(j *job.Job, from string) (err error) {
	if o.script, err = loadFaults(o.faults); err != nil || o.script == nil {
		return err
	}
	if err := faulty.Check(o.script, j.Ranks(), j.Transport != job.Inproc); err != nil {
		return usagef("%s: %w", o.faults, err)
	}
	if n := len(o.script.String()); n > maxFaults {
		return usagef("%s: %d bytes of faults; a real run takes at most %d", o.faults, n, maxFaults)
	}
	here := j.Ranks() - o.join
	for _, f := range o.script {
		ends := f.For > 0 || f.To.Time > 0
		switch {
		case f.Kind != fault.Stop:
		case !cluster.CanStand:
			return usagef("%s:%d: %v: this system cannot stop a process", o.faults, f.Line, f)
		case ends && f.Ranks[len(f.Ranks)-1] >= here:
			return usagef("%s:%d: %v: who lets rank %d go on again? Only workers that are started here, ranks 0 to %d, can stop for a time",
				o.faults, f.Line, f, f.Ranks[len(f.Ranks)-1], here-1)
		}
	}
	if from != "" {
		all, err := ckpt.List(j.SavedAt())
		if err != nil {
			return err
		}
		for _, c := range all {
			if c.Path == from {
				o.done = c.Step
			}
		}
	}
	return nil
}

// around makes the workers of this process have their faults.
func (o *trainOptions) around(conf *train.Config, j *job.Job, books *faultBooks) {
	if o.script == nil {
		return
	}
	conf.Around = func(g comm.Group) comm.Group {
		f, err := faulty.Wrap(g, faulty.Config{Script: o.script, Done: o.done, Seed: j.Seed, Timeout: j.Timeout, Told: books.fired})
		if err != nil {
			panic(err) // checkFaults has seen it
		}
		return f
	}
	began := comm.RealClock().Now()
	step := conf.Events.Step
	conf.Events.Step = func(i train.StepInfo) {
		books.ended(lastStep{i.Step, comm.RealClock().Now() - began})
		step(i)
	}
}

// faulty puts the faults that the run is to have around a worker's group.
func (w *joined) faulty(g comm.Group, j *job.Job) (comm.Group, error) {
	run := w.m.Worker.Run
	if run.Faults == "" {
		return g, nil
	}
	script, err := fault.Parse("faults", []byte(run.Faults))
	if err != nil {
		return g, err
	}
	return faulty.Wrap(g, faulty.Config{
		Script: script, Done: run.Done, Seed: j.Seed, Timeout: j.Timeout,
		Told: func(f faulty.Fired) { w.m.Sure(event{Fault: &f}) },
		Kill: cluster.KillSelf,
		Stop: func(d time.Duration) {
			if w.m.Sure(event{Still: &standing{For: d}}) == nil { // else nobody is there to let it go on
				cluster.Stand()
				time.Sleep(time.Millisecond) // the signal may take its time; if it takes more, this comes again
			}
		},
	})
}

// lastStep returns what tells the launcher, in a run with faults, how far this worker has come.
func (w *joined) lastStep(conf *train.Config) (tell func()) {
	if w.m.Worker.Run.Faults == "" {
		return func() {}
	}
	began := w.clock.Now()
	last := 0
	step := conf.Events.Step
	conf.Events.Step = func(i train.StepInfo) {
		last = i.Step
		if step != nil {
			step(i)
		}
	}
	return func() { w.m.Sure(event{Ended: &lastStep{last, w.clock.Now() - began}}) }
}

// faultBooks are what the launcher knows of a run's faults. Nil ones are those of a run without.
type faultBooks struct {
	books *fault.Books
	mu    sync.Mutex
	begun map[int]bool // by fault, of those that begin once for all whom they concern
	last  lastStep
}

// newFaultBooks opens the books of a run that goes on after a step, 0 for a new one.
func newFaultBooks(s fault.Script, done int) *faultBooks {
	if s == nil {
		return nil
	}
	b := &faultBooks{books: fault.NewBooks(s), begun: map[int]bool{}}
	for i, f := range s {
		if f.From.Step > 0 && f.From.Step <= done { // unless it lasts
			b.books.Missed(i, fmt.Sprintf("the run goes on after step %d", done))
		}
	}
	return b
}

// take books what a worker tells.
func (b *faultBooks) take(e event) {
	if e.Fault != nil {
		b.fired(*e.Fault)
	}
	if e.Ended != nil {
		b.ended(*e.Ended)
	}
}

func (b *faultBooks) fired(f faulty.Fired) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.Fault < 0 || f.Fault >= len(b.books.Report()) || f.All && b.begun[f.Fault] {
		return
	}
	b.begun[f.Fault] = f.All
	for range min(f.Times, 1<<20) {
		b.books.Fired(f.Fault, f.At, f.Step)
	}
}

func (b *faultBooks) ended(l lastStep) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = lastStep{max(b.last.Step, l.Step), max(b.last.At, l.At)}
}

// outcomes closes the books when the run is over.
func (b *faultBooks) outcomes() []fault.Outcome {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.books.Ended(b.last.At, b.last.Step)
	return b.books.Report()
}

// again is how often a worker that is to go on is told so. The signal by which it stops may come to it after it was told: it
// is told until the run is over, or it stops for another time. One that runs does not notice.
const again = 50 * time.Millisecond

// stands lets a worker that stands still go on when its time has come. f.mu is held.
func (f *follower) stands(rank int, s standing) {
	if end := f.still[rank]; end != nil {
		end()
		delete(f.still, rank)
	}
	p := f.process(rank)
	if s.For <= 0 || p == nil {
		return
	}
	ctx, end := context.WithCancel(f.over)
	f.still[rank] = end
	f.clock.Go(func() {
		for d := s.For; f.clock.Sleep(ctx, d) == nil; d = again {
			if one, ok := p.process.(*cluster.Process); ok {
				one.Continue() // of one that has ended, nothing comes
			}
		}
	})
}

// faultsOf adds to an error what faults came before it.
func faultsOf(err error, all []fault.Outcome) error {
	if len(all) == 0 {
		return err
	}
	var b strings.Builder
	for _, o := range all {
		fmt.Fprintf(&b, "\n  %v: %v", o.Fault, o)
	}
	return fmt.Errorf("%w\nfaults that were asked for:%s", err, b.String())
}
