package comm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Board is how the collectives of ranks that share memory meet. Each rank has a Cell that the others see. It writes
// there what it brings to a collective (a note, and where its vectors are) and then the number of the meeting that it
// has come to; when all have come, everybody reads and writes the others' vectors where they are.
//
// The words: meetings have numbers from 1, and every rank goes to each, in order. A rank's turn is the number of the
// last one it has come to. Coming to meeting m says: what I bring to m is written, and I have finished with whatever
// others brought to meetings before m, and to m itself if I say so only after having taken it (as in a broadcast). So
// what a rank brings to m (its note, the places of its vectors, its stage) lies in one of two places by m's parity, and
// it is overwritten only for m+2, which a rank prepares after it has seen that all turns are at least m+1 (begin), that
// is, after all have finished with m. A collective of small vectors is therefore one meeting: who leaves it early
// cannot spoil what others still read.
//
// Vectors that are read and written where they are need two: after the first they belong to all ranks, each working on
// its own chunk; the second gives them back. Data is written before the turn is stored and read after it was loaded,
// both sequentially consistent, which orders them on every processor.
//
// A transport makes a Board over its Mesh, which tells it of lost peers, poison and Close, and says how to reach memory.
type Board struct {
	mesh  *Mesh
	mem   Memory
	cfg   BoardConfig
	rank  Rank
	size  int
	own   *Cell
	cells []*Cell

	inUse atomic.Bool
	turn  uint64 // of this rank
	moved Entry  // by the call under way
	due   due    // what the peers owe the call under way

	// What a sum works with, kept so that a call allocates nothing.
	ins, outs [][]float32
	at        []operand
	temps     [][]float32
}

// Boarder is asked for at run time: a Group whose ranks share memory. A nil Board is the same as none.
type Boarder interface{ Board() *Board }

func boardOf(g Group) *Board {
	if b, ok := g.(Boarder); ok {
		return b.Board()
	}
	return nil
}

// BoardConfig is how a Board waits.
type BoardConfig struct {
	Spin   time.Duration // without pause; 0 when there are more ranks than processors
	Yields int           // after that, how often it gives way before it sleeps
	// Goroutines says that the ranks are goroutines of this process: a lost one may still be at work.
	Goroutines bool
}

// Memory is what a Board needs of a transport. Slots number the vectors that a rank brings: see Cell.At.
type Memory interface {
	// Cell returns a rank's cell; the same on every call.
	Cell(r Rank) *Cell
	// Scratch returns ScratchBytes of a rank's memory, aligned to 64 bytes. What goes beyond StageBytes is asked for
	// only where Publish may say no.
	Scratch(r Rank) []byte
	// Publish writes in this rank's cell where p is, for the others' View. It returns false when they cannot reach it.
	// A nil p forgets what was there.
	Publish(slot int, p []byte) bool
	// View returns the n bytes that rank r has published, nil when it said that they cannot be reached, and an error
	// when what it wrote makes no sense.
	View(r Rank, slot, n int) ([]byte, error)
	// Park sleeps until this rank's Bell is no longer seen, ctx ends or d has passed; it may return early.
	Park(ctx context.Context, seen uint32, d time.Duration)
	// Ring wakes who is in Park on that rank's Bell, which has changed.
	Ring(r Rank)
	// Pause lets another thread or goroutine have the processor.
	Pause()
	// Hold keeps the memory in place until Release. It returns false when it is gone.
	Hold() bool
	Release()
}

// Cell is what one rank shows the others. Words that different ranks write, or read at different times, are 128
// bytes apart. It is in memory that a broken peer can write to: nothing that is read from it is believed.
type Cell struct {
	turn atomic.Uint64 // see Board; with gaveUp when the rank has left its last collective in failure
	work atomic.Uint64 // bytes of its share of the call's work that it has done
	busy atomic.Uint32 // 1 while it reads or writes other ranks' vectors
	_    [108]byte
	Bell atomic.Uint32 // a count that goes up when somebody wakes the rank (a futex where there are such)
	// sleep is how the rank sleeps: not at all (0), until all turns are at least want (sleepAll), or until that of rank
	// sleep-sleepOne is.
	sleep atomic.Uint32
	want  atomic.Uint64
	_     [112]byte
	notes [2]note // by the meeting's parity
	_     [64]byte
	// At is for the transport: where the vectors are that the rank brings, by slot.
	At [Slots]atomic.Uint64
	_  [128 - 8*Slots%128]byte
}

const (
	gaveUp   = 1 << 63
	sleepAll = 1
	sleepOne = 2
)

// note is what a rank says about the collective that it is in.
type note struct {
	what  atomic.Uint64 // operation, kind, root; see what
	n     atomic.Uint64 // elements of its vectors, or bytes
	shape atomic.Uint64 // of the sum's tree
	far   atomic.Uint64 // 1 when some vector of it cannot be reached
}

const (
	// maxVectors is how many vectors a rank can bring; a run of leaves has at most two parts for each level of the tree.
	maxVectors = 64
	// Slots is how many vectors a cell names: the parts and one result, for either parity of meeting.
	Slots = 2 * (maxVectors + 1)

	// StageBytes is how much of a rank's scratch is for small vectors, half of it for either parity.
	StageBytes = 128 << 10
	// ScratchBytes is the whole of it: the rest is for vectors that cannot be reached, half of it for either parity.
	ScratchBytes = StageBytes + 1<<20

	stageBytes  = StageBytes / 2
	bounceBytes = (ScratchBytes - StageBytes) / 2
)

// kind of a collective on the board.
type boardKind uint64

const (
	kindBarrier boardKind = iota
	kindStaged
	kindInPlace // the result takes the place of the first part
	kindApart   // the result has a vector of its own
	kindBroadcast
)

// NewBoard returns the view of the mesh's rank. The memory's cells must be all zero when the group begins.
func NewBoard(m *Mesh, mem Memory, cfg BoardConfig) *Board {
	b := &Board{mesh: m, mem: mem, cfg: cfg, rank: m.Rank(), size: m.Size()}
	for r := range Rank(b.size) {
		b.cells = append(b.cells, mem.Cell(r))
	}
	b.own = b.cells[b.rank]
	m.alarm = func() {
		b.own.Bell.Add(1)
		mem.Ring(b.rank)
	}
	return b
}

// take begins a call on the board.
func (b *Board) take(op Op) error {
	if !b.inUse.CompareAndSwap(false, true) {
		return fmt.Errorf("comm: %v on a group that is in another collective: one at a time", op)
	}
	if !b.mem.Hold() {
		b.inUse.Store(false)
		return ErrClosed
	}
	b.moved = Entry{}
	b.due = due{}
	return nil
}

// release ends the call that took the board, and books what it moved.
func (b *Board) release(g Group, op Op) {
	moved := b.moved
	b.mem.Release()
	b.inUse.Store(false)
	if k, ok := g.(booker); ok && moved != (Entry{}) {
		k.book(op, moved)
	}
}

// begin waits until this rank may prepare what it brings to the next meeting, and returns its number.
func (b *Board) begin(c *call) (uint64, error) {
	if err := b.fate(b.rank); err != nil {
		return 0, err
	}
	return b.turn + 1, b.await(c, AnyRank, b.turn)
}

// say writes this rank's note for meeting m.
func (b *Board) say(m uint64, op Op, kind boardKind, root Rank, n int, shape uint64, far bool) {
	w := &b.own.notes[m&1]
	w.what.Store(uint64(op)<<56 | uint64(kind)<<48 | uint64(root))
	w.n.Store(uint64(n))
	w.shape.Store(shape)
	if far {
		w.far.Store(1)
	} else {
		w.far.Store(0)
	}
}

// come comes to meeting m and wakes those who have slept for it. See await for why no wake-up is lost.
func (b *Board) come(c *call, m uint64) {
	c.touched = true
	b.turn = m
	b.own.turn.Store(m)
	least := m
	sleepers := false
	for r, cell := range b.cells {
		if Rank(r) != b.rank {
			least = min(least, cell.turn.Load()&^gaveUp)
			sleepers = sleepers || cell.sleep.Load() != 0
		}
	}
	if sleepers {
		b.wake(least)
	}
}

func (b *Board) wake(least uint64) {
	for r, cell := range b.cells {
		if Rank(r) == b.rank {
			continue
		}
		s := cell.sleep.Load()
		if s == sleepOne+uint32(b.rank) || s == sleepAll && least >= cell.want.Load() {
			if cell.sleep.CompareAndSwap(s, 0) {
				cell.Bell.Add(1)
				b.mem.Ring(Rank(r))
			}
		}
	}
}

// missing returns the first rank from r on whose turn is below w, or AnyRank; of one rank only when who names it.
func (b *Board) missing(who, r Rank, w uint64) Rank {
	if who != AnyRank {
		if b.cells[who].turn.Load()&^gaveUp < w {
			return who
		}
		return AnyRank
	}
	for ; int(r) < b.size; r++ {
		if r != b.rank && b.cells[r].turn.Load()&^gaveUp < w {
			return r
		}
	}
	return AnyRank
}

// await returns when the turn of rank who, or with AnyRank everybody's, is at least w. It spins, then gives way, then
// sleeps.
//
// No wake-up is lost. A sleeper stores want and sleep and then looks at all turns once more; who comes to a meeting
// stores its turn, then looks at all turns and at all sleep words. All are sequentially consistent. If the sleeper's
// last look misses a turn, its sleep word was stored before that turn, and so before the last of the turns that it
// waits for; the rank that stored that last one sees all of them, and the sleep word.
func (b *Board) await(c *call, who Rank, w uint64) error {
	r := b.missing(who, 0, w)
	if r == AnyRank {
		return nil
	}
	clock := b.mesh.clock
	if b.cfg.Spin > 0 {
		for end := clock.Now() + b.cfg.Spin; clock.Now() < end && !b.mesh.troubled.Load(); {
			for range 64 {
				if r = b.missing(who, r, w); r == AnyRank {
					return nil
				}
			}
		}
	}
	begun := clock.Now()
	worked := b.cells[r].work.Load()
	nap := time.Millisecond
	for i := 0; ; i++ {
		if r = b.missing(who, r, w); r == AnyRank {
			return nil
		}
		err := b.fate(r)
		if err == nil {
			select {
			case <-c.ctx.Done():
				err = context.Cause(c.ctx)
			default:
			}
		}
		if err == nil && i >= b.cfg.Yields {
			now := clock.Now()
			if k := b.cells[r].work.Load(); k != worked {
				worked, begun = k, now
			}
			if now-begun >= b.mesh.timeout {
				err = ErrTimeout
			} else {
				nap = min(nap, b.mesh.timeout-(now-begun))
			}
		}
		if err != nil {
			if b.missing(who, r, w) == AnyRank { // it came, and then it left
				return nil
			}
			return b.blame(c, r, err)
		}
		if i < b.cfg.Yields {
			b.mem.Pause()
			continue
		}
		b.sleep(c.ctx, who, w, nap)
		nap = min(2*nap, 50*time.Millisecond)
	}
}

func (b *Board) sleep(ctx context.Context, who Rank, w uint64, d time.Duration) {
	seen := b.own.Bell.Load()
	b.own.want.Store(w)
	if who == AnyRank {
		b.own.sleep.Store(sleepAll)
	} else {
		b.own.sleep.Store(sleepOne + uint32(who))
	}
	if b.missing(who, 0, w) != AnyRank && b.fate(AnyRank) == nil {
		b.mem.Park(ctx, seen, d)
	}
	b.own.sleep.Store(0)
}

// fate says why a wait for rank r must end: this group is closed or poisoned, or the peer gone.
func (b *Board) fate(r Rank) error {
	m := b.mesh
	if !m.troubled.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.poison != nil:
		return m.poison
	case r != AnyRank:
		return m.peers[r].lost
	}
	return nil
}

// blame makes the error of a failed wait for rank r.
func (b *Board) blame(c *call, r Rank, err error) error {
	var pe *PeerError
	if err == ErrClosed || errors.As(err, &pe) {
		return err
	}
	return &PeerError{Rank: outermost(c.g, r), Op: c.op, Step: -1, Missing: b.missingBytes(r), Cause: err}
}

// due says what the call under way waits for from each peer.
type due struct {
	kind dueKind
	t    Tree
	n    int // elements; bytes for dueBytes
}

type dueKind uint8

const (
	dueNothing dueKind = iota
	dueBytes           // n bytes of whoever is waited for
	dueParts           // its parts of this rank's chunk
	dueVectors         // its parts, whole
	dueChunk           // the results of its chunk
)

// missingBytes is what rank r still owes the call under way.
func (b *Board) missingBytes(r Rank) int64 {
	lo, hi := Chunk(b.due.n, b.size, b.rank)
	switch b.due.kind {
	case dueBytes:
		return int64(b.due.n)
	case dueParts:
		return int64(word * len(b.due.t.Parts(r)) * (hi - lo))
	case dueVectors:
		return int64(word * len(b.due.t.Parts(r)) * b.due.n)
	case dueChunk:
		lo, hi = Chunk(b.due.n, b.size, r)
		done := b.cells[r].work.Load()
		return max(0, int64(word*(hi-lo))-int64(min(done, 1<<62)))
	}
	return 0
}

// check holds what rank r says about meeting m against what this one says.
func (b *Board) check(c *call, m uint64, r Rank) error {
	mine, its := &b.own.notes[m&1], &b.cells[r].notes[m&1]
	what, n, turn := its.what.Load(), its.n.Load(), b.cells[r].turn.Load()
	if turn&gaveUp != 0 {
		return b.await(c, r, gaveUp) // until the reason comes
	}
	var err error
	switch op := Op(what >> 56); {
	case turn&^gaveUp > b.turn+2:
		err = fmt.Errorf("it is at meeting %d when this rank is at %d: its cell in shared memory makes no sense", turn&^gaveUp, b.turn)
	case op != c.op && op < numOps:
		err = fmt.Errorf("it is in %v, this rank in %v: the ranks do not call the same collectives in the same order", op, c.op)
	case n != mine.n.Load():
		err = fmt.Errorf("it brings vectors of %d where %d belong: the ranks disagree about the lengths", n, mine.n.Load())
	case what != mine.what.Load() || its.shape.Load() != mine.shape.Load():
		err = fmt.Errorf("it is in another kind of %v than this rank (%x, %x, not %x, %x): the ranks disagree about root, tree or result",
			c.op, what, its.shape.Load(), mine.what.Load(), mine.shape.Load())
	default:
		return nil
	}
	return &PeerError{Rank: outermost(c.g, r), Op: c.op, Step: -1, Cause: err}
}

func (b *Board) checkAll(c *call, m uint64) error {
	for r := range Rank(b.size) {
		if r != b.rank {
			if err := b.check(c, m, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// touch begins a stretch in which this rank reads and writes others' vectors. It fails when one of them has given up,
// whose vectors may be its caller's again: of that one's store of gaveUp and its look at busy (settle), and this one's
// store of busy and its look at gaveUp, one at least sees the other.
func (b *Board) touch(c *call) error {
	b.own.busy.Store(1)
	for r, cell := range b.cells {
		if Rank(r) != b.rank && cell.turn.Load()&gaveUp != 0 {
			b.own.busy.Store(0)
			return b.await(c, Rank(r), gaveUp) // until the reason comes
		}
	}
	return nil
}

// goOn looks, amid such a stretch, whether there is still a point, and tells what was done so far.
func (b *Board) goOn(c *call, done uint64) error {
	b.own.work.Store(done)
	if !b.mesh.troubled.Load() {
		return nil
	}
	for r := range Rank(b.size) {
		if err := b.fate(r); err != nil {
			if r != b.rank && b.cells[r].turn.Load()&^gaveUp > b.turn {
				continue // it has done its work, and has left
			}
			return b.blame(c, r, err)
		}
	}
	return nil
}

func (b *Board) let() { b.own.busy.Store(0) }

// giveUp says that this rank has left its collective in failure: nobody is to touch its vectors any more.
func (b *Board) giveUp() {
	b.own.busy.Store(0)
	b.own.turn.Store(b.turn | gaveUp)
}

// settle waits, after giveUp and after all were told, until no peer touches this rank's vectors. A live one is done in
// the time of a few thousand additions. One that was stopped in the middle is waited for no longer than graceful: it
// may then write, once it goes on, until it hears.
func (b *Board) settle() {
	const graceful = time.Second
	clock := b.mesh.clock
	end := clock.Now() + min(graceful, b.mesh.timeout)
	for r, cell := range b.cells {
		for Rank(r) != b.rank && cell.busy.Load() != 0 && clock.Now() < end {
			if !b.cfg.Goroutines && b.lost(Rank(r)) {
				break
			}
			b.mem.Pause()
		}
	}
}

func (b *Board) lost(r Rank) bool {
	b.mesh.mu.Lock()
	defer b.mesh.mu.Unlock()
	return b.mesh.peers[r].lost != nil
}

// booker is asked for at run time: a Group with a ledger, to enter what was moved without messages.
type booker interface{ book(op Op, e Entry) }
