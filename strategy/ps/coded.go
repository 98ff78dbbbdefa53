package ps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// Pushes and pulls may be compressed. A worker adds its parts, adds what error feedback has kept of its pushes before (package
// reduce), and pushes a code of what each server has a range of. What servers give is compressed by Config.Pull: as codes of how the
// parameters differ from what the worker has (reduce.Shadow), which the server knows, since it sent it. When all have met, workers take the
// parameters themselves. Rows of tables stay exact: what a step has of them is little, and differs from step to step.
//
// Either way a message has, where the server's range begins with the head of the frame, that head, then the codes, and zeros up
// to a multiple of 4 bytes.

// coded is what codes need on either side; the same on every rank.
type coded struct {
	pushes *reduce.OneWay // nil: they are exact
	pulls  *reduce.Config // of shadows; nil: pulls are exact
	view   []float32      // where pulls are coded: the parameters as workers have them, of a server its range alone
	viewed [1]int64       // 1: view has been set
}

// CheckCodes says why pushes cannot be compressed by rules; nil: they can.
func (c Config) CheckCodes(r reduce.Rules) error {
	switch {
	case !r.Lossy():
		return nil
	case c.Deal:
		return errors.New("with deal=dynamic it hangs on time who computes which microshard, and so would what each keeps of what its codes leave out: leave out one of the two")
	case r.Follows() != "" && !c.Held():
		return fmt.Errorf("%s sums how far each worker's gradient has moved, all in the same step: take mode=%s, or +ef", r.Follows(), BSP)
	}
	return reduce.CheckOneWay(r)
}

// newCoded makes what w.Rules and Pull ask for.
func newCoded(c Config, w *strategy.Worker) (coded, error) {
	var k coded
	if err := c.CheckCodes(w.Rules); err != nil {
		return k, fmt.Errorf("ps: %w", err)
	}
	conf := reduce.Config{Group: w.Group, Layout: w.Model.Layout(), Rules: w.Rules, Seed: w.Seed, Name: "push"}
	var err error
	if w.Rules.Lossy() {
		if k.pushes, err = reduce.NewOneWay(conf); err != nil {
			return k, fmt.Errorf("ps: %w", err)
		}
	}
	if c.Pull != "" {
		if conf.Rules, err = reduce.ParseShadow(c.Pull); err != nil {
			return k, fmt.Errorf("ps: pull: %w", err)
		}
		conf.Name = "pull"
		k.pulls, k.view = &conf, comm.Vector(w.Group, len(w.X))
	}
	return k, nil
}

// flat is a range of the frame as one of the flat vector.
func (r span) flat() (lo, hi int) { return max(r.lo, head) - head, max(r.hi, head) - head }

// heading is how many elements of the head a range begins with.
func (r span) heading() int { return min(r.hi, max(r.lo, head)) - r.lo }

// most is the most bytes that a range takes by codes of at most so many.
func (r span) most(codes int) int { return 4 * (r.heading() + (codes+3)/4) }

// roomFor is the most float32 that a worker's push of a range takes by codes, without its header.
func (k *coded) roomFor(r span) int { return r.most(k.pushes.Most(r.flat())) / 4 }

// padded makes of a message one whose length is a multiple of 4.
func padded(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// read reads a message: the head, which x begins with, and the codes, which codes takes off its front.
func (r span) read(x []float32, b []byte, codes func(b []byte) (rest []byte, err error)) error {
	n := 4 * r.heading()
	if len(b) < n || len(b)%4 != 0 {
		return fmt.Errorf("%d bytes, expected %d and codes, in fours", len(b), n)
	}
	copy(vec.Bytes(x[:n/4]), b)
	rest, err := codes(b[n:])
	if err != nil {
		return err
	}
	if len(rest) >= 4 || slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
		return fmt.Errorf("%d bytes too many", len(rest))
	}
	return nil
}

// The worker's side.

// total is the samples by which servers divide a push.
func (k *worker) total(w *strategy.Worker) float64 {
	if k.cfg.Held() || k.cfg.Mode == Backup || k.share {
		return float64(max(w.Samples, k.samples))
	}
	return float64(max(1, k.samples))
}

// join adds the parts of a push up to one.
func (k *worker) join(w *strategy.Worker) {
	n := 1
	if k.sum == nil { // downpour has only one
		n = w.Tree.Vectors(w.Group.Rank())
	}
	for _, f := range k.frames[1:n] {
		w.Add(k.frames[0], f)
	}
	k.coded.pushes.Begin(k.frames[0][head:], k.total(w))
}

// pushCoded sends a server the codes of its range.
func (k *worker) pushCoded(ctx context.Context, w *strategy.Worker, server int, h *request) error {
	r := k.ranges[server]
	lo, hi := r.flat()
	if comm.IsHollow(w.Group) {
		k.coded.pushes.Encode(nil, lo, hi, w.Step)
		return k.send(ctx, w, server, h, comm.Vector(w.Group, headFloats+k.coded.roomFor(r)))
	}
	b := append(slices.Grow(k.code[:0], headBytes)[:headBytes], vec.Bytes(k.frames[0][r.lo:r.lo+r.heading()])...)
	b, err := k.coded.pushes.Encode(b, lo, hi, w.Step)
	if err != nil {
		return err
	}
	k.code = padded(b)
	h.encode(k.code)
	return send(ctx, w.Group, k.rank(w, server), tagPush, k.code)
}

// listen makes what coded pulls are received in.
func (k *worker) listen(w *strategy.Worker) {
	conf := *k.coded.pulls
	k.shadow = reduce.NewShadow(conf, 0, k.coded.view)
	for s, r := range k.ranges {
		n := max(r.most(k.shadow.Most(r.flat())), refusalBytes)
		k.codes = append(k.codes, answer{to: k.rank(w, s), b: vec.Bytes(comm.Vector(w.Group, (n+3)/4)), coded: true})
	}
}

// resume goes back to the parameters that the next codes are of differences from.
func (k *worker) resume(w *strategy.Worker) {
	switch {
	case k.shadow == nil || !k.renewed || comm.IsHollow(w.Group):
		return
	case k.coded.viewed[0] == 0:
		copy(k.coded.view, w.X)
		k.coded.viewed[0] = 1
	default:
		copy(w.X, k.coded.view)
	}
	k.renewed = false
}

// pullCodes asks each server, and moves the parameters by the codes that they give.
func (k *worker) pullCodes(ctx context.Context, w *strategy.Worker, ask func(s int) error) error {
	if err := exchange(ctx, w.Group, tagPull, k.codes, "'s push", ask); err != nil {
		return err
	}
	for s, r := range k.ranges {
		lo, hi := r.flat()
		decode := func(b []byte) ([]byte, error) { return k.shadow.Decode(b, lo, hi, w.Step) }
		if comm.IsHollow(w.Group) {
			decode(nil)
			continue
		}
		if err := r.read(w.Frame[r.lo:], k.codes[s].b[:k.codes[s].n], decode); err != nil {
			return fmt.Errorf("ps: from server %d came parameters that cannot be read: %w", s, err)
		}
	}
	w.Pass(len(w.X), 2, func() { copy(w.X, k.coded.view) })
	return nil
}

// The server's side.

// shadows makes what pulls of a server are coded with.
func (v *server) shadows() {
	lo, hi := v.flat()
	if v.cfg.Held() {
		v.shadow = reduce.NewShadow(*v.coded.pulls, lo, v.coded.view[lo:hi])
		return
	}
	for _, p := range v.peers {
		p.shadow = reduce.NewShadow(*v.coded.pulls, lo, p.out[v.heading():])
	}
}

// decode reads a push of codes to p.parts[0], or says why it does not.
func (v *server) decode(p *peer, r *request, b []byte) (why string) {
	lo, hi := v.flat()
	if comm.IsHollow(v.w.Group) { // for its cost
		v.coded.pushes.Decode(nil, nil, lo, hi, 0)
		return ""
	}
	err := v.span.read(p.parts[0], b, func(b []byte) ([]byte, error) {
		return v.coded.pushes.Decode(p.parts[0][v.heading():], b, lo, hi, r.step-1)
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// code makes the message by which a shadow comes nearer to the parameters, after a head. It is made in b.
func (v *server) code(b []byte, s *reduce.Shadow, heading []float32, step int) ([]byte, error) {
	lo, hi := v.flat()
	if comm.IsHollow(v.w.Group) {
		s.Encode(nil, nil, step)
		return vec.Bytes(comm.Vector(v.w.Group, v.most(s.Most(lo, hi))/4)), nil
	}
	b, err := s.Encode(append(b[:0], vec.Bytes(heading)...), v.w.X[lo:hi], step)
	return padded(b), err
}

// answer is what a worker gets: parameters or a code.
func (v *server) answer(p *peer) []byte {
	switch {
	case v.shadow != nil:
		return v.out
	case p.shadow != nil:
		return p.code
	}
	return vec.Bytes(v.elements(p))
}
