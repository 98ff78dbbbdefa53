// Package comm is how workers talk: groups of ranks, messages between them, and collectives over them.
//
// A Group is a fixed set of workers. A transport (inproc, shm, tcp) makes one; wrappers (Count) go around it;
// the collectives (AllReduce, ReduceScatter, AllGather, Broadcast, AllToAll, Barrier) are functions over any
// Group. Sums follow one canonical order, a Tree, so a result has the same bits whatever the transport, the
// algorithm (save the ring, which says so) and the number of workers.
//
// An all-reduce takes the algorithm that Choose finds fastest by what the transport's messages cost (Costs); Explain shows
// why. A Tree that knows on which hosts its ranks are (Tree.On) lets it save the network between them, and Levels uses
// a faster group inside each host.
//
// Nothing waits for ever and nothing reconnects. A wait that outlasts the group's timeout, or whose peer is gone,
// returns a *PeerError; after a collective has failed, every later one on that group returns the same error.
package comm

import (
	"context"
	"fmt"
	"time"
)

// Rank is a worker's number in a group, from 0.
type Rank int

// AnyRank, given to Recv, takes a message from whoever sent one.
const AnyRank Rank = -1

// Op is what a message is for; the ledger books by it.
type Op uint8

// The operations.
const (
	OpSend Op = iota // a program's own Send and Recv
	OpAllReduce
	OpReduceScatter
	OpAllGather
	OpBroadcast
	OpAllToAll
	OpBarrier
	OpGather
	OpPush    // what a worker brings to a parameter server
	OpPull    // what it gets from there
	OpCopy    // what a parameter server tells those who keep copies
	OpControl // what the system says to itself: not payload
	numOps
)

var opNames = [numOps]string{"send", "all-reduce", "reduce-scatter", "all-gather", "broadcast", "all-to-all", "barrier", "gather", "push", "pull", "copy", "control"}

// String returns the name that reports and errors use.
func (o Op) String() string {
	if o < numOps {
		return opNames[o]
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Tag tells messages between two ranks apart. Messages of one (sender, receiver, tag) arrive in order.
// From the top: 8 bits of Op, 24 bits that the operation uses as it likes, 32 bits of subgroup (see Sub).
type Tag uint64

// MakeTag packs an operation and its own number (the low 24 bits of n) for the whole group.
func MakeTag(op Op, n uint32) Tag { return Tag(op)<<56 | Tag(n&0xffffff)<<32 }

// Op returns the operation that t belongs to.
func (t Tag) Op() Op { return Op(t >> 56) }

// Collective tells whether a message belongs to something that all ranks have a part in, which a poisoned group no longer runs.
func (t Tag) Collective() bool { return t.Op() != OpSend && t.Op() < OpControl }

// Group is one rank's view of a fixed set of workers. All methods may be called from several goroutines.
//
// The errors of Send and Recv are ErrClosed, bare, once this rank has closed the group; a *PeerError that names the
// peer, whose Cause is ErrTimeout, the context's cause, or an error that wraps ErrLost (which fails what goes to or
// comes from that peer, and nothing else); and plain ones for a rank that the group does not have.
type Group interface {
	Rank() Rank // this worker's number, from 0 to Size()-1
	Size() int  // workers in the group, this one included
	// Send sends p to a rank (itself included) and returns when p may be reused. It never waits for a Recv while
	// no more than EagerBytes, p included, are under way on that pair of ranks; beyond that it may. Here a message
	// counts as at least MinMessage bytes, so that a flood of empty ones is bounded too.
	// A message beyond that bound, as long as nobody asks for it, may hold up later ones of that pair, whatever their
	// tags: ask for what comes before waiting for something else.
	Send(ctx context.Context, to Rank, tag Tag, p []byte) error
	// Recv takes the oldest message with that tag from a rank, or from AnyRank, into p, and returns who sent it
	// and its length in bytes. When p is too short it returns a *SizeError and keeps the message. p is the group's
	// until Recv returns.
	Recv(ctx context.Context, from Rank, tag Tag, p []byte) (Rank, int, error)
	// Clock returns the group's time, the same on every call.
	Clock() Clock
	// Close tells the peers and releases everything; a Send or Recv under way returns ErrClosed. A peer that is
	// still waiting for this rank then gets a *PeerError.
	Close() error
}

// EagerBytes is how much a sender may have under way to one peer before Send may wait for the Recv.
const EagerBytes = 64 << 10

// MinMessage is what the smallest message counts as against EagerBytes.
const MinMessage = 64

// Poster is asked for at run time: a Group that can take a receive before the message comes, so that bytes land
// where they are wanted and an exchange needs no second goroutine. Post, then Send, then Wait.
type Poster interface {
	// Post asks for a message as Recv does and returns at once. p belongs to the group until Wait returns.
	Post(from Rank, tag Tag, p []byte) Receipt
}

// Receipt is a receive that has been asked for. Wait must be called, once.
type Receipt interface {
	Wait(ctx context.Context) (Rank, int, error)
}

// Poisoner is asked for at run time: a Group that remembers that a collective failed on it.
type Poisoner interface {
	// Poison makes e the group's error unless it has one, tells the peers so that they name the same cause, and
	// returns the group's error.
	Poison(e *PeerError) *PeerError
	// Poisoned returns the group's error, or nil.
	Poisoned() *PeerError
}

// Framer is asked for at run time: it says what a message costs beyond its payload.
type Framer interface {
	// Overhead is the number of header bytes that carry a payload of n bytes, over all its frames.
	Overhead(n int) int
}

// Faulty is asked for at run time: a Group that makes faults come true which a worker's steps and gradients have.
type Faulty interface {
	// Begin says that the worker begins a step, from 1.
	Begin(step int)
	// Spoil changes a piece of the worker's gradient in that step, of which off elements come before, as faults say.
	Spoil(g []float32, off int)
}

// Wire is asked for at run time: bytes counted where they leave and enter the process.
type Wire interface {
	// Wired returns the bytes written to and read from the sockets, on the plaintext side of TLS, and the bytes that
	// TLS made of the written ones (0 without TLS).
	Wired() (sent, received, encrypted int64)
	// Controlled returns how many of the sent bytes are the transport's own frames (handshake, abort, goodbye): the
	// rest is the payload and header of messages.
	Controlled() int64
}

// Clock is the only source of time and of goroutines outside comm, cmd and vec's own compute threads, so that
// a simulated world can own both.
type Clock interface {
	Now() time.Duration                               // since the clock's own zero
	Sleep(ctx context.Context, d time.Duration) error // nil after d, or the context's cause when it ends first
	WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
	Go(f func())  // runs f on a goroutine of its own
	Event() Event // a new one, not raised
	Spend(c Cost) // tells that a computation was made
}

// Event is how one worker's goroutines meet: a flag that Set raises and Wait, which takes it down, waits for.
// Set of a raised flag changes nothing. One goroutine waits at a time. Wait returns the context's cause when that ends
// first.
type Event interface {
	Set()
	Wait(ctx context.Context) error
}

// Cost is a computation's cost. A real clock ignores it; a virtual one advances by it.
type Cost struct {
	FLOPs int64
	Bytes int64
}
