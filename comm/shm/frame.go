package shm

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/covey-ml/covey/comm"
)

// frameBytes is the size of a frame's header: a word of length (40 bits), kind (2), number (6) and check (16), and the
// tag. Frames begin at multiples of it, so a header never wraps around the ring's end.
const frameBytes = 16

type kind uint8

const (
	frameMessage kind = iota // a message of at most EagerBytes: the payload follows
	frameAsk                 // leave is asked, under a number, to send a message of that length and tag
	framePart                // the next bytes of the message that got leave under that number
	frameThere               // an ask for a message that lies in the writer's arena, from the offset on that follows (8 bytes)
)

// frame is a header.
type frame struct {
	kind   kind
	number int
	tag    comm.Tag
	n      int // bytes of payload; of a frameAsk and a frameThere, of the message that it is about
}

const (
	maxMessage = 1<<40 - 1<<20 // bytes
	// partBytes is how much of a message one framePart holds: between parts, others' messages can pass.
	partBytes = 256 << 10
	// thereBytes is the length of an offset.
	thereBytes = 8
)

// Overhead is the header bytes of a message of n bytes: those of the frames that carry it. Asking for leave is control.
func Overhead(n int) int {
	if n <= comm.EagerBytes {
		return frameBytes
	}
	return (n + partBytes - 1) / partBytes * frameBytes
}

// payload is how many bytes follow the header.
func (f frame) payload() int {
	switch f.kind {
	case frameAsk:
		return 0
	case frameThere:
		return thereBytes
	}
	return f.n
}

// check folds a header into 16 bits that no likely accident gets right.
func check(low, tag uint64) uint64 {
	x := (low ^ bits.RotateLeft64(tag, 29) ^ 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return x >> 48
}

func (f frame) put(b []byte) {
	low := uint64(f.n) | uint64(f.kind)<<40 | uint64(f.number)<<42
	binary.LittleEndian.PutUint64(b, low|check(low, uint64(f.tag))<<48)
	binary.LittleEndian.PutUint64(b[8:], uint64(f.tag))
}

// parseFrame reads a header and holds its length to its kind.
func parseFrame(b []byte) (frame, error) {
	w, t := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	low := w & (1<<48 - 1)
	n := low & (1<<40 - 1)
	f := frame{kind: kind(low >> 40 & 3), number: int(low >> 42), tag: comm.Tag(t), n: int(n)}
	whole := min(uint64(maxMessage), math.MaxInt)
	limit := [...]uint64{comm.EagerBytes, whole, partBytes, whole}[f.kind]
	if check(low, t) != w>>48 || n > limit {
		return f, fmt.Errorf("no frame begins with %016x %016x", w, t)
	}
	return f, nil
}

// cost is what a message counts as against EagerBytes.
func cost(n int) uint64 { return uint64(max(n, comm.MinMessage)) }

// pad rounds up to where the next frame may begin.
func pad(n uint64) uint64 { return (n + frameBytes - 1) &^ (frameBytes - 1) }

// putAbort writes e to a slot's record: its length, then comm's form of it.
func putAbort(b []byte, e *comm.PeerError) {
	p := comm.AppendPeerError(nil, e)
	binary.LittleEndian.PutUint32(b, uint32(len(p)))
	copy(b[4:], p)
}

// parseAbort reads what putAbort wrote.
func parseAbort(b []byte) (*comm.PeerError, error) {
	size := binary.LittleEndian.Uint32(b)
	if size > uint32(len(b)-4) {
		return nil, fmt.Errorf("last words of %d bytes", size)
	}
	return comm.ParsePeerError(b[4 : 4+size])
}
