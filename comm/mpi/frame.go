package mpi

import (
	"encoding/binary"
	"fmt"

	"github.com/covey-ml/covey/comm"
)

// HeaderBytes is the size of a frame's header.
const HeaderBytes = 32

const (
	maxMessage = 1 << 40 // bytes
	// partBytes is how much of a long message one frame holds: between parts, others' messages can pass.
	partBytes = 256 << 10
	// partsUnderWay is how many parts of a message the library may hold at a time, so that copying and sending overlap.
	partsUnderWay = 4
	// creditBytes is how much of a sender's the receiver's mesh may not have taken, or not have said so, when it sends
	// without leave. A receiver says so after comm.EagerBytes at the latest, so that a sender always has as much left.
	creditBytes = 2 * comm.EagerBytes
)

type kind uint8

const (
	frameMessage   kind = 1 + iota // a message of at most EagerBytes
	frameAsk                       // leave is asked, under a number, for a message of size bytes
	frameGrant                     // it is given
	framePart                      // the next bytes of the message that got leave
	frameWithdraw                  // leave is not wanted any more
	frameWithdrawn                 // that came before it was given, and it will not be
	frameTaken                     // nothing but its header's taken
	frameAbort                     // a collective was given up: see comm.AppendPeerError
	frameBroken                    // the link was cut
	frameGoodbye                   // the group was closed
	numKinds
)

// header is what a frame begins with: little-endian, a byte of kind, three of zeros, the number (4), tag (8), size (8) and
// taken (8).
type header struct {
	kind   kind
	number uint32 // of the ask that it is about
	tag    comm.Tag
	size   int    // bytes of payload that follow; of a frameAsk, of the message
	taken  uint64 // cost of all messages that the mesh has taken of those that came without leave
}

func (h header) put(b []byte) {
	b[0], b[1], b[2], b[3] = byte(h.kind), 0, 0, 0
	binary.LittleEndian.PutUint32(b[4:], h.number)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.tag))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.size))
	binary.LittleEndian.PutUint64(b[24:], h.taken)
}

// most is how much payload a frame of each kind carries at most.
var most = [numKinds]int{frameMessage: comm.EagerBytes, framePart: partBytes, frameAbort: comm.PeerErrorSize}

// parse reads a frame and holds its lengths to its kind. The payload is part of b.
func parse(b []byte) (h header, payload []byte, err error) {
	if len(b) < HeaderBytes {
		return h, nil, fmt.Errorf("a frame of %d bytes; a header has %d", len(b), HeaderBytes)
	}
	size := binary.LittleEndian.Uint64(b[16:])
	h = header{kind(b[0]), binary.LittleEndian.Uint32(b[4:]), comm.Tag(binary.LittleEndian.Uint64(b[8:])), 0, binary.LittleEndian.Uint64(b[24:])}
	payload = b[HeaderBytes:]
	switch {
	case h.kind == 0 || h.kind >= numKinds || b[1]|b[2]|b[3] != 0:
		return h, nil, fmt.Errorf("no frame begins with % x", b[:4])
	case h.kind == frameAsk && (size > maxMessage || len(payload) > 0):
		return h, nil, fmt.Errorf("leave is asked for %d bytes, with %d already there; the most is %d", size, len(payload), int64(maxMessage))
	case h.kind != frameAsk && (size != uint64(len(payload)) || len(payload) > most[h.kind]):
		return h, nil, fmt.Errorf("a frame of kind %d says %d bytes and has %d; the most is %d", h.kind, size, len(payload), most[h.kind])
	}
	h.size = int(size)
	return h, payload, nil
}

// overhead is the header bytes of a message of n bytes. Asking for leave is control.
func overhead(n int) int {
	if n <= comm.EagerBytes {
		return HeaderBytes
	}
	return (n + partBytes - 1) / partBytes * HeaderBytes
}

// cost is what a message counts as against credit.
func cost(n int) uint64 { return uint64(max(n, comm.MinMessage)) }
