package ps

import (
	"context"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// worker computes gradients at the parameters that it pulled last, pushes them, and pulls again.
type worker struct {
	cfg     Config
	ranges  []span
	folds   []comm.Fold
	buffers [][]float32 // frames, each with room for a request's header in front
	frames  [][]float32 // these without it
	parts   int         // of a push
	pieces  int         // of downpour: parts of a step
	message []float32   // where a push of several parts is put together
	sum     []float32   // of downpour: frames[0], where gradients of steps add up
	fresh   [][]float32 // of downpour: frames for those of one step
	short   [][]float32 // by server: room for a reply or a refusal, where the range is shorter than that
	answers []answer    // by server: to a push or a fetch, in short or in the frame
	tables  *apart      // nil where the model has none
	coded   *coded
	code    []byte         // of a push by codes
	shadow  *reduce.Shadow // where pulls are by codes: k.coded.view; else nil
	codes   []answer       // by server: by codes
	renewed bool           // w.X is not what shadow is

	next    []float32 // a frame where what servers give comes together, while ranks may be lost and the step has to be done again; or nil
	done    []int     // by microshard: steps that are in the parameters, of a run that goes on after ranks were lost; else nil
	regular int       // the step from which on that is nothing
	first   float32   // the mean loss of the first pushes, for a guard; 0: not known
	acked   int       // steps whose pushes were acknowledged

	steps   int    // since the last push
	samples int    // in these
	dealt   *piece // of deal=dynamic: the microshard that comes next; nil: it has to ask
	vote    bool   // it was asked to stop, and has not said so
	share   bool   // how far workers may drift apart is bounded, and a push is its share of a step of all; else it is a step
	goOn    int    // the step to go on with: those before are over
	dirty   bool   // it has been at work since all met
	stop    bool   // server 0 said so
}

// span is a server's elements of the frame.
type span struct{ lo, hi int }

func newWorker(c Config, w *strategy.Worker, ranges []span, coded *coded) *worker {
	me := w.Group.Rank()
	k := &worker{cfg: c, coded: coded, renewed: true, share: c.Mode == SSP || c.Mode == GSSP, ranges: ranges, folds: w.Tree.Folds(w.Tree.Run(me)), parts: w.Tree.Vectors(me), short: make([][]float32, len(ranges))}
	frame := w.Frame
	if w.Undo && c.Held() {
		k.next = comm.Vector(w.Group, len(w.Frame))
		frame = k.next
	}
	for s, r := range ranges {
		a := frame[r.lo:r.hi]
		if len(a) < refusalBytes/4 {
			k.short[s] = comm.Vector(w.Group, refusalBytes/4)
			a = k.short[s]
		}
		k.answers = append(k.answers, answer{to: k.rank(w, s), b: vec.Bytes(a), n: 4 * (r.hi - r.lo)})
	}
	for range max(1, comm.Buffers(k.folds)) {
		b := comm.Alloc(w.Group, headFloats+len(w.Frame))
		k.buffers, k.frames = append(k.buffers, b), append(k.frames, b[headFloats:])
	}
	if c.Mode == Downpour {
		k.fresh = k.frames
		b := comm.Alloc(w.Group, headFloats+len(w.Frame))
		k.buffers, k.frames, k.sum = [][]float32{b}, [][]float32{b[headFloats:]}, b[headFloats:]
		k.pieces, k.parts = k.parts, 1
	}
	if c.Deal || coded.pushes != nil {
		k.parts = 1
	}
	if coded.pulls != nil {
		k.listen(w)
	}
	if k.parts > 1 {
		most := 0
		for _, r := range ranges {
			most = max(most, r.hi-r.lo)
		}
		k.message = comm.Alloc(w.Group, headFloats+k.parts*most)
	}
	return k
}

func (k *worker) step(ctx context.Context, w *strategy.Worker) (rep strategy.Report, err error) {
	k.vote = k.vote || w.Stop // until it is said
	switch {
	case w.Step < k.regular && !k.cfg.Held():
		return k.stepAgain(ctx, w)
	case k.cfg.Deal && w.Step < k.goOn-1: // it is over; the last one that is asks all servers again
		rep.Quiet = true
		return rep, nil
	case k.cfg.Deal:
		return k.dealtStep(ctx, w)
	case w.Step < k.goOn:
		rep.Quiet, rep.Unused, rep.Stop = true, true, k.stop && w.Step == k.goOn-1
		return rep, nil
	}
	clock := w.Group.Clock()
	t0 := clock.Now()
	k.resume(w)
	frames := k.frames
	if k.sum != nil {
		frames = k.fresh
	}
	w.Stop, k.vote = k.vote, false
	if err := w.Parts(ctx, k.folds, frames, nil); err != nil {
		return rep, err
	}
	k.samples += w.Own()
	k.steps++
	if k.tables != nil {
		k.tables.fold(k.folds, w.Tree.Vectors(w.Group.Rank()))
	}
	if k.sum != nil {
		k.collect(w, &rep)
	}
	t1 := clock.Now()
	rep.Compute = t1 - t0
	k.dirty = true
	every, fetches := k.cfg.periods()
	pushes, pulls := (w.Step+1)%every == 0, (w.Step+1)%fetches == 0
	switch {
	case pushes && pulls:
		k.pack(w)
		err = k.pull(ctx, w, func(s int) error { return k.push(ctx, w, s, 0) })
	case pushes:
		err = k.pushAll(ctx, w, flagSilent)
	case pulls:
		h := request{kind: fetch, generation: w.Generation, step: w.Step + 1}
		err = k.pullBare(ctx, w, h)
	}
	if pushes {
		k.steps, k.samples = 0, 0
	}
	if pulls && err == nil {
		k.acked = w.Step + 1 - k.steps
	}
	rep.Comm = clock.Now() - t1
	rep.Wait = rep.Comm
	if err != nil || !pulls || comm.IsHollow(w.Group) {
		return rep, lost(w, err)
	}
	k.hear(w, &rep)
	return rep, nil
}

// hear reads what server 0 says in the head of the parameters.
func (k *worker) hear(w *strategy.Worker, rep *strategy.Report) {
	k.stop = w.Frame[strategy.HeadStop] > 0
	switch loss := float64(w.Frame[strategy.HeadLoss]); {
	case k.cfg.Held():
		rep.Loss = loss / float64(w.Samples)
	case math.IsNaN(loss): // nobody has pushed yet, or what has no samples
		rep.Quiet = true
	default:
		rep.Quiet, rep.Loss = false, loss
	}
	rep.Stop = k.stop
	if k.cfg.Mode == Backup || k.cfg.Deal {
		k.goOn = int(math.Float32bits(w.Frame[headNext]))
		rep.Stop = k.stop && w.Step == k.goOn-1
		rep.Quiet = rep.Quiet || w.Step < k.goOn-1 // the loss is of a later step
	}
	if !k.cfg.Held() && k.cfg.Mode != Backup {
		k.share = w.Frame[headShare] > 0
		k.first = w.Frame[headFirst]
	}
	rep.Unused = k.cfg.Mode == Backup && w.Frame[headDropped] > 0
}

// collect adds this step's gradient to those that wait to be pushed, and moves this worker's own parameters along it: plain
// SGD, until the next fetch (Dean et al., NIPS 2012, algorithm 7.1).
func (k *worker) collect(w *strategy.Worker, rep *strategy.Report) {
	if k.tables != nil {
		k.tables.collect(k.steps == 1)
	}
	sum := k.fresh[0]
	for _, f := range k.fresh[1:k.pieces] {
		w.Add(sum, f)
	}
	n := w.Own()
	if rep.Quiet = !comm.IsHollow(w.Group); rep.Quiet && n > 0 {
		rep.Loss = float64(sum[strategy.HeadLoss]) / float64(n)
	}
	if k.steps == 1 {
		w.Pass(len(sum), 2, func() { copy(k.sum, sum) })
	} else {
		w.Add(k.sum, sum)
	}
	if n > 0 {
		w.Pass(len(w.X), 3, func() { vec.Axpy(-w.Rate/float32(n), sum[head:], w.X) })
	}
}

// pull asks each server, and makes the frame of what they give.
func (k *worker) pull(ctx context.Context, w *strategy.Worker, ask func(s int) error) error {
	if k.shadow != nil {
		return k.pullCodes(ctx, w, ask)
	}
	return k.pullWhole(ctx, w, ask)
}

// pullWhole is pull where servers give parameters.
func (k *worker) pullWhole(ctx context.Context, w *strategy.Worker, ask func(s int) error) error {
	if err := exchange(ctx, w.Group, tagPull, k.answers, "'s push", ask); err != nil {
		return err
	}
	if k.next != nil {
		w.Pass(len(w.Frame), 2, func() { copy(w.Frame, k.next) })
	}
	for s, r := range k.ranges {
		if k.short[s] != nil && !comm.IsHollow(w.Group) {
			copy(w.Frame[r.lo:r.hi], k.short[s])
		}
	}
	return nil
}

// pullBare pulls by a request that is a header alone.
func (k *worker) pullBare(ctx context.Context, w *strategy.Worker, h request) error {
	return k.pull(ctx, w, func(s int) error { return k.bare(ctx, w, s, h) })
}

// pack gets codes and rows ready for the next push.
func (k *worker) pack(w *strategy.Worker) {
	if k.coded.pushes != nil {
		k.join(w)
	}
	if k.tables != nil {
		k.tables.pack()
	}
}

// leaf is the microshard that a push is of, where they are dealt.
func (k *worker) leaf() int {
	if k.dealt == nil {
		return 0
	}
	return k.dealt.leaf
}

func (k *worker) rank(w *strategy.Worker, server int) comm.Rank {
	return comm.Rank(w.Group.Size() - k.cfg.Servers + server)
}

// pushAll pushes to every server, and waits for nothing: flags say so.
func (k *worker) pushAll(ctx context.Context, w *strategy.Worker, flags uint8) error {
	k.pack(w)
	for s := range k.ranges {
		if err := k.push(ctx, w, s, flags); err != nil {
			return err
		}
	}
	return nil
}

// push sends a server what has not been pushed yet.
func (k *worker) push(ctx context.Context, w *strategy.Worker, server int, flags uint8) error {
	err := k.pushRange(ctx, w, server, flags)
	if err != nil || k.tables == nil {
		return err
	}
	return k.tables.push(ctx, server)
}

// pushRange sends the range of the frame.
func (k *worker) pushRange(ctx context.Context, w *strategy.Worker, server int, flags uint8) error {
	r := k.ranges[server]
	parts, total := k.parts, max(w.Samples, k.samples)
	if flags&flagLeaf != 0 {
		if parts = 1; !k.share { // with the weight that it has in a push of all
			flags, total = flags|flagShare, max(w.Own(), k.samples)
		}
	}
	if k.share {
		flags |= flagShare
	}
	h := request{kind: push, flags: flags, generation: w.Generation, step: w.Step + 1, steps: k.steps, parts: parts, rate: w.Rate, samples: k.samples, leaf: k.leaf(),
		total: total, lo: r.lo, hi: r.hi}
	n := r.hi - r.lo
	if k.coded.pushes != nil {
		return k.pushCoded(ctx, w, server, &h)
	}
	if parts > 1 {
		m := k.message[:headFloats+k.parts*n]
		for i := range k.parts {
			w.Pass(n, 2, func() { copy(m[headFloats+i*n:], k.frames[i][r.lo:r.hi]) })
		}
		return k.send(ctx, w, server, &h, m)
	}
	// The header takes the place of what lies before the range, and gives it back.
	m := k.buffers[0][r.lo : headFloats+r.hi]
	var was [headFloats]float32
	copy(was[:], m)
	err := k.send(ctx, w, server, &h, m)
	if !comm.IsHollow(w.Group) {
		copy(m, was[:])
	}
	return err
}

func (k *worker) send(ctx context.Context, w *strategy.Worker, server int, h *request, m []float32) error {
	b := vec.Bytes(m)
	if !comm.IsHollow(w.Group) {
		h.encode(b)
	}
	return send(ctx, w.Group, k.rank(w, server), tagPush, b)
}

// bare sends a request that is a header alone.
func (k *worker) bare(ctx context.Context, w *strategy.Worker, server int, h request) error {
	return k.send(ctx, w, server, &h, comm.Vector(w.Group, headFloats))
}

// settle meets the others after a step, and takes what the parameters have then come to.
func (k *worker) settle(ctx context.Context, w *strategy.Worker) error {
	if !k.dirty || ctx.Err() != nil {
		return nil
	}
	k.dirty, k.dealt = false, nil
	if k.steps > 0 {
		if err := k.pushAll(ctx, w, flagSilent); err != nil {
			return lost(w, err)
		}
		k.steps, k.samples = 0, 0
	}
	h := request{kind: meet, generation: w.Generation, step: w.Step + 1}
	if k.stop {
		h.flags = flagStop
	}
	if k.cfg.renews() {
		if k.renewed = true; !k.cfg.Held() {
			k.coded.viewed[0] = 0
		}
		return lost(w, k.pullWhole(ctx, w, func(s int) error { return k.bare(ctx, w, s, h) }))
	}
	for s := range k.ranges {
		if err := k.bare(ctx, w, s, h); err != nil {
			return lost(w, err)
		}
	}
	return nil
}
