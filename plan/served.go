package plan

import (
	"errors"
	"fmt"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
)

// served is workers and servers, of which the last ranks are.
type served struct {
	*builder
	c       ps.Config
	workers int
	frame   []int // elements that messages have, by server
	own     []int // of them parameters
	exact   bool
	why     string
}

// served writes the lines of a parameter server.
func (b *builder) served(c ps.Config) error {
	conf := b.o.Config
	if m, ok := conf.Model.(*model.Whole); ok && len(m.Sparse().Tables()) > 0 {
		return &train.ConfigError{Key: "model", Err: errors.New("which rows of its tables a step needs depends on the data: covey train says what it sent")}
	}
	const instead = "covey sim --timing says what it takes on a network, and covey train what it sent"
	switch {
	case b.rules.Lossy():
		return &train.ConfigError{Key: "compress", Err: errors.New("what codes of pushes come to is not planned: " + instead)}
	case c.Pull != "":
		return &train.ConfigError{Key: "strategy", Err: fmt.Errorf("what pull=%s saves is not planned: %s", c.Pull, instead)}
	case c.Copies > 1:
		return &train.ConfigError{Key: "strategy", Err: fmt.Errorf("what copies=%d send each other is not planned: %s", c.Copies, instead)}
	}
	s := &served{builder: b, c: c, workers: b.scene.Workers - c.Servers}
	err := c.Fits(s.workers)
	if err == nil {
		s.frame, s.own, err = c.Ranges(conf.Model.Layout(), b.o.Optimizer)
	}
	if err != nil {
		return &train.ConfigError{Key: "strategy", Err: err}
	}
	s.exact, s.why = c.Exact()
	s.steps()
	s.meetings()
	s.saves()
	return nil
}

// steps writes what is said in steps.
func (s *served) steps() {
	var pushes, bare, answers int // steps that have some
	for t := 1; t <= s.o.Steps; t++ {
		k := s.c.InStep(t)
		pushes, bare, answers = pushes+k.Pushes, bare+k.Bare, answers+k.Answers
	}
	if s.c.Deal {
		asks := func(w, i int) (int, int) { return s.firstOnly(i, s.leaves(w)), ps.HeadBytes }
		s.put(Exchanges, "microshards", "each step", s.o.Steps, s.up("asked for", "1 message for each microshard, to server 0", asks),
			s.down("dealt", "1 message of 8 bytes for each", func(w, i int) (int, int) { n, _ := asks(w, i); return n, 8 }))
		pushes = s.o.Steps
	}
	s.put(Exchanges, "gradients", every(pushes, s.o.Steps), pushes, s.pushes(""))
	s.put(Exchanges, "requests", every(bare, s.o.Steps), bare, s.bare(""))
	s.put(Exchanges, "parameters", every(answers, s.o.Steps), answers, s.answers(""))
	if s.c.Mode == ps.Backup {
		s.put(Exchanges, "which pushes count", "each step", s.o.Steps, s.among("", ps.ShutBytes(s.workers)))
	}
}

// meetings writes what is said where all meet.
func (s *served) meetings() {
	var all, pushes, answers int
	for t := 1; t <= s.o.Steps; t++ {
		every := s.o.Config.SaveEvery
		if t%s.o.StepsPerEpoch != 0 && t < s.o.Steps && (every == 0 || t%every != 0) {
			continue
		}
		k := s.c.AtMeeting(t)
		all, pushes, answers = all+1, pushes+k.Pushes, answers+k.Answers
	}
	const when = "each meeting"
	s.put(Exchanges, "to meet", when, pushes, s.pushes("gradients that are left"))
	s.put(Exchanges, "to meet", when, all, s.bare("requests"))
	s.put(Exchanges, "to meet", when, answers, s.answers("parameters"))
	switch {
	case s.c.Deal: // the microshard that each was dealt of a step to come
		asks := func(w, i int) (int, int) { return s.firstOnly(i, 1), ps.HeadBytes }
		s.put(Exchanges, "to meet", when, all, s.up("microshards asked for in vain", "1 message to server 0", asks),
			s.down("and dealt", "1 message of 8 bytes", func(w, i int) (int, int) { n, _ := asks(w, i); return n, 8 }))
	case s.c.Mode == ps.Backup:
		s.put(Exchanges, "to meet", when, all, s.among("server 0's word", ps.HeadBytes))
	}
}

// saves writes how the optimizer's state comes to all for a checkpoint.
func (s *served) saves() {
	if s.o.Config.Dir == "" {
		return
	}
	last := comm.Rank(s.scene.Workers - 1)
	if !s.c.Held() {
		s.put(Saves, "updates", "each checkpoint", s.o.Saves, s.broadcastFrom(last, "", nil, 8))
	}
	for _, t := range s.o.Optimizer.State() {
		if t.Type != ckpt.F32 || t.Len() != s.o.Config.Model.Layout().Len() {
			continue
		}
		for i, n := range s.own {
			s.put(Saves, "optimizer's state", "each checkpoint", s.o.Saves, s.broadcastFrom(comm.Rank(s.workers+i), "", nil, 4*n))
		}
	}
}

// every says how often something happens in so many steps.
func every(times, steps int) string {
	if times == steps {
		return "each step"
	}
	return "every so many steps"
}

func (s *served) firstOnly(server, n int) int {
	if server > 0 {
		return 0
	}
	return n
}

// leaves is how many microshards a worker gets, or would get by itself.
func (s *served) leaves(w int) int {
	lo, hi := s.o.Tree.Run(comm.Rank(w))
	return hi - lo
}

// parts is how many vectors a push of a worker has.
func (s *served) parts(w int) int {
	if s.c.OneSum() {
		return 1
	}
	return s.o.Tree.Vectors(comm.Rank(w))
}

func (s *served) pushes(what string) Line {
	l := s.up(what, "a worker: n messages, n servers; n H + k S bytes, k parts, H the 64 bytes of a header", func(w, i int) (int, int) {
		n := 1
		if s.c.Deal {
			n = s.leaves(w)
		}
		return n, ps.HeadBytes + s.parts(w)*4*s.frame[i]
	})
	for i := range s.frame {
		added := -1
		for w := range s.workers {
			if added += s.parts(w); s.c.Deal {
				added += s.leaves(w) - 1
			}
		}
		l.Adding = max(l.Adding, s.gamma(4*s.frame[i])*float64(added*4*s.frame[i]))
	}
	return l
}

// gamma is what a byte costs that is added to a vector of so many.
func (s *served) gamma(bytes int) float64 {
	if c := s.scene.Costs; c.Cache > 0 && bytes > c.Cache {
		return c.GammaBeyond
	}
	return s.scene.Costs.Gamma
}

func (s *served) bare(what string) Line {
	return s.up(what, "a worker: n messages of a header, n servers", func(int, int) (int, int) { return 1, ps.HeadBytes })
}

func (s *served) answers(what string) Line {
	return s.down(what, "a server: P messages; P S/n bytes, P workers, n servers", func(_, i int) (int, int) { return 1, 4 * s.frame[i] })
}

// up is messages of workers to servers: how many each sends each, and of how many bytes.
func (s *served) up(what, formula string, of func(worker, server int) (messages, bytes int)) Line {
	f := s.flows()
	for w := range s.workers {
		for i := range s.frame {
			n, bytes := of(w, i)
			f.add(w, s.workers+i, n, bytes)
		}
	}
	return s.line(comm.OpPush, what, "to each server", formula, f)
}

// down is messages of servers to workers.
func (s *served) down(what, formula string, of func(worker, server int) (messages, bytes int)) Line {
	f := s.flows()
	for w := range s.workers {
		for i := range s.frame {
			n, bytes := of(w, i)
			f.add(s.workers+i, w, n, bytes)
		}
	}
	return s.line(comm.OpPull, what, "from each server", formula, f)
}

// among is a message of server 0 to each other server.
func (s *served) among(what string, bytes int) Line {
	f := s.flows()
	for i := range s.frame[1:] {
		f.add(s.workers, s.workers+1+i, 1, bytes)
	}
	return s.line(comm.OpPush, what, "from server 0", "n-1 messages, n servers", f)
}

func (s *served) line(op comm.Op, what, how, formula string, f *flows) Line {
	l := f.line()
	l.What, l.op, l.How, l.Formula, l.Exact, l.Why = what, op, how, formula, s.exact, s.why
	return l
}

// flows is messages between any two ranks in one round.
type flows struct {
	b        *builder
	sent     []Sent
	received []Sent
	out, in  []int64 // payload that leaves a host, and that comes to it
	host     []int   // by rank
}

func (b *builder) flows() *flows {
	n := b.scene.Workers
	f := &flows{b: b, sent: make([]Sent, n), received: make([]Sent, n), host: make([]int, n)}
	hosts := max(1, len(b.scene.Hosts))
	f.out, f.in = make([]int64, hosts), make([]int64, hosts)
	at := 0
	for r := range f.host {
		for at+1 < len(b.scene.Hosts) && r >= int(b.scene.Hosts[at+1]) {
			at++
		}
		f.host[r] = at
	}
	return f
}

func (f *flows) add(from, to, messages, bytes int) {
	one := Sent{1, int64(bytes), f.b.header(bytes)}
	f.sent[from].add(one, messages)
	f.received[to].add(one, messages)
	if a, b := f.host[from], f.host[to]; a != b {
		f.out[a] += int64(messages) * one.Payload
		f.in[b] += int64(messages) * one.Payload
	}
}

// line prices them as one round.
func (f *flows) line() Line {
	l := Line{Rounds: 1, sent: f.sent, received: f.received}
	most, far := int64(0), int64(0)
	for r := range f.sent {
		l.Busiest = max(l.Busiest, f.sent[r].Payload, f.received[r].Payload)
		most = max(most, f.sent[r].Messages+f.received[r].Messages)
	}
	for h := range f.out {
		far = max(far, f.out[h], f.in[h])
	}
	costs, alpha := f.b.scene.Costs, f.b.scene.Costs.Alpha
	beta := costs.Beta
	if costs.Cache > 0 && l.Busiest > int64(costs.Cache) {
		beta = costs.BetaBeyond
	}
	if len(f.out) > 1 {
		alpha = costs.Far.Alpha
	}
	l.Latency = alpha + float64(max(0, most-2))*costs.Message
	l.Bandwidth = beta*float64(l.Busiest) + costs.Far.Beta*float64(far)
	return l
}
