package shm

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/comm"
)

// frameBytes is the size of a frame's header: a word of length (40 bits), kind (8) and check (16), and the tag. Frames
// begin at multiples of it, so a header never wraps around the ring's end.
const frameBytes = 16

const (
	frameMessage = 0             // the only kind so far: the payload follows
	maxPayload   = 1<<40 - 1<<20 // bytes
)

// check folds a header into 16 bits that no likely accident gets right.
func check(low, tag uint64) uint64 {
	x := (low ^ bits.RotateLeft64(tag, 29) ^ 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return x >> 48
}

// putFrame writes the header of a message of n bytes.
func putFrame(b []byte, tag comm.Tag, n int) {
	low := uint64(n) | frameMessage<<40
	binary.LittleEndian.PutUint64(b, low|check(low, uint64(tag))<<48)
	binary.LittleEndian.PutUint64(b[8:], uint64(tag))
}

// parseFrame reads a header. n fits an int and is at most maxPayload.
func parseFrame(b []byte) (tag comm.Tag, n int, err error) {
	w, t := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	low := w & (1<<48 - 1)
	size := low & (1<<40 - 1)
	if check(low, t) != w>>48 || low>>40 != frameMessage || size > maxPayload || uint64(int(size)) != size || int(size) < 0 {
		return 0, 0, fmt.Errorf("no frame begins with %016x %016x", w, t)
	}
	return comm.Tag(t), int(size), nil
}

// pad rounds up to where the next frame may begin.
func pad(n uint64) uint64 { return (n + frameBytes - 1) &^ (frameBytes - 1) }

// inRing returns how many bytes lie between head and tail, or an error when no ring of that size can be so.
func inRing(head, tail uint64, size int) (uint64, error) {
	if n := tail - head; n <= uint64(size) {
		return n, nil
	}
	return 0, fmt.Errorf("positions %d and %d in a ring of %d bytes", head, tail, size)
}

// putAbort writes e to a slot's record: its length, then comm's form of it.
func putAbort(b []byte, e *comm.PeerError) {
	p := comm.AppendPeerError(nil, e)
	binary.LittleEndian.PutUint32(b, uint32(len(p)))
	copy(b[4:], p)
}

// parseAbort reads a record of a group of n ranks.
func parseAbort(b []byte, n int) (*comm.PeerError, error) {
	size := binary.LittleEndian.Uint32(b)
	if size > uint32(len(b)-4) {
		return nil, fmt.Errorf("last words of %d bytes", size)
	}
	e, err := comm.ParsePeerError(b[4 : 4+size])
	if err == nil && (e.Rank < comm.AnyRank || int(e.Rank) >= n) {
		err = fmt.Errorf("last words about rank %d of %d", e.Rank, n)
	}
	return e, err
}
